"""Intake on Kafka: deliveries are judged, written to the partition of their entity, and only then answered.

Requests wait in a list; one task takes all that wait, writes them together, and wakes them when every broker that must
has them. When that takes too long they are told to send again: what was written nevertheless is one fact either way.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from agents.judging import judged
from agents.kafka.changelog import RECORDS_MAX, Record
from agents.kafka.connection import Connection, end, own_cancels
from agents.kafka.sending import batches, event_record
from agents.kafka.topics import BATCH_BYTES, Topics
from agents.kafka.tracking import refusals_record, rejected_record
from agents.receipts import Busy, Receipt
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError, Rejection
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.sources.pseudonyms import Pseudonyms, discreet

log = logging.getLogger(__name__)

WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes that wait to be written; beyond it a request is told to come back later."""
WRITE_SECONDS: Final = 10.0
"""How long requests wait for Kafka before they are told to come back."""


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
        self._producer: AIOKafkaProducer | None = None
        self._written = 0
        self.failure: OperationError | None = None
        """Why nothing can be taken any more; Kafka being away is no such reason."""
        self._idle = "Kafka was not reached yet; send them again"
        """Why nobody would write what is taken now."""

    def take(self, bodies: Sequence[bytes]) -> Future[Receipt]:
        """Queue the events of one request. Raises Busy; the future fails with OperationError when Kafka does, or is not
        written to yet, or any more."""
        if self._idle:
            future = Future[Receipt]()
            future.set_exception(OperationError(self._idle))
            return future
        size = sum(map(len, bodies))
        if self._waiting_bytes and self._waiting_bytes + size > WAITING_BYTES_MAX:
            raise Busy
        self._waiting_bytes += size
        future = Future[Receipt]()
        self._waiting.append((bodies, future))
        self._work.set()
        return future

    def start(self) -> asyncio.Task[None]:
        """Take events, and write what waits until cancelled; who waits then is told to send again."""
        self._idle = ""
        return asyncio.create_task(self._run())

    async def _run(self) -> None:
        group: list[tuple[Sequence[bytes], Future[Receipt]]] = []
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                group, self._waiting = self._waiting, []
                if group:
                    await self._write(group)
        finally:
            self._idle = "this worker ends; send them to another one"
            for _, future in [*group, *self._waiting]:
                if not future.done():
                    future.set_exception(OperationError(self._idle))
            await self._let_go()

    async def _write(self, group: list[tuple[Sequence[bytes], Future[Receipt]]]) -> None:
        arrived_at = self._clock()
        records: list[Record] = []
        receipts = [self._judge(bodies, arrived_at, records) for bodies, _ in group]
        refused = Counter(rejection.reason.value for receipt in receipts for _, rejection in receipt.rejected)
        if refused:
            records.append(refusals_record(self._topics, refused))
        try:
            with own_cancels():
                async with asyncio.timeout(WRITE_SECONDS):
                    producer = await self._open(len(records))
                    await asyncio.gather(*[await sent for sent in batches(producer, records)])
        except Exception as error:
            if not isinstance(error, (KafkaError, OSError)):
                log.exception("the intake failed, and goes on")
            told = OperationError(f"Kafka does not take events now ({error!r}); send them again")
            for _, future in group:
                _tell(future, told)
            # A producer would try for ever, and one that failed for good takes nothing more.
            await self._let_go()
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError from None
        else:
            for receipt, (_, future) in zip(receipts, group, strict=True):
                _tell(future, receipt)
        self._waiting_bytes -= sum(len(body) for bodies, _ in group for body in bodies)

    async def _open(self, records: int) -> AIOKafkaProducer:
        """The producer for so many more records. Raises KafkaError."""
        if self._written + records > RECORDS_MAX:
            await self._let_go()
        self._written += records
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self._connection.client("intake"),
                acks="all",
                enable_idempotence=True,
                max_batch_size=BATCH_BYTES,
                max_request_size=8 * 1024 * 1024,
                request_timeout_ms=10_000,
            )
            try:
                await producer.start()
            except BaseException:
                await end(producer)
                raise
            self._producer = producer
        return self._producer

    async def _let_go(self) -> None:
        producer, self._producer, self._written = self._producer, None, 0
        if producer is not None:
            await end(producer)

    def _judge(self, bodies: Sequence[bytes], arrived_at: int, records: list[Record]) -> Receipt:
        receipt = Receipt()
        for index, (body, timed) in enumerate(judged(self._source, self._pseudonyms, bodies, arrived_at)):
            if isinstance(timed, Rejection):
                receipt.rejected.append((index, timed))
                told = timed if body else discreet(timed)
                records.append(rejected_record(self._topics, 0, told, (arrived_at, body)))
            else:
                if self._pseudonyms is not None:
                    timed = self._source.read(body, arrived_at)  # the key must hide what the body hides
                    assert not isinstance(timed, Rejection)
                records.append(event_record(self._topics, timed[1], body))
                receipt.accepted += 1
        return receipt


def _tell(future: Future[Receipt], outcome: Receipt | OperationError) -> None:
    """Wake a request, unless its client went away."""
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, Receipt):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)
