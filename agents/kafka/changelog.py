"""The changelog of one partition of a step: read to its end before anything else, written one transaction a checkpoint.

Never in another order: open the writer (the broker then refuses whoever had the partition before), read, seek, process.
After any error both writer and state must be thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, NamedTuple, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, TransactionalIdAuthorizationFailed
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import ConsumerRecord

from agents.kafka.connection import Connection, leave
from agents.kafka.topics import BATCH_BYTES, RECORD_BYTES_MAX
from flowmetrics.errors import OperationError

TRANSACTION_SECONDS: Final = 10
OPEN_SECONDS: Final = 60
RECORDS_MAX: Final = 2**30
"""Of one writer: the client's sequence number wraps at 2^31 to a number that brokers refuse."""
POLL_MS: Final = 100
BREATH_RECORDS: Final = 5000
"""So many are put into batches without letting anybody else do something."""


Answer: TypeAlias = "asyncio.Future[Any]"


class Lost(Exception):  # noqa: N818 - what happened to a partition, not a mistake of anybody
    """The partition is somebody else's now, or a checkpoint failed: begin again, if it is still ours."""


class Record(NamedTuple):
    """What a checkpoint writes: where to, under which key, and what; no value is a tombstone."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = []  # noqa: RUF012 - the client wants lists, and nobody changes them


Row: TypeAlias = tuple[bytes, bytes | None]
"""Key and value on the changelog; no value is a tombstone."""
Rows: TypeAlias = list[Row]


class Writer:
    """The transactions of one partition of a step, whose changelog is `place`; without one it has no rows."""

    def __init__(self, producer: AIOKafkaProducer, place: TopicPartition | None = None) -> None:
        self._producer = producer
        self._place = place
        self._records = 0

    @classmethod
    async def open(cls, connection: Connection, name: str, place: TopicPartition | None = None) -> Writer:
        """Take the name: from now on the broker refuses whoever had it before. Raises KafkaError, and OperationError
        where the name is refused to us."""
        producer = AIOKafkaProducer(
            **connection.client(name),
            acks="all",
            transactional_id=name,
            transaction_timeout_ms=TRANSACTION_SECONDS * 1000,
            max_batch_size=BATCH_BYTES,
            max_request_size=RECORD_BYTES_MAX,
            retry_backoff_ms=20,
            linger_ms=0,
        )
        try:
            async with asyncio.timeout(OPEN_SECONDS):  # the client would try for ever
                await producer.start()
        except TimeoutError:
            await _stop(producer)
            raise KafkaError(f"Kafka did not give the transactional id {name} within {OPEN_SECONDS} s") from None
        except TransactionalIdAuthorizationFailed:
            await _stop(producer)
            raise OperationError(
                f"Kafka refuses the transactional id {name}; let this user write transactional ids with this beginning"
            ) from None
        except BaseException:
            await _stop(producer)
            raise
        return cls(producer, place)

    async def commit(self, told: Iterable[Record], rows: Rows) -> int:
        """Write what others are told and the rows of the changelog in one transaction; gives the offset after the last
        row. Raises Lost."""
        producer = self._producer
        try:
            await producer.begin_transaction()
            sent = await self._tell(told)
            answers, in_last = await self._write(rows)
            # A commit succeeds even though a batch did not arrive, so each answer is looked at first.
            *_, last = await asyncio.gather(*sent, *answers)
            await producer.commit_transaction()
        except (KafkaError, AssertionError, ValueError) as error:
            raise Lost(repr(error)) from error
        if self._records > RECORDS_MAX:
            raise Lost("the writer has numbered its records to the end")
        return int(last.offset) + in_last

    async def _tell(self, told: Iterable[Record]) -> list[Answer]:
        """Send records to where they belong; the answers to come."""
        batches: dict[tuple[str, int], _Batches] = {}
        for number, (topic, partition, key, value, headers) in enumerate(told):
            if number % BREATH_RECORDS == 0:
                await asyncio.sleep(0)
            place = (topic, partition)
            if place not in batches:
                batches[place] = _Batches(self._producer, topic, partition)
            await batches[place].append(key, value, headers)
            self._records += 1
        return [answer for batch in batches.values() for answer in (await batch.end())[0]]

    async def _write(self, rows: Rows) -> tuple[list[Answer], int]:
        """Send rows to the changelog: the answers to come, and how many rows are in the last batch."""
        if self._place is None:
            assert not rows
            return [], 0
        batches = _Batches(self._producer, *self._place)
        self._records += len(rows)
        for start in range(0, len(rows), BREATH_RECORDS):
            for key, value in rows[start : start + BREATH_RECORDS]:
                if batches.builder.append(key=key, value=value, timestamp=None) is None:
                    await batches.append(key, value, [])
            await asyncio.sleep(0)
        return await batches.end()

    async def close(self) -> None:
        """Let go of it; what was not committed is gone."""
        await _stop(self._producer)


class _Batches:
    """Records for one place, in batches that are sent as they fill."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int) -> None:
        self._producer = producer
        self._topic, self._partition = topic, partition
        self._sent: list[Answer] = []
        self.builder: BatchBuilder = producer.create_batch()

    async def append(self, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        """Add a record. Raises ValueError where it is larger than a batch."""
        if self.builder.append(key=key, value=value, timestamp=None, headers=headers) is None:
            if self.builder.record_count():
                await self._send()
                self.builder = self._producer.create_batch()
                self.builder.append(key=key, value=value, timestamp=None, headers=headers)
            if not self.builder.record_count():
                raise ValueError(f"a record of {len(value or b'')} bytes for {self._topic} is larger than a batch")

    async def end(self) -> tuple[list[Answer], int]:
        """Send the rest: the answers to come, and how many records are in the last batch."""
        await self._send()
        return self._sent, self.builder.record_count()

    async def _send(self) -> None:
        self._sent.append(await self._producer.send_batch(self.builder, self._topic, partition=self._partition))


async def _stop(producer: AIOKafkaProducer) -> None:
    # A fenced producer cannot end in order; the broker has forgotten it.
    with contextlib.suppress(KafkaError, AssertionError, TimeoutError):
        await asyncio.wait_for(producer.stop(), 3)


async def read_to_end(
    connection: Connection, topic: str, partition: int, start: int
) -> AsyncIterator[list[ConsumerRecord[bytes, bytes]]]:
    """The committed records of a changelog partition from an offset to its present end. Raises KafkaError,
    OffsetOutOfRangeError where it ends before that offset: it is another one than the one that was read up to there."""
    consumer = AIOKafkaConsumer(
        **connection.client("reader"),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    place = TopicPartition(topic, partition)
    try:
        await consumer.start()
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        if start > end:
            raise OffsetOutOfRangeError({place: start})
        begin = (await consumer.beginning_offsets([place]))[place]
        consumer.seek(place, max(start, begin))
        while await consumer.position(place) < end:
            records = await consumer.getmany(place, timeout_ms=POLL_MS)
            if place in records:
                yield records[place]
    finally:
        await leave(consumer)
