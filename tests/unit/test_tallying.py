"""A partition of tally that moves to a worker which hears late of the epoch that is being built."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec
from workers.store import SimulatedStore, Table
from workers.worker import SimulatedEpochs

from agents.kafka.epochs import Epoch, Known
from agents.kafka.tallying import Tallying
from agents.kafka.topics import Topics
from agents.kafka.tracking import Changes
from flowmetrics.configuration import Configuration
from flowmetrics.instants import parse_instant
from flowmetrics.windowing.bins import BINS

NOW = parse_instant("2025-03-01T12:00:00Z")
TOLD = [Configuration(), Configuration(percentiles=(85,))]
SERIES = ("active_users", "shop")
PANE = Configuration().pane(NOW)


class Told(NamedTuple):
    value: bytes
    offset: int


class Kept:
    """Commits into nothing; the store is filled up to an offset."""

    async def commit(self, told: object, rows: object) -> int:
        return 1

    async def close(self) -> None: ...


def change(offset: int, cell: int) -> Told:
    """One more in a cell of the coming epoch."""
    told = Changes(0, NOW, NOW, {2: [(SERIES, {cell: 1})]}, 0)
    return Told(msgspec.msgpack.encode(told), offset)


def takes(known: Known, store: SimulatedStore, *changes: Told) -> dict[int, int]:
    """The cells of the coming epoch, after a worker that knows these epochs took some more and stored all."""
    tally = Tallying(Topics("f", 1), 0, known, store, Kept())  # type: ignore[arg-type]
    epochs = SimulatedEpochs(TOLD)

    async def take() -> None:
        await tally.take(changes, epochs)  # type: ignore[arg-type]
        await tally.commit(await tally.checkpoint(NOW, epochs))  # type: ignore[arg-type]

    asyncio.run(take())
    return {cell: amount for (_, cell), amount in tally._panes[2].tally.cells().items()}


def test_panes_of_a_coming_epoch_stay_when_a_worker_takes_over_that_has_not_heard_of_it() -> None:
    store = SimulatedStore(Table())
    both = Known({number: Epoch(number, told) for number, told in enumerate(TOLD, 1)})
    first, second = PANE * BINS, (PANE - 1) * BINS
    assert takes(both, store, change(0, first)) == {first: 1}
    assert takes(Known({1: both.epochs[1]}), store, change(1, second)) == {first: 1, second: 1}
