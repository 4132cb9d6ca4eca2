"""One partition of tally on Kafka: changes in; panes on its own changelog, and a page of its value streams.

key on the changelog     value
g 20150 shop             panes of a day and value stream
s 17                     series number 17, and the number under which it is shown
p                        position in changes, clock; ends each checkpoint
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from agents.kafka.changelog import Record
from agents.kafka.log import Commits, Records
from agents.kafka.store import Store
from agents.kafka.topics import Topics
from agents.kafka.tracking import Changes, same_shape
from flowmetrics.configuration import Configuration
from flowmetrics.families import Family
from flowmetrics.kpis import selected
from flowmetrics.routing import partition_of
from flowmetrics.steps.read import Read
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.tally import Tally

SEGMENT, SERIES, POSITION = b"g", b"s", b"p"
_NUMBER: Final = struct.Struct(">q")
_encode: Final = msgspec.msgpack.Encoder().encode
_CHANGES: Final = msgspec.msgpack.Decoder(Changes).decode
_CELLS: Final = msgspec.msgpack.Decoder(dict[int, dict[int, int]]).decode
_SERIES: Final = msgspec.msgpack.Decoder(tuple[tuple[str, ...], int | None]).decode


class Position(msgspec.Struct, array_like=True):
    """How far a partition of tally has come: the offset that it reads next, its clock, and what each partition of
    track had told: the arrival up to which all events were in its changes."""

    changes: int = 0
    now: int = 0
    complete_until: dict[int, int] = {}
    shape: str = ""


class Tallying:
    """A partition of tally that is ours, with its state read to the end of the changelog."""

    def __init__(
        self, configuration: Configuration, topics: Topics, number: int, shape: str, store: Store, writer: Commits
    ) -> None:
        self._topics = topics
        self._number = number
        self._store = store
        self._writer = writer
        stored = store.get([POSITION])[0]
        self.position = msgspec.msgpack.decode(stored, type=Position) if stored else Position(shape=shape)
        same_shape(topics, self.position.shape, shape)
        self.now = self.position.now
        rows = [(_NUMBER.unpack(key)[0], *_SERIES(value)) for key, value in store.beginning(SERIES)]
        self._table = SeriesTable((n, series) for n, series, _ in rows)
        kpis = selected(configuration)
        self._tally = Tally(configuration, kpis, self._table, self.now, self._owns)
        self._tally.load(
            [(n, shown) for n, _, shown in rows if shown is not None],
            ((_NUMBER.unpack_from(key)[0], _CELLS(value)) for key, value in store.beginning(SEGMENT)),
        )
        self.read = Read(configuration, kpis)

    async def take(self, records: Records) -> None:
        """Add changes to the panes; they are stored with the next checkpoint."""
        position, number = self.position, self._table.number
        for record in records:
            changes = _CHANGES(record.value or b"")
            self.now = max(self.now, changes.now)
            position.complete_until[changes.partition] = changes.complete_until
            self._tally.apply({number(series): cells for series, cells in changes.series})
            await asyncio.sleep(0)
        if records:
            position.changes = records[-1].offset + 1

    async def store(self, now: int) -> None:
        """Commit the panes that changed, and the position. Raises Lost, and then this must be thrown away."""
        self.now = max(now, self.now)
        self._tally.advance(self.now)
        rows = [*self._rows()]
        self.position.now = self.now
        position = (POSITION, _encode(self.position))
        records = [Record(self._topics.tally, self._number, key, value) for key, value in rows]
        filled = await self._writer.commit(records, Record(self._topics.tally, self._number, *position))
        self._store.fill([*rows, position], filled)

    def _rows(self) -> Iterator[tuple[bytes, bytes | None]]:
        tally = self._tally
        numbers = {n for n, _ in self._table.taken()} | {n for n, _ in tally.new_admissions}
        for stream, day in sorted({*tally.unstored, *tally.forget()}):
            cells = tally.segment(stream, day)
            yield SEGMENT + _NUMBER.pack(day) + stream.encode(), _encode(cells) if cells else None
        for n in sorted(numbers):
            yield SERIES + _NUMBER.pack(n), _encode((self._table.series(n), tally.admitted.get(n)))
        tally.unstored.clear()
        tally.new_admissions = []

    def families(self, now: int) -> list[Family]:
        """The KPI families of the value streams of this partition at `now`."""
        self.now = max(now, self.now)
        self._tally.advance(self.now)
        return self.read.families(self._tally, self.now)

    def complete_until(self) -> int:
        """The arrival up to which every event is counted here; 0 while some partition of track never told."""
        told = self.position.complete_until
        return min(told.values()) if len(told) == self._topics.partitions else 0

    def _owns(self, value_stream: str) -> bool:
        return partition_of(value_stream.encode(), self._topics.partitions) == self._number
