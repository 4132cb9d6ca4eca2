"""What the engine says about itself: its metrics as they are declared, and the counters that are kept over restarts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from flowmetrics import __version__
from flowmetrics.families import Family, Sample
from flowmetrics.instants import SECOND_US

SOURCES_MAX: Final = 200
"""Sources with a label of their own; a sender that invents sources cannot fill the page."""


@dataclass(frozen=True, slots=True)
class EngineMetric:
    """A metric of the engine, declared once: its full name, its type, its labels, and what it says in one sentence."""

    name: str
    type: Literal["gauge", "counter"]
    labels: tuple[str, ...]
    help: str

    def family(self, values: Mapping[tuple[str, ...], float]) -> Family:
        """With values, by those of the labels."""
        samples = (
            Sample(tuple(zip(self.labels, key, strict=True)), float(value)) for key, value in sorted(values.items())
        )
        return Family(self.name, self.help, self.type, tuple(samples))


def _gauge(name: str, text: str, *labels: str) -> EngineMetric:
    return EngineMetric(f"flowmetrics_{name}", "gauge", labels, text)


def _counter(name: str, text: str, *labels: str) -> EngineMetric:
    return EngineMetric(f"flowmetrics_{name}_total", "counter", labels, text)


READY: Final = _gauge("engine_ready", "Whether what is shown is complete: 1 or 0.")
STARTED: Final = _gauge("engine_start_time_seconds", "When this process of the engine began, as Unix time.")
BUILD: Final = _gauge("build_info", "The version that runs; always 1.", "version")
EPOCH: Final = _gauge("engine_epoch", "The number of the epoch that is shown: it grows when the configuration changes.")
PROGRESS: Final = _gauge("engine_epoch_progress_ratio", "How much of the next epoch is built; 1 while there is none.")
LATEST: Final = _gauge("last_event_timestamp_seconds", "When the latest event of the source happened.", "source")
LATENESS: Final = _gauge("event_lag_seconds", "How long the latest event of the source took to arrive.", "source")
WAITING: Final = _gauge("consumer_lag_events", "Events of the log that were not taken yet.")

COUNTERS: Final[Mapping[str, EngineMetric]] = {
    name: _counter(name, text, *labels)
    for name, labels, text in (
        ("events_accepted", ("source",), "Events taken into the log."),
        ("events_rejected", ("reason",), "Events refused, by reason; read them back with flowmetrics rejected."),
        ("unmapped", ("source", "field"), "Facts whose state or item type no pattern matches."),
        ("conflicting_ids", ("source",), "Facts whose id and source an other fact with another body has."),
        ("histories_cut", ("what",), "Facts left out because a history reached its limit."),
        ("label_overflow", ("metric",), "Label sets folded into the overflow label or dropped, by measure."),
    )
}
"""The counters of both runtimes, by the name under which they are counted."""

EVERYWHERE: Final = (READY, STARTED, BUILD, *COUNTERS.values(), LATEST, LATENESS, WAITING, EPOCH, PROGRESS)
"""What both runtimes show. Its counters are kept over restarts; on Kafka they move with their partitions."""

PARTITION_LAG: Final = _gauge("partition_lag_records", "Records that a partition has not taken.", "unit")
PARTITIONS_OWNED: Final = _gauge("engine_partitions_owned", "Partitions of a step that a worker owns.", "step")
RECOVERY: Final = _gauge("engine_recovery_seconds", "How long a unit took until it was caught up.", "unit")
STABLE_OFFSET_AGE: Final = _gauge(
    "engine_stable_offset_age_seconds",
    "How long an open transaction or a silent broker holds back a unit's input.",
    "unit",
)
CHECKPOINTS: Final = _counter("engine_checkpoints", "Transactions that were committed.", "step")
CHECKPOINT_SECONDS: Final = _counter("engine_checkpoint_seconds", "Time that transactions took.", "step")
CHECKPOINT_BYTES: Final = _counter("engine_checkpoint_bytes", "Bytes that transactions wrote.", "step")
HISTORIES_READ: Final = _counter("engine_histories_read", "Histories asked for, by where they were.", "place")

ON_KAFKA: Final = (
    PARTITION_LAG,
    PARTITIONS_OWNED,
    RECOVERY,
    STABLE_OFFSET_AGE,
    CHECKPOINTS,
    CHECKPOINT_SECONDS,
    CHECKPOINT_BYTES,
    HISTORIES_READ,
)
"""What workers on Kafka show besides. Its counters are of a process: they begin at zero with it, and stay with it."""


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
        if COUNTERS[counter].labels[0] == "source":
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
        counters = [
            metric.family({tuple(key): n for (of, *key), n in self._counts.items() if of == name})
            for name, metric in COUNTERS.items()
        ]
        return [
            *counters,
            LATEST.family({(source,): at / SECOND_US for source, at in self._latest_at.items()}),
            LATENESS.family({(source,): lag / SECOND_US for source, lag in self._lag_us.items()}),
            WAITING.family({(): waiting}),
        ]

    def _bounded(self, source: str) -> str:
        if source in self._sources:
            return source
        if len(self._sources) >= SOURCES_MAX:
            return "other"
        self._sources.add(source)
        return source


def ready_family(ready: bool) -> Family:
    """Whether what is shown is complete; every rule asks it first."""
    return READY.family({(): ready})


def process_families(ready: bool, started_us: int) -> list[Family]:
    """What only a process that runs can say, from its first moment on: whether it is ready, its version, and when it
    began, by which restarts are counted."""
    return [ready_family(ready), BUILD.family({(__version__,): 1}), STARTED.family({(): started_us / SECOND_US})]


def epoch_families(published: int | None, progress: float | None) -> list[Family]:
    """Which epoch is shown, and how much of the next one is built, where that is known."""
    known = ((EPOCH, published), (PROGRESS, progress))
    return [metric.family({} if value is None else {(): value}) for metric, value in known]
