"""What the engine changes in Kafka's client, on the client itself: another version of it may know nothing of it."""

from __future__ import annotations

import asyncio
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher, PartitionRecords
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import ConsumerRecord

import agents.kafka.log
from agents.kafka.connection import leave, own_cancels

READ_COMMITTED = 1


def batch(*records: tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]], offset: int = 0) -> bytearray:
    """Records as a broker keeps them from an offset on."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1000)
    for number, (key, value, headers) in enumerate(records):
        builder.append(number, 7, key, value, headers)
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, offset)  # the checksum begins behind it
    return built


def decoded(fetched: bytearray, start: int = 0) -> list[Any]:
    """The records of a fetch from an offset on."""
    batches = agents.kafka.log.decoding.fetcher.MemoryRecords(bytes(fetched))
    return [*PartitionRecords(TopicPartition("t", 0), batches, [], start, None, None, False, READ_COMMITTED)]


def test_consumers_give_records_as_they_were_decoded_without_a_copy_of_each() -> None:
    records = decoded(batch((b"k", b"v", [("h", b"1")]), (None, None, [])))
    assert [(one.key, one.value, one.offset, one.timestamp, [*one.headers]) for one in records] == [
        (b"k", b"v", 0, 7, [("h", b"1")]),
        (None, None, 1, 7, []),
    ]
    assert not any(isinstance(one, ConsumerRecord) for one in records)


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 5])
def test_a_header_whose_name_is_no_text_is_read_like_any_other(start: int) -> None:
    plain = [batch((b"k", b"%d" % n, []), (b"k", b"%d" % (n + 1), []), offset=n) for n in (0, 4)]
    odd = batch((b"k", b"2", []), (b"k", b"3", [("NAME", b"1"), ("h", None)]), offset=2).replace(
        b"NAME", b"\xff\xfe\xfd\xfc"
    )
    fetched = [plain[0], odd, plain[1], plain[1][:30]][start // 2 :]  # from the batch on that holds the offset
    records = decoded(bytearray().join(fetched), start)
    assert [(one.offset, one.value) for one in records] == [(n, b"%d" % n) for n in range(start, 6)]
    names = [[("\ufffd" * 4, b"1"), ("h", None)]]
    assert [[*one.headers] for one in records if one.offset == 3] == (names if start <= 3 else [])


class Gone(AIOKafkaClient):  # type: ignore[misc] # it has no types
    """The connections to a broker that went away a moment ago."""

    closed = False

    async def send(self, *told: object) -> None:
        raise KafkaConnectionError

    async def close(self) -> None:
        self.closed = True


async def test_a_consumer_is_let_go_of_whose_fetch_has_just_failed() -> None:
    consumer, gone = AIOKafkaConsumer(), Gone()
    consumer._client = gone
    consumer._fetcher = Fetcher(gone, SubscriptionState())
    await asyncio.sleep(0)  # it begins, and drops what was fetched before
    topic = SimpleNamespace(active=True), 0, SimpleNamespace(topics=[])
    consumer._fetcher._pending_tasks.add(asyncio.create_task(consumer._fetcher._proc_fetch_request(*topic)))
    await asyncio.sleep(0.02)  # the fetch has failed, and waits before it tries again
    await leave(consumer)
    assert gone.closed


async def test_what_the_client_cancels_is_an_error_of_kafka_and_what_ends_a_task_still_ends_it() -> None:
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def waits() -> None:
        with own_cancels():
            await answer

    ended = asyncio.create_task(waits())
    await asyncio.sleep(0)
    ended.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ended
    answer = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(answer.cancel)
    with pytest.raises(KafkaError, match="gave up"):
        await waits()
