"""How a worker begins on a real broker, and what it says where it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from broker import Broker, free_port
from engine import START_SECONDS, Metrics, done, lines, until
from fleet import Worker

from agents.kafka.tracking import ARRIVED
from agents.published import clock_us
from flowmetrics.instants import SECOND_US

Make = Callable[..., Worker]
YEAR_SECONDS = 365 * 86400
OF_PARTITIONS = ("changes", "events", "links", "rejected", "tally", "track")


@pytest.fixture
def make(tmp_path: Path, broker: Broker, prefix: str) -> Iterator[Make]:
    """Workers of one engine in directories of their own, not started; `address` is that of the broker unless said."""
    with ExitStack() as held:
        made: list[Worker] = []

        def one(partitions: int = 2, address: str = broker.address) -> Worker:
            settings = f"topics: {{prefix: {prefix}, partitions: {partitions}}}\n"
            made.append(Worker(tmp_path / f"worker-{len(made)}", address, settings))
            return held.enter_context(made[-1])

        yield one


def reason(worker: Worker) -> str:
    return worker.get("/readyz").text


def test_what_is_posted_is_counted_once_also_after_a_kill_and_over_a_lost_store(make: Make) -> None:
    worker = make().ready()
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
    worker = make(address=nowhere)
    worker.start()
    until(lambda: nowhere in reason(worker), "the reason names the broker")
    assert worker.get("/readyz").status == 503
    assert worker.get("/healthz").status == 200
    answer = worker.send(lines([done("A-1")]), "application/x-ndjson")
    assert answer.status == 503
    assert "Kafka was not reached yet; send them again" in answer.text
    worker.stop()


def test_another_number_of_partitions_is_refused_also_where_the_topics_have_it(make: Make, prefix: str) -> None:
    first = make(2).ready()
    first.stop()
    second = make(3)
    second.spawn()
    assert second.ended(START_SECONDS) == 1
    assert f"{prefix}.* have 2 partitions and topics.partitions says 3; say topics: {{partitions: 2}}" in second.said
    asyncio.run(add_partitions(first.broker, prefix, OF_PARTITIONS, 3))
    second.spawn()
    assert second.ended(START_SECONDS) == 1
    assert f"{prefix}.* were made with 2 partitions and topics.partitions says 3; an engine keeps" in second.said


@pytest.mark.parametrize("partitions", [2, 4], ids=["as it was", "as the topic is"])
def test_partitions_that_were_added_to_one_topic_are_refused_whatever_is_said(
    make: Make, prefix: str, partitions: int
) -> None:
    first = make(2).ready()
    first.stop()
    asyncio.run(add_partitions(first.broker, prefix, ["events"], 4))
    second = make(partitions)
    second.spawn()
    assert second.ended(START_SECONDS) == 1
    others = ", ".join(f"{prefix}.{name}" for name in OF_PARTITIONS if name != "events")
    assert f"numbers of partitions: 2 in {others}; 4 in {prefix}.events; an engine keeps" in second.said
    second.run("explain", "item", "A-1").failed(1, "an engine keeps the number that it was made with")


def test_a_worker_that_runs_ends_with_a_sentence_when_partitions_are_added(make: Make, prefix: str) -> None:
    worker = make(2).ready()
    worker.post(done("A-1"))
    worker.shows(lambda page: page.velocity(), 1)
    asyncio.run(add_partitions(worker.broker, prefix, OF_PARTITIONS, 4))
    assert worker.ended(90) == 1, "the client looks for new partitions every 30 s"
    assert f"partitions were added to {prefix}.*, and topics.partitions says 2; an engine keeps" in worker.said


def test_what_producers_write_badly_goes_to_the_rejected_topic_and_stalls_nothing(make: Make, prefix: str) -> None:
    worker = make().ready()
    bodies = [b"not json", b"", b"\xff" * 300_000, orjson.dumps(done("A-1"))]
    asyncio.run(write(worker.broker, prefix, [(body, []) for body in bodies]))
    page = worker.shows(lambda page: page.velocity(), 1)
    assert page("events_rejected_total", reason="not_json") == 2
    assert page("events_rejected_total", reason="too_large") == 1
    assert reasons(worker, prefix, 3) == [b"not_json", b"not_json", b"too_large"]
    worker.stop()


def test_what_others_write_where_only_an_engine_may_goes_to_the_rejected_topic_and_stalls_nothing(
    make: Make, prefix: str
) -> None:
    worker = make().ready()
    foreign = [("changes", None, b"x"), ("changes", b"x", None), ("links", b"x", b"x"), ("links", b"item:A-1", None)]
    asyncio.run(append(worker.broker, prefix, foreign))
    worker.post(done("A-1"))
    worker.shows(lambda page: (page.velocity(), page("events_rejected_total", reason="not_cloudevent")), (1, 4))
    assert reasons(worker, prefix, 4) == [b"not_cloudevent"] * 4  # counted before the checkpoint that keeps them
    refused = worker.run("rejected").well()
    for topic in ("changes", "links"):
        assert refused.out.count(f"of partition 0 of {prefix}.{topic} is not of the engine") == 2
    assert "begins again" not in worker.said
    worker.stop()
    asyncio.run(append(worker.broker, prefix, foreign))
    assert "agree" in worker.run("audit").well().err


def test_an_arrival_that_a_producer_makes_up_stalls_nothing_and_is_not_believed(make: Make, prefix: str) -> None:
    worker = make().ready()
    made_up = [b"abc", None, b"", b"-5", b"1.5", b"\xff\xfe", b"9" * 18, b"9" * 5000]
    told: Delivered = [(orjson.dumps(done(f"A-{n}")), [(ARRIVED, value)]) for n, value in enumerate(made_up)]
    in_20_years, at_no_time = orjson.dumps(done("B-1", ago=-20 * YEAR_SECONDS)), orjson.dumps(done("B-2"))
    told.append((in_20_years, [(ARRIVED, b"%d" % (clock_us() + 20 * YEAR_SECONDS * SECOND_US))]))
    told.append((at_no_time, [(ARRIVED, b"0")]))  # an early one is believed, and only harms the event itself
    moved = orjson.dumps(done("A-8", ago=7200))
    told.append((moved, [(ARRIVED, b"%d" % (clock_us() - 7000 * SECOND_US))]))
    asyncio.run(write(worker.broker, prefix, told))
    page = worker.shows(lambda page: page.velocity(), len(made_up) + 1)
    assert page("events_rejected_total", reason="too_far_ahead") == 2
    assert reasons(worker, prefix, 2) == [b"too_far_ahead"] * 2
    assert "begins again" not in worker.said
    worker.stop()


@pytest.mark.parametrize("how", ["gzip", "snappy", "lz4", "zstd"])
def test_producers_may_compress_what_they_write(make: Make, prefix: str, how: str) -> None:
    worker = make().ready()
    asyncio.run(write(worker.broker, prefix, [(orjson.dumps(done("A-1")), [])], compression_type=how))
    worker.shows(lambda page: page.velocity(), 1)
    worker.stop()


def test_what_is_refused_over_http_is_counted_with_the_rest_and_never_falls(make: Make, prefix: str) -> None:
    worker = make().ready()

    def refused(page: Metrics) -> tuple[float | None, float | None]:
        return tuple(page("events_rejected_total", reason=reason) for reason in ("not_json", "bad_time"))  # type: ignore[return-value]

    asyncio.run(write(worker.broker, prefix, [(b"not json", [])]))
    bad_time = done("A-1") | {"time": "noon"}
    answer = worker.send(b"no json either\n" + lines([bad_time, bad_time, done("A-2")]), "application/x-ndjson")
    assert (answer.status, answer.json["accepted"]) == (202, 1)
    worker.shows(refused, (2, 2))
    worker.kill()
    worker.start().ready()
    assert refused(worker.metrics()) == (2, 2)
    assert worker.send(b"still no json\n", "application/x-ndjson").status == 400
    worker.shows(refused, (3, 2))
    assert reasons(worker, prefix, 5) == [*[b"bad_time"] * 2, *[b"not_json"] * 3]
    worker.stop()


async def add_partitions(broker: str, prefix: str, names: Sequence[str], count: int) -> None:
    """Let topics have so many partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    await admin.create_partitions({f"{prefix}.{name}": NewPartitions(count) for name in names})
    await admin.close()


Delivered = list[tuple[bytes, list[tuple[str, bytes | None]]]]


async def write(broker: str, prefix: str, events: Delivered, **settings: Any) -> None:
    """Write events with headers as a producer of somebody else would: without keys."""
    producer = AIOKafkaProducer(bootstrap_servers=broker, **settings)
    await producer.start()
    for body, headers in events:
        await producer.send_and_wait(f"{prefix}.events", body, partition=0, headers=headers)
    await producer.stop()


async def append(broker: str, prefix: str, records: Sequence[tuple[str, bytes | None, bytes | None]]) -> None:
    """Write to topics by the ends of their names, with a key and a value."""
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    for topic, key, value in records:
        await producer.send_and_wait(f"{prefix}.{topic}", value, key, partition=0)
    await producer.stop()


def reasons(worker: Worker, prefix: str, most: int) -> list[bytes]:
    """Why the first events were refused that are kept."""
    kept = asyncio.run(read(worker.broker, f"{prefix}.rejected", most))
    return sorted(dict(record.headers)["reason"] for record in kept)


async def read(broker: str, topic: str, most: int) -> list[Any]:
    """The first committed records of a topic."""
    settings = {"isolation_level": "read_committed", "auto_offset_reset": "earliest"}
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=broker, **settings)
    await consumer.start()
    records = [await asyncio.wait_for(consumer.getone(), 20) for _ in range(most)]
    await consumer.stop()
    return records
