"""The changelog of one partition of a step: read to its end before anything else, written one transaction a checkpoint.

Never in another order: open the writer (the broker then refuses whoever had the partition before), read, seek, process.
After any error both writer and state must be thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import ConsumerRecord

from agents.kafka.connection import Connection

TRANSACTION_SECONDS: Final = 10
OPEN_SECONDS: Final = 60
BATCH_BYTES: Final = 900_000
RECORDS_MAX: Final = 2**30
"""Of one writer: the client's sequence number wraps at 2^31 to a number that brokers refuse."""
POLL_MS: Final = 100
BREATH_RECORDS: Final = 5000
"""So many are put into batches without letting anybody else do something."""


class Lost(Exception):  # noqa: N818 - what happened to a partition, not a mistake of anybody
    """The partition is somebody else's now, or a checkpoint failed: begin again, if it is still ours."""


class Record(NamedTuple):
    """What a checkpoint writes: where to, under which key, and what; no value is a tombstone."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = []  # noqa: RUF012 - the client wants lists, and nobody changes them


class Writer:
    """The transactions of one partition of a step."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._records = 0

    @classmethod
    async def open(cls, connection: Connection, name: str) -> Writer:
        """Take the name: from now on the broker refuses whoever had it before. Raises KafkaError."""
        producer = AIOKafkaProducer(
            **connection.client(name),
            acks="all",
            transactional_id=name,
            transaction_timeout_ms=TRANSACTION_SECONDS * 1000,
            max_batch_size=BATCH_BYTES,
            max_request_size=8 * 1024 * 1024,
            retry_backoff_ms=20,
            linger_ms=0,
        )
        try:
            async with asyncio.timeout(OPEN_SECONDS):  # without the right to the name it would wait for ever
                await producer.start()
        except TimeoutError:
            await _stop(producer)
            raise KafkaError(
                f"Kafka did not give the transactional id {name} within {OPEN_SECONDS} s; "
                "allow the worker's user to write transactional ids with this beginning"
            ) from None
        except BaseException:
            await _stop(producer)
            raise
        return cls(producer)

    async def commit(self, records: Iterable[Record], last: Record) -> int:
        """Write records in one transaction, `last` at their end; gives the offset after `last`. Raises Lost."""
        producer = self._producer
        try:
            await producer.begin_transaction()
            sent, after = await self._send([*records, last])
            # A commit succeeds even though a batch did not arrive, so each answer is looked at first.
            answers = await asyncio.gather(*sent)
            await producer.commit_transaction()
        except (KafkaError, AssertionError, ValueError) as error:
            raise Lost(repr(error)) from error
        if self._records > RECORDS_MAX:
            raise Lost("the writer has numbered its records to the end")
        return int(answers[-1].offset) + after

    async def _send(self, records: list[Record]) -> tuple[list[asyncio.Future[Any]], int]:
        """The answers to come, and how many records the last batch holds."""
        producer, sent = self._producer, list[asyncio.Future[Any]]()
        builders: dict[tuple[str, int], BatchBuilder] = {}
        self._records += len(records)
        for number, (topic, partition, key, value, headers) in enumerate(records):
            if number % BREATH_RECORDS == 0:
                await asyncio.sleep(0)
            place = (topic, partition)
            if place not in builders:
                builders[place] = producer.create_batch()
            builder = builders[place]
            if builder.append(key=key, value=value, timestamp=None, headers=headers) is None:
                if builder.record_count():
                    sent.append(await producer.send_batch(builder, topic, partition=partition))
                    builder = builders[place] = producer.create_batch()
                    builder.append(key=key, value=value, timestamp=None, headers=headers)
                if not builder.record_count():
                    raise ValueError(f"a record of {len(value or b'')} bytes for {topic} is larger than a batch")
        topic, partition, *_ = records[-1]
        last = builders.pop((topic, partition))
        for (other, number), builder in builders.items():
            sent.append(await producer.send_batch(builder, other, partition=number))
        sent.append(await producer.send_batch(last, topic, partition=partition))
        return sent, last.record_count()

    async def close(self) -> None:
        """Let go of it; what was not committed is gone."""
        await _stop(self._producer)


async def _stop(producer: AIOKafkaProducer) -> None:
    # A fenced producer cannot end in order; the broker has forgotten it.
    with contextlib.suppress(KafkaError, AssertionError, TimeoutError):
        await asyncio.wait_for(producer.stop(), 3)


async def read_to_end(
    connection: Connection, topic: str, partition: int, start: int
) -> AsyncIterator[list[ConsumerRecord[bytes, bytes]]]:
    """The committed records of a changelog partition from an offset to its present end."""
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
        begin = (await consumer.beginning_offsets([place]))[place]
        consumer.seek(place, max(start, begin))
        while await consumer.position(place) < end:
            records = await consumer.getmany(place, timeout_ms=POLL_MS)
            if place in records:
                yield records[place]
    finally:
        await consumer.stop()
