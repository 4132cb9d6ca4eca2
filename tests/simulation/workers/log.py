"""The log of one worker, as `agents.kafka.log.Log` promises it, over the model of the broker.

Every answer of the broker takes a pause, in which anything may happen to anybody. Pauses have names, so that a fault
can be aimed at one.
"""

from __future__ import annotations

import math
import types
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from agents.kafka.changelog import Lost, Record, Rows
from workers.broker import Broker, Entry, Fenced, Partition, Transaction


@types.coroutine
def pause(where: str) -> Generator[str, None, None]:
    """Let the world go on; it is told where."""
    yield where


@dataclass
class Troubles:
    """What goes wrong between workers and brokers: how likely each answer is an error."""

    rng: Random
    rates: Mapping[str, float]
    on: bool = True
    seen: dict[str, int] = field(default_factory=dict)

    def strike(self, name: str) -> bool:
        """Whether it goes wrong now."""
        rate = self.rates.get(name, 0.0) if self.on else 0.0
        struck = rate > 0.0 and self.rng.random() < rate
        if struck:
            self.seen[name] = self.seen.get(name, 0) + 1
        return struck


class SimulatedLog:
    """The connection of one worker process, over one consumer. `alive` ends with the process."""

    writer: type[Writer]

    def __init__(self, broker: Broker, rng: Random, troubles: Troubles, clock: Callable[[], int]) -> None:
        self.broker = broker
        self.clock = clock
        self.rng = rng
        self.troubles = troubles
        self.alive = True
        self.writers: list[Writer] = []
        self.deaf_until: dict[TopicPartition, int] = {}
        """Places whose broker does not answer this worker; a consumer asks again and again, and says nothing."""
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._seen_at: dict[TopicPartition, float] = {}

    async def open(self, name: str, changelog: TopicPartition) -> Writer:
        """See `Log`: it lasts until what was open under this name has ended everywhere."""
        await pause("open")
        self._may_fail("open")
        while (epoch := self.broker.init(name)) is None:
            await pause("init")
        await pause("opened")
        writer = self.writer(self, name, epoch, changelog)
        self.writers.append(writer)
        return writer

    async def rest(self, topic: str, partition: int, start: int) -> AsyncIterator[Sequence[Entry]]:
        """See `Log`."""
        await pause("rest")
        self._may_fail("rest")
        source = self.broker.partition(topic, partition)
        end = source.stable
        while start < end:
            await pause("read")
            self._may_fail("read")
            found = [entry for entry in self.seen(source, start) if entry.offset < end]
            if len(found) > 1:
                del found[self.rng.randint(1, len(found)) :]
            if not found:
                return
            start = found[-1].offset + 1
            yield found

    async def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `Log`."""
        await pause("seek")
        self._may_fail("seek")
        self._positions.update(positions)
        for place in positions:
            self._hear(place)
            self._seen_at[place] = -math.inf

    async def fetch(self, places: Sequence[TopicPartition], most: int) -> Mapping[TopicPartition, Sequence[Entry]]:
        """See `Log`: sometimes less than there is, sometimes nothing."""
        await pause("fetch")
        self._may_fail("fetch")
        found = {}
        for place in places:
            if records := self._next(place, most):
                found[place] = records
                most -= len(records)
        await pause("fetched")
        return found

    async def behind(self, places: Sequence[TopicPartition]) -> int:
        """See `Log`."""
        await pause("behind")
        return sum(max(0, self._ends[place] - self._positions[place]) for place in places)

    def unseen_us(self, places: Sequence[TopicPartition]) -> float:
        """See `Log`."""
        return max(self.broker.clock() - self._seen_at[place] for place in places)

    def seen(self, source: Partition, start: int) -> Iterable[Entry]:
        """What a consumer of this worker sees of a partition from an offset on."""
        return source.committed(start)

    def _next(self, place: TopicPartition, most: int) -> list[Entry]:
        if self.troubles.strike("nothing") or self._deaf(place):
            return []
        source, rng = self.broker.partition(*place), self.rng
        self._hear(place)
        there = list(self.seen(source, self._positions[place]))
        several = rng.choice((1, 2, len(there))) if self.troubles.on else len(there)
        found = there[: min(most, several)]
        if found:
            self._positions[place] = found[-1].offset + 1
            self._seen_at[place] = max(self._seen_at[place], found[-1].timestamp * 1000)
        if len(found) == len(there):
            self._positions[place] = max(self._positions[place], source.stable)
            if source.stable == source.end:
                self._seen_at[place] = self.broker.clock()
        return found

    def _hear(self, place: TopicPartition) -> None:
        self._ends[place] = max(self._ends.get(place, 0), self.broker.partition(*place).stable)

    def _deaf(self, place: TopicPartition) -> bool:
        return self.troubles.on and self.deaf_until.get(place, 0) > self.broker.clock()

    def _may_fail(self, name: str) -> None:
        if self.troubles.strike(name):
            raise KafkaError(f"{name}: the coordinator has moved")


class Writer:
    """The writer of one unit, as `agents.kafka.log.Commits` promises it."""

    def __init__(self, log: SimulatedLog, name: str, epoch: int, changelog: TopicPartition) -> None:
        self.log = log
        self.name = name
        self.epoch = epoch
        self.changelog = changelog
        self._asked: Transaction | None = None
        """What the broker was asked to commit, and has not answered."""

    async def commit(self, told: Sequence[Record], rows: Rows) -> int:
        """See `Commits`."""
        records = [*told, *(Record(*self.changelog, key, value) for key, value in rows)]
        broker, troubles = self.log.broker, self.log.troubles
        try:
            await pause("begin")
            while (transaction := broker.begin(self.name, self.epoch)) is None:
                await pause("begin")
            after = 0
            for batch in self._batches(records):
                await pause("send")
                if troubles.strike("batch"):
                    raise Lost("a batch did not arrive")
                for topic, partition, key, value, headers in batch:
                    place = (topic, partition)
                    offset = broker.append(self.name, self.epoch, transaction, place, key, value, headers)
                    if batch[-1] is records[-1]:
                        after = offset + 1
            self._asked = transaction
            await pause("commit")
            broker.commit(self.name, self.epoch, transaction)
        except Fenced as error:
            self._asked = None
            raise Lost("fenced") from error
        self._asked = None
        await pause("committed")
        if troubles.strike("answer"):
            raise Lost("no answer to the commit")
        return after

    async def close(self) -> None:
        """See `Commits`. What the broker was asked for may still happen."""
        self.let_go()
        if self.log.alive:
            await pause("close")

    def let_go(self) -> None:
        """The connection is cut; a commit that was under way may arrive or not."""
        asked, self._asked = self._asked, None
        if self in self.log.writers:
            self.log.writers.remove(self)
        if asked is not None and asked.committed is None and self.log.rng.random() < 0.5:
            try:
                self.log.broker.commit(self.name, self.epoch, asked)
            except Fenced:
                return
            self.log.troubles.seen["late commit"] = self.log.troubles.seen.get("late commit", 0) + 1

    def _batches(self, records: Sequence[Record]) -> list[list[Record]]:
        """Records by partition, in their order, cut anywhere; partitions in any order among each other."""
        rng, by_place = self.log.rng, dict[tuple[str, int], list[Record]]()
        for record in records:
            by_place.setdefault((record.topic, record.partition), []).append(record)
        roads = []
        for batch in by_place.values():
            cut = rng.randint(0, len(batch)) if rng.random() < 0.3 else 0
            roads.append([part for part in (batch[cut:], batch[:cut]) if part])
        ordered = []
        while roads:
            road = roads[rng.randrange(len(roads))]
            ordered.append(road.pop())
            if not road:
                roads.remove(road)
        return ordered


SimulatedLog.writer = Writer


class Nowhere:
    """A writer whose commits go nowhere: for a unit of which only what it remembers is asked for."""

    async def commit(self, told: Sequence[Record], rows: Rows) -> int:
        """See `Commits`."""
        return 1

    async def close(self) -> None:
        """See `Commits`."""
