"""What the engine says about itself: counters kept over restarts, lags, and the families made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from flowmetrics import __version__
from flowmetrics.families import Family, Sample
from flowmetrics.instants import SECOND_US

SOURCES_MAX: Final = 200
"""Sources with a label of their own; a sender that invents sources cannot fill the page."""

COUNTERS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "events_accepted": (("source",), "Events taken into the log."),
    "events_rejected": (("reason",), "Events refused, by reason; read them back with flowmetrics rejected."),
    "unmapped": (("source", "field"), "Facts whose state or item type no pattern matches."),
    "conflicting_ids": (("source",), "Facts whose id and source an other fact with another body has."),
    "histories_cut": (("what",), "Facts left out because a history reached its limit."),
    "label_overflow": (("metric",), "Label sets folded into the overflow label or dropped, by measure."),
}
"""Counter → its labels and help; the metric is `flowmetrics_NAME_total`."""


class Seen:
    """Accepted events of a batch by source: how many, and of the latest when it happened and when it arrived."""

    def __init__(self) -> None:
        self.sources: dict[str, list[int]] = {}

    def add(self, source: str, at: int, arrived_at: int) -> None:
        """Note one."""
        seen = self.sources.get(source)
        if seen is None:
            seen = self.sources[source] = [0, -1, 0]
        seen[0] += 1
        if at >= seen[1]:
            seen[1], seen[2] = at, arrived_at


class EngineCounters:
    """Counts by (counter, label values …), and per source the latest event and its lag.

    >>> counters = EngineCounters([])
    >>> counters.add("events_rejected", "not_json")
    >>> [family.samples[0].value for family in counters.families(0) if "rejected" in family.name]
    [1.0]
    """

    def __init__(self, stored: Iterable[tuple[list[str], int]]) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter({tuple(key): n for key, n in stored})
        self._sources = {key[1] for key in self._counts if key[0] == "events_accepted"}
        self._latest_at: dict[str, int] = {}
        self._lag_us: dict[str, int] = {}

    def add(self, counter: str, *labels: str, by: int = 1) -> None:
        """Count; `labels` are those of the counter in `COUNTERS`."""
        if COUNTERS[counter][0][0] == "source":
            labels = (self._bounded(labels[0]), *labels[1:])
        self._counts[(counter, *labels)] += by

    def update(self, counted: Mapping[tuple[str, ...], int]) -> None:
        """Add what a step counted."""
        for (counter, *labels), n in counted.items():
            self.add(counter, *labels, by=n)

    def saw(self, seen: Seen) -> None:
        """Note the accepted events of a batch."""
        for told, (n, at, arrived_at) in seen.sources.items():
            source = self._bounded(told)
            self._counts["events_accepted", source] += n
            if at >= self._latest_at.get(source, -1):
                self._latest_at[source] = at
                self._lag_us[source] = arrived_at - at

    @classmethod
    def together(cls, several: Iterable[EngineCounters]) -> EngineCounters:
        """The sums of several, with the latest event of each source."""
        sums = cls([])
        for counters in several:
            sums._counts.update(counters._counts)
            for source, at in counters._latest_at.items():
                if at >= sums._latest_at.get(source, -1):
                    sums._latest_at[source] = at
                    sums._lag_us[source] = counters._lag_us[source]
        return sums

    def stored(self) -> list[tuple[list[str], int]]:
        """The counts, to be given to a new object after a restart."""
        return [(list(key), n) for key, n in sorted(self._counts.items())]

    def families(self, waiting: int) -> list[Family]:
        """Every family of the engine; `waiting` is how many events of the log were not taken yet."""
        families = [
            counter(name, text, labels, {tuple(key): n for (of, *key), n in self._counts.items() if of == name})
            for name, (labels, text) in COUNTERS.items()
        ]
        latest: dict[tuple[str, ...], float] = {(source,): at / SECOND_US for source, at in self._latest_at.items()}
        lags: dict[tuple[str, ...], float] = {(source,): lag / SECOND_US for source, lag in self._lag_us.items()}
        return [
            *families,
            gauge("last_event_timestamp_seconds", "When the latest event of the source happened.", ("source",), latest),
            gauge("event_lag_seconds", "How long the latest event of the source took to arrive.", ("source",), lags),
            gauge("consumer_lag_events", "Events of the log that were not taken yet.", (), {(): float(waiting)}),
            gauge("build_info", "The version that runs; always 1.", ("version",), {(__version__,): 1.0}),
        ]

    def _bounded(self, source: str) -> str:
        if source in self._sources:
            return source
        if len(self._sources) >= SOURCES_MAX:
            return "other"
        self._sources.add(source)
        return source


def gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]) -> Family:
    """A gauge of the engine, `flowmetrics_` and the name; values are by those of the labels."""
    return Family(f"flowmetrics_{name}", text, "gauge", _samples(labels, values))


def counter(name: str, text: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]) -> Family:
    """A counter of the engine, `flowmetrics_`, the name and `_total`; values are by those of the labels."""
    return Family(f"flowmetrics_{name}_total", text, "counter", _samples(labels, values))


def _samples(labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]) -> tuple[Sample, ...]:
    return tuple(Sample(tuple(zip(labels, key, strict=True)), float(value)) for key, value in sorted(values.items()))


def ready_family(ready: bool) -> Family:
    """Whether what is shown is complete; every rule asks it first."""
    return gauge("engine_ready", "Whether what is shown is complete: 1 or 0.", (), {(): float(ready)})


def process_families(ready: bool, started_us: int) -> list[Family]:
    """What only a process that runs can say: whether it is ready, and when it began, by which restarts are counted."""
    started: dict[tuple[str, ...], float] = {(): started_us / SECOND_US}
    return [
        ready_family(ready),
        gauge("engine_start_time_seconds", "When this process of the engine began, as Unix time.", (), started),
    ]


def epoch_families(published: int | None, progress: float | None) -> list[Family]:
    """Which epoch is shown, and how much of the next one is built, where that is known."""
    values = {
        "engine_epoch": ("The number of the epoch that is shown: it grows when the configuration changes.", published),
        "engine_epoch_progress_ratio": ("How much of the next epoch is built; 1 while there is none.", progress),
    }
    return [gauge(name, text, (), {} if n is None else {(): float(n)}) for name, (text, n) in values.items()]
