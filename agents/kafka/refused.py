"""What was refused: read back from its topic, and sent again after a fix.

Nothing can be taken from the topic, so it is told what was sent again: a record with the offsets of refused events of
its own partition is written in one transaction with the events. What is in such a record is listed no more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import msgspec
from aiokafka.structs import ConsumerRecord

from agents.kafka.changelog import Lost, Record, Writer
from agents.kafka.connection import Connection
from agents.kafka.reading import records_of
from agents.kafka.sending import event_record
from agents.kafka.topics import Topics
from agents.kafka.tracking import ARRIVED
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError, Reason, Rejection
from flowmetrics.sources.cloudevents import CloudEvents

SENT_AGAIN: Final = "flowmetrics-sent-again"
"""Header of a record that holds offsets."""
COMMIT_BYTES: Final = 4 * 1024 * 1024
COMMIT_EVENTS_MAX: Final = 5000
"""Events of one transaction of a replay, about."""

_OFFSETS: Final = msgspec.msgpack.Decoder(list[int]).decode


class Refused(NamedTuple):
    """An event that was refused: where it lies, when it arrived, and what its sender has to mend."""

    partition: int
    offset: int
    arrived_at: int
    rejection: Rejection
    body: bytes


async def ever_refused(connection: Connection, topics: Topics) -> AsyncIterator[Refused]:
    """Everything that was refused, oldest first by partition."""
    for number in range(topics.partitions):
        async for record in records_of(connection, topics.rejected, number, 0, _silent):
            headers = _headers(record)
            if SENT_AGAIN not in headers:
                rejection = Rejection(Reason(headers["reason"].decode()), headers["detail"].decode())
                yield Refused(number, record.offset, int(headers[ARRIVED]), rejection, record.value or b"")


async def refused_events(connection: Connection, topics: Topics) -> AsyncIterator[Refused]:
    """What was refused and not sent again, oldest first by partition."""
    sent = set[tuple[int, int]]()
    for number in range(topics.partitions):
        async for record in records_of(connection, topics.rejected, number, 0, _silent):
            if SENT_AGAIN in _headers(record):
                sent.update((number, offset) for offset in _OFFSETS(record.value or b"\x90"))
    async for one in ever_refused(connection, topics):
        if (one.partition, one.offset) not in sent:
            yield one


async def sent_again(connection: Connection, topics: Topics, configuration: Configuration, now: int) -> tuple[int, int]:
    """Judge again what was refused, and send what is mended: how many that were, of how many.

    The writer is opened before anything is read, so of two replays at a time one is told that it lost.
    """
    source, sent, total = CloudEvents(configuration.surveys), 0, 0
    mended, events, size = list[Refused](), list[Record](), 0
    writer = await Writer.open(connection, f"{topics.prefix}-rejected")
    try:
        async for one in refused_events(connection, topics):
            total += 1
            timed = source.read(one.body, now)
            if isinstance(timed, Rejection):
                continue
            mended.append(one)
            events.append(event_record(topics, timed[1], one.body))
            size += len(one.body)
            if size >= COMMIT_BYTES or len(events) >= COMMIT_EVENTS_MAX:
                await _commit(writer, topics, mended, events)
                sent, mended, events, size = sent + len(events), [], [], 0
        if mended:
            await _commit(writer, topics, mended, events)
    finally:
        await writer.close()
    return sent + len(mended), total


async def _commit(writer: Writer, topics: Topics, mended: list[Refused], events: list[Record]) -> None:
    offsets: dict[int, list[int]] = {}
    for one in mended:
        offsets.setdefault(one.partition, []).append(one.offset)
    offsets_told = [
        Record(topics.rejected, number, None, msgspec.msgpack.encode(some), [(SENT_AGAIN, b"")])
        for number, some in offsets.items()
    ]
    try:
        await writer.commit([*events, *offsets_told], [])
    except Lost as error:
        raise OperationError(
            f"Kafka did not take the events ({error}), or another replay began meanwhile; run this again"
        ) from None


def _headers(record: ConsumerRecord[bytes, bytes]) -> dict[str, bytes]:
    return dict(record.headers)


def _silent(read: int) -> None:
    """Nobody looks at how far it is."""
