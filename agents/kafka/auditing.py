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
from typing import Final, TypeAlias

import msgspec

from agents.histories import HotHistories
from agents.kafka import tallying, tracking
from agents.kafka.connection import Connection
from agents.kafka.reading import Progress, must_rest, records_of, settled, shape_of
from agents.kafka.store import Store
from agents.kafka.topics import Topics
from agents.kafka.tracking import StoredHistories, same_shape
from flowmetrics.configuration import Configuration
from flowmetrics.entity import unpack
from flowmetrics.errors import OperationError
from flowmetrics.kpis import selected
from flowmetrics.routing import partition_of
from flowmetrics.steps.audit import Difference
from flowmetrics.steps.series import Series, SeriesTable
from flowmetrics.steps.tally import DROPPED, Tally
from flowmetrics.steps.track import Track
from flowmetrics.windowing.bins import BINS

Emitted: TypeAlias = Counter[tuple[Series, int]]
"""Series and cell → the sum of what all histories contributed."""

KEYS_AT_ONCE: Final = 5000
_STORED_ROWS: Final = 5000

_NUMBER: Final = struct.Struct(">q")
_CHANGES: Final = msgspec.msgpack.Decoder(tracking.Changes).decode
_CELLS: Final = msgspec.msgpack.Decoder(dict[int, dict[int, int]]).decode
_SERIES: Final = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_SHOWN: Final = msgspec.msgpack.Decoder(tuple[tuple[str, ...], int | None]).decode


def read_by_audit(topics: Topics) -> list[str]:
    """The topics that an audit reads."""
    return [topics.track, topics.tally, topics.changes]


async def differences_of(
    connection: Connection, topics: Topics, configuration: Configuration, now: int, progress: Progress
) -> list[Difference]:
    """Every difference; cells that lie outside every reading are left out. Raises OperationError while workers run.

    One partition at a time is laid out on the disk, in the folder for temporary files.
    """
    await must_rest(connection, topics)
    before = await settled(connection, topics, read_by_audit(topics))
    found = [one async for one in _differences(connection, topics, configuration, now, progress)]
    if await settled(connection, topics, read_by_audit(topics)) != before:
        raise OperationError(f"workers of {topics.prefix} began meanwhile; stop them, and audit again")
    return found


async def _differences(
    connection: Connection, topics: Topics, configuration: Configuration, now: int, progress: Progress
) -> AsyncIterator[Difference]:
    emitted: Emitted = Counter()
    for number in range(topics.partitions):
        async with _laid_out(connection, topics.track, number, progress) as store:
            for difference in _uncalled(configuration, topics, number, store, emitted):
                yield difference
    for number in range(topics.partitions):
        async with _laid_out(connection, topics.tally, number, progress) as store:
            tally, table, at = await _panes(connection, topics, configuration, number, store, progress)
        oldest = configuration.pane(max(now, at)) - configuration.panes(configuration.horizon_us)
        here = {
            place: amount
            for place, amount in emitted.items()
            if partition_of(place[0][1].encode(), topics.partitions) == number
        }
        for difference in _unbalanced(here, tally, table, oldest):
            yield difference


@asynccontextmanager
async def _laid_out(connection: Connection, topic: str, number: int, progress: Progress) -> AsyncIterator[Store]:
    """The table that a changelog partition is, in a folder that is removed afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="flowmetrics-audit-") as folder,
        closing(Store(Path(folder) / "s")) as store,
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


def _uncalled(
    configuration: Configuration, topics: Topics, number: int, store: Store, emitted: Emitted
) -> Iterator[Difference]:
    """Where a history of a partition of track has not emitted what its facts call for; adds up what it has."""
    stored = store.get([tracking.POSITION])[0]
    if stored is None:
        return
    position = msgspec.msgpack.decode(stored, type=tracking.Position)
    same_shape(topics, position.shape, shape_of(configuration))
    table = SeriesTable((_NUMBER.unpack(key)[0], _SERIES(value)) for key, value in store.beginning(tracking.SERIES))
    track = Track(configuration, selected(configuration), table)
    histories = HotHistories(StoredHistories(store), configuration.hot_entities_max)
    keys = (key.decode() for key, _ in store.beginning(tracking.HISTORY))
    own = (key for key in keys if partition_of(key.encode(), topics.partitions) == number)
    while some := list(islice(own, KEYS_AT_ONCE)):
        histories.prefetch(some)
        for key in some:
            called_for = track.contributions(key, histories)
            held = {part: unpack(packed) for part, packed in histories[key].contributed.items() if packed}
            if called_for != held:
                sizes = [sum(map(len, contributed.values())) for contributed in (called_for, held)]
                yield Difference(f"contributions of {key}", *sizes)
            for contributions in held.values():
                for series, cell, amount in contributions:
                    emitted[table.series(series), cell] += amount
        histories.age()


async def _panes(
    connection: Connection, topics: Topics, configuration: Configuration, number: int, store: Store, progress: Progress
) -> tuple[Tally, SeriesTable, int]:
    """The panes of a partition of tally with all changes added that it has not taken, and up to when it has come."""
    stored = store.get([tallying.POSITION])[0]
    position = msgspec.msgpack.decode(stored, type=tallying.Position) if stored else tallying.Position()
    rows = [(_NUMBER.unpack(key)[0], *_SHOWN(value)) for key, value in store.beginning(tallying.SERIES)]
    table = SeriesTable((n, series) for n, series, _ in rows)
    tally = Tally(configuration, selected(configuration), table, position.now)
    tally.load(
        [(n, shown) for n, _, shown in rows if shown is not None],
        ((_NUMBER.unpack_from(key)[0], _CELLS(value)) for key, value in store.beginning(tallying.SEGMENT)),
    )
    at = position.now
    async for record in records_of(connection, topics.changes, number, position.changes, progress):
        changes = _CHANGES(record.value or b"")
        at = max(at, changes.now)
        tally.apply({table.number(series): cells for series, cells in changes.series})
    return tally, table, at


def _unbalanced(
    emitted: dict[tuple[Series, int], int], tally: Tally, table: SeriesTable, oldest: int
) -> Iterator[Difference]:
    """Where the panes do not hold the sum of what was emitted."""
    called_for: Counter[tuple[int, int]] = Counter()
    for (labels, cell), amount in emitted.items():
        shown = tally.shown(table.number(labels))
        if shown != DROPPED:
            called_for[shown, cell] += amount
    found = tally.cells()
    for series, cell in sorted(called_for.keys() | found.keys()):
        if cell // BINS > oldest and called_for[series, cell] != found.get((series, cell), 0):
            place = f"{' '.join(table.series(series))}, pane {cell // BINS}, bin {cell % BINS}"
            yield Difference(place, called_for[series, cell], found.get((series, cell), 0))
