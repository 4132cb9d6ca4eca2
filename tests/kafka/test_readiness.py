"""Whether a worker on a real broker is ready, and what it says until it is: over a backlog, and without a broker."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from broker import Broker
from engine import done, until
from fleet import Worker

from agents.kafka.connection import Connection
from agents.kafka.engine import KafkaEngine
from agents.kafka.topics import prepare
from flowmetrics import __version__
from flowmetrics.settings import read_settings

pytestmark = pytest.mark.long

SECONDS: Final = 120.0
"""How long anything may take on a busy machine; none takes that long on an idle one."""
COUNT: Final = 100_000


async def filled(address: str, prefix: str, count: int) -> None:
    """Topics of one partition, and so many events in them before any worker was there."""
    text = f"broker: kafka://{address}\ntopics: {{prefix: {prefix}, partitions: 1}}\n"
    configuration = read_settings(text, "flowmetrics.yaml")
    await prepare(Connection(configuration), configuration)
    async with AIOKafkaProducer(bootstrap_servers=address, linger_ms=20, max_batch_size=500_000) as producer:
        for n in range(count):
            await producer.send(f"{prefix}.events", orjson.dumps(done(f"A-{n}")))


def test_a_worker_over_a_backlog_is_not_ready_and_says_how_much_is_left(
    tmp_path: Path, broker: Broker, prefix: str
) -> None:
    asyncio.run(filled(broker.address, prefix, COUNT))
    said: list[str] = []

    def is_ready(worker: Worker) -> bool:
        answer = worker.get("/readyz")
        said.append(answer.text)
        return answer.status == 200

    with Worker(tmp_path / "worker", broker.address, f"topics: {{prefix: {prefix}, partitions: 1}}\n") as worker:
        worker.start()
        until(lambda: is_ready(worker), "it has caught up", SECONDS)
        page = worker.shows(lambda page: page("engine_ready"), 1)
        assert page("consumer_lag_events") == page("partition_lag_records", unit="track-0") == 0
        *before, _ = said
        left = [int(number) for text in before for number in re.findall(r"catching up: (\d+) records", text)]
        assert left, f"it said only {set(before)}"
        assert 0 < max(left) <= COUNT
        worker.shows(lambda page: page.velocity(), COUNT, SECONDS)
        worker.stop()


def test_a_worker_that_was_started_before_its_broker_becomes_ready_once_that_is_there(
    tmp_path: Path, brokers: Callable[..., Broker]
) -> None:
    broker = brokers()
    broker.stop()
    with Worker(tmp_path / "worker", broker.address, "topics: {partitions: 1}\n") as worker:
        worker.start()
        until(lambda: broker.address in worker.get("/readyz").text, "the reason names the broker", SECONDS)
        assert worker.get("/readyz").status == 503
        page = worker.metrics()
        assert page("engine_ready") == 0
        assert page("build_info", version=__version__) == 1
        broker.start()
        until(lambda: worker.get("/readyz").status == 200, "it is ready", SECONDS)
        worker.post(done("A-1"))
        worker.shows(lambda page: page.velocity(), 1, SECONDS)
        worker.stop()


# --- the reason by itself -----------------------------------------------------------------------------------------
def unit(name: str, **more: Any) -> Any:
    """A unit that has caught up."""
    return SimpleNamespace(
        **{"name": name, "recovered": True, "caught_up": True, "lag": 0, "proven": 0.0, "trouble": "", **more}
    )


@pytest.mark.parametrize(
    ("units", "reason"),
    [
        ((), "no partitions are assigned yet"),
        ((unit("track-0"), unit("track-1", caught_up=False, recovered=False)), "recovering track-1"),
        ((unit("track-0", lag=5), unit("track-1", caught_up=False, lag=7)), "catching up: 7 records are not counted"),
        ((unit("track-0", lag=5), unit("track-1")), ""),
    ],
)
def test_the_reason_names_what_has_not_caught_up(units: tuple[Any, ...], reason: str) -> None:
    engine = KafkaEngine(read_settings("broker: kafka://nowhere:9092\n", "flowmetrics.yaml"))
    assert engine._reason(units) == reason
