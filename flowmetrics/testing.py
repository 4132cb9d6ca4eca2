"""For tests: the engine in memory, with what it publishes as a flat mapping that is easy to compare."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from flowmetrics import driver
from flowmetrics.configuration import Configuration
from flowmetrics.driver import Histories
from flowmetrics.engine_metrics import EngineCounters
from flowmetrics.families import Family, Sample
from flowmetrics.kpis import selected
from flowmetrics.partition import Delivery, Partition
from flowmetrics.routing import partition_of
from flowmetrics.source import FAR_FUTURE
from flowmetrics.steps.read import Read
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.tally import Tally


class Driver(driver.Driver):
    """The driver, and `values`."""

    def values(self) -> dict[str, float]:
        """What is published now, as `metric{labels}` → value."""
        return flat(self.families())


class Partitioned:
    """The engine in memory with many partitions. `pick(n)` chooses, below n, whose mail is read next.

    Events are dealt out in turn, so that most reach a partition where they do not belong and must be passed on.
    """

    def __init__(self, configuration: Configuration, partitions: int, pick: Callable[[int], int]) -> None:
        self._pick = pick
        self.now = 0
        self._parts = [
            Partition(configuration, (n, partitions), Histories(), SeriesTable(()), {}, {}, EngineCounters([]))
            for n in range(partitions)
        ]
        self._mail: dict[tuple[int, int], deque[Delivery | tuple[str, bytes]]] = {
            (one, other): deque() for one in range(partitions) for other in range(partitions)
        }
        self._tables = [SeriesTable(()) for _ in range(partitions)]
        kpis = selected(configuration)
        self.tallies = [Tally(configuration, kpis, self._tables[n], 0, self._owner(n)) for n in range(partitions)]
        self._reads = [Read(configuration, kpis) for _ in range(partitions)]

    def deliver(self, lines: Iterable[bytes]) -> None:
        """Take one batch of native events, and read some of the mail that follows from it."""
        for index, line in enumerate(lines):
            to = index % len(self._parts)
            self._mail[to, to].append((FAR_FUTURE, line))
        self._read_mail(self._pick(8))

    def advance(self, now: int) -> None:
        """Move the clock, and read all mail."""
        self.now = max(now, self.now)
        for part in range(len(self._parts)):
            self._take(part, [], [])
        self._read_mail(-1)
        for tally in self.tallies:
            tally.advance(self.now)

    def values(self) -> dict[str, float]:
        """What is published now, as `metric{labels}` → value; no partition publishes what another one does."""
        values: dict[str, float] = {}
        for read, tally in zip(self._reads, self.tallies, strict=True):
            page = flat(read.families(tally, self.now))
            assert not page.keys() & values.keys(), f"in two partitions: {sorted(page.keys() & values.keys())}"
            values |= page
        return values

    def home(self, key: str) -> int:
        """The partition of a key."""
        return partition_of(key.encode(), len(self._parts))

    def _owner(self, number: int) -> Callable[[str], bool]:
        return lambda stream: self.home(stream) == number

    def _read_mail(self, times: int) -> None:
        while times and (waiting := [road for road, mail in self._mail.items() if mail]):
            road = waiting[self._pick(len(waiting))]
            mail = [self._mail[road].popleft() for _ in range(1 + self._pick(len(self._mail[road])))]
            events: list[Delivery] = [(at, body) for at, body in mail if isinstance(at, int)]
            self._take(road[1], events, [(key, body) for key, body in mail if isinstance(key, str)])
            times -= 1

    def _take(self, number: int, events: Iterable[Delivery], letters: Iterable[tuple[str, bytes]]) -> None:
        opened = self._parts[number].open(events, self.now)
        taken = self._parts[number].take(opened, letters)
        for to, key, body in taken.letters:
            self._mail[number, to].append((key, body))
        for to, _, delivery in opened.misplaced:
            self._mail[number, to].append(delivery)
        for series, cells in taken.changes.items():
            to = self.home(series[1])
            self.tallies[to].apply({self._tables[to].number(series): cells})


def flat(families: Iterable[Family]) -> dict[str, float]:
    """Families as `metric{labels}` → value."""
    return {sample_text(family.name, sample): sample.value for family in families for sample in family.samples}


def sample_text(name: str, sample: Sample) -> str:
    """A sample's name and labels as text, without escaping.

    >>> sample_text("up", Sample((("job", "x"),), 1.0))
    'up{job="x"}'
    """
    labels = ",".join(f'{label}="{value}"' for label, value in sample.labels)
    return f"{name}{{{labels}}}"
