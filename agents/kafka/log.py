"""What a unit needs of Kafka: a writer, the rest of a changelog, and the streams that it reads, from where it says."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from agents.kafka import decoding  # noqa: F401 - it changes the client
from agents.kafka.changelog import Record, Rows, Writer, read_to_end
from agents.kafka.connection import Connection
from flowmetrics.instants import SECOND_US

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

    def unseen_us(self, places: Sequence[TopicPartition]) -> float:
        """For how long something may have stood in one of these that was not fetched, as an open transaction holds it
        back, or their broker does not answer. Infinite while nothing was heard since `begin`."""
        ...


class KafkaLog:
    """The log of one worker, over its consumer in the group."""

    def __init__(self, connection: Connection, consumer: AIOKafkaConsumer) -> None:
        self._connection = connection
        self._consumer = consumer
        self._ends: dict[TopicPartition, int] = {}
        self._stable: dict[TopicPartition, tuple[int, float]] = {}
        """The last stable offset, and when it was last heard to move, or to be the end; before that the begin."""
        self._seen: dict[TopicPartition, float] = {}
        """The latest monotonic second of which it is known that all that stood there then was fetched."""

    async def open(self, name: str, changelog: TopicPartition) -> Commits:
        return await Writer.open(self._connection, name, changelog)

    def rest(self, topic: str, partition: int, start: int) -> AsyncIterator[Records]:
        return read_to_end(self._connection, topic, partition, start)

    async def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        for place, position in positions.items():
            self._consumer.seek(place, position)
            self._seen.pop(place, None)
            self._stable[place] = (position, time.monotonic())
        self._ends.update(await self._consumer.end_offsets(list(positions)))

    async def fetch(self, places: Sequence[TopicPartition], most: int) -> Mapping[TopicPartition, Records]:
        found: Mapping[TopicPartition, Records] = await self._consumer.getmany(
            *places, timeout_ms=FETCH_MS, max_records=most
        )
        for place, records in found.items():
            self._saw(place, _ticks_of(records[-1].timestamp))
        return found

    async def behind(self, places: Sequence[TopicPartition]) -> int:
        lag = 0
        for place in places:
            position = await self._consumer.position(place)
            self._hear(place, position)
            lag += max(0, self._ends[place] - position)
        return lag

    def _hear(self, place: TopicPartition, position: int) -> None:
        """Take note of what the broker of a partition said last, if it ever did."""
        heard_ms, stable = self._consumer.last_poll_timestamp(place), self._consumer.last_stable_offset(place) or 0
        self._ends[place] = max(self._ends[place], stable)
        if heard_ms is not None:
            heard, whole = _ticks_of(heard_ms), stable == self._consumer.highwater(place)
            if whole or stable != self._stable[place][0]:
                self._stable[place] = (stable, heard)
            if whole and position >= stable:
                self._saw(place, heard)

    def _saw(self, place: TopicPartition, ticks: float) -> None:
        """All that stood in a partition at a moment was fetched."""
        self._seen[place] = max(self._seen.get(place, -math.inf), ticks)

    def unseen_us(self, places: Sequence[TopicPartition]) -> float:
        now = time.monotonic()
        return max(now - self._seen.get(place, -math.inf) for place in places) * SECOND_US

    def stable_age_seconds(self, places: Sequence[TopicPartition]) -> float:
        """For how long the stable offset of one of these, which are being read, has stood still below its end, or its
        broker has said nothing: a moment where all is well."""
        now = time.monotonic()
        return max(now - self._stable[place][1] for place in places)


def _ticks_of(at_ms: int) -> float:
    """The monotonic second of an instant of the wall clock, which is not to come."""
    return time.monotonic() - max(0.0, time.time() - at_ms / 1000)
