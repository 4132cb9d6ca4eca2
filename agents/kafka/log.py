"""What a unit needs of Kafka: a writer, the rest of a changelog, and the streams that it reads, from where it says."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from agents.kafka import decoding  # noqa: F401 - it changes the client
from agents.kafka.changelog import Record, Rows, Writer, read_to_end
from agents.kafka.connection import Connection

FETCH_MS: Final = 100

Records: TypeAlias = Sequence[ConsumerRecord[bytes, bytes]]
"""Of the fields of a record only key, value, offset, timestamp and headers are there."""


class Commits(Protocol):
    """The writer of one unit; see `agents.kafka.changelog.Writer`."""

    async def commit(self, told: Sequence[Record], rows: Rows) -> int:
        """Write what others are told and the rows of the changelog in one transaction; gives the offset after the last
        row. Raises Lost."""
        ...

    async def close(self) -> None:
        """Let go of it; what was not committed is gone."""
        ...


class Log(Protocol):
    """Kafka as the units of one worker see it. Everything may raise KafkaError."""

    async def open(self, name: str, changelog: TopicPartition) -> Commits:
        """The writer of a name and its changelog: from now on whoever had the name before is refused."""
        ...

    def rest(self, topic: str, partition: int, start: int) -> AsyncIterator[Records]:
        """The committed records of a changelog partition from an offset to its present end; OffsetOutOfRangeError where
        that lies before."""
        ...

    async def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these from here on."""
        ...

    async def fetch(self, places: Sequence[TopicPartition], most: int) -> Mapping[TopicPartition, Records]:
        """Committed records that come next, after a while none; about `most` of them."""
        ...

    async def behind(self, places: Sequence[TopicPartition]) -> int:
        """How many records are left that were there when last heard of."""
        ...


class KafkaLog:
    """The log of one worker, over its consumer in the group."""

    def __init__(self, connection: Connection, consumer: AIOKafkaConsumer) -> None:
        self._connection = connection
        self._consumer = consumer
        self._ends: dict[TopicPartition, int] = {}
        self._stable: dict[TopicPartition, tuple[int, float]] = {}
        """The last stable offset, and since when it has stood still below the end."""

    async def open(self, name: str, changelog: TopicPartition) -> Commits:
        return await Writer.open(self._connection, name, changelog)

    def rest(self, topic: str, partition: int, start: int) -> AsyncIterator[Records]:
        return read_to_end(self._connection, topic, partition, start)

    async def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        for place, position in positions.items():
            self._consumer.seek(place, position)
        self._ends.update(await self._consumer.end_offsets(list(positions)))

    async def fetch(self, places: Sequence[TopicPartition], most: int) -> Mapping[TopicPartition, Records]:
        found: Mapping[TopicPartition, Records] = await self._consumer.getmany(
            *places, timeout_ms=FETCH_MS, max_records=most
        )
        return found

    async def behind(self, places: Sequence[TopicPartition]) -> int:
        lag = 0
        for place in places:
            stable = self._consumer.last_stable_offset(place) or 0
            self._ends[place] = max(self._ends[place], stable)
            if stable != self._stable.get(place, (-1, 0))[0] or stable == self._consumer.highwater(place):
                self._stable[place] = (stable, time.monotonic())
            lag += max(0, self._ends[place] - await self._consumer.position(place))
        return lag

    def stable_age_seconds(self, places: Sequence[TopicPartition]) -> float:
        """For how long an open transaction has held back what stands in one of these; 0 where none does."""
        now = time.monotonic()
        return max((now - self._stable[place][1] for place in places if self._held_back(place)), default=0.0)

    def _held_back(self, place: TopicPartition) -> bool:
        stable = self._consumer.last_stable_offset(place)
        return place in self._stable and stable is not None and stable < (self._consumer.highwater(place) or 0)
