"""Audit over all partitions: what facts call for, what was emitted, and what the panes hold must be the same.

    track-n changelog ──▶ histories ──▶ called for == emitted ──sum──┐
    tally-m changelog ──▶ panes  +  changes that it has not taken  ==┘

The workers must be at rest: then the changelogs of track and the changes end with the same transactions.
"""

from __future__ import annotations

import struct
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from agents.histories import HotHistories
from agents.kafka import tallying, tracking
from agents.kafka.connection import Connection
from agents.kafka.epochs import Epoch
from agents.kafka.reading import Progress, epochs_of, must_rest, records_of, settled
from agents.kafka.store import Store
from agents.kafka.topics import Topics
from agents.kafka.tracking import StoredHistories
from agents.published import clock_us
from flowmetrics.errors import OperationError
from flowmetrics.kpis import selected
from flowmetrics.routing import partition_of
from flowmetrics.steps.audit import Difference, Emitted, unbalanced, uncalled
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.tally import Tally
from flowmetrics.steps.track import Track

KEYS_AT_ONCE: Final = 5000
_STORED_ROWS: Final = 5000

_NUMBER: Final = struct.Struct(">q")
_SERIES: Final = msgspec.msgpack.Decoder(tuple[str, ...]).decode


def read_by_audit(topics: Topics) -> list[str]:
    """The topics that an audit reads."""
    return [topics.track, topics.tally, topics.changes]


async def differences_of(connection: Connection, topics: Topics, now: int, progress: Progress) -> list[Difference]:
    """Every difference; cells that lie outside every reading are left out. Raises OperationError while workers run.

    One partition at a time is laid out on the disk, in the folder for temporary files.
    """
    await must_rest(connection, topics)
    before = await settled(connection, topics, read_by_audit(topics))
    epochs = await epochs_of(connection, topics)
    if not epochs.epochs:  # no worker ever ran
        return []
    found = [one async for one in differences(connection, topics, epochs.latest, now, progress)]
    if await settled(connection, topics, read_by_audit(topics)) != before:
        raise OperationError(f"workers of {topics.prefix} began meanwhile; stop them, and audit again")
    return found


async def differences(
    connection: Connection, topics: Topics, epoch: Epoch, now: int, progress: Progress
) -> AsyncIterator[Difference]:
    """The same of workers that run, which is right where they have nothing to take."""
    emitted: Emitted = Counter()
    configuration = epoch.configuration
    for number in range(topics.partitions):
        async with _laid_out(connection, topics.track, number, progress) as store:
            for difference in _uncalled(epoch, topics, number, store, emitted):
                yield difference
    for number in range(topics.partitions):
        async with _laid_out(connection, topics.tally, number, progress) as store:
            tally, table, at = await _panes(connection, topics, epoch, number, store, progress)
        oldest = configuration.pane(max(now, at)) - configuration.panes(configuration.horizon_us)
        here = {
            place: amount
            for place, amount in emitted.items()
            if partition_of(place[0][1].encode(), topics.partitions) == number
        }
        for difference in unbalanced(here, tally, table, oldest):
            yield difference


@asynccontextmanager
async def _laid_out(connection: Connection, topic: str, number: int, progress: Progress) -> AsyncIterator[Store]:
    """The table that a changelog partition is, in a folder that is removed afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="flowmetrics-audit-") as folder,
        closing(Store(Path(folder) / "s", topic, clock_us)) as store,
    ):
        rows, reached = list[tuple[bytes, bytes | None]](), 0
        async for record in records_of(connection, topic, number, 0, progress):
            rows.append((record.key or b"", record.value))
            reached = record.offset + 1
            if len(rows) >= _STORED_ROWS:
                store.fill(rows, reached)
                rows = []
        store.fill(rows, reached)
        yield store


def _uncalled(epoch: Epoch, topics: Topics, number: int, store: Store, emitted: Emitted) -> Iterator[Difference]:
    """Where a history of a partition of track has not emitted what its facts call for; adds up what it has."""
    stored, configuration = store.get([tracking.POSITION])[0], epoch.configuration
    if stored is None:
        return
    position = msgspec.msgpack.decode(stored, type=tracking.Position)
    _must_be_built(topics, epoch, position.built)
    table = SeriesTable((_NUMBER.unpack(key)[0], _SERIES(value)) for key, value in store.beginning(tracking.SERIES))
    track = Track(configuration, selected(configuration), table)
    histories = HotHistories(StoredHistories(store), configuration.hot_entities_max, epoch.number)
    keys = (key.decode() for key, _ in store.beginning(tracking.HISTORY))
    own = (key for key in keys if partition_of(key.encode(), topics.partitions) == number)
    while some := list(islice(own, KEYS_AT_ONCE)):
        histories.prefetch(some)
        yield from uncalled(some, histories, track, table, emitted)
        histories.age()


def _must_be_built(topics: Topics, epoch: Epoch, published: int) -> None:
    if published != epoch.number:
        raise OperationError(
            f"the workers of {topics.prefix} were stopped while epoch {epoch.number} was being built; start them, "
            "stop them when flowmetrics_engine_epoch shows it, and audit again"
        )


async def _panes(
    connection: Connection, topics: Topics, epoch: Epoch, number: int, store: Store, progress: Progress
) -> tuple[Tally, SeriesTable, int]:
    """The panes of a partition of tally with all changes added that it has not taken, and up to when it has come."""
    stored = store.get([tallying.POSITION])[0]
    position = tallying.Position(epoch=epoch.number)
    if stored:
        position = msgspec.msgpack.decode(stored, type=tallying.Position)
        _must_be_built(topics, epoch, position.epoch)
    table = SeriesTable((_NUMBER.unpack(key)[0], _SERIES(value)) for key, value in store.beginning(tallying.SERIES))
    panes = tallying.Panes(epoch, table, position.now, lambda stream: True)
    panes.load(store)
    at = position.now
    async for record in records_of(connection, topics.changes, number, position.changes, progress):
        changes = tracking.changes_of(record)
        if changes is None:
            continue
        at = max(at, changes.now)
        told = changes.epochs.get(epoch.number, [])
        panes.tally.apply({table.number(series): cells for series, cells in told})
    return panes.tally, table, at
