"""The commands on Kafka; loaded only where `broker` names one."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final, TypeVar

from agents.commands.serving import served
from agents.commands.telling import bar
from agents.importing import Entry, Log, Outcome
from agents.judging import read_pseudonyms
from agents.kafka.auditing import differences_of, read_by_audit
from agents.kafka.changelog import read_to_end
from agents.kafka.connection import Connection
from agents.kafka.engine import KafkaEngine
from agents.kafka.epochs import EpochLog
from agents.kafka.explaining import explanation_of
from agents.kafka.intake import KafkaIntake
from agents.kafka.reading import answering, count, must_exist, same_pseudonyms
from agents.kafka.refused import refused_events, sent_again
from agents.kafka.sending import Sender
from agents.kafka.topics import prepare, topics_of
from agents.kafka.tracking import arrived_at, refusals_record, rejected_record
from agents.logs import share_format
from agents.published import clock_us
from agents.receipts import Busy, Receipt
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError, Rejection
from flowmetrics.routing import partition_of
from flowmetrics.sources.pseudonyms import discreet
from flowmetrics.steps.audit import Difference

BATCHES_MAX: Final = 2
"""Batches of an import that are on their way while the next one is read."""

CANCEL_SECONDS: Final = 1.0

T = TypeVar("T")


def run(configuration: Configuration) -> None:
    """Serve until told to stop."""
    asyncio.run(_run(configuration))


async def _run(configuration: Configuration) -> None:
    engine = KafkaEngine(configuration)
    share_format("aiokafka")
    with engine.holding():
        await engine.start()
        try:
            await served(configuration, engine)
        finally:
            await engine.stop()


def adopt(configuration: Configuration) -> None:
    """Make a configuration the one that all workers follow, also one that was replaced before."""
    asyncio.run(_adopt(configuration))


async def _adopt(configuration: Configuration) -> None:
    connection, topics = Connection(configuration), topics_of(configuration)
    async with answering(connection):
        await prepare(connection, configuration)
        await EpochLog(connection, topics).adopt(configuration, again=True)


def differences(configuration: Configuration) -> Iterator[Difference]:
    """Where histories and panes of all partitions do not agree. The workers must be stopped."""
    return _each(_differences(configuration))


async def _differences(configuration: Configuration) -> AsyncGenerator[Difference, None]:
    connection, topics = Connection(configuration), topics_of(configuration)
    async with answering(connection):
        await must_exist(connection, topics)
        records = await count(connection, topics, read_by_audit(topics))
        with bar(records, "reading") as progress:
            found = await differences_of(connection, topics, clock_us(), progress)
    for difference in found:
        yield difference


@contextmanager
def past(configuration: Configuration) -> Iterator[tuple[int, Iterator[tuple[int, bytes]]]]:
    """The events topic as far as Kafka still has it; workers may run, or not."""
    records = asyncio.run(_events_count(configuration))
    batches = _each(_event_batches(configuration))
    yield records, (event for batch in batches for event in batch)


async def _events_count(configuration: Configuration) -> int:
    connection, topics = Connection(configuration), topics_of(configuration)
    async with answering(connection):
        await must_exist(connection, topics)
        await same_pseudonyms(connection, topics, configuration)
        return await count(connection, topics, [topics.events])


async def _event_batches(configuration: Configuration) -> AsyncGenerator[list[tuple[int, bytes]], None]:
    connection, topics = Connection(configuration), topics_of(configuration)
    async with answering(connection):
        for number in range(topics.partitions):
            async for records in read_to_end(connection, topics.events, number, 0):
                yield [(arrived_at(record), record.value) for record in records if record.value]


def explained(kind: str, key: str, configuration: Configuration) -> Iterator[str]:
    """The history of one entity and what it contributes; workers may run."""
    return _each(_explained(kind, key, configuration))


async def _explained(kind: str, key: str, configuration: Configuration) -> AsyncGenerator[str, None]:
    connection, topics = Connection(configuration), topics_of(configuration)
    pseudonyms = read_pseudonyms(configuration)
    name = f"{kind}:{pseudonyms.of(key) if pseudonyms and kind == 'customer' else key}"
    number = partition_of(name.encode(), topics.partitions)
    async with answering(connection):
        await must_exist(connection, topics)
        records = await count(connection, topics, [topics.track], number)
        with bar(records, f"reading partition {number}") as progress:
            lines = await explanation_of(connection, topics, number, name, progress)
    for line in lines:
        yield line


def refused(configuration: Configuration) -> Iterator[tuple[str | int, int, Rejection, bytes]]:
    """What was refused and not sent again; workers may run."""
    return _each(_refused(configuration))


async def _refused(configuration: Configuration) -> AsyncGenerator[tuple[str | int, int, Rejection, bytes], None]:
    connection, topics = Connection(configuration), topics_of(configuration)
    async with answering(connection):
        await must_exist(connection, topics)
        async for one in refused_events(connection, topics):
            yield f"{one.partition}:{one.offset}", one.arrived_at, one.rejection, one.body


def send_again(configuration: Configuration) -> tuple[int, int]:
    """Judge again what was refused, and send what is mended to the events topic: how many, and of how many."""
    return asyncio.run(_send_again(configuration))


async def _send_again(configuration: Configuration) -> tuple[int, int]:
    connection, topics = Connection(configuration), topics_of(configuration)
    async with answering(connection):
        await must_exist(connection, topics)
        await same_pseudonyms(connection, topics, configuration)
        return await sent_again(connection, topics, configuration, clock_us())


@contextmanager
def log(configuration: Configuration) -> Iterator[Log]:
    """The events topic; workers may run, or not."""
    with asyncio.Runner() as runner:
        events = EventsTopic(configuration, runner)
        try:
            runner.run(events.open())
            yield events
        finally:
            runner.run(events.close())


class EventsTopic:
    """The log of an import: batches are on their way while the next ones are read, and are there after `finish`."""

    def __init__(self, configuration: Configuration, runner: asyncio.Runner) -> None:
        self._configuration = configuration
        self._runner = runner
        self._connection = Connection(configuration)
        self._topics = topics_of(configuration)
        self._pseudonyms = read_pseudonyms(configuration)
        self._intake = KafkaIntake(self._connection, self._topics, configuration, self._pseudonyms, clock_us)
        self._sender = Sender(self._connection, "import")
        self._waiting: deque[asyncio.Future[Receipt]] = deque()
        self._outcome = Outcome()
        self._held = AsyncExitStack()

    async def open(self) -> None:
        """Make or check the topics, and begin. Raises OperationError."""
        async with answering(self._connection):
            await prepare(self._connection, self._configuration)
            await same_pseudonyms(self._connection, self._topics, self._configuration)
            await self._held.enter_async_context(self._sender)
        self._writing = self._intake.start()
        self._held.push_async_callback(_cancel, self._writing)

    async def close(self) -> None:
        """Let go of Kafka."""
        await self._held.aclose()

    def take(self, batch: Sequence[Entry], outcome: Outcome) -> None:
        """Refused events are kept and counted, as the engine does."""
        self._outcome = outcome
        self._runner.run(self._take(batch))

    def finish(self) -> None:
        """Wait until everything is there."""
        self._runner.run(self._arrive(0))

    async def _take(self, batch: Sequence[Entry]) -> None:
        rejections = [entry for entry in batch if isinstance(entry, Rejection)]
        if rejections:
            await self._keep(rejections)
        bodies = [entry for entry in batch if isinstance(entry, bytes)]
        most = BATCHES_MAX
        while True:
            try:
                self._waiting.append(asyncio.wrap_future(self._intake.take(bodies)))
                break
            except Busy:
                most -= 1
                await self._arrive(max(0, most))
        await self._arrive(BATCHES_MAX)

    async def _keep(self, rejections: Sequence[Rejection]) -> None:
        """Keep why rows make no event: without quoting them where ids of persons are hidden."""
        told = rejections if self._pseudonyms is None else [discreet(rejection) for rejection in rejections]
        now, refused = clock_us(), Counter(rejection.reason.value for rejection in rejections)
        async with answering(self._connection):
            kept = [rejected_record(self._topics, 0, one, (now, b"")) for one in told]
            await self._sender.send([*kept, refusals_record(self._topics, refused)])
        self._outcome.refused.update(refused)

    async def _arrive(self, most: int) -> None:
        """Wait until at most so many batches are on their way."""
        while len(self._waiting) > most:
            future = self._waiting.popleft()
            either: list[asyncio.Future[Any]] = [future, self._writing]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            try:
                receipt = future.result() if future.done() else await self._ended()
            except OperationError as error:
                for other in self._waiting:
                    other.cancel()
                raise OperationError(f"{error}; {self._outcome.sentence}, and it is safe to import again") from None
            self._outcome.taken += receipt.accepted
            self._outcome.refused.update(rejection.reason.value for _, rejection in receipt.rejected)

    async def _ended(self) -> Receipt:
        """Raises why nothing is written any more."""
        async with answering(self._connection):
            await self._writing
        raise AssertionError("the intake writes until it is cancelled")


async def _cancel(task: asyncio.Task[None]) -> None:
    while not task.done():  # one that lets go of a broken connection just then may not notice the first time
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_SECONDS)


def _each(source: AsyncGenerator[T, None]) -> Iterator[T]:
    """What an asynchronous generator gives, as it gives it."""
    with asyncio.Runner() as runner:
        try:
            while some := runner.run(_next(source)):
                yield from some
        finally:
            runner.run(source.aclose())


async def _next(source: AsyncGenerator[T, None]) -> list[T]:
    """The next one; nothing at the end."""
    async for one in source:
        return [one]
    return []
