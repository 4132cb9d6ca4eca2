"""Intake on Kafka: deliveries are judged, written to the partition of their entity, and only then answered.

Requests wait in a list; one task takes all that wait, writes them together, and wakes them when every broker that must
has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from agents.judging import judged
from agents.kafka.changelog import BATCH_BYTES, Record
from agents.kafka.connection import Connection
from agents.kafka.topics import Topics
from agents.kafka.tracking import rejected_record
from agents.receipts import Busy, Receipt
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError, Rejection
from flowmetrics.routing import partition_of
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.sources.pseudonyms import Pseudonyms, discreet
from flowmetrics.steps.track import key_of

WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes that wait to be written; beyond it a request is told to come back later."""


class KafkaIntake:
    """Appends to the events topic. `clock` gives the arrival by which events are judged."""

    def __init__(
        self,
        connection: Connection,
        topics: Topics,
        configuration: Configuration,
        pseudonyms: Pseudonyms | None,
        clock: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._source = CloudEvents(configuration.surveys)
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._waiting: list[tuple[Sequence[bytes], Future[Receipt]]] = []
        self._waiting_bytes = 0
        self._work = asyncio.Event()
        self.failure: OperationError | None = None
        """Why nothing can be taken any more; Kafka being away is no such reason."""
        self.refused: dict[str, int] = {}
        """Refused events by reason since the start."""

    def take(self, bodies: Sequence[bytes]) -> Future[Receipt]:
        """Queue the events of one request. Raises Busy; the future fails with OperationError when Kafka does."""
        size = sum(map(len, bodies))
        if self._waiting_bytes and self._waiting_bytes + size > WAITING_BYTES_MAX:
            raise Busy
        self._waiting_bytes += size
        future: Future[Receipt] = Future()
        self._waiting.append((bodies, future))
        self._work.set()
        return future

    async def run(self) -> None:
        """Write what waits, until cancelled; what waits then is written first."""
        producer = AIOKafkaProducer(
            **self._connection.client("intake"),
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=8 * 1024 * 1024,
            request_timeout_ms=10_000,
        )
        await producer.start()
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                group, self._waiting = self._waiting, []
                if group:
                    await self._write(producer, group)
        finally:
            await producer.stop()

    async def _write(self, producer: AIOKafkaProducer, group: list[tuple[Sequence[bytes], Future[Receipt]]]) -> None:
        arrived_at = self._clock()
        records: list[Record] = []
        receipts = [self._judge(bodies, arrived_at, records) for bodies, _ in group]
        try:
            await asyncio.gather(*[await sent for sent in _batches(producer, records)])
        except (KafkaError, TimeoutError) as error:
            told = OperationError(f"Kafka does not take events now ({error!r}); send them again")
            for _, future in group:
                future.set_exception(told)
        else:
            for receipt, (_, future) in zip(receipts, group, strict=True):
                for _, rejection in receipt.rejected:
                    self.refused[rejection.reason.value] = self.refused.get(rejection.reason.value, 0) + 1
                future.set_result(receipt)
        self._waiting_bytes -= sum(len(body) for bodies, _ in group for body in bodies)

    def _judge(self, bodies: Sequence[bytes], arrived_at: int, records: list[Record]) -> Receipt:
        receipt = Receipt()
        for index, (body, timed) in enumerate(judged(self._source, self._pseudonyms, bodies, arrived_at)):
            if isinstance(timed, Rejection):
                receipt.rejected.append((index, timed))
                told = timed if body else discreet(timed)
                records.append(rejected_record(self._topics, 0, told, (arrived_at, body)))
            else:
                key = key_of(timed[1]) or f"{timed[1].source} {timed[1].id}"
                number = partition_of(key.encode(), self._topics.partitions)
                records.append(Record(self._topics.events, number, key.encode(), body))
                receipt.accepted += 1
        return receipt


def _batches(producer: AIOKafkaProducer, records: Sequence[Record]) -> list[Any]:
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
