"""How a worker begins on a real broker, and what it says where it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from broker import Broker, free_port
from engine import done, until
from fleet import Worker

Make = Callable[..., Worker]


@pytest.fixture
def make(tmp_path: Path, broker: Broker) -> Iterator[Make]:
    """Workers in directories of their own, not started; `address` is that of the broker unless said."""
    with ExitStack() as held:
        made: list[Worker] = []

        def one(settings: str, address: str = broker.address) -> Worker:
            made.append(Worker(tmp_path / f"worker-{len(made)}", address, settings))
            return held.enter_context(made[-1])

        yield one


def reason(worker: Worker) -> str:
    return worker.get("/readyz").text


def test_what_is_posted_is_counted_once_also_after_a_kill_and_over_a_lost_store(make: Make) -> None:
    worker = make("topics: {prefix: once, partitions: 2}\n").ready()
    events = [done(f"A-{n}") for n in range(500)]
    worker.post(*events)
    worker.post(*events)
    worker.shows(lambda page: page.velocity(), 500)
    worker.kill()
    worker.start().shows(lambda page: page.velocity(), 500, seconds=60)
    worker.stop()
    for file in sorted((worker.directory / "store").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    worker.start().shows(lambda page: page.velocity(), 500, seconds=60)
    worker.stop()


def test_a_broker_that_is_away_is_waited_for_and_named(make: Make) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    worker = make("topics: {prefix: away}\n", nowhere)
    worker.start()
    until(lambda: nowhere in reason(worker), "the reason names the broker")
    assert worker.get("/readyz").status == 503
    assert worker.get("/healthz").status == 200
    worker.stop()


def test_topics_with_other_partitions_are_refused(make: Make) -> None:
    first = make("topics: {prefix: split, partitions: 2}\n").ready()
    first.stop()
    second = make("topics: {prefix: split, partitions: 3}\n")
    second.spawn()
    assert second.ended() == 1
    assert "has 2 partitions and topics.partitions says 3; say topics: {partitions: 2}" in second.said


def test_what_producers_write_badly_goes_to_the_rejected_topic_and_stalls_nothing(make: Make) -> None:
    worker = make("topics: {prefix: poison, partitions: 2}\n").ready()
    asyncio.run(write(worker.broker, "poison.events", [b"not json", b"", b"\xff" * 300_000, orjson.dumps(done("A-1"))]))
    page = worker.shows(lambda page: page.velocity(), 1)
    assert page("events_rejected_total", reason="not_json") == 2
    assert page("events_rejected_total", reason="too_large") == 1
    kept = asyncio.run(read(worker.broker, "poison.rejected", 3))
    assert sorted(dict(record.headers)["reason"] for record in kept) == [b"not_json", b"not_json", b"too_large"]
    worker.stop()


async def write(broker: str, topic: str, bodies: list[bytes]) -> None:
    """Write records as a producer of somebody else would: without keys."""
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    for body in bodies:
        await producer.send_and_wait(topic, body, partition=0)
    await producer.stop()


async def read(broker: str, topic: str, most: int) -> list[Any]:
    """The first committed records of a topic."""
    settings = {"isolation_level": "read_committed", "auto_offset_reset": "earliest"}
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=broker, **settings)
    await consumer.start()
    records = [await asyncio.wait_for(consumer.getone(), 20) for _ in range(most)]
    await consumer.stop()
    return records
