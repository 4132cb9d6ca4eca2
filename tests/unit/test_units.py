"""The end of a unit's life: nobody may ask it for anything once its store is let go of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from workers.store import SimulatedStore, Table

from agents.kafka import tallying, tracking
from agents.kafka.changelog import Lost
from agents.kafka.engine import KafkaEngine
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


def around(store: Callable[[str], Any]) -> Surroundings:
    """One partition on a quiet log, in a worker that has heard of epoch 1."""
    epochs = SimpleNamespace(known=Known({1: Epoch(1, Configuration())}))
    return Surroundings(Topics("f", 1), QuietLog(), store, epochs, lambda: 0, lambda: 0.0, 1000)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [TrackUnit, TallyUnit])
def test_a_unit_that_is_taken_away_says_so_before_its_store_is_closed(kind: type[Unit]) -> None:
    unit = Watched.unit = kind(around(lambda name: Watched(Table())), 0)

    async def taken_away() -> None:
        life = asyncio.create_task(unit.live(lambda work: work))
        while not unit.recovered:
            await asyncio.sleep(0)
        life.cancel()
        await asyncio.wait([life])

    asyncio.run(asyncio.wait_for(taken_away(), 30))
    assert Watched.asked_when_closed is False


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (TrackUnit, (tracking.POSITION, msgspec.msgpack.encode(tracking.Position(epoch=2)))),
        (TrackUnit, (tracking.POSITION, msgspec.msgpack.encode(tracking.Position(epoch=1, coming=2)))),
        (TallyUnit, (tallying.POSITION, msgspec.msgpack.encode(tallying.Position(epoch=2)))),
    ],
)
def test_a_unit_whose_epoch_was_not_heard_of_yet_begins_again_and_says_why(
    kind: type[Unit], row: tuple[bytes, bytes]
) -> None:
    store = SimulatedStore(Table())
    store.fill([row], 1)
    with pytest.raises(Lost, match="epoch 2 was not heard of here yet"):
        asyncio.run(kind(around(lambda name: store), 0).live(lambda work: work))


def test_what_keeps_a_unit_from_catching_up_is_why_its_worker_is_not_ready() -> None:
    full = "track-0 cannot be used: IO error: No space left on device; make room on its disk"
    unit = SimpleNamespace(name="track-0", caught_up=False, recovered=False, lag=0, trouble=full)
    assert KafkaEngine._reason(SimpleNamespace(), [unit]) == f"recovering track-0; {full}"  # type: ignore[arg-type, list-item]
