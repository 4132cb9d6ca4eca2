"""What is known to go wrong with transactions, each on a real broker: the writer of a changelog must not be caught."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import ProducerFenced
from broker import Broker

from agents.kafka import changelog
from agents.kafka.changelog import RECORDS_MAX, Lost, Record, Writer, read_to_end
from agents.kafka.connection import Connection, end
from agents.kafka.reading import settled
from agents.kafka.topics import RECORD_BYTES_MAX, Topics
from flowmetrics.settings import read_settings

pytestmark = pytest.mark.long

SECONDS: Final = 120.0
"""How long anything may take on a busy machine; none takes that long on an idle one."""
FORGETTING: Final = {
    "transactional.id.expiration.ms": "2000",
    "transaction.remove.expired.transaction.cleanup.interval.ms": "500",
    "producer.id.expiration.ms": "2000",
    "producer.id.expiration.check.interval.ms": "500",
}

LOOKING_OFTEN: Final = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "200"}
TIMED_OUT_SECONDS: Final = 30.0
"""Less than the timeout that a transaction has where nobody says another."""

IDLE_SECONDS: Final = (5, 10, 20, 40)
"""How long a writer rests, ever longer until the broker has forgotten it."""


class Place:
    """Topics of a test, `small` for messages up to 1 KiB; each has one partition."""

    def __init__(self, address: str, prefix: str) -> None:
        self.connection = Connection(read_settings(f"broker: kafka://{address}\n", "flowmetrics.yaml"))
        self.log, self.out, self.small = (f"{prefix}.{name}" for name in ("log", "out", "small"))
        self.name = f"{prefix}-writer"

    async def make(self) -> None:
        """Make the topics."""
        admin = AIOKafkaAdminClient(**self.connection.client("tests"))
        await admin.start()
        wide = {"max.message.bytes": str(RECORD_BYTES_MAX)}
        made = await admin.create_topics(
            [
                NewTopic(self.log, 1, 1, topic_configs=wide),
                NewTopic(self.out, 1, 1, topic_configs=wide),
                NewTopic(self.small, 1, 1, topic_configs={"max.message.bytes": "1024"}),
            ]
        )
        await admin.close()
        assert [code for _, code, *_ in made.topic_errors] == [0, 0, 0]

    @asynccontextmanager
    async def writer(self, name: str = "") -> AsyncIterator[Writer]:
        """An open writer, closed at the end."""
        writer = await within(Writer.open(self.connection, name or self.name, TopicPartition(self.log, 0)))
        try:
            yield writer
        finally:
            await within(writer.close())

    def says(self, value: str, topic: str = "") -> Record:
        """A record with a value."""
        return Record(topic or self.log, 0, b"key", value.encode())

    async def reads(self, topic: str = "", start: int = 0, *, at_once: bool = False) -> list[str]:
        """What recovery reads: at once, or when all is committed, which is told a moment before it can be read."""
        if not at_once:
            await within(settled(self.connection, Topics(self.name, 1), [topic or self.log]))

        async def values() -> list[str]:
            return [
                record.value.decode()
                async for records in read_to_end(self.connection, topic or self.log, 0, start)
                for record in records
                if record.value
            ]

        return await within(values())


async def within(work: Any) -> Any:
    """The outcome of something that must not hang."""
    return await asyncio.wait_for(work, SECONDS)


async def commit(writer: Writer, told: list[Record], *values: str) -> int:
    """A checkpoint that tells others something and writes rows with these values to the changelog."""
    return await writer.commit(told, [(b"key", value.encode()) for value in values])


async def lost(work: Any) -> Lost:
    """How a checkpoint failed."""
    with pytest.raises(Lost) as raised:
        await within(work)
    return raised.value


@pytest.fixture
async def place(broker: Broker, prefix: str) -> Place:
    """Topics of this test alone."""
    made = Place(broker.address, prefix)
    await made.make()
    return made


def begun(writer: Writer) -> AIOKafkaProducer:
    """The producer of a writer that stopped in the middle of a checkpoint, as a paused process does."""
    return writer._producer


async def send(producer: AIOKafkaProducer, *records: Record) -> None:
    """What a checkpoint does before it commits."""
    for record in records:
        batch = producer.create_batch()
        batch.append(key=record.key, value=record.value, timestamp=None)
        await (await producer.send_batch(batch, record.topic, partition=record.partition))


# --- 1: a commit succeeds although a batch failed -----------------------------------------------------------------
async def test_a_checkpoint_of_which_one_batch_is_refused_is_lost_as_a_whole(place: Place) -> None:
    async with place.writer() as writer:
        await within(commit(writer, [place.says("first", place.out)], "first"))
        large = place.says("x" * 4000, place.small)
        refused = await lost(commit(writer, [large, place.says("second", place.out)], "second"))
        assert "MessageSizeTooLarge" in str(refused)
    async with place.writer() as writer:
        await within(commit(writer, [place.says("third", place.out)], "third"))
    assert await place.reads() == await place.reads(place.out) == ["first", "third"]
    assert await place.reads(place.small) == []


async def test_a_record_larger_than_a_request_is_lost_and_nothing_of_its_checkpoint_is_seen(place: Place) -> None:
    async with place.writer() as writer:
        await lost(commit(writer, [], "x" * (RECORD_BYTES_MAX + 1), "position"))
    async with place.writer() as writer:
        await within(commit(writer, [], "after"))
    assert await place.reads() == ["after"]


async def test_the_largest_history_that_may_be_is_written_and_read_again(place: Place) -> None:
    largest = "x" * (RECORD_BYTES_MAX - 1024)
    async with place.writer() as writer:
        await within(commit(writer, [], largest, "position"))
    assert await place.reads() == [largest, "position"]


# --- 2: the sequence number wraps ---------------------------------------------------------------------------------
async def test_the_client_numbers_records_beyond_what_a_broker_takes(place: Place) -> None:
    """Why a writer is renewed in time: without it no checkpoint would ever succeed again."""
    async with place.writer() as writer:
        _number(writer, place, 2**31 - 2)
        await within(commit(writer, [], "1", "2", "3"))
        await lost(commit(writer, [], "4"))
    assert await place.reads() == ["1", "2", "3"]


async def test_a_writer_ends_long_before_its_numbers_do_and_what_it_wrote_last_is_kept(place: Place) -> None:
    async with place.writer() as writer:
        _number(writer, place, RECORDS_MAX - 1)
        writer._records = RECORDS_MAX - 1
        await within(commit(writer, [], "within"))
        assert "numbered" in str(await lost(commit(writer, [], "last")))
    assert await place.reads() == ["within", "last"]
    async with place.writer() as writer:
        await within(commit(writer, [], "anew"))
    assert await place.reads() == ["within", "last", "anew"]


def _number(writer: Writer, place: Place, number: int) -> None:
    begun(writer)._txn_manager._sequence_numbers[TopicPartition(place.log, 0)] = number


# --- 3: after fencing only close works ----------------------------------------------------------------------------
async def test_a_writer_whose_name_was_taken_can_only_be_closed_and_its_records_are_never_seen(place: Place) -> None:
    async with place.writer() as old:
        await within(commit(old, [], "ours"))
        async with place.writer() as new:
            await lost(commit(old, [place.says("zombie", place.out)], "zombie"))
            await lost(commit(old, [], "zombie again"))
            await within(old.close())
            await within(commit(new, [], "theirs"))
    assert await place.reads() == ["ours", "theirs"]
    assert await place.reads(place.out) == []


async def test_a_writer_that_wakes_in_the_middle_of_a_checkpoint_writes_nothing(place: Place) -> None:
    async with place.writer() as old:
        await within(begun(old).begin_transaction())
        await within(send(begun(old), place.says("half a checkpoint", place.out)))
        async with place.writer() as new:
            await within(commit(new, [], "theirs"))
            with pytest.raises(Exception, match=r"Fenced|transactional|transaction"):
                await within(_finish(begun(old), place.says("zombie")))
            await within(old.close())
            await within(commit(new, [], "still theirs"))
    assert await place.reads() == ["theirs", "still theirs"]
    assert await place.reads(place.out) == []


async def _finish(producer: AIOKafkaProducer, last: Record) -> None:
    await send(producer, last)
    await producer.commit_transaction()


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_producer_whose_broker_went_away_is_let_go_and_leaves_no_task_behind(
    brokers: Callable[..., Broker], prefix: str, how: signal.Signals
) -> None:
    broker = brokers()
    place = Place(broker.address, prefix)
    await place.make()
    before = asyncio.all_tasks()
    writer = await within(Writer.open(place.connection, place.name, TopicPartition(place.log, 0)))
    os.kill(broker.pid, how)
    stuck = asyncio.create_task(commit(writer, [place.says("b", place.out)], "c"))
    await asyncio.wait([stuck], timeout=2)
    assert not stuck.done(), "a client tries for ever"
    stuck.cancel()
    await asyncio.wait([stuck])
    await within(end(begun(writer)))
    assert asyncio.all_tasks() == before


# --- 5: an open transaction holds back readers --------------------------------------------------------------------
async def test_what_others_wrote_after_an_open_transaction_is_seen_when_its_writer_is_replaced(place: Place) -> None:
    async with place.writer(f"{place.name}-hangs") as hanging, place.writer() as other:
        await within(begun(hanging).begin_transaction())
        await within(send(begun(hanging), place.says("never")))
        await within(commit(other, [], "behind it"))
        async with _reader(place) as next_records:
            assert await next_records(2.0) == []
            async with place.writer(f"{place.name}-hangs"):
                assert await next_records(SECONDS) == ["behind it"]


async def test_recovery_begins_after_the_open_transaction_of_the_one_before_was_dropped(place: Place) -> None:
    async with place.writer() as killed:
        await within(commit(killed, [], "committed"))
        await within(begun(killed).begin_transaction())
        await within(send(begun(killed), place.says("open")))
        async with place.writer():
            assert await place.reads(at_once=True) == ["committed"]


async def test_a_transaction_that_is_open_for_too_long_is_dropped_without_anybody_taking_over(
    brokers: Callable[..., Broker], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changelog, "TRANSACTION_SECONDS", 2)
    place = Place(brokers(settings=LOOKING_OFTEN).address, prefix)
    await place.make()
    async with place.writer(f"{place.name}-hangs") as hanging, place.writer() as other:
        await within(begun(hanging).begin_transaction())
        await within(send(begun(hanging), place.says("never")))
        await within(commit(other, [], "behind it"))
        async with _reader(place) as next_records:
            assert await next_records(TIMED_OUT_SECONDS) == ["behind it"]
        with pytest.raises(ProducerFenced):
            await within(begun(hanging).commit_transaction())
        await lost(commit(hanging, [place.says("late", place.out)], "late"))
    assert await place.reads() == ["behind it"]
    assert await place.reads(place.out) == []


@asynccontextmanager
async def _reader(place: Place) -> AsyncIterator[Callable[[float], Any]]:
    """Gives what arrives next, as readers of committed records see it; nothing when nothing does in some seconds."""
    consumer = AIOKafkaConsumer(**place.connection.client("tests"), isolation_level="read_committed")
    await consumer.start()
    consumer.assign([TopicPartition(place.log, 0)])
    consumer.seek(TopicPartition(place.log, 0), 0)

    async def next_records(seconds: float) -> list[str]:
        found = await consumer.getmany(timeout_ms=int(seconds * 1000))
        return [record.value.decode() for records in found.values() for record in records]

    try:
        yield next_records
    finally:
        await consumer.stop()


# --- 6: offsets have gaps -----------------------------------------------------------------------------------------
async def test_a_commit_gives_the_offset_after_its_last_record_whatever_lies_between(place: Place) -> None:
    async with place.writer() as writer:
        first = await within(commit(writer, [], "a", "b", "c"))
        second = await within(commit(writer, [], "d"))
        await lost(commit(writer, [place.says("x" * 4000, place.small)], "dropped"))
    async with place.writer() as writer:
        # More than a batch holds, so that the last record is not in the first one.
        long = [f"{n} {'x' * 50_000}" for n in range(30)]
        third = await within(commit(writer, [], *long, "e"))
        fourth = await within(commit(writer, [place.says("elsewhere", place.out)], "f"))
    assert await place.reads(start=third) == ["f"]
    assert (await place.reads(start=second))[-2:] == ["e", "f"]
    assert (await place.reads(start=first))[0] == "d"
    assert await place.reads(start=fourth) == []
    async with AIOKafkaConsumer(**place.connection.client("tests")) as consumer:
        end = (await consumer.end_offsets([TopicPartition(place.log, 0)]))[TopicPartition(place.log, 0)]
    assert first == 3
    assert second == first + 2, "a marker lies between"
    assert end == fourth + 1, "the last offset is a marker, which is never delivered"


# --- 7: an idle name is forgotten ---------------------------------------------------------------------------------
async def test_a_writer_that_the_broker_forgot_is_lost_and_the_next_one_goes_on(
    brokers: Callable[..., Broker], prefix: str
) -> None:
    place = Place(brokers(settings=FORGETTING).address, prefix)
    await place.make()
    written = []
    async with place.writer() as writer:
        for idle in IDLE_SECONDS:
            written.append(f"before resting for {idle} s")
            await within(commit(writer, [], written[-1]))
            await asyncio.sleep(idle)
            if await _is_forgotten(writer, place):
                break
            written.append("not yet")
        else:
            pytest.fail("the broker forgets nobody")
        await lost(commit(writer, [], "late again"))
    async with place.writer() as writer:
        await within(commit(writer, [], "after"))
    assert await place.reads() == [*written, "after"]
    assert await place.reads(place.out) == ["not yet"] * written.count("not yet")


async def _is_forgotten(writer: Writer, place: Place) -> bool:
    """Whether a checkpoint of a writer that rested is lost."""
    try:
        await within(commit(writer, [place.says("not yet", place.out)], "not yet"))
    except Lost:
        return True
    return False
