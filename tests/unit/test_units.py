"""The end of a unit's life: nobody may ask it for anything once its store is let go of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from workers.store import SimulatedStore, Table

from agents.kafka.epochs import Epoch, Known
from agents.kafka.topics import Topics
from agents.kafka.units import Surroundings, TallyUnit, TrackUnit, Unit
from flowmetrics.configuration import Configuration


class QuietLog:
    """Nothing is in it, and nothing comes."""

    async def open(self, name: str, changelog: object) -> QuietLog:
        return self

    async def rest(self, topic: str, number: int, filled: int) -> AsyncIterator[Any]:
        for records in ():
            yield records

    async def begin(self, positions: object) -> None: ...

    async def fetch(self, places: object, most: int) -> dict[object, object]:
        await asyncio.Event().wait()
        return {}

    async def close(self) -> None: ...


class Watched(SimulatedStore):
    """A store that notes whether its unit could still be asked when it was closed."""

    unit: Unit
    asked_when_closed: bool | None = None

    def close(self) -> None:
        type(self).asked_when_closed = self.unit.recovered
        super().close()


@pytest.mark.parametrize("kind", [TrackUnit, TallyUnit])
def test_a_unit_that_is_taken_away_says_so_before_its_store_is_closed(kind: type[Unit]) -> None:
    epochs = SimpleNamespace(known=Known({1: Epoch(1, Configuration())}))
    around = Surroundings(
        Topics("f", 1), QuietLog(), lambda name: Watched(Table()), epochs, lambda: 0, lambda: 0.0, 1000,  # type: ignore[arg-type, return-value]
    )  # fmt: skip
    unit = Watched.unit = kind(around, 0)

    async def taken_away() -> None:
        life = asyncio.create_task(unit.live(lambda work: work))
        while not unit.recovered:
            await asyncio.sleep(0)
        life.cancel()
        await asyncio.wait([life])

    asyncio.run(asyncio.wait_for(taken_away(), 30))
    assert Watched.asked_when_closed is False
