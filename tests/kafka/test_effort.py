"""What workers on a real broker say of themselves is so: what they own, their lag, their checkpoints; and what they do
for each other: standbys, and former selves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from broker import Broker
from engine import Metrics, done, until
from fleet import SESSION_SECONDS, Fleet, Worker, fleet

from agents.kafka.connection import Connection
from agents.kafka.engine import HELD_BACK
from agents.kafka.epochs import EpochLog
from agents.kafka.store import Store
from agents.kafka.topics import Topics
from agents.kafka.tracking import HISTORY
from agents.published import clock_us
from flowmetrics.settings import read_settings

pytestmark = pytest.mark.long

PARTITIONS: Final = 4
COUNT: Final = 2000
SECONDS: Final = 120.0
"""How long anything may take on a busy machine; none takes that long on an idle one."""
STEPS: Final = ("track", "tally")
UNITS: Final = frozenset(f"{step}-{number}" for step in STEPS for number in range(PARTITIONS))
EVENTS: Final = [done(f"A-{n}") for n in range(COUNT)]


@pytest.fixture
def workers(tmp_path: Path, broker: Broker, prefix: str) -> Iterator[Fleet]:
    """Two workers that have counted the events."""
    settings = f"windows: [1d]\ntopics: {{prefix: {prefix}, partitions: {PARTITIONS}}}\n"
    with fleet(tmp_path, broker.address, settings, 2) as two:
        two.workers[0].post(*EVENTS)
        until(lambda: two.velocity() == COUNT, "everything is counted", SECONDS)
        until(lambda: lag(two) == 0, "no partition has any lag", SECONDS)
        yield two


def pages(workers: Fleet) -> list[Metrics]:
    """Of those that run."""
    return [worker.metrics() for worker in workers.workers if worker.runs]


def lag(workers: Fleet) -> float:
    return sum(page.total("partition_lag_records") + page.total("consumer_lag_events") for page in pages(workers))


def owned(page: Metrics) -> set[str]:
    """The units of which a page tells a lag."""
    return {unit for unit in UNITS if page("partition_lag_records", unit=unit) is not None}


def recovered(page: Metrics) -> set[str]:
    """The units of which a page tells how long they took to recover."""
    return {unit for unit in UNITS if (page("engine_recovery_seconds", unit=unit) or 0) > 0}


def by_step(units: set[str]) -> dict[str, int]:
    return {step: sum(unit.startswith(step) for unit in units) for step in STEPS}


def says_what_it_owns(page: Metrics) -> bool:
    """Whether the number of partitions by step is that of the units of which it tells more."""
    return {step: page("engine_partitions_owned", step=step) for step in STEPS} == by_step(owned(page))


def test_two_workers_tell_what_each_owns_and_what_it_costs(workers: Fleet) -> None:
    first, second = pages(workers)
    assert owned(first) | owned(second) == UNITS
    assert not owned(first) & owned(second)
    assert by_step(owned(first)) == by_step(owned(second)) == dict.fromkeys(STEPS, PARTITIONS // 2)
    assert says_what_it_owns(first)
    assert says_what_it_owns(second)
    for page in (first, second):
        assert recovered(page) == owned(page)
        for step in STEPS:
            checkpoints = page("engine_checkpoints_total", step=step) or 0
            assert checkpoints > 0
            assert 0 < (page("engine_checkpoint_seconds_total", step=step) or 0) < SECONDS
            assert (page("engine_checkpoint_bytes_total", step=step) or 0) > checkpoints
    until(lambda: all(map(more_checkpoints, (first, second), pages(workers))), "idle units go on proving", SECONDS)
    told = sum(page("engine_histories_read_total", place="store") or 0 for page in pages(workers))
    assert told == COUNT, "each item was asked for once, and was not in memory"
    workers.workers[0].post(*EVENTS)
    until(lambda: from_memory(workers) == COUNT, "each item is found in memory when it is told again", SECONDS)
    assert sum(page("engine_histories_read_total", place="store") or 0 for page in pages(workers)) == COUNT


def more_checkpoints(before: Metrics, now: Metrics) -> bool:
    return all(
        (now("engine_checkpoints_total", step=step) or 0) > (before("engine_checkpoints_total", step=step) or 0)
        for step in STEPS
    )


def from_memory(workers: Fleet) -> float:
    return sum(page("engine_histories_read_total", place="memory") or 0 for page in pages(workers))


def test_events_behind_an_open_transaction_take_the_numbers_off_the_page_and_it_says_for_how_long(
    workers: Fleet, prefix: str
) -> None:
    async def hold(topic: str) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=workers.workers[0].broker,
            transactional_id=f"{prefix}-hangs",
            transaction_timeout_ms=300_000,
        )
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait(topic, b"not json", partition=1)
            await asyncio.to_thread(until, lambda: age("track-1") > 40, "the stable offset is seen to age", 60)
            others = {unit: age(unit) for unit in UNITS - {"track-1"} if unit.startswith("track")}
            assert max(others.values()) < 20, others
            await asyncio.to_thread(until, lambda: workers.velocity() == COUNT, "everything is shown", 15)
            # a worker also shows nothing for a moment where its broker answers late, and does not say this then
            await asyncio.to_thread(until, lambda: any(map(holds_back, workers.workers)), "one says why", 60)
            assert age("track-1") > 59
            # who shows nothing of these items may be a moment later; each is ready, and goes on taking events
            await asyncio.to_thread(until, lambda: all(map(holds_back, workers.workers)), "each says why", 60)
            assert workers.velocity() == 0
        await producer.stop()

    def holds_back(worker: Worker) -> bool:
        told = orjson.loads(worker.get("/api/now").text)
        return bool(told["ready"] and told["reason"] == HELD_BACK)

    def age(unit: str) -> float:
        told = (page("engine_stable_offset_age_seconds", unit=unit) for page in pages(workers))
        return max(value or 0.0 for value in told)

    asyncio.run(hold(f"{prefix}.events"))
    until(lambda: workers.velocity() == COUNT and age("track-1") < 20, "nothing is held back any more", SECONDS)


def test_a_worker_that_is_started_again_takes_its_former_self_out_of_the_group(
    tmp_path: Path, broker: Broker, prefix: str
) -> None:
    with Worker(tmp_path / "worker", broker.address, f"topics: {{prefix: {prefix}, partitions: 1}}\n") as worker:
        text = worker.config.read_text()
        worker.config.write_text(text.replace(f"session: {SESSION_SECONDS}s", "session: 60s"))  # longer than a start
        worker.start()
        until(lambda: worker.get("/readyz").status == 200, "it is ready", SECONDS)
        assert "former self" not in worker.said
        worker.kill()
        worker.start()
        until(lambda: worker.get("/readyz").status == 200, "it is ready again", SECONDS)
        assert "took our former self out of the group" in worker.said


def test_the_stores_of_a_worker_follow_what_it_would_inherit_and_it_goes_on_from_them(
    workers: Fleet, broker: Broker, prefix: str
) -> None:
    first, second = workers.workers
    inherited, origin = owned(first.metrics()), origin_of(broker.address, prefix)
    for _ in range(5):  # what it follows is on the disk when it has ended; it may be a moment behind
        second.stop()
        kept = {unit: items(second, unit, origin) for unit in inherited}
        if sum(kept.values()) == sum(items_of(broker.address, prefix, unit) for unit in inherited):
            break
        second.start()
        workers.ready(SECONDS)
        until(lambda: owned(first.metrics()) == inherited, "partitions are shared as before", SECONDS)
    assert kept == {unit: items_of(broker.address, prefix, unit) for unit in inherited}
    assert sum(kept.values()) > COUNT / 4
    second.start()
    workers.ready(SECONDS)
    first.kill()
    until(lambda: owned(second.metrics()) == UNITS, "the other one has taken over", SECONDS)
    until(lambda: workers.velocity() == COUNT, "everything is shown by the one that is left", SECONDS)
    until(lambda: recovered(second.metrics()) == UNITS, "it says how long each took", SECONDS)
    assert says_what_it_owns(second.metrics())


def origin_of(address: str, prefix: str) -> str:
    """What tells the topics of this test from all others."""
    configuration = read_settings(f"broker: kafka://{address}\n", "flowmetrics.yaml")
    epochs = EpochLog(Connection(configuration), Topics(prefix, PARTITIONS))
    asyncio.run(epochs.read())
    return epochs.origin


def items(worker: Worker, unit: str, origin: str) -> int:
    """The histories in a store of a worker that does not run."""
    with closing(Store(worker.directory / "store" / unit, origin, clock_us)) as store:
        return sum(1 for _ in store.beginning(HISTORY))


def items_of(address: str, prefix: str, unit: str) -> int:
    """The histories on the changelog of a unit."""
    step, _, number = unit.partition("-")
    return len(asyncio.run(histories(address, TopicPartition(f"{prefix}.{step}", int(number)))))


async def histories(address: str, place: TopicPartition) -> set[bytes]:
    """The keys of committed histories on a changelog."""
    async with AIOKafkaConsumer(bootstrap_servers=address, isolation_level="read_committed") as consumer:
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        consumer.seek(place, 0)
        keys = set[bytes]()
        while await consumer.position(place) < end:
            for record in (await consumer.getmany(place, timeout_ms=100)).get(place, ()):
                keys.add(record.key)
        return {key for key in keys if key.startswith(HISTORY)}
