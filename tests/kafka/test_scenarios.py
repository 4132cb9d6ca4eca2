"""The scenarios on Kafka: three partitions, workers that come and go, and a clock that stands between two steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from broker import Broker
from playing import PATIENCE_SECONDS, POLL_SECONDS, Clock, Page, Series, play, shown_in_time
from scenario import Scenario, scenarios

from agents.kafka.engine import KafkaEngine
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError
from flowmetrics.instants import SECOND_US

pytestmark = pytest.mark.long

PARTITIONS = 3
SESSION_SECONDS = 6
"""The shortest that a broker allows by default."""


class Workers:
    """Engines in one process, each with a store of its own, over the topics of one scenario."""

    def __init__(self, configuration: Configuration, clock: Clock, folder: Path) -> None:
        self._configuration = configuration
        self._clock = clock
        self._folder = folder
        self._stores = 0
        self._running: list[tuple[Path, KafkaEngine]] = []
        self._page = Page(configuration)

    async def start(self, store: Path | None = None) -> None:
        """One more worker, over an empty store unless said."""
        self._stores += 1
        store = store or self._folder / f"store-{self._stores}"
        engine = KafkaEngine(replace(self._configuration, kafka_store=str(store)), self._clock)
        await engine.start()
        self._running.append((store, engine))

    async def stop(self) -> Path:
        """The worker that began first ends; its store."""
        store, engine = self._running.pop(0)
        await engine.stop()
        assert engine.failure is None, engine.failure
        return store

    async def end(self) -> None:
        """All of them end."""
        while self._running:
            await self.stop()

    async def send(self, bodies: Sequence[bytes]) -> list[str]:
        """Post them, again while Kafka does not take them in time: what it has twice is one fact."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                receipt = await asyncio.wrap_future(self._running[-1][1].intake.take(bodies))
            except OperationError:
                if time.monotonic() > until:
                    raise
            else:
                return [rejection.reason.value for _, rejection in receipt.rejected]

    async def repeat(self, bodies: Sequence[bytes]) -> None:
        """As a producer that knows no keys: most of them to a partition where they do not belong."""
        brokers = self._configuration.broker.removeprefix("kafka://")
        producer = AIOKafkaProducer(bootstrap_servers=brokers)
        await producer.start()
        try:
            for number, body in enumerate(bodies):
                topic = f"{self._configuration.topics_prefix}.events"
                await producer.send_and_wait(topic, body, partition=number % PARTITIONS)
        finally:
            await producer.stop()

    async def restart(self, killed: bool) -> None:
        """A worker that was killed is replaced on another machine: what it kept there is gone."""
        store = await self.stop()
        await self.start(None if killed else store)

    async def staff(self, joins: bool) -> None:
        """A newcomer has its share before the story goes on."""
        if not joins:
            await self.stop()
            return
        await self.start()
        until = time.monotonic() + PATIENCE_SECONDS
        while not all(engine.published.ready for _, engine in self._running):
            assert time.monotonic() < until, [engine.published.reason for _, engine in self._running]
            await asyncio.sleep(POLL_SECONDS)

    async def page(self, expected: Series, accepted: int) -> Series:
        return await shown_in_time(self._look, expected, accepted)

    def _look(self) -> tuple[Series, float]:
        """The pages of all workers as one."""
        together: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        counted = 0.0
        for _, engine in self._running:
            assert engine.failure is None, engine.failure
            page = engine.published.current
            kpis = self._page.kpis(page)
            twice = kpis.keys() & together.keys()
            assert not twice, f"on two pages: {sorted(map(str, twice))[:5]}"
            together.update(kpis)
            counted += self._page.accepted(page)
        return together, counted


@asynccontextmanager
async def started(configuration: Configuration, clock: Clock, folder: Path) -> AsyncIterator[Workers]:
    """One worker."""
    workers = Workers(configuration, clock, folder)
    try:
        await workers.start()
        yield workers
    finally:
        await workers.end()


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("scenario", scenarios(), ids=lambda scenario: scenario.name)
async def test_each_scenario_is_true_on_kafka(
    scenario: Scenario, broker: Broker, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where Faust leaves a folder
    configuration = replace(
        scenario.configuration,
        broker=f"kafka://{broker.address}",
        topics_prefix=prefix,
        topics_partitions=PARTITIONS,
        kafka_session_us=SESSION_SECONDS * SECOND_US,
    )
    clock = Clock()
    clock.now = scenario.begin
    async with started(configuration, clock, tmp_path) as workers:
        await play(scenario, workers, clock)
