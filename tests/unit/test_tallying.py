"""A partition of tally that moves: to a worker which hears late of the coming epoch, and with what it counted."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec
from workers.log import Nowhere
from workers.store import SimulatedStore, Table
from workers.worker import SimulatedEpochs

from agents.kafka.epochs import Epoch, Known
from agents.kafka.tallying import Reading, Tallying
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


def change(offset: int, cell: int, swept: int) -> Told:
    """One more active user in a cell of the coming epoch, by a partition of track that is through with an epoch."""
    told = Changes(0, NOW, NOW, {2: [(SERIES, {cell: 1})]}, swept)
    return Told(msgspec.msgpack.encode(told), offset)


def takes(known: Known, store: SimulatedStore, *changes: Told) -> Reading:
    """What a worker shows that knows these epochs, after it took some more and stored all."""
    tally = Tallying(Topics("f", 1), 0, known, store, Nowhere())  # type: ignore[arg-type]
    epochs = SimulatedEpochs(TOLD)

    async def take() -> None:
        await tally.take(changes, epochs)  # type: ignore[arg-type]
        await tally.commit(await tally.checkpoint(NOW, epochs))  # type: ignore[arg-type]

    asyncio.run(take())
    return tally.reading(NOW)


def test_panes_of_a_coming_epoch_stay_when_a_worker_takes_over_that_has_not_heard_of_it() -> None:
    store = SimulatedStore(Table())
    both = Known({number: Epoch(number, told) for number, told in enumerate(TOLD, 1)})
    before = takes(both, store, change(0, PANE * BINS, swept=1))
    assert (before.epoch, active_users(before)) == (1, set())
    after = takes(Known({1: both.epochs[1]}), store, change(1, (PANE - 1) * BINS, swept=2))
    assert (after.epoch, active_users(after)) == (2, {2.0})


def active_users(reading: Reading) -> set[float]:
    """The value of every window."""
    return {point.value for _, point in reading.points.get(SERIES, ())}


def test_label_sets_beyond_the_limit_stay_counted_when_a_partition_moves() -> None:
    """An alert reads by how much they grow: a count that begins anew would hide an hour of them."""
    store, known = SimulatedStore(Table()), Known({1: Epoch(1, Configuration(labels_max=2))})
    sets = [(("flow_load", "shop", kind, "active"), {PANE * BINS: 1}) for kind in ("feature", "defect", "risk", "debt")]
    change = Told(msgspec.msgpack.encode(Changes(0, NOW, NOW, {1: sets}, 1)), 0)
    takes(known, store, change)
    moved = Tallying(Topics("f", 1), 0, known, store, Nowhere())  # type: ignore[arg-type]
    assert moved.counters.stored() == [(["label_overflow", "flow_load"], 2)]


def test_a_partition_of_track_that_begins_anew_takes_nothing_back_of_what_was_complete() -> None:
    store, known = SimulatedStore(Table()), Known({1: Epoch(1, Configuration())})
    tally = Tallying(Topics("f", 1), 0, known, store, Nowhere())  # type: ignore[arg-type]
    told = [Told(msgspec.msgpack.encode(Changes(0, NOW, until, {}, 1)), n) for n, until in enumerate((NOW, 0))]
    asyncio.run(tally.take(told, SimulatedEpochs([Configuration()])))  # type: ignore[arg-type]
    assert tally.complete_until() == NOW
