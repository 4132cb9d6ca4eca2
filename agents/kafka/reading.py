"""What commands ask of Kafka: whether an engine is there, whether it rests, and what its topics hold up to now.

Nothing here joins the group or opens a writer: workers do not notice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from aiokafka.structs import ConsumerRecord

from agents.kafka.changelog import read_to_end
from agents.kafka.connection import Connection, leave
from agents.kafka.epochs import EpochLog, Known, shape_of
from agents.kafka.topics import Topics, check_partitions
from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError, OperationError

Progress: TypeAlias = Callable[[int], None]
"""Told how much was read or written since it was told last."""

REST_SECONDS_MAX: Final = 60.0
"""How long a transaction that a killed worker left open is waited for: Kafka ends it after some twenty seconds."""
TAIL_RECORDS: Final = 16


@asynccontextmanager
async def answering(connection: Connection) -> AsyncIterator[None]:
    """What Kafka cannot do or refuses inside is an OperationError that says what to do."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it says is in the error, once
    try:
        await connection.knock()
        yield
    except (KafkaError, OSError) as error:
        raise OperationError(
            f"Kafka at {connection.brokers} does not answer as it should ({error or type(error).__name__}); "
            "look whether it runs and is the one that `broker` names, then run this again"
        ) from None


@asynccontextmanager
async def admin_of(connection: Connection) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client that asks about topics and groups."""
    admin = AIOKafkaAdminClient(**connection.client("admin"))
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def must_exist(connection: Connection, topics: Topics) -> None:
    """Raises OperationError where no engine ever had these topics, or they have other partitions."""
    names = [topics.events, topics.track, topics.changes, topics.tally, topics.rejected, topics.links]
    async with admin_of(connection) as admin:
        missing = sorted({*names} - {*await admin.list_topics()})
        if missing:
            raise OperationError(
                f"Kafka at {connection.brokers} has no topic {missing[0]}; name the prefix of the engine under "
                "`topics`, or start with flowmetrics run"
            )
        check_partitions(await admin.describe_topics(names), topics)


async def must_rest(connection: Connection, topics: Topics) -> None:
    """Raises OperationError while workers are in the group."""
    workers = await _members(connection, f"{topics.prefix}.workers")
    if workers:
        raise OperationError(
            f"{workers} worker{'s' if workers > 1 else ''} of {topics.prefix} at {connection.brokers} must be stopped "
            "first; one that was killed counts until its session ends (kafka.session)"
        )


async def _members(connection: Connection, group: str) -> int:
    until = time.monotonic() + REST_SECONDS_MAX
    async with admin_of(connection) as admin:
        while True:
            try:
                (answer,) = await admin.describe_consumer_groups([group])
            except GroupCoordinatorNotAvailableError:  # a broker makes what it needs for groups when first asked
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.2)
            else:
                return len(answer.groups[0][5])


async def ends(
    connection: Connection, topics: Topics, names: Sequence[str], isolation: str = "read_committed"
) -> dict[TopicPartition, int]:
    """The offset after the last record of each partition."""
    async with _consumer(connection, isolation) as consumer:
        found: dict[TopicPartition, int] = await consumer.end_offsets(_places(topics, names))
        return found


async def count(connection: Connection, topics: Topics, names: Sequence[str], number: int | None = None) -> int:
    """About how many records there are to read, on all partitions or on one."""
    async with _consumer(connection, "read_committed") as consumer:
        places = [place for place in _places(topics, names) if number in (None, place.partition)]
        begins, found = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        return sum(found[place] - begins[place] for place in places)


async def settled(connection: Connection, topics: Topics, names: Sequence[str]) -> dict[TopicPartition, int]:
    """The ends, once no transaction is open any more: then all that was committed can be read."""
    until = time.monotonic() + REST_SECONDS_MAX
    while time.monotonic() < until:
        committed, written = [await ends(connection, topics, names, f"read_{which}") for which in _ISOLATIONS]
        if committed == written:
            return committed
        await asyncio.sleep(0.5)
    raise OperationError(
        f"a transaction on the topics {topics.prefix}.* stays open; stop whatever writes to them, and run this again"
    )


_ISOLATIONS: Final = ("committed", "uncommitted")


async def records_of(
    connection: Connection, topic: str, partition: int, start: int, progress: Progress
) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """The committed records of a partition from an offset to its present end, one by one."""
    reached = -1
    async for records in read_to_end(connection, topic, partition, start):
        before = records[0].offset if reached < 0 else reached
        reached = records[-1].offset + 1
        progress(reached - before)
        for record in records:
            yield record


async def epochs_of(connection: Connection, topics: Topics) -> Known:
    """The epochs of an engine; none where no worker ever ran."""
    epochs = EpochLog(connection, topics)
    await epochs.read()
    return epochs.known


async def same_pseudonyms(connection: Connection, topics: Topics, configuration: Configuration) -> None:
    """Raises ConfigurationError where workers wrote under another key of pseudonyms: one person would be two."""
    epochs = EpochLog(connection, topics)
    await epochs.read()
    if epochs.told and epochs.told[max(epochs.told)].shape[2] != shape_of(configuration)[2]:
        raise ConfigurationError(
            f"the topics {topics.prefix}.* were written under another privacy.pseudonym_key_file, or under "
            "none; restore what it was, or name another topics.prefix and import the events into that"
        )


@asynccontextmanager
async def _consumer(connection: Connection, isolation: str) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(**connection.client("reader"), isolation_level=isolation, enable_auto_commit=False)
    try:
        await consumer.start()
        yield consumer
    finally:
        await leave(consumer)


def _places(topics: Topics, names: Iterable[str]) -> list[TopicPartition]:
    return [TopicPartition(name, number) for name in names for number in range(topics.partitions)]
