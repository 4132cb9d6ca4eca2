"""A model of Kafka: what a broker promises to producers and consumers, with all the freedom that it keeps for itself.

A transaction is decided once. What was decided then lands in each partition that it wrote to by itself, as a marker
that takes an offset, at any time and in any order; until then its records hold back all that come after them there.
Taking the name of a transactional producer raises its epoch, ends what was open under it, and lasts until that landed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, TypeAlias

from agents.kafka.topics import TOMBSTONE_DAYS
from flowmetrics.instants import DAY_US, SECOND_US

TOMBSTONE_US: Final = TOMBSTONE_DAYS * DAY_US
"""So long after a cleaning a tombstone can still be read."""
TIMEOUT_US: Final = 10 * SECOND_US
"""The timeout of a transaction."""

Headers: TypeAlias = Sequence[tuple[str, bytes]]

_offset = attrgetter("offset")


class Fenced(Exception):  # noqa: N818 - an answer of the broker
    """The name of the producer was taken by another one, or its transaction took too long."""


@dataclass(slots=True, eq=False)
class Entry:
    """A record as a consumer sees it, and what a broker knows besides."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    """Milliseconds, of the broker's clock."""
    headers: Headers
    transaction: Transaction | None = None
    marker: bool = False
    forget_at: int = 0
    """From when on a cleaning takes it away, once one has seen that it is a tombstone."""


@dataclass(eq=False)
class Transaction:
    """`unmarked` are the partitions in which it has records and no marker yet; `wrote` is what by topic and key."""

    begun: int
    committed: bool | None = None
    unmarked: list[Partition] = field(default_factory=list)
    wrote: dict[tuple[str, object], object] = field(default_factory=dict)


@dataclass
class Producer:
    """What the coordinator knows under a name."""

    epoch: int = 0
    transaction: Transaction | None = None


class Partition:
    """One partition of a topic."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.end = 0
        self._open: dict[Transaction, int] = {}

    @property
    def stable(self) -> int:
        """The last stable offset: what lies behind it is decided."""
        return min(self._open.values(), default=self.end)

    def append(
        self, key: bytes | None, value: bytes | None, now: int, headers: Headers = (), of: Transaction | None = None
    ) -> int:
        """Append a record at an instant; its offset."""
        if of is not None and self not in of.unmarked:
            of.unmarked.append(self)
            self._open[of] = self.end
        return self._append(Entry(self.end, key, value, now // 1000, headers, of))

    def land(self, transaction: Transaction, now: int) -> None:
        """Append the marker of a transaction."""
        transaction.unmarked.remove(self)
        del self._open[transaction]
        self._append(Entry(self.end, None, None, now // 1000, (), transaction, marker=True))

    def committed(self, start: int) -> Iterator[Entry]:
        """What a consumer may see from an offset on that reads what is committed."""
        stable = self.stable
        for entry in self._from(start):
            if entry.offset >= stable:
                return
            if not entry.marker and (entry.transaction is None or entry.transaction.committed):
                yield entry

    def uncommitted(self, start: int) -> Iterator[Entry]:
        """What a consumer sees from an offset on that reads everything."""
        return (entry for entry in self._from(start) if not entry.marker)

    def undenied(self, start: int) -> Iterator[Entry]:
        """What is committed or may be, from an offset on."""
        for entry in self.uncommitted(start):
            if entry.transaction is None or entry.transaction.committed is not False:
                yield entry

    def clean(self, until: int, now: int) -> int:
        """Keep of each key the latest record only, as far as an offset at most; how many records went."""
        stable = min(until, self.stable)
        seen: set[bytes | None] = set()
        kept: list[Entry] = []
        for entry in reversed(self.entries):
            if entry.offset >= stable:
                kept.append(entry)
            elif not entry.marker and (entry.transaction is None or entry.transaction.committed):
                if entry.key not in seen and not self._forgotten(entry, now):
                    kept.append(entry)
                seen.add(entry.key)
        gone = len(self.entries) - len(kept)
        self.entries = kept[::-1]
        return gone

    def _forgotten(self, entry: Entry, now: int) -> bool:
        if entry.value is None and not entry.forget_at:
            entry.forget_at = now + TOMBSTONE_US
        return entry.value is None and entry.forget_at <= now

    def _append(self, entry: Entry) -> int:
        self.entries.append(entry)
        self.end += 1
        return entry.offset

    def _from(self, start: int) -> Iterator[Entry]:
        entries = self.entries
        for index in range(bisect_left(entries, start, key=_offset), len(entries)):
            yield entries[index]


class Broker:
    """All partitions, and the coordinator of transactions. `fencing` off is a broken broker."""

    def __init__(self, clock: Callable[[], int], fencing: bool = True) -> None:
        self.clock = clock
        self._fencing = fencing
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._producers: dict[str, Producer] = {}
        self.landing: list[tuple[Transaction, Partition]] = []
        """What was decided and did not land yet."""

    def partition(self, topic: str, number: int) -> Partition:
        """A partition; there is one of every name."""
        return self._partitions.setdefault((topic, number), Partition())

    @property
    def written(self) -> int:
        """How much was ever written."""
        return sum(partition.end for partition in self._partitions.values())

    def init(self, name: str) -> int | None:
        """Take a name: the epoch under which to write; None while a transaction under it ends: ask again."""
        producer = self._producers.setdefault(name, Producer())
        running = producer.transaction if self._fencing else None
        if running is not None and running.committed is None:
            producer.epoch += 1
            self._end(running, committed=False)
        if running is not None and running.unmarked:
            return None
        producer.transaction = None
        producer.epoch += 1
        return producer.epoch

    def begin(self, name: str, epoch: int) -> Transaction | None:
        """Begin a transaction; None while the one before ends: ask again. Raises Fenced."""
        producer = self._of(name, epoch)
        if self._fencing and producer.transaction is not None and producer.transaction.unmarked:
            return None
        producer.transaction = Transaction(self.clock())
        return producer.transaction

    def append(self, name: str, epoch: int, transaction: Transaction, place: tuple[str, int], *record: object) -> int:
        """Append a record of a transaction. Raises Fenced.

        The broker of a partition learns of a new epoch with the marker: until then it takes what comes too late,
        which is aborted with the rest.
        """
        partition = self.partition(*place)
        if transaction.committed is not None and partition not in transaction.unmarked:
            raise Fenced
        if transaction.committed is None:
            self._of(name, epoch)
        key, value, headers = record
        transaction.wrote[place[0], key] = value
        return partition.append(key, value, self.clock(), headers, transaction)  # type: ignore[arg-type]

    def latest(self, name: str) -> Transaction | None:
        """What was begun under a name last."""
        return self._producers[name].transaction

    def commit(self, name: str, epoch: int, transaction: Transaction) -> None:
        """Decide that a transaction is committed. Raises Fenced."""
        self._of(name, epoch)
        if transaction.committed is not None:
            raise Fenced
        self._end(transaction, committed=True)

    def expire(self) -> int:
        """Abort what has been open for too long, and refuse who began it; how many those were."""
        expired = 0
        for producer in self._producers.values():
            running = producer.transaction
            if running is not None and running.committed is None and running.begun < self.clock() - TIMEOUT_US:
                producer.epoch += 1
                self._end(running, committed=False)
                expired += 1
        return expired

    def land(self, index: int) -> None:
        """Let one of the decisions land where it must."""
        transaction, partition = self.landing.pop(index)
        partition.land(transaction, self.clock())

    def _of(self, name: str, epoch: int) -> Producer:
        producer = self._producers[name]
        if producer.epoch != epoch and self._fencing:
            raise Fenced
        return producer

    def _end(self, transaction: Transaction, committed: bool) -> None:
        transaction.committed = committed
        self.landing += [(transaction, partition) for partition in transaction.unmarked]
