"""Negative controls: worlds that are broken in one place each. A simulation that lets one pass proves nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final

import msgspec
from aiokafka import TopicPartition

from agents.kafka import tallying, tracking
from agents.kafka.changelog import Lost, Record
from workers.broker import Entry, Partition
from workers.log import SimulatedLog, Writer, pause
from workers.store import Rows, SimulatedStore
from workers.worker import Parts


def unit_of(positions: Iterable[TopicPartition]) -> str:
    """The name of the writer of the unit that reads these."""
    topic, number = next(iter(positions))
    return f"f-{'tally' if topic == 'f.changes' else 'track'}-{number}"


class LateWriter(Writer):
    """It takes its name only when it is told to."""

    async def take(self) -> None:
        """From now on whoever had it before is refused."""
        while (epoch := self.log.broker.init(self.name)) is None:
            await pause("init")
        self.epoch = epoch


class LoadsFirst(SimulatedLog):
    """The changelog is read before the writer is opened."""

    async def open(self, name: str, changelog: TopicPartition) -> Writer:
        await pause("open")
        late = LateWriter(self, name, 0, changelog)
        self.writers.append(late)
        return late

    async def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        for writer in self.writers:
            if isinstance(writer, LateWriter) and writer.name == unit_of(positions):
                await writer.take()
        await super().begin(positions)


class SeeksFirst(SimulatedLog):
    """The position is read before the writer is opened, the state after that."""

    async def open(self, name: str, changelog: TopicPartition) -> Writer:
        before = self._stored(name)
        writer = await super().open(name, changelog)
        self._before[name] = before
        return writer

    async def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        await super().begin(dict(zip(positions, self._before[unit_of(positions)], strict=True)))

    @cached_property
    def _before(self) -> dict[str, Sequence[int]]:
        return {}

    def _stored(self, name: str) -> Sequence[int]:
        prefix, step, number = name.split("-")
        entries = self.broker.partition(f"{prefix}.{step}", int(number)).committed(0)
        stored = {entry.key: entry.value for entry in entries}.get(tracking.POSITION)
        if step == "track":
            position = msgspec.msgpack.decode(stored, type=tracking.Position) if stored else tracking.Position()
            return position.events, position.links
        return (msgspec.msgpack.decode(stored, type=tallying.Position).changes if stored else 0,)


class ReopeningWriter(Writer):
    """Once refused it takes its name again, and writes what it has in memory."""

    async def commit(self, told: Sequence[Record], rows: Rows) -> int:
        try:
            return await super().commit(told, rows)
        except Lost:
            while (epoch := self.log.broker.init(self.name)) is None:
                await pause("init")
            self.epoch = epoch
            return await super().commit(told, rows)


class KeepsState(SimulatedLog):
    """A unit whose writer was refused goes on with its state."""

    writer = ReopeningWriter


class Uncommitted(SimulatedLog):
    """Everything is read, also what is not committed."""

    def seen(self, source: Partition, start: int) -> Iterable[Entry]:
        return source.uncommitted(start)


class HastyWriter(Writer):
    """What goes to others is written at once, and only the changelog in a transaction."""

    async def commit(self, told: Sequence[Record], rows: Rows) -> int:
        for topic, partition, key, value, headers in told:
            await pause("send")
            self.log.broker.partition(topic, partition).append(key, value, self.log.broker.clock(), headers)
        return await super().commit([], rows)


class OutputsOutside(SimulatedLog):
    """Outputs are not part of the transaction."""

    writer = HastyWriter


class ForgetfulWriter(Writer):
    """Where it has come is written by itself, after what follows from it."""

    async def commit(self, told: Sequence[Record], rows: Rows) -> int:
        *others, position = rows
        broker = self.log.broker
        await super().commit(told, others)
        if transaction := broker.latest(self.name):
            transaction.wrote[self.changelog.topic, position[0]] = position[1]  # so that the judge knows what it meant
        await pause("send")
        return broker.partition(*self.changelog).append(*position, broker.clock()) + 1


class PositionOutside(SimulatedLog):
    """The position is not part of the transaction."""

    writer = ForgetfulWriter


class LettersDropped(SimulatedLog):
    """Nobody reads the letters."""

    def seen(self, source: Partition, start: int) -> Iterable[Entry]:
        letters = any(source is self.broker.partition("f.links", number) for number in range(4))
        return () if letters else source.committed(start)


class Credulous(SimulatedLog):
    """What was heard of last is taken for all there is."""

    def unseen_us(self, places: Sequence[TopicPartition]) -> float:
        return 0.0


class BoastfulStore(SimulatedStore):
    """It claims to be filled further than it is."""

    def fill(self, rows: Rows, offset: int, at: int | None = None) -> None:
        super().fill(rows, offset + 2, at)


class TrustingStore(SimulatedStore):
    """It is believed however long nobody filled it, though tombstones may be gone."""

    trusting = True


CONTROLS: Final[Mapping[str, Parts]] = {
    "the changelog is read before the writer is opened": Parts(log=LoadsFirst),
    "the position is read before the writer is opened": Parts(log=SeeksFirst),
    "a unit keeps its state after it was refused": Parts(log=KeepsState),
    "what is not committed is read": Parts(log=Uncommitted),
    "outputs are written outside of the transaction": Parts(log=OutputsOutside),
    "the position is written outside of the transaction": Parts(log=PositionOutside),
    "nobody is refused": Parts(fencing=False),
    "a store claims to be filled further than it is": Parts(store=BoastfulStore),
    "a store is believed however old it is": Parts(store=TrustingStore),
    "letters are dropped": Parts(log=LettersDropped),
    "what was heard of last is taken for all there is": Parts(log=Credulous),
}
