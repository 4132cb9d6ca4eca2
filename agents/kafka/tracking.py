"""One partition of track on Kafka: events and letters in; changes, letters and its own changelog out, as one.

key on the changelog     value
h item:A-1               when something was told of it last, history
l customer:ann           what letters said of it last
s 17                     series number 17
w 4                      an event that waits for its time
p                        position in events and links, clock, counters; ends each checkpoint
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

import msgspec
from aiokafka.structs import ConsumerRecord

from agents.histories import HotHistories
from agents.kafka.changelog import Record, Row, Rows
from agents.kafka.epochs import Known
from agents.kafka.log import Commits, Records
from agents.kafka.store import Store
from agents.kafka.topics import Topics
from flowmetrics.configuration import CUSTOMER_AHEAD_US
from flowmetrics.engine_metrics import EngineCounters
from flowmetrics.entity import History
from flowmetrics.errors import OperationError, Reason, Rejection
from flowmetrics.instants import DAY_US
from flowmetrics.limits import EVENT_BYTES_MAX, LATENESS_DAYS
from flowmetrics.partition import ALL_KEYS, Delivery, Opened, Partition, Taken
from flowmetrics.routing import partition_of
from flowmetrics.steps.letters import Sent
from flowmetrics.steps.series import Series, SeriesTable
from flowmetrics.steps.stored import decode_history
from flowmetrics.steps.track import keys_of

HISTORY, LETTER, SERIES, WAITS, POSITION = b"h", b"l", b"s", b"w", b"p"
ARRIVED: Final = "flowmetrics-arrived"
"""Header of an event that was passed on or moved: when it first arrived, in microseconds."""
_DIGITS_MAX: Final = 18
"""Of an arrival; later ones are after the year 33000."""

SLICE: Final = 1000
"""Events that are taken, and histories that are written, without a pause."""
FORGOTTEN_MAX: Final = 20_000
"""Rows that are dropped in one transaction, about: it must be over long before Kafka ends it."""

T = TypeVar("T")

_NUMBER: Final = struct.Struct(">q")
_encode: Final = msgspec.msgpack.Encoder().encode
_SENT: Final = msgspec.msgpack.Decoder(Sent).decode
_SERIES: Final = msgspec.msgpack.Decoder(tuple[str, ...]).decode


class Position(msgspec.Struct, array_like=True):
    """How far a partition of track has come; the offsets that it reads next."""

    events: int = 0
    links: int = 0
    now: int = 0
    counters: list[tuple[list[str], int]] = []
    forgot: int = 0
    """The UTC day on which silent histories were dropped last."""
    epoch: int = 0
    """The one that is published."""
    coming: int = 0
    """The one that is being built; 0 while none is."""
    cursor: str = ""
    """The last key that was swept for it."""
    swept: bool = False
    """Whether there is none above the cursor any more."""
    shown: list[int] = []
    """The partitions of tally that have published it."""

    @property
    def built(self) -> int:
        """The latest epoch that all of its histories have been read under."""
        return self.coming if self.swept else self.epoch

    def enter(self, partitions: int) -> bool:
        """Let the coming epoch be the published one, if all partitions of tally show it; whether it is now."""
        if len(self.shown) < partitions:
            return False
        self.epoch, self.coming, self.cursor, self.swept, self.shown = self.coming, 0, "", False, []
        return True


class Changes(msgspec.Struct, array_like=True):
    """What one checkpoint of track tells tally: up to which arrival all is in it, the changes by epoch and series, and
    which epoch is complete as far as this partition goes."""

    partition: int
    now: int
    complete_until: int
    epochs: dict[int, list[tuple[Series, dict[int, int]]]]
    swept: int


class Shown(msgspec.Struct, array_like=True):
    """What a partition of tally tells every partition of track when it has published an epoch."""

    tally: int
    epoch: int


SHOWN: Final = b"shown"
"""The key of such a record among the letters: no key of an entity is like it."""
REFUSED: Final = b"refused"
"""The key of a letter of an intake: how many events it refused, by reason."""
_CHANGES: Final = msgspec.msgpack.Decoder(Changes).decode
_LETTERS: Final[Mapping[bytes, Callable[[bytes], Shown | dict[str, int]]]] = {
    SHOWN: msgspec.msgpack.Decoder(Shown).decode,
    REFUSED: msgspec.msgpack.Decoder(dict[str, int]).decode,
}


FOREIGN: Final = Reason.NOT_CLOUDEVENT
"""Why a record is refused that no engine wrote, on a topic where only an engine writes."""


class StoredHistories:
    """The histories in a store, as the hot ones read them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def histories(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        rows = [HISTORY + key.encode() for key in keys]
        for key, value in zip(keys, self._store.get(rows), strict=True):
            if value is not None:
                yield key, value[_NUMBER.size :]

    @contextmanager
    def told(self) -> Iterator[None]:
        try:
            yield
        except msgspec.MsgspecError as error:
            raise OperationError(f"the store holds a damaged history ({error}); remove its folder") from error


class Tracking:
    """A partition of track that is ours, with its state read to the end of the changelog."""

    def __init__(
        self,
        topics: Topics,
        number: int,
        epochs: Known,
        store: Store,
        writer: Commits,
        hot_histories_max: int,
    ) -> None:
        self._topics = topics
        self._number = number
        self._store = store
        self._writer = writer
        stored = store.get([POSITION])[0]
        self.position = msgspec.msgpack.decode(stored, type=Position) if stored else Position(epoch=epochs.first.number)
        self.now = self.position.now
        self.counters = EngineCounters(self.position.counters)
        self._opened: list[Opened] = []
        """The batch to come, as far as it was read."""
        self._whole_bytes = 0
        """The size of its events that are kept whole: they belong elsewhere, must wait, or were refused."""
        self._swept = 0
        self.histories = HotHistories(StoredHistories(store), hot_histories_max, self.position.epoch)
        self._sent = {key.decode(): _SENT(value) for key, value in store.beginning(LETTER)}
        self._partition = Partition(
            epochs.epoch(self.position.epoch).configuration,
            (number, topics.partitions),
            self.histories,
            SeriesTable((_NUMBER.unpack(key)[0], _SERIES(value)) for key, value in store.beginning(SERIES)),
            {_NUMBER.unpack(key)[0]: _delivery(value) for key, value in store.beginning(WAITS)},
            self._sent,
            self.counters,
        )
        if self.position.coming:
            self._partition.build(epochs.epoch(self.position.coming).configuration, self.position.cursor)

    # --- batches --------------------------------------------------------------------------------------------------
    async def open(self, events: Records, now: int) -> None:
        """Read events of the next batch and join them to their histories: from then on only what they say is in
        memory, and what they changed."""
        self.now = max(now, self.now)
        for some in _slices(events):
            arrived = [
                (arrived_at(record) if record.headers else record.timestamp * 1000, record.value or b"")
                for record in some
            ]
            opened = self._partition.open(arrived, self.now)
            self.histories.prefetch(keys_of(opened.batch))
            self._partition.join(opened.batch)
            opened.batch.clear()
            whole = [*opened.held.values()]
            whole += [delivery for *_, delivery in opened.misplaced]
            whole += [delivery for _, delivery in opened.rejected]
            self._whole_bytes += sum(len(body) for _, body in whole)
            self._opened.append(opened)
            await asyncio.sleep(0)
        if events:
            self.position.events = events[-1].offset + 1

    @property
    def weight(self) -> int:
        """What the next batch takes in memory so far, in entities that it tells of: a KiB kept whole counts as one."""
        return len(self.histories) + self._whole_bytes // 1024

    async def take(self, links: Records, now: int, complete_until: int) -> None:
        """Take what was opened, what is due, and letters, and commit what follows. Raises Lost, and then this must be
        thrown away."""
        await self.open((), now)
        partition, opened, self._opened = self._partition, self._opened, []
        self._whole_bytes = 0
        foreign: list[Record] = []
        partition.hear(self._copies(links, foreign))
        rows = await self._settle()
        if links:
            self.position.links = links[-1].offset + 1
        taken = partition.taken()
        rows += self._rows(opened, taken)
        await self._commit(rows, [*self._told(opened, taken, complete_until), *foreign])

    def _copies(self, links: Records, foreign: list[Record]) -> Iterator[tuple[str, History]]:
        """The copies of histories among letters. The rest is taken on the way, and what no engine wrote is refused."""
        for record in links:
            letter = letter_of(record)
            if isinstance(letter, Shown):
                if letter.epoch == self.position.coming:
                    self.position.shown = sorted({*self.position.shown, letter.tally})
            elif isinstance(letter, dict):
                for reason, number in letter.items():
                    self.counters.add("events_rejected", reason, by=number)
            elif letter is None:
                foreign.append(foreign_record(self._topics, self._topics.links, self._number, record, self.now))
                self.counters.add("events_rejected", FOREIGN.value)
            else:
                yield letter

    async def _settle(self) -> Rows:
        """The rows of all histories that changed; from then on they need not be in memory."""
        rows: Rows = []
        told_at = _NUMBER.pack(self.now)
        while keys := self._partition.settle(SLICE):
            rows += [(HISTORY + key.encode(), told_at + body) for key, body in self.histories.rows(keys)]
            await asyncio.sleep(0)
        self.histories.age()
        return rows

    def _rows(self, opened: Sequence[Opened], taken: Taken) -> Iterator[Row]:
        for key in sorted({letter.key for letter in taken.letters}):
            yield LETTER + key.encode(), _encode(self._sent[key])
        for number, series in self._partition.table.taken():
            yield SERIES + _NUMBER.pack(number), _encode(series)
        for some in opened:
            for number, (arrived_at, body) in some.held.items():
                yield WAITS + _NUMBER.pack(number), _NUMBER.pack(arrived_at) + body
            for number in some.released:
                yield WAITS + _NUMBER.pack(number), None

    def _told(self, opened: Sequence[Opened], taken: Taken, complete_until: int) -> Iterator[Record]:
        topics = self._topics
        position = self.position
        by_partition: list[dict[int, list[tuple[Series, dict[int, int]]]]] = [{} for _ in range(topics.partitions)]
        for epoch, by_series in ((position.epoch, taken.changes), (position.coming, taken.coming)):
            for series, cells in by_series.items():
                home = by_partition[partition_of(series[1].encode(), topics.partitions)]
                home.setdefault(epoch, []).append((series, dict(cells)))
        swept = position.coming if position.swept else 0
        for number, epochs in enumerate(by_partition):
            changes = Changes(self._number, self.now, complete_until, epochs, swept)
            yield Record(topics.changes, number, None, _encode(changes))
        for letter in taken.letters:
            yield Record(topics.links, letter.partition, letter.key.encode(), letter.body)
        for some in opened:
            for number, key, (arrived_at, body) in some.misplaced:
                yield Record(topics.events, number, key.encode(), body, [(ARRIVED, b"%d" % arrived_at)])
            for rejection, delivery in some.rejected:
                yield rejected_record(topics, self._number, rejection, delivery)

    async def _commit(self, rows: Rows, told: list[Record]) -> None:
        rows.append((POSITION, self._stored_position()))
        self._store.fill(rows, await self._writer.commit(told, rows))

    def _stored_position(self) -> bytes:
        self.position.now = self.now
        self.position.counters = self.counters.stored()
        return _encode(self.position)

    # --- epochs, see `flowmetrics.epochs` -------------------------------------------------------------------------
    @property
    def building(self) -> bool:
        """Whether there are histories to sweep."""
        return bool(self.position.coming) and not self.position.swept

    @property
    def progress(self) -> float:
        """About how much of the coming epoch is built; 1 while none is."""
        if not self.position.coming:
            return 1.0
        return 0.99 if self.position.swept else min(0.99, self._swept / max(1, self._store.count()))

    def build(self, epochs: Known) -> None:
        """Enter the coming epoch where every partition of tally shows it, and begin with the next one, if any."""
        position = self.position
        if position.enter(self._topics.partitions):
            self._partition.enter(epochs.epoch(position.epoch).configuration)
            self.histories.enter(position.epoch)
        following = None if position.coming else epochs.after(position.epoch)
        if following is not None:
            position.coming, self._swept = following.number, 0
            self._partition.build(following.configuration, "")

    async def sweep(self, complete_until: int) -> None:
        """Build some more of the coming epoch, and commit it. Raises Lost, and then this must be thrown away."""
        position = self.position
        keys = [key.decode() for key in self._store.after(HISTORY, position.cursor.encode(), SLICE)]
        self.histories.prefetch(keys)
        position.swept = len(keys) < SLICE
        position.cursor = ALL_KEYS if position.swept else keys[-1]
        self._partition.sweep(keys, last=position.swept)
        self._swept += len(keys)
        taken = self._partition.taken()
        rows: Rows = [*self._again(keys), *self._rows([], taken)]
        await self._commit(rows, [*self._told([], taken, complete_until)])
        self.histories.age()

    def _again(self, keys: Sequence[str]) -> Iterator[Row]:
        """The rows of stored histories of which nothing was told since."""
        places = [HISTORY + key.encode() for key in keys]
        for place, stored, (_, body) in zip(places, self._store.get(places), self.histories.rows(keys), strict=True):
            yield place, (stored or b"")[: _NUMBER.size] + body

    async def forget(self, today: int) -> None:
        """Drop the histories that lie outside every reading; `today` is remembered as the day when that was done."""
        configuration = self._partition.configuration
        silent_us = 2 * configuration.horizon_us + CUSTOMER_AHEAD_US + LATENESS_DAYS * DAY_US
        gone: Rows = []
        cursor = b""
        while keys := self._store.after(HISTORY, cursor, SLICE):
            for key, value in zip(keys, self._store.get([HISTORY + key for key in keys]), strict=True):
                if value and _NUMBER.unpack_from(value)[0] < self.now - silent_us:
                    gone.append((HISTORY + key, None))
                    if self._sent.pop(key.decode(), None):
                        gone.append((LETTER + key, None))
            cursor = keys[-1]
            if len(gone) >= FORGOTTEN_MAX:
                await self._drop(gone)
                gone = []
            await asyncio.sleep(0)
        self.position.forgot = today
        await self._drop(gone)

    async def _drop(self, gone: Rows) -> None:
        await self._commit(gone, [])
        if gone:
            self.histories.forget()


def changes_of(record: ConsumerRecord[bytes, bytes]) -> Changes | None:
    """What a checkpoint of track told; None where no engine wrote it."""
    try:
        return _CHANGES(record.value or b"")
    except msgspec.MsgspecError:
        return None


def letter_of(record: ConsumerRecord[bytes, bytes]) -> Shown | dict[str, int] | tuple[str, History] | None:
    """What tally or an intake told, or a history with its key; None where no engine wrote it."""
    key, body = record.key or b"", record.value or b""
    try:
        if key in _LETTERS:
            return _LETTERS[key](body)
        name = key.decode()
        return name, decode_history(name, body)
    except (msgspec.MsgspecError, UnicodeDecodeError, LookupError):
        return None


def foreign_record(
    topics: Topics, topic: str, partition: int, record: ConsumerRecord[bytes, bytes], now: int
) -> Record:
    """A record that no engine wrote, as the rejected topic keeps it: like an event, which can be sent again."""
    detail = (
        f"the record at offset {record.offset} of partition {partition} of {topic} is not of the engine, which alone "
        f"may write there; send events to {topics.events}"
    )
    return rejected_record(topics, partition, Rejection(FOREIGN, detail), (now, record.value or b""))


def rejected_record(topics: Topics, partition: int, rejection: Rejection, delivery: Delivery) -> Record:
    """A refused event as the rejected topic keeps it."""
    arrived_at, body = delivery
    headers = [
        ("reason", rejection.reason.value.encode()),
        ("detail", rejection.detail.encode("utf-8", "replace")),
        (ARRIVED, b"%d" % arrived_at),
    ]
    return Record(topics.rejected, partition, None, body[:EVENT_BYTES_MAX], headers)


def refusals_record(topics: Topics, refused: Mapping[str, int]) -> Record:
    """How many events were refused before they came to the events topic, by reason.

    A partition of track counts them with its own: its counts outlive every worker, those of an intake would not, and a
    sum of both would fall whenever a worker begins anew.
    """
    return Record(topics.links, 0, REFUSED, _encode(dict(refused)))


def arrived_at(record: ConsumerRecord[bytes, bytes]) -> int:
    """When an event first arrived: one that was passed on or moved says so in a header.

    Any producer can write that header. It is believed where it is a plain number, and never later than the broker
    appended the record, which nobody can forge: with an early one a producer only has its own event refused.
    """
    appended_at: int = record.timestamp * 1000
    for name, value in record.headers:
        if name == ARRIVED and value and len(value) <= _DIGITS_MAX and value.isdigit():
            return min(int(value), appended_at)
    return appended_at


def _delivery(value: bytes) -> Delivery:
    arrived_at: int = _NUMBER.unpack_from(value)[0]
    return arrived_at, value[_NUMBER.size :]


def _slices(several: Sequence[T]) -> Iterator[Sequence[T]]:
    """Not all at once: between slices of some milliseconds the event loop does whatever else is to be done."""
    for start in range(0, len(several), SLICE) or (0,):
        yield several[start : start + SLICE]
