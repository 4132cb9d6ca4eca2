"""A broker that is away for a while, and topics that somebody else made: nothing is lost, and it is said."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from broker import Broker
from engine import Event, done, event, until
from fleet import Worker

from agents.kafka.topics import Topics, settings_of
from flowmetrics.configuration import Configuration

pytestmark = pytest.mark.long

SECONDS: Final = 180.0
"""How long anything may take on a busy machine; none takes that long on an idle one."""
AWAY_SECONDS: Final = 30.0
SAID_BYTES_MAX: Final = 100_000
"""Of log in half a minute without a broker."""

Make = Callable[..., Worker]


@pytest.fixture(scope="module")
def frail(brokers: Callable[..., Broker]) -> Broker:
    """A broker that the tests of this module stop and kill; each leaves it running."""
    return brokers()


@pytest.fixture
def make(tmp_path: Path, frail: Broker, prefix: str) -> Iterator[Make]:
    """Workers over it with topics of this test alone, each in a directory of its own, not started."""
    with ExitStack() as held:

        def one(more: str = "") -> Worker:
            number = len(list(tmp_path.iterdir()))
            settings = f"topics: {{prefix: {prefix}, partitions: 2{more}}}\n"
            return held.enter_context(Worker(tmp_path / f"worker-{number}", frail.address, settings))

        yield one


def running(make: Make) -> Worker:
    """A worker that is ready."""
    worker = make()
    worker.spawn()
    worker.listening()
    until(lambda: worker.get("/readyz").status == 200, "the worker is ready", SECONDS)
    return worker


def pause(broker: Broker) -> None:
    broker.pause()


def stop(broker: Broker) -> None:
    broker.stop()


def kill(broker: Broker) -> None:
    broker.stop(signal.SIGKILL)


def comes_back(broker: Broker, how: Callable[[Broker], None]) -> None:
    """Undo one of these."""
    if how is pause:
        broker.go_on()
    else:
        broker.start()


@pytest.mark.long
@pytest.mark.parametrize("away", [pause, stop, kill])
def test_a_broker_that_is_away_for_half_a_minute_loses_nothing_and_no_event_is_taken_meanwhile(
    make: Make, frail: Broker, away: Callable[[Broker], None]
) -> None:
    worker = running(make)
    before, meanwhile, after = ([done(f"{name}-{n}") for n in range(100)] for name in "ABC")
    worker.post(*before)
    worker.shows(lambda page: page.velocity(), 100, SECONDS)
    away(frail)
    left, answers = time.monotonic() + AWAY_SECONDS, list[int]()
    try:
        until(lambda: worker.metrics().velocity() is None, "no number is shown that nobody keeps up", SECONDS)
        while time.monotonic() < left:
            answers.append(worker.answers(meanwhile))
            assert worker.get("/healthz").status == 200
            assert worker.metrics().velocity() is None
            time.sleep(0.5)
    finally:
        comes_back(frail, away)
    assert set(answers) <= {0, 503}
    until(lambda: worker.answers([*before, *meanwhile, *after]) == 202, "events are taken again", SECONDS)
    worker.shows(lambda page: page.velocity(), 300, SECONDS)
    assert len(worker.said) < SAID_BYTES_MAX, "the clients of Kafka fill no disk"
    worker.kill()
    worker.start().shows(lambda page: page.velocity(), 300, SECONDS)
    worker.stop()


def test_a_worker_whose_broker_went_away_is_not_ready_until_it_is_back(make: Make, frail: Broker) -> None:
    worker = running(make)
    frail.pause()
    try:
        until(lambda: worker.get("/readyz").status == 503, "the worker is not ready", SECONDS)
        assert frail.address in worker.get("/readyz").text
    finally:
        frail.go_on()
    until(lambda: worker.get("/readyz").status == 200, "the worker is ready again", SECONDS)
    told = [line["message"] for line in map(orjson.loads, worker.said.splitlines()) if line["act"] == "nobody"]
    assert any(message.startswith("not ready: Kafka at ") for message in told), told
    worker.stop()
    assert '"act":"operator"' not in worker.said, "it went on by itself"


@pytest.mark.parametrize("away", [pause, kill])
def test_a_worker_whose_broker_is_away_ends_in_order_when_it_is_told_to(
    make: Make, frail: Broker, away: Callable[[Broker], None]
) -> None:
    worker = running(make)
    away(frail)
    try:
        until(lambda: worker.answers([done("A-1")]) == 503, "no event is taken", SECONDS)
        worker.stop()
    finally:
        comes_back(frail, away)


# --- topics that somebody else made -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("topic", "key", "found", "must"),
    [
        ("track", "cleanup.policy", "delete", "compact"),
        ("tally", "cleanup.policy", "compact,delete", "compact"),
        ("events", "cleanup.policy", "compact", "delete"),
        ("changes", "cleanup.policy", "compact", "delete"),
        ("events", "message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("events", "retention.ms", "-1", "34560000000 as log.retention says"),
        ("rejected", "retention.ms", "3600000", "34560000000 as log.retention says"),
        ("events", "max.message.bytes", "100000", "1048576"),
        ("epochs", "retention.ms", "604800000", "-1"),
        ("links", "retention.ms", "3600000", "2592000000"),
        ("changes", "max.message.bytes", "8388608", "33554432"),
        ("track", "max.message.bytes", "8388608", "33554432"),
        ("tally", "delete.retention.ms", "3600000", "86400000"),
    ],
)
def test_a_topic_with_a_setting_that_would_make_numbers_wrong_is_refused(
    make: Make, frail: Broker, prefix: str, topic: str, key: str, found: str, must: str
) -> None:
    topics, name = Topics(prefix, 2), f"{prefix}.{topic}"
    settings = settings_of(topics, Configuration(), copies=1)[name]
    asyncio.run(made(frail.address, NewTopic(name, topics.count(name), 1, topic_configs={**settings, key: found})))
    worker = make()
    worker.spawn()
    assert worker.ended(SECONDS) == 1
    assert f"the topic {name} has {key}={found} and must have {key}={must}" in worker.said
    assert f"kafka-configs.sh --alter --topic {name} --add-config {key}={must.partition(' ')[0]}" in worker.said


def test_an_operator_may_keep_what_steps_tell_each_other_for_longer_and_take_larger_records(
    make: Make, frail: Broker, prefix: str
) -> None:
    asyncio.run(
        made(
            frail.address,
            NewTopic(f"{prefix}.links", 2, 1, topic_configs={"retention.ms": "-1", "max.message.bytes": "40000000"}),
            NewTopic(f"{prefix}.changes", 2, 1, topic_configs={"retention.ms": "-1", "max.message.bytes": "40000000"}),
        )
    )
    running(make).stop()


def test_topics_with_fewer_copies_than_are_wanted_are_refused(make: Make, prefix: str) -> None:
    running(make).stop()
    worker = make(", replication: 2")
    worker.spawn()
    assert worker.ended(SECONDS) == 1
    assert "has 1 copies and topics.replication says 2" in worker.said


def test_brokers_that_are_too_few_yet_for_the_copies_are_waited_for(make: Make, prefix: str) -> None:
    worker = make(", replication: 2")
    worker.start()
    until(lambda: f"the topic {prefix}." in worker.get("/readyz").text, "the reason names a topic", SECONDS)
    assert worker.get("/readyz").text.startswith("waiting for Kafka at ")
    worker.stop()


async def made(address: str, *topics: NewTopic) -> None:
    """Make topics as their operator would."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    answer = await admin.create_topics([*topics])
    await admin.close()
    assert not [code for _, code, *_ in answer.topic_errors if code], answer


# --- input that is much for one entity ----------------------------------------------------------------------------
def test_an_item_with_very_many_transitions_stalls_nothing(make: Make, prefix: str) -> None:
    worker = running(make)
    states = ("Done", "Doing", "Backlog")
    many = [event("item", item="big", value_stream="shop", state=states[n % 3], ago=50_000 - n) for n in range(50_000)]
    asyncio.run(written(worker.broker, f"{prefix}.events", [*many, done("A-1")]))
    page = worker.shows(lambda page: page.accepted(), len(many) + 1, SECONDS)
    assert page.total("histories_cut_total") > 0
    worker.shows(lambda page: page.velocity(), 1, SECONDS)
    worker.stop()


def test_a_customer_with_very_many_aliases_stalls_nothing(make: Make, prefix: str) -> None:
    worker = running(make)
    aliases = [f"alias-{n}" for n in range(10_000)]
    worker.post(event("customer", customer="hub", value_stream="shop", aliases=aliases))
    worker.post(event("activity", customer="alias-7", value_stream="shop"), done("A-1"))
    worker.shows(lambda page: (page.velocity(), page.users()), (1, 1), SECONDS)
    worker.stop()


async def written(address: str, topic: str, events: list[Event]) -> None:
    """Write events as a producer of somebody else would: without keys."""
    async with AIOKafkaProducer(bootstrap_servers=address, linger_ms=20, max_batch_size=500_000) as producer:
        await asyncio.gather(*[await producer.send(topic, orjson.dumps(one), partition=0) for one in events])
