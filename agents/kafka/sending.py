"""Records of commands into the topics of an engine, durably; sent twice they count once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from agents.kafka.changelog import Record
from agents.kafka.connection import Connection
from agents.kafka.topics import BATCH_BYTES, Topics
from agents.kafka.tracking import ARRIVED
from flowmetrics.events import Event
from flowmetrics.routing import partition_of
from flowmetrics.steps.track import key_of


class Sender:
    """Appends to topics. A context: everything that was sent is there at its end."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._settings = connection.client(name)

    async def __aenter__(self) -> Sender:
        self._producer = AIOKafkaProducer(
            **self._settings,
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=8 * 1024 * 1024,
            request_timeout_ms=10_000,
        )
        try:
            await self._producer.start()
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._producer.stop()

    async def send(self, records: Sequence[Record]) -> None:
        """Append records; they are there when every broker that must has them. Raises KafkaError."""
        await asyncio.gather(*[await sent for sent in batches(self._producer, records)])


def event_record(topics: Topics, event: Event, body: bytes, arrived_at: int | None = None) -> Record:
    """An accepted event, on the partition of its entity; `arrived_at` if that was not just now."""
    key = (key_of(event) or f"{event.source} {event.id}").encode()
    headers = [] if arrived_at is None else [(ARRIVED, b"%d" % arrived_at)]
    return Record(topics.events, partition_of(key, topics.partitions), key, body, headers)


def batches(producer: AIOKafkaProducer, records: Sequence[Record]) -> list[Any]:
    """Sendings of records, as few as hold them."""
    builders: dict[tuple[str, int], BatchBuilder] = {}
    full: list[tuple[tuple[str, int], BatchBuilder]] = []
    for record in records:
        place = (record.topic, record.partition)
        builder = builders.get(place) or producer.create_batch()
        builders[place] = builder
        said = {"key": record.key, "value": record.value, "timestamp": None, "headers": record.headers}
        if builder.append(**said) is None:
            full.append((place, builder))
            builders[place] = producer.create_batch()
            builders[place].append(**said)
    return [
        producer.send_batch(builder, topic, partition=number) for (topic, number), builder in [*full, *builders.items()]
    ]
