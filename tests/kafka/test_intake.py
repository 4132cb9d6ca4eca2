"""The intake of a worker on a real broker: what it took is there once, whatever becomes of its producer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from broker import Broker
from engine import done

from agents.kafka import intake
from agents.kafka.changelog import read_to_end
from agents.kafka.connection import Connection
from agents.kafka.intake import KafkaIntake
from agents.kafka.topics import prepare, topics_of
from agents.published import clock_us
from flowmetrics.settings import read_settings

RECORDS_MAX = 10
REQUESTS, EVENTS = 12, 4
SECONDS = 120.0


async def test_an_intake_that_renews_its_producer_takes_every_event_and_none_twice(
    broker: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    producers: list[AIOKafkaProducer] = []

    def producer(**settings: Any) -> AIOKafkaProducer:
        producers.append(AIOKafkaProducer(**settings))
        return producers[-1]

    monkeypatch.setattr(intake, "RECORDS_MAX", RECORDS_MAX)
    monkeypatch.setattr(intake, "AIOKafkaProducer", producer)
    sent = [[orjson.dumps(done(f"A-{n}-{event}")) for event in range(EVENTS)] for n in range(REQUESTS)]
    async with taking(broker.address, prefix) as (taker, written):
        for bodies in sent:
            receipt = await asyncio.wait_for(asyncio.wrap_future(taker.take(bodies)), SECONDS)
            assert (receipt.accepted, receipt.rejected) == (EVENTS, [])
        assert sorted(await written()) == sorted(body for bodies in sent for body in bodies)
    assert len(producers) == REQUESTS * EVENTS // (RECORDS_MAX // EVENTS * EVENTS)


@asynccontextmanager
async def taking(address: str, prefix: str) -> AsyncIterator[tuple[KafkaIntake, Any]]:
    """An intake that runs, and what gives all that stands in its events topic."""
    settings = f"broker: kafka://{address}\ntopics: {{prefix: {prefix}, partitions: 2}}\n"
    configuration = read_settings(settings, "flowmetrics.yaml")
    connection, topics = Connection(configuration), topics_of(configuration)
    await prepare(connection, configuration)
    taker = KafkaIntake(connection, topics, configuration, None, clock_us)

    async def written() -> list[bytes]:
        return [
            record.value
            for number in range(topics.partitions)
            async for records in read_to_end(connection, topics.events, number, 0)
            for record in records
            if record.value is not None
        ]

    writing = taker.start()
    try:
        yield taker, written
    finally:
        writing.cancel()
        await asyncio.wait([writing])
