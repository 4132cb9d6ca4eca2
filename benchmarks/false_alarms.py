"""How often alerts fire without a cause, and how long they take to find a slump: false_alarms.py LOGS [LOG …]

LOGS is the folder of the public logs, NAME.jsonl.gz, that `examples/` has mappings for. Of each, and of the simulated
company of the demo, up to 230 days are backfilled into a real Prometheus with its recording rules, every hour. The
alerts' conditions are queried over all of it, and `for`, `keep_firing_for` and what fires applied here.

Then a slump of 30 % is put into the events from an instant on, and what was computed is computed again:

    slow    what ends after it takes 1/0.7 times as long from there on
    lost    30 % of items, requests and customers tell nothing of what happened after it
    sour    30 % of the answers after it are the worst of the scale

Printed is a row for each log and KPI with enough under it for an alert: quarters in which it could fire, how often it
fired, in the worst quarter of one value stream, when, and after how long it found a slump that should move it.
"""

from __future__ import annotations

import gc
import io
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias
from urllib.parse import urlencode
from zlib import crc32

import orjson
import urllib3

from agents.backfill import Backfill, Span
from agents.demo.producers import Company
from agents.files import read_events
from agents.prometheus import fill, serving
from flowmetrics.configuration import Configuration
from flowmetrics.instants import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    SECOND_US,
    duration_text,
    duration_us,
    instant_text,
    parse_instant,
)
from flowmetrics.kpi import DriftAlert
from flowmetrics.kpis import catalogue
from flowmetrics.publishing.rules.cells import TOTALS, Watched, watched
from flowmetrics.publishing.rules.drift import beyond, lingering
from flowmetrics.publishing.rules.passes import pass_files
from flowmetrics.settings import read_settings
from flowmetrics.sources.rows import parse_mapping

STEP_US: Final = HOUR_US
QUARTER_US: Final = 91 * DAY_US
SPAN_MAX: Final = 230 * DAY_US
"""Of a longer log the end is taken."""
FOUND_MAX: Final = 28 * DAY_US
"""Later than that half of the baseline is of the slump itself."""
DEMO_BEGIN: Final = parse_instant("2026-01-01T00:00:00Z")
DEMO_DAYS: Final = 150
DEMO_SETTLING: Final = 30 * DAY_US
"""Its oldest work began with the company; only then are its open items as old as they will be."""


class Log(NamedTuple):
    """A log as native events in order of time, and how they are read."""

    name: str
    events: Sequence[dict[str, Any]]
    configuration: Configuration
    settling: int = 0
    """For how long after its first event it is not looked at."""


@dataclass(frozen=True)
class Episode:
    """An alert that fired for one value stream."""

    stream: str
    begin: int
    end: int


# --- the logs ------------------------------------------------------------------------------------------------------
def public_log(folder: Path, name: str) -> Log:
    """A log of the folder, read as its example says, but with panes and windows of every day."""
    example = Path(__file__).parents[1] / "examples" / name
    mapping = parse_mapping((example / "map.yaml").read_text(), "map.yaml")
    events = [orjson.loads(e) for e in read_events(folder / f"{name}.jsonl.gz", mapping) if isinstance(e, bytes)]
    return Log(name, in_order(events), everyday(read_settings((example / "flowmetrics.yaml").read_text(), name)))


def demo_log() -> Log:
    """The simulated company."""
    events = [orjson.loads(line) for line in Company(seed=7, begin=DEMO_BEGIN).past(DEMO_DAYS)]
    return Log("demo", in_order(events), everyday(Configuration()), DEMO_SETTLING)


def everyday(configuration: Configuration) -> Configuration:
    """The configuration with panes of 15 minutes, the windows and the percentile that alerts read, and their KPIs."""
    alerting = tuple(k.name for k in catalogue(configuration) if isinstance(k.alert, DriftAlert))
    windows, panes = (DAY_US, 7 * DAY_US), 15 * MINUTE_US
    return replace(configuration, kpis=alerting, windows_us=windows, resolution_us=panes, percentiles=(85,))


PARTS: Final = ("item_type", "channel", "segment", "touchpoint", "feature")
"""What divides a KPI into parts; alerts read the totals, which are the same without."""


def in_order(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events in order of time, without what divides KPIs into parts."""
    for event in events:
        for part in PARTS:
            event["data"].pop(part, None)
    return sorted(events, key=at_of)


def at_of(event: Mapping[str, Any]) -> int:
    """When an event happened."""
    return parse_instant(event["time"])


def entity_of(event: Mapping[str, Any]) -> str:
    """Whom or what an event is of."""
    told = event["data"]
    return next((str(told[key]) for key in ("item", "request", "customer", "respondent") if key in told), "")


# --- slumps --------------------------------------------------------------------------------------------------------
def slow(events: Sequence[dict[str, Any]], since: int) -> Iterator[dict[str, Any]]:
    """What an entity tells after `since` comes later: the time from there, or from its first event, takes 1/0.7."""
    first: dict[tuple[str, str], int] = {}
    for event in events:
        kind, at = event["type"], at_of(event)
        key = (kind, entity_of(event))
        start = max(since, first.setdefault(key, at))
        if at <= start or kind.split(".")[1] in ("activity", "response"):
            yield event
        else:
            later = start + int((at - start) / 0.7)
            yield {**event, "time": instant_text(later)}


def lost(events: Sequence[dict[str, Any]], since: int) -> Iterator[dict[str, Any]]:
    """30 % of the entities tell nothing after `since`."""
    return (e for e in events if at_of(e) <= since or crc32(entity_of(e).encode()) % 10 >= 3)


def sour(events: Sequence[dict[str, Any]], since: int) -> Iterator[dict[str, Any]]:
    """30 % of the answers after `since` are 1."""
    for event in events:
        answer = event["type"] == "flowmetrics.response.v1" and at_of(event) > since
        if answer and crc32(event["id"].encode()) % 10 < 3:
            yield {**event, "data": {**event["data"], "score": 1}}
        else:
            yield event


SLUMPS: Final[Mapping[str, tuple[Callable[[Sequence[dict[str, Any]], int], Iterator[dict[str, Any]]], str]]] = {
    "slow": (slow, "flow_time request_resolution time_to_value item_age flow_load requests_open"),
    "lost": (lost, "flow_velocity requests_resolved active_users value_reached"),
    "sour": (sour, "nps enps csat ces"),
}
"""Slump → how it is put into events, and the KPIs that it moves."""


class Totals(io.RawIOBase):
    """A file to which only what the alerts read is passed on: the uniform layer, of labels with a total the total."""

    _KEPT: Final = (b"# EOF", b"flowmetrics_engine_ready", b"# TYPE flowmetrics_engine_ready")

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, text: Any) -> int:
        """Pass on whole series only: what is written is of one."""
        first = bytes(text[:500]).split(b"\n", 1)[0]
        parts = all(value == b"all" for value in _TOTALED.findall(first))
        if first.startswith(self._KEPT) or (b"flowmetrics_kpi_" in first and parts):
            self._out.write(text)
        return len(text)


_TOTALED: Final = re.compile(rb'(?:%s)="([^"]*)"' % "|".join(sorted(TOTALS)).encode())


# --- a Prometheus over the past ---------------------------------------------------------------------------------------
class Found(NamedTuple):
    """What came of one past: episodes by KPI, and the instants at which its alert could fire."""

    episodes: Mapping[str, list[Episode]]
    watched: Mapping[str, list[int]]


def evaluate(log: Log, events: Iterable[dict[str, Any]], span: Span) -> Found:
    """Backfill events over a span, and look when each alert would have fired."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        work = Backfill(log.configuration, span, 10_000 * DAY_US, folder)
        with work.chronicle() as chronicle:
            chronicle.tell(((2**62, orjson.dumps(event)) for event in events), span.last)
        path, blocks = folder / "history.txt", folder / "prometheus"
        with path.open("wb") as out:
            work.write(Totals(out), lambda instants: None)
        blocks.mkdir()
        fill(path, pass_files(log.configuration, duration_text(span.step)), blocks, folder, span, lambda parts: None)
        with serving(blocks, folder, span.step) as address:
            ask = Ranges(address, span)
            kpis = {each.kpi.name: each for each in watched(log.configuration)}
            episodes = {
                kpi: list(_episodes(each, ask(beyond(each)), ask(lingering(each)), span.step))
                for kpi, each in kpis.items()
            }
            return Found(episodes, {kpi: _watched(ask, kpi) for kpi in kpis})


def _watched(ask: Ranges, kpi: str) -> list[int]:
    of = f'{{kpi="{kpi}"}}'
    bands = f"flowmetrics:kpi:band_low{of} or flowmetrics:kpi:band_high{of}"
    return sorted({at for *_, ats in ask(f"flowmetrics:kpi:trusted{of} and ({bands})") for at in ats})


Series: TypeAlias = list[tuple[str, str, list[int]]]
"""Labels, value stream and the instants at which there is a value."""


class Ranges:
    """Range queries over a span."""

    def __init__(self, address: str, span: Span) -> None:
        self._address, self._span = address, span

    def __call__(self, query: str) -> Series:
        """Each series that has a value."""
        every: dict[str, tuple[str, list[int]]] = {}
        for part in self._span.stretches(-(-len(self._span.instants) // 10_000)):
            times = {"start": part.first / SECOND_US, "end": part.last / SECOND_US, "step": part.step / SECOND_US}
            answer = urllib3.request(
                "POST", f"{self._address}/api/v1/query_range", retries=False,
                body=urlencode({"query": query, **times}),
                headers={"Content-Type": "application/x-www-form-urlencoded"},
            )  # fmt: skip
            told = json.loads(answer.data)
            assert told["status"] == "success", told
            for series in told["data"]["result"]:
                labels = json.dumps(series["metric"], sort_keys=True)
                stream = series["metric"].get("value_stream", "")
                every.setdefault(labels, (stream, []))[1].extend(int(at * SECOND_US) for at, _ in series["values"])
        return [(labels, *of) for labels, of in every.items()]


def _episodes(each: Watched, begins: Series, goes_on: Series, step: int) -> Iterator[Episode]:
    """When an alert fires, of each value stream: overlapping series of one are one."""
    firing: dict[str, set[int]] = {}
    beyond_at = {labels: ats for labels, _, ats in begins}
    for labels, stream, ats in goes_on:
        firing.setdefault(stream, set()).update(_firing(each.declared, beyond_at.get(labels, []), ats, step))
    for stream, instants in firing.items():
        for begin, end in _stretches(sorted(instants), step):
            yield Episode(stream, begin, end)


def _firing(alert: DriftAlert, beyond_at: Iterable[int], lingering_at: Iterable[int], step: int) -> Iterator[int]:
    """The instants at which an alert fires for a series: as Prometheus goes from pending to firing, and on."""
    hold, keep = duration_us(alert.hold), duration_us(alert.keep)
    pending = {at: begin for begin, end in _stretches(beyond_at, step) for at in range(begin, end + 1, step)}
    until = None
    for at in lingering_at:
        fires = until is not None and at <= until + step
        if fires or (at in pending and at - pending[at] >= hold):
            until = at + keep
            yield from range(at, until + 1, step)


def _stretches(instants: Iterable[int], step: int) -> Iterator[tuple[int, int]]:
    """First and last of instants in order that follow each other by a step."""
    begin = latest = None
    for at in instants:
        if begin is not None and latest is not None and at - latest > step:
            yield begin, latest
            begin = None
        begin, latest = at if begin is None else begin, at
    if begin is not None and latest is not None:
        yield begin, latest


# --- the table -----------------------------------------------------------------------------------------------------
def rows(log: Log) -> Iterator[list[str]]:
    """Of each KPI of a log: what is printed."""
    begin, end = at_of(log.events[0]) + log.settling, at_of(log.events[-1])
    span = Span(max(begin, end - SPAN_MAX) // STEP_US * STEP_US, end // STEP_US * STEP_US, STEP_US)
    quiet = evaluate(log, log.events, span)
    slump_at = (span.first + (span.last - span.first) * 7 // 10) // DAY_US * DAY_US + 12 * HOUR_US
    around = Span(max(span.first, slump_at - 45 * DAY_US), min(span.last, slump_at + FOUND_MAX), STEP_US)
    delays: dict[str, str] = {}
    for name, (inject, moved) in SLUMPS.items():
        kpis = tuple(kpi for kpi in moved.split() if quiet.watched.get(kpi))
        if kpis:
            only = log._replace(configuration=replace(log.configuration, kpis=kpis))
            found = evaluate(only, in_order(list(inject(log.events, slump_at))), around)
            delays |= {kpi: f"{name}: {_delay(found, kpi, slump_at)}" for kpi in kpis}
    for kpi, instants in quiet.watched.items():
        if instants:
            episodes = quiet.episodes[kpi]
            per_quarter = Counter((e.stream, (e.begin - span.first) // QUARTER_US) for e in episodes)
            most = max(per_quarter.values(), default=0)
            when = " ".join(sorted(instant_text(e.begin)[:10] for e in episodes))
            quarters = len(instants) * STEP_US / QUARTER_US
            yield [log.name, kpi, f"{quarters:.1f}", str(len(episodes)), str(most), when, delays.get(kpi, "")]


def _delay(found: Found, kpi: str, since: int) -> str:
    if not any(since <= at <= since + 7 * DAY_US for at in found.watched[kpi]):
        return "not watched then"
    begins = [e.begin for e in found.episodes[kpi] if e.end >= since]
    if not begins:
        return f"not in {FOUND_MAX // DAY_US} d"
    if min(begins) < since:
        return "fires already"
    return f"{(min(begins) - since) // HOUR_US / 24:.1f} d"


HEAD: Final = ["log", "KPI", "quarters", "fired", "most in one", "when", "slump found after"]


def main(folder: Path, names: Sequence[str]) -> int:
    """Print the table, row by row as it is computed; 1 where one KPI pages more than once in a quarter."""
    gc.disable()
    public = [path.parent.name for path in sorted((Path(__file__).parents[1] / "examples").glob("*/map.yaml"))]
    print("|", " | ".join(HEAD), "|\n|", " | ".join("---" for _ in HEAD), "|", flush=True)
    worst = 0
    for name in names or [*public, "demo"]:
        log = demo_log() if name == "demo" else public_log(folder, name)
        if at_of(log.events[-1]) - at_of(log.events[0]) < 60 * DAY_US:
            print(f"| {name} | | shorter than 60 days |", flush=True)
            continue
        for row in rows(log):
            worst = max(worst, int(row[4]))
            print("|", " | ".join(row), "|", flush=True)
    print(f"\nmost alerts of one KPI and value stream in one quarter: {worst}")
    return int(worst > 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
