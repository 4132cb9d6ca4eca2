"""One partition of tally on Kafka: changes in; panes on its own changelog, and a page of its value streams.

key on the changelog     value
g 1 20150 shop           panes of a day and value stream, in epoch 1
a 1 17                   the number under which series 17 is shown in epoch 1
s 17                     series number 17
p                        position in changes, clock, counters; ends each checkpoint
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec
from aiokafka.structs import ConsumerRecord

from agents.kafka.changelog import Record, Row, Rows
from agents.kafka.epochs import Epoch, EpochLog, Known
from agents.kafka.log import Commits, Records
from agents.kafka.store import Store
from agents.kafka.topics import Topics
from agents.kafka.tracking import FOREIGN, Shown, changes_of, foreign_record
from agents.kafka.tracking import SHOWN as TALLY_SHOWS
from flowmetrics.engine_metrics import EngineCounters
from flowmetrics.families import Family
from flowmetrics.kpi import Kpi
from flowmetrics.kpis import selected
from flowmetrics.routing import partition_of
from flowmetrics.steps.read import Points, Read
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.tally import Tally

SEGMENT, SHOWN, SERIES, POSITION = b"g", b"a", b"s", b"p"
_NUMBER: Final = struct.Struct(">q")
_encode: Final = msgspec.msgpack.Encoder().encode
_CELLS: Final = msgspec.msgpack.Decoder(dict[int, dict[int, int]]).decode
_SERIES: Final = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_SHOWN: Final = msgspec.msgpack.Decoder(int).decode


class Position(msgspec.Struct, array_like=True):
    """How far a partition of tally has come: the offset that it reads next, its clock, and what each partition of
    track had told: the arrival up to which all events were in its changes."""

    changes: int = 0
    now: int = 0
    complete_until: dict[int, int] = {}
    epoch: int = 0
    """The one that is published."""
    swept: dict[int, int] = {}
    """Partition of track → the epoch that is complete as far as it goes."""
    counters: list[tuple[list[str], int]] = []


_POSITION: Final = msgspec.msgpack.Decoder(Position).decode


class Panes:
    """The panes of one epoch, and how they are read."""

    def __init__(self, epoch: Epoch, table: SeriesTable, now: int, owns: Callable[[str], bool]) -> None:
        kpis = selected(epoch.configuration)
        self.number = epoch.number
        self.tally = Tally(epoch.configuration, kpis, table, now, owns)
        self.read = Read(epoch.configuration, kpis)

    def load(self, store: Store) -> None:
        """Take what is stored of them."""
        epoch = _NUMBER.pack(self.number)
        shown = [(_NUMBER.unpack(key)[0], _SHOWN(value)) for key, value in store.beginning(SHOWN + epoch)]
        segments = ((_NUMBER.unpack_from(key)[0], _CELLS(value)) for key, value in store.beginning(SEGMENT + epoch))
        self.tally.load(shown, segments)

    def rows(self) -> Iterator[Row]:
        """What has changed since this was asked last."""
        tally, epoch = self.tally, _NUMBER.pack(self.number)
        for stream, day in sorted({*tally.unstored, *tally.forget()}):
            cells = tally.segment(stream, day)
            yield SEGMENT + epoch + _NUMBER.pack(day) + stream.encode(), _encode(cells) if cells else None
        for number, shown in tally.new_admissions:
            yield SHOWN + epoch + _NUMBER.pack(number), _encode(shown)
        tally.unstored.clear()
        tally.new_admissions = []


class Checkpoint(NamedTuple):
    """What one transaction writes: to others, and to the changelog, the position at its end."""

    told: list[Record]
    rows: Rows


class Reading(NamedTuple):
    """What a page shows of a partition: numbers of one instant, the epoch that they are of, and its KPIs."""

    epoch: int
    kpis: tuple[Kpi, ...]
    families: list[Family]
    points: Points


class Tallying:
    """A partition of tally that is ours, with its state read to the end of the changelog."""

    def __init__(self, topics: Topics, number: int, epochs: Known, store: Store, writer: Commits) -> None:
        self._topics = topics
        self._number = number
        self._store = store
        self._writer = writer
        stored = store.get([POSITION])[0]
        self.position = _POSITION(stored) if stored else Position(epoch=epochs.first.number)
        self.now = self.position.now
        self._table = SeriesTable((_NUMBER.unpack(key)[0], _SERIES(value)) for key, value in store.beginning(SERIES))
        self.counters = EngineCounters(self.position.counters)
        self._foreign: list[ConsumerRecord[bytes, bytes]] = []
        """What no engine wrote; it is kept with the next checkpoint."""
        self._panes: dict[int, Panes] = {}
        self._shown = self.position.epoch
        """The published epoch, once that is committed."""
        following = epochs.after(self.position.epoch)
        for epoch in (epochs.epoch(self.position.epoch), following):
            if epoch is not None:
                self._open(epoch)

    def _open(self, epoch: Epoch) -> None:
        """Open the panes of an epoch, with what is stored of them: whoever had this partition before may have heard of
        the epoch earlier."""
        panes = self._panes[epoch.number] = Panes(epoch, self._table, self.now, self._owns)
        panes.load(self._store)

    async def take(self, records: Records, epochs: EpochLog) -> None:
        """Add changes to the panes; they are stored with the next checkpoint, and what no engine wrote is refused with
        it. Raises OperationError."""
        position, number = self.position, self._table.number
        for record in records:
            changes = changes_of(record)
            if changes is None:
                self._foreign.append(record)
                self.counters.add("events_rejected", FOREIGN.value)
                continue
            self.now = max(self.now, changes.now)
            if changes.complete_until:  # who has just begun knows nothing yet; what was told before stays true
                position.complete_until[changes.partition] = changes.complete_until
            position.swept[changes.partition] = changes.swept
            for epoch, told in changes.epochs.items():
                if epoch > position.epoch and epoch not in self._panes:
                    self._open(await epochs.get(epoch))
                if epoch in self._panes:  # a former one is told until every partition of tally shows the next
                    self._panes[epoch].tally.apply({number(series): cells for series, cells in told})
            await asyncio.sleep(0)
        if records:
            position.changes = records[-1].offset + 1

    async def checkpoint(self, now: int, epochs: EpochLog) -> Checkpoint:
        """The panes that changed, and the position, to be committed before anything else is taken. The coming epoch
        is the published one, if every partition of track is through with it."""
        self.now = max(now, self.now)
        rows: Rows = []
        topics, foreign, self._foreign = self._topics, self._foreign, []
        told = [foreign_record(topics, topics.changes, self._number, record, self.now) for record in foreign]
        complete = min(self.position.swept.values(), default=0)
        if len(self.position.swept) == topics.partitions and complete > self.position.epoch:
            if complete not in self._panes:
                self._open(await epochs.get(complete))
            rows += self._drop(self.position.epoch)
            self.position.epoch = complete
            shown = _encode(Shown(self._number, complete))
            told += [Record(topics.links, n, TALLY_SHOWS, shown) for n in range(topics.partitions)]
        for epoch, panes in self._panes.items():
            if epoch >= self.position.epoch:
                panes.tally.advance(self.now)
                rows += panes.rows()
                self.counters.update(panes.tally.counted)  # with the admissions that it is of
                panes.tally.counted.clear()
        rows += [(SERIES + _NUMBER.pack(n), _encode(series)) for n, series in self._table.taken()]
        self.position.now = self.now
        self.position.counters = self.counters.stored()
        rows.append((POSITION, _encode(self.position)))
        return Checkpoint(told, rows)

    async def commit(self, checkpoint: Checkpoint) -> None:
        """Commit a checkpoint; panes may be read meanwhile. Raises Lost, and then this must be thrown away."""
        self._store.fill(checkpoint.rows, await self._writer.commit(*checkpoint))
        self._shown = self.position.epoch
        for epoch in [epoch for epoch in self._panes if epoch < self._shown]:
            del self._panes[epoch]

    def _drop(self, epoch: int) -> Iterator[Row]:
        """The rows by which a former epoch goes from the store."""
        for prefix in (SEGMENT + _NUMBER.pack(epoch), SHOWN + _NUMBER.pack(epoch)):
            for key, _ in self._store.beginning(prefix):
                yield prefix + key, None

    def reading(self, now: int) -> Reading:
        """The value streams of this partition at `now`, in the published epoch, whatever is committed meanwhile."""
        self.now = max(now, self.now)
        panes = self._panes[self._shown]
        panes.tally.advance(self.now)
        families = panes.read.families(panes.tally, self.now)
        return Reading(panes.number, panes.read.kpis, families, panes.read.latest)

    def complete_until(self) -> int:
        """The arrival up to which every event is counted here; 0 while some partition of track never told."""
        told = self.position.complete_until
        return min(told.values()) if len(told) == self._topics.partitions else 0

    def _owns(self, value_stream: str) -> bool:
        return partition_of(value_stream.encode(), self._topics.partitions) == self._number
