"""How much of the log a partition of track reads before it takes a batch: by what that needs of memory."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import orjson
from workers.log import Nowhere
from workers.store import SimulatedStore, Table

from agents.kafka.epochs import Epoch, Known
from agents.kafka.topics import Topics
from agents.kafka.tracking import Tracking
from flowmetrics.configuration import Configuration
from flowmetrics.instants import parse_instant
from flowmetrics.routing import partition_of

NOW = parse_instant("2025-03-01T12:00:00Z")
PARTITIONS = 2
NAMES = [f"A-{number}" for number in range(20)]
HERE = [name for name in NAMES if partition_of(f"item:{name}".encode(), PARTITIONS) == 0]
ELSEWHERE = [name for name in NAMES if name not in HERE]


class Arrived(NamedTuple):
    value: bytes
    offset: int = 0
    timestamp: int = NOW // 1000
    headers: tuple[tuple[str, bytes], ...] = ()


def item(name: str, number: int, at: str = "2025-03-01T11:00:00Z", title: str = "") -> Arrived:
    fields: dict[str, Any] = {"item": name, "value_stream": "shop", "state": "Done", "title": title}
    told = {"specversion": "1.0", "id": str(number), "source": "s", "type": "flowmetrics.item.v1", "time": at}
    return Arrived(orjson.dumps({**told, "data": fields}))


def weight(*events: Arrived) -> tuple[int, int]:
    """Of a batch before it is taken, and after."""
    known = Known({1: Epoch(1, Configuration())})
    store = SimulatedStore(Table())
    tracking = Tracking(Topics("f", PARTITIONS), 0, known, store, Nowhere(), 1000)  # type: ignore[arg-type]

    async def gather() -> tuple[int, int]:
        await tracking.open(events, NOW)  # type: ignore[arg-type]
        before = tracking.weight
        await tracking.take([], NOW, NOW)
        return before, tracking.weight

    return asyncio.run(gather())


def test_many_events_of_few_entities_are_light() -> None:
    assert weight(*(item(HERE[number % 3], number) for number in range(900))) == (3, 0)


def test_events_that_belong_elsewhere_must_wait_or_are_refused_weigh_by_their_size() -> None:
    long = "x" * 100_000
    waits = item(HERE[0], 1, "2025-03-01T12:30:00Z", long)
    for heavy in (item(ELSEWHERE[0], 1, title=long), waits, Arrived(b"?" * 100_000)):
        before, after = weight(*[heavy] * 10)
        assert 900 < before < 1100
        assert after == 0
