"""Backfill: the KPIs over past time, through the steps that run live, as OpenMetrics for a Prometheus.

At every instant the page is read that the engine would have shown then, had it known every event up to it and no other.

    events ──▶ Chronicle: in order of time ──▶ the steps ──▶ a reading for each instant ──▶ Shelf: turned over
                                          the same for each stretch, in a process of its own  ▼
                                                       OUT: series by series, each in time order

Neither the events nor the samples need fit into memory: both lie in a folder for temporary files meanwhile.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TypeAlias

from flowmetrics.configuration import Configuration
from flowmetrics.driver import Driver
from flowmetrics.engine_metrics import ready_family
from flowmetrics.errors import Rejection
from flowmetrics.exposition import END, Chapter, SeriesName
from flowmetrics.families import Labels
from flowmetrics.settings import effective, read_settings
from flowmetrics.source import Timed
from flowmetrics.sources.cloudevents import CloudEvents

BATCH_EVENTS: Final = 5000
CHAPTER_SAMPLES: Final = 2_000_000
"""About 24 MiB, and as much again for the text of its largest series."""
STRETCH_INSTANTS_MIN: Final = 1000
"""Shorter ones are not worth a process: each takes all events before its own anew."""
LOOK_SECONDS: Final = 0.2

Told: TypeAlias = tuple[int, bytes | Rejection]
"""An event with its arrival stamp, or why a row makes none."""


class Span(NamedTuple):
    """The instants that are read: every `step` from `first` to `last`, both included, in microseconds."""

    first: int
    last: int
    step: int

    @property
    def instants(self) -> range:
        """All of them."""
        return range(self.first, self.last + 1, self.step)

    def stretches(self, most: int) -> list[Span]:
        """At most so many spans that follow each other and are this one together.

        >>> Span(0, 50, 10).stretches(2)
        [Span(first=0, last=20, step=10), Span(first=30, last=50, step=10)]
        """
        instants = self.instants
        each = -(-len(instants) // most)
        starts = range(0, len(instants), each)
        return [Span(instants[n], instants[n : n + each][-1], self.step) for n in starts]


class Chronicle:
    """Events in a file, in order of time; `rejected` counts refusals."""

    def __init__(self, configuration: Configuration, path: Path) -> None:
        self._read = CloudEvents(configuration.surveys).read
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.execute("PRAGMA journal_mode=OFF")
        self.rejected: Counter[str] = Counter()
        self.taken = 0

    def tell(self, events: Iterable[Told], until: int) -> None:
        """Put events up to an instant into the file, once; later ones are left out."""
        self._file.execute("CREATE TABLE events (at INTEGER, arrived_at INTEGER, body BLOB)")
        self._file.execute("BEGIN")
        self._file.executemany("INSERT INTO events VALUES (?, ?, ?)", self._accepted(events, until))
        self._file.execute("CREATE INDEX by_time ON events (at)")
        self._file.execute("COMMIT")

    def _accepted(self, events: Iterable[Told], until: int) -> Iterator[tuple[int, int, bytes]]:
        for arrived_at, body in events:
            timed = body if isinstance(body, Rejection) else self._read(body, arrived_at)
            if isinstance(timed, Rejection):
                self.rejected[timed.reason.value] += 1
                continue
            assert isinstance(body, bytes)
            if timed[0] <= until:
                self.taken += 1
                yield timed[0], arrived_at, body

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @property
    def first(self) -> int | None:
        """The instant of the first event; None where there is none."""
        first: int | None = self._file.execute("SELECT min(at) FROM events").fetchone()[0]
        return first

    def events(self) -> Iterator[Timed]:
        """All events in the order of their instants."""
        for arrived_at, body in self._file.execute("SELECT arrived_at, body FROM events ORDER BY at"):
            timed = self._read(body, arrived_at)
            assert not isinstance(timed, Rejection)
            yield timed


class Hole(NamedTuple):
    """A silence of all senders for which nothing is written: after which event, and before which; None is "never"."""

    after: int | None
    before: int | None


@dataclass
class Written:
    """What came of a backfill."""

    instants: int = 0
    samples: int = 0
    series: int = 0
    holes: list[Hole] = field(default_factory=list)


class Backfill(NamedTuple):
    """What is to be read: the metrics of a chronicle at every instant of `span`.

    Nothing is written before the first event, nor in a hole, a silence of all senders for longer than `hole_us`: what
    happened then is unknown. Nothing is interpolated. `folder` is for temporary files; the chronicle is one of
    them. `labels` are those that a Prometheus puts on what it scrapes: each series has them behind its own.
    """

    configuration: Configuration
    span: Span
    hole_us: int
    folder: Path
    labels: Labels = ()

    @contextmanager
    def chronicle(self) -> Iterator[Chronicle]:
        """The events, open for a while."""
        with closing(Chronicle(self.configuration, self.folder / "chronicle.db")) as chronicle:
            yield chronicle

    def write(self, out: BinaryIO, progress: Callable[[int], None], processes: int = os.cpu_count() or 1) -> Written:
        """Write everything as one OpenMetrics text; `progress` is told of the instants that are done."""
        most = max(1, min(processes, len(self.span.instants) // STRETCH_INSTANTS_MIN))
        stretches = self.span.stretches(most)
        shelves = [self.read(self.span, progress)] if most == 1 else list(self._read_apart(stretches, progress))
        written = Written(sum(shelf.instants for shelf in shelves))
        for shelf in shelves:
            written.holes += [hole for hole in shelf.holes if hole not in written.holes[-1:]]
        written.samples, written.series = together(shelves, out)
        return written

    def _read_apart(self, stretches: Sequence[Span], progress: Callable[[int], None]) -> Sequence[Shelf]:
        apart = multiprocessing.get_context("spawn")
        done, told = apart.Value("Q", 0), 0
        with ProcessPoolExecutor(len(stretches), apart, _share, (done,)) as processes:
            waiting: set[Future[Shelf]] = set()
            text = effective(self.configuration)  # what a configuration remembers cannot go to another process
            shelves = [processes.submit(_read_stretch, text, self[1:], stretch) for stretch in stretches]
            waiting.update(shelves)
            try:
                while waiting:
                    waiting = wait(waiting, LOOK_SECONDS).not_done
                    told, before = int(done.value), told
                    progress(told - before)
            except BaseException:  # Ctrl-C: they need not go on to the end of their stretches
                for child in multiprocessing.active_children():
                    child.kill()
                raise
            return [shelf.result() for shelf in shelves]

    def read(self, stretch: Span, progress: Callable[[int], None]) -> Shelf:
        """Read a stretch of the span, after taking every event before it."""
        with self.chronicle() as chronicle:
            return self._read(Due(chronicle.events()), stretch, progress)

    def _read(self, events: Due, stretch: Span, progress: Callable[[int], None]) -> Shelf:
        shelf, chapter = Shelf(self.folder / f"{stretch.first}.txt"), Chapter(self.labels)
        driver, ready = Driver(self.configuration), ready_family(True)
        for at in stretch.instants:
            driver.advance(at)
            for batch in events.until(at):
                driver.gather(batch)
            driver.settle()
            hole = events.hole(at, self.span.last, self.hole_us)
            if hole is None:
                shelf.instants += 1
                chapter.add(at // 1000, [*driver.families(), ready])
            elif hole not in shelf.holes[-1:]:
                shelf.holes.append(hole)
            if chapter.samples >= CHAPTER_SAMPLES:
                shelf.put(chapter)
                chapter = Chapter(self.labels)
            progress(1)
        shelf.put(chapter)
        return shelf


_done: Synchronized[int]


def _share(done: Synchronized[int]) -> None:
    """In a process of its own: where it counts the instants that are done."""
    global _done
    _done = done
    gc.disable()  # as in a replay


def _read_stretch(settings: str, rest: tuple[Span, int, Path, Labels], stretch: Span) -> Shelf:
    return Backfill(read_settings(settings, "the configuration"), *rest).read(stretch, _count)


def _count(instants: int) -> None:
    with _done.get_lock():
        _done.value += instants


class Due:
    """Events in order of time, given out as a clock reaches them."""

    def __init__(self, events: Iterator[Timed]) -> None:
        self._events = events
        self._next = next(events, None)
        self._latest: int | None = None

    def until(self, now: int) -> Iterator[list[Timed]]:
        """Batches of those up to an instant that were not given out before."""
        batch: list[Timed] = []
        while self._next is not None and self._next[0] <= now:
            batch.append(self._next)
            self._latest = self._next[0]
            self._next = next(self._events, None)
            if len(batch) >= BATCH_EVENTS:
                yield batch
                batch = []
        if batch:
            yield batch

    def hole(self, now: int, end: int, longest: int) -> Hole | None:
        """The hole that holds an instant; where no event comes any more, silence is reckoned to `end`."""
        before = None if self._next is None else self._next[0]
        if self._latest is None:
            return Hole(None, before)
        silent = (end if before is None else before) - self._latest > longest
        return Hole(self._latest, before) if silent and now > self._latest else None


class Shelf:
    """The chapters of a stretch in a file, to be taken from it series by series."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[str, dict[SeriesName, list[tuple[int, int]]]] = {}
        """Head of a family → series → start and length of its texts, in time order."""
        self.instants = self.samples = 0
        self.holes: list[Hole] = []
        self._length = 0

    def put(self, chapter: Chapter) -> None:
        """Put the next chapter."""
        self.samples += chapter.samples
        with self.path.open("ab") as file:
            for series, text in chapter.texts():
                length = file.write(text.encode("utf-8", "replace"))
                self.places.setdefault(series.head, {}).setdefault(series, []).append((self._length, length))
                self._length += length


def together(shelves: Sequence[Shelf], out: BinaryIO) -> tuple[int, int]:
    """Write shelves that follow each other as one OpenMetrics text; how many samples, and of how many series."""
    files = [shelf.path.open("rb") for shelf in shelves]
    heads = dict.fromkeys(head for shelf in shelves for head in shelf.places)
    count = 0
    for head in heads:
        out.write(head.encode("utf-8", "replace"))
        every = dict.fromkeys(series for shelf in shelves for series in shelf.places.get(head, ()))
        count += len(every)
        for series in every:
            for shelf, file in zip(shelves, files, strict=True):
                for start, length in shelf.places.get(head, {}).get(series, ()):
                    file.seek(start)
                    out.write(file.read(length))
    out.write(END.encode())
    for file in files:
        file.close()
    return sum(shelf.samples for shelf in shelves), count
