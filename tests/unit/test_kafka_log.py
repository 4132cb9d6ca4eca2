"""How long what a worker reads has been held back, by what brokers say: an open transaction, or silence."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import TopicPartition

from agents.kafka.log import KafkaLog
from flowmetrics.instants import SECOND_US

PLACE = TopicPartition("flowmetrics.events", 1)


@dataclass
class Consumer:
    """What a consumer knows of one partition."""

    ago: float | None = None
    """How many seconds ago its broker was last heard; None if never."""
    at: int = 0
    stable: int = 0
    end: int = 0

    def seek(self, place: TopicPartition, position: int) -> None:
        self.at = position

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.stable)

    async def position(self, place: TopicPartition) -> int:
        return self.at

    def last_poll_timestamp(self, place: TopicPartition) -> float | None:
        return None if self.ago is None else (time.time() - self.ago) * 1000

    def last_stable_offset(self, place: TopicPartition) -> int:
        return self.stable

    def highwater(self, place: TopicPartition) -> int:
        return self.end


class Heard:
    """A log over such a consumer, on a clock that is turned by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.consumer = Consumer()
        self._log = KafkaLog(None, self.consumer)  # type: ignore[arg-type]
        self._now = time.monotonic()
        monkeypatch.setattr("time.monotonic", lambda: self._now)

    async def begin(self, position: int) -> None:
        await self._log.begin({PLACE: position})

    async def says(self, seconds_later: float, **said: Any) -> tuple[float, float]:
        """(age of the stable offset, for how long something may be unseen), after the broker said something."""
        self._now += seconds_later
        for name, value in said.items():
            setattr(self.consumer, name, value)
        await self._log.behind([PLACE])
        return round(self._log.stable_age_seconds([PLACE]), 0), round(self._log.unseen_us([PLACE]) / SECOND_US, 0)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    return Heard(monkeypatch)


async def test_nothing_is_held_back_where_all_was_fetched_a_moment_ago(heard: Heard) -> None:
    await heard.begin(5)
    assert await heard.says(100, ago=0, at=7, stable=7, end=7) == (0, 0)


async def test_an_open_transaction_holds_back_from_when_the_stable_offset_moved_last(heard: Heard) -> None:
    await heard.begin(5)
    assert await heard.says(10, ago=0, at=7, stable=7, end=7) == (0, 0)
    assert await heard.says(10, end=9) == (10, 10)
    assert await heard.says(50) == (60, 60)
    assert await heard.says(1, at=8, stable=8) == (0, 61)  # it moves, and another transaction is open
    assert await heard.says(1, at=9, stable=9) == (0, 0)


async def test_a_broker_that_is_silent_may_hold_back_something(heard: Heard) -> None:
    await heard.begin(5)
    assert await heard.says(10, ago=0, at=7, stable=7, end=7) == (0, 0)
    assert await heard.says(70, ago=70) == (70, 70)


async def test_of_a_broker_that_was_not_heard_since_the_begin_nothing_is_known(heard: Heard) -> None:
    await heard.begin(5)
    assert await heard.says(30) == (30, math.inf)


async def test_a_partition_that_comes_back_does_not_age_by_its_former_visit(heard: Heard) -> None:
    await heard.begin(5)
    assert await heard.says(10, ago=0, at=7, stable=7, end=9) == (0, math.inf)
    assert await heard.says(86_400) == (86_400, math.inf)
    await heard.begin(7)
    assert await heard.says(1) == (1, math.inf)
