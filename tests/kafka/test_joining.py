"""How a worker joins the group of the workers on a real broker, and stays in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from broker import Broker
from fleet import SESSION_SECONDS

from agents.kafka import worker
from agents.kafka.engine import KafkaEngine
from flowmetrics.configuration import Configuration
from flowmetrics.instants import SECOND_US

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("loops")]

SECONDS: Final = 120.0
"""How long anything may take on a busy machine; none takes that long on an idle one."""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust leaves a folder."""
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def engine(broker: str, prefix: str, store: Path) -> AsyncIterator[KafkaEngine]:
    """A worker over topics of one partition."""
    running = KafkaEngine(
        Configuration(
            broker=f"kafka://{broker}",
            topics_prefix=prefix,
            topics_partitions=1,
            kafka_session_us=SESSION_SECONDS * SECOND_US,
            kafka_store=str(store),
        )
    )
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


async def until(engine: KafkaEngine, words: str) -> None:
    """Wait until it is ready, or says these words; it must not end by itself."""
    give_up = time.monotonic() + SECONDS
    while words not in ("ready" if engine.published.ready else engine.published.reason):
        assert engine.failure is None, engine.failure
        assert time.monotonic() < give_up, engine.published.reason
        await asyncio.sleep(0.05)


async def test_a_broker_that_goes_away_just_before_the_group_is_joined_is_waited_for(
    tmp_path: Path, brokers: Callable[..., Broker], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, leave_for_former, gone = brokers(), worker.leave_for_former, asyncio.Event()

    async def too_late(*said: object) -> None:
        if not gone.is_set():
            gone.set()
            await asyncio.to_thread(broker.stop)
        await leave_for_former(*said)  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "leave_for_former", too_late)
    async with engine(broker.address, prefix, tmp_path / "store") as one:
        await until(one, "joining the group")
        await until(one, f"waiting for Kafka at {broker.address}")
        await asyncio.to_thread(broker.start)
        await until(one, "ready")


async def test_a_worker_without_a_partition_stays_in_the_group_and_takes_over_when_the_others_leave(
    tmp_path: Path, broker: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "IDLE_MS", 2000)
    async with AsyncExitStack() as held:
        three = [await held.enter_async_context(engine(broker.address, prefix, tmp_path / name)) for name in "abc"]
        nothing = await spare(three)
        await asyncio.sleep(5)  # the client would leave the group meanwhile
        await asyncio.gather(*[one.stop() for one in three if one is not nothing])
        await until(nothing, "ready")


async def spare(engines: Sequence[KafkaEngine]) -> KafkaEngine:
    """One that has nothing to do while the others are ready, or have nothing to do either."""
    nothing, give_up = "no partitions are assigned yet", time.monotonic() + SECONDS
    while True:
        told = ["ready" if one.published.ready else one.published.reason for one in engines]
        if {*told} == {"ready", nothing}:
            return engines[told.index(nothing)]
        assert time.monotonic() < give_up, told
        await asyncio.sleep(0.05)
