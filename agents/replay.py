"""Replay: the real steps over files, with nothing stored, read as the metrics stood at given instants.

Files need not be sorted, and events may be repeated: what is published at an instant is what the set of events up to
it says. Events are taken in the order of the instants they belong to; those after the last are left out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import orjson

from flowmetrics.configuration import Configuration
from flowmetrics.driver import Driver
from flowmetrics.errors import Rejection
from flowmetrics.exposition import render_openmetrics
from flowmetrics.families import Family
from flowmetrics.instants import SECOND_US, parse_instant
from flowmetrics.source import FAR_FUTURE, Timed
from flowmetrics.sources.cloudevents import CloudEvents

BATCH_EVENTS: Final = 5000
AT_US_END: Final = parse_instant("9900-01-01T00:00:00Z")
"""No instant from here on can be read: what is read ahead of it must lie in the calendar of the machine too."""


class Replay:
    """The metrics at each of `ats` (RFC 3339 texts before AT_US_END) over events; `rejected` counts refusals."""

    def __init__(self, configuration: Configuration, ats: Sequence[str]) -> None:
        self._configuration = configuration
        self._driver: Driver | None = None  # kept until the end: taking it apart costs time
        self._ats = sorted({(parse_instant(at), at) for at in ats})
        self.rejected: Counter[str] = Counter()
        self.taken = 0

    def readings(self, events: Iterable[bytes | Rejection]) -> Iterator[tuple[str, list[Family]]]:
        """(instant as given, families) in order of time."""
        driver = self._driver = Driver(self._configuration)
        later: list[list[Timed]] = [[] for _ in self._ats]
        driver.advance(self._ats[0][0])
        for batch in self._batches(events, later):
            driver.gather(batch)
        for (instant, at), batch in zip(self._ats, later, strict=True):
            driver.advance(instant)
            driver.take(batch)
            yield at, driver.families()

    def _batches(self, events: Iterable[bytes | Rejection], later: list[list[Timed]]) -> Iterator[list[Timed]]:
        """Batches of what happened up to the first instant; what happened after it is put into `later`."""
        read = CloudEvents(self._configuration.surveys).read
        instants = [instant for instant, _ in self._ats]
        first = instants[0]
        batch: list[Timed] = []
        for line in events:
            timed = line if isinstance(line, Rejection) else read(line, FAR_FUTURE)
            if isinstance(timed, Rejection):
                self.rejected[timed.reason.value] += 1
                continue
            self.taken += 1
            if timed[0] > first:
                index = bisect_left(instants, timed[0])
                if index < len(instants):
                    later[index].append(timed)
                continue
            batch.append(timed)
            if len(batch) >= BATCH_EVENTS:
                yield batch
                batch = []
        yield batch


def json_lines(readings: Iterable[tuple[str, list[Family]]], write: Callable[[bytes], object]) -> None:
    """One object a line: at, name, labels, value."""
    for at, families in readings:
        for family in families:
            for sample in family.samples:
                row = {"at": at, "name": family.name, "labels": dict(sample.labels), "value": sample.value}
                write(orjson.dumps(row) + b"\n")


def openmetrics(readings: Iterable[tuple[str, list[Family]]], write: Callable[[bytes], object]) -> None:
    """All readings as one OpenMetrics text, with timestamps."""
    write(render_openmetrics([(parse_instant(at) / SECOND_US, families) for at, families in readings]))
