"""The local engine: it drives the steps over the journal, one checkpoint a batch.

    log ──read──▶ decode ──▶ due now? ──▶ track ──▶ tally (in memory) ──▶ read ──▶ page
                              │ no: held             │ changes
                              └── one transaction: histories, changes, held, position ──┘
                                  every few seconds another: panes, and the changes they hold are dropped

Nothing here computes a KPI; nothing in the steps knows of the journal, threads or the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from operator import itemgetter
from typing import Final, TypeVar

import msgspec

from agents.histories import HotHistories
from agents.local.journal import Checkpoint, Journal
from flowmetrics.configuration import CUSTOMER_AHEAD_US, Configuration
from flowmetrics.engine_metrics import EngineCounters, Seen
from flowmetrics.entities.customer import CUSTOMER, CustomerHistory
from flowmetrics.errors import OperationError, Rejection
from flowmetrics.events import CustomerEvent, EraseEvent
from flowmetrics.explain import explanation
from flowmetrics.families import Family
from flowmetrics.instants import DAY_US, SECOND_US
from flowmetrics.kpis import selected
from flowmetrics.limits import LATENESS_DAYS
from flowmetrics.source import FAR_FUTURE, Timed
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.sources.pseudonyms import Erased
from flowmetrics.steps.audit import Difference, compare
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.stored import decode_history
from flowmetrics.steps.track import keyed, keys_of
from flowmetrics.topology import Change, assemble, made_anew

BATCH_EVENTS_MAX: Final = 10_000
"""Events of one checkpoint: from 2,000 on the cost of a commit no longer shows; more only delays what is visible."""

TALLY_STORE_US: Final = 5 * SECOND_US
"""How often panes are stored; what tally has not stored is read again from `changes` after a crash."""

ERASE_BYTES: Final = 1024 * 1024
"""How much of the log is looked through at a time for what is to be erased: at most some thirty milliseconds."""

T = TypeVar("T")

_encode: Final = msgspec.msgpack.Encoder().encode
_CHANGES: Final = msgspec.msgpack.Decoder(dict[int, dict[int, int]]).decode


class Runner:
    """The steps over one journal. `now` is given from outside, and never goes back.

    After an exception the runner must be thrown away: its memory may be ahead of the journal.
    """

    def __init__(self, configuration: Configuration, journal: Journal, fingerprints: tuple[str, str], now: int) -> None:
        self.configuration = configuration
        self.journal = journal
        self.kpis = selected(configuration)
        self.now = max(now, self._stored("now", 0))
        self.position = self._stored("position", 0)
        self.counters = EngineCounters(self._stored("counters", []))
        self._source = CloudEvents(configuration.surveys)
        self._histories = HotHistories(journal, configuration.hot_entities_max)
        self._load()
        self._reconcile(fingerprints)
        self._erasing: Iterator[bool] | None = None
        self._to_erase = any(not swept for _, _, swept in journal.erased())

    # --- one batch ------------------------------------------------------------------------------------------------
    def step(self, now: int) -> int:
        """Take one batch: what is held and due, then what is next in the log. Returns how many events were taken."""
        self.now = max(now, self.now)
        due = self.journal.held(self.now)
        batch = [timed for _, _, body in due if not isinstance(timed := self._source.read(body, FAR_FUTURE), Rejection)]
        hold: list[tuple[int, bytes]] = []
        position, seen = self.position, Seen()
        for arrived_at, lines in self.journal.read(self.position, BATCH_EVENTS_MAX):
            for line in filter(None, lines):  # a line without anything was an event of an erased person
                timed = self._source.read(line, arrived_at)
                if isinstance(timed, Rejection):
                    self.counters.add("events_rejected", timed.reason.value)  # only if the configuration changed since
                    continue
                seen.add(timed[1].source, timed[0], arrived_at)
                if timed[0] > self.now:
                    hold.append((timed[0], line))
                else:
                    batch.append(timed)
            position += len(lines)
        self.counters.saw(seen)
        if batch or hold or position != self.position:
            self._take(batch, hold, [number for number, _, _ in due], position)
        return len(batch) + len(hold)

    def _take(self, batch: list[Timed], hold: list[tuple[int, bytes]], released: list[int], position: int) -> None:
        told = keyed(batch)
        self._histories.prefetch(keys_of(told))
        tracked = self._track(told, self._histories)
        self.counters.update(tracked.counted)
        changes = {series: kept for series, cells in tracked.changes.items() if (kept := _non_zero(cells))}
        with self.journal.checkpoint() as checkpoint:
            checkpoint.histories(self._histories.rows(sorted(tracked.dirty)))
            checkpoint.series(self._table.taken())
            if changes:
                checkpoint.changes(self._given + 1, _encode(changes))
            checkpoint.hold(hold)
            checkpoint.release(released)
            if not {EraseEvent, CustomerEvent}.isdisjoint(map(type, map(itemgetter(1), batch))):
                checkpoint.erased(self._erased(tracked.dirty))
            self._words(checkpoint, position)
        self.position = position
        if changes:
            self._given += 1
            self._tally.apply(changes)
        self._histories.age()

    def store_counters(self) -> None:
        """Commit what was counted beside batches: refusals."""
        with self.journal.checkpoint() as checkpoint:
            self._words(checkpoint, self.position)

    def _words(self, checkpoint: Checkpoint, position: int) -> None:
        checkpoint.meta("position", position)
        checkpoint.meta("now", self.now)
        checkpoint.meta("counters", self.counters.stored())

    # --- panes ----------------------------------------------------------------------------------------------------
    def store_panes(self) -> None:
        """Commit the panes that changed, and drop the changes that they hold."""
        with self.journal.checkpoint() as checkpoint:
            self._put_panes(checkpoint)

    def _put_panes(self, checkpoint: Checkpoint) -> None:
        tally = self._tally
        checkpoint.series(self._table.taken())
        checkpoint.shown(tally.new_admissions)
        for stream, day in sorted({*tally.unstored, *tally.forget()}):
            cells = tally.segment(stream, day)
            checkpoint.segment(stream, day, _encode(cells) if cells else None)
        checkpoint.stored_changes(self._given)
        self._words(checkpoint, self.position)
        tally.unstored.clear()
        tally.new_admissions = []

    def forget(self) -> None:
        """Drop histories that lie outside every reading, and the log beyond its retention."""
        silent_us = 2 * self.configuration.horizon_us + CUSTOMER_AHEAD_US + LATENESS_DAYS * DAY_US
        with self.journal.checkpoint() as checkpoint:
            checkpoint.forget_histories(self.now - silent_us)
        self._histories.forget()
        self.journal.trim(self.now - self.configuration.log_retention_us, self.position)
        self._to_erase = True

    # --- erasing --------------------------------------------------------------------------------------------------
    def erase(self) -> bool:
        """Delete a little of what is still stored of the events of erased persons; whether there may be more.

        It begins after the start, if there is something to delete, and after each `forget`, for what came late.
        """
        if self._erasing is None:
            if not self._to_erase or self.journal.held(self.now):
                return False  # what is due may link persons, and must be taken before it is deleted
            self._erasing, self._to_erase = self._erase(), False
        if next(self._erasing, False):
            return True
        self._erasing = None
        return self._to_erase

    def _erase(self) -> Iterator[bool]:
        """Look through what was taken, held and refused: a portion each time. A crash only repeats it."""
        rows, end = self.journal.erased(), self.position
        if not rows:
            return
        yield from self._erase_taken(rows, end)
        erased = _erased_persons(rows)
        yield from self._erase_refused(erased)
        held = self.journal.held(FAR_FUTURE)
        with self.journal.checkpoint() as checkpoint:
            checkpoint.release([number for number, _, body in held if erased.tells(body)])
            checkpoint.swept([(key, until) for key, until, _ in rows], end)
        self.journal.fold()

    def _erase_taken(self, rows: Sequence[tuple[str, int, int]], end: int) -> Iterator[bool]:
        """Put empty lines into the log up to `end`; from where each person was looked for last."""
        for start, stop in pairwise([*sorted({swept for _, _, swept in rows}), end]):
            erased = _erased_persons([row for row in rows if row[2] <= start])
            while portion := self.journal.bodies(start, min(stop, end), ERASE_BYTES):
                blanked = [(first, kept) for first, _, body in portion if (kept := erased.blanked(body)) != body]
                if blanked:
                    with self.journal.checkpoint() as checkpoint:
                        checkpoint.blank(blanked)
                start = portion[-1][0] + portion[-1][1]
                yield True

    def _erase_refused(self, erased: Erased) -> Iterator[bool]:
        last = 0
        while portion := self.journal.refused(last, ERASE_BYTES):
            self.journal.drop_rejected([number for number, at, body in portion if erased.names(body, at)])
            last = portion[-1][0]
            yield True

    def _erased(self, keys: Iterable[str]) -> list[tuple[str, int]]:
        """Those among some entities who are erased persons, and up to which instant."""
        customers = [(key, self._histories[key]) for key in keys if key.startswith(_CUSTOMERS)]
        return [
            (key, one.erased_at) for key, one in customers if isinstance(one, CustomerHistory) and one.erased_at >= 0
        ]

    def _tombstones(self) -> Iterator[tuple[str, int, bytes]]:
        """What erasing left of persons: that they are erased, and whom events that are gone linked them to."""
        for key, body in self.journal.histories([key for key, _, _ in self.journal.erased()]):
            history = decode_history(key, body)
            assert isinstance(history, CustomerHistory)
            at = history.erased_at
            links = {other: told_at for other, told_at in history.mentioned.items() if told_at <= at}
            left = CustomerHistory(
                first_at=history.first_at, latest_at=history.latest_at, erased_at=at, mentioned=links
            )
            yield key, max(at, history.latest_at), _encode(left)

    # --- reading --------------------------------------------------------------------------------------------------
    def families(self, now: int) -> list[Family]:
        """Every KPI family at `now`."""
        self.now = max(now, self.now)
        self._tally.advance(self.now)
        return self.read.families(self._tally, self.now)

    def engine_families(self) -> list[Family]:
        """What the engine says about itself, without `engine_ready`, which only the process knows."""
        self.counters.update(self._tally.counted)
        self._tally.counted.clear()
        return self.counters.families(self.waiting)

    @property
    def waiting(self) -> int:
        """How many events of the log were not taken yet."""
        return self.journal.end - self.position

    @property
    def caught_up(self) -> bool:
        """Whether every event of the log was taken."""
        return self.waiting <= 0

    # --- proof ----------------------------------------------------------------------------------------------------
    def audit(self) -> Iterator[Difference]:
        """Where the contributions that facts call for, those emitted and the panes do not agree."""
        oldest = self._tally.pane - self.configuration.panes(self.configuration.horizon_us)
        keys = list(self.journal.keys())
        yield from compare(keys, self._histories, self._track, self._tally, self._table, oldest)

    def explain(self, key: str) -> Iterator[str]:
        """The facts of one entity and what they contribute, in words. Raises OperationError for an unknown key."""
        if not any(True for _ in self.journal.histories([key])):
            raise OperationError(
                f"nothing is known of {key}; keys are case-sensitive, and ids are those that were sent"
            )
        history = self._histories[key]
        yield from explanation(key, history, history.contributed, self._table, self.kpis, self.configuration)

    def rebuild(self, fingerprints: tuple[str, str]) -> None:
        """Read every history anew under this configuration and make all panes from it, in one transaction."""
        self._start(SeriesTable(()))
        with self.journal.checkpoint() as checkpoint:
            checkpoint.empty(*(store.name for store in made_anew(Change.READ)))
            for keys in _batches(self.journal.keys(), BATCH_EVENTS_MAX):
                self._histories.prefetch(keys)
                tracked = self._track.renew(keys, self._histories)
                self._tally.apply(tracked.changes)
                checkpoint.histories(self._histories.rows(keys))
                self._histories.age()
            self._put_panes(checkpoint)
            checkpoint.meta("fingerprints", fingerprints)

    # --- start ----------------------------------------------------------------------------------------------------
    def _start(self, table: SeriesTable) -> None:
        self._table = table
        self._track, self._tally, self.read = assemble(self.configuration, table, self.now)
        self._given = 0

    def _load(self) -> None:
        numbered = self.journal.series()
        self._start(SeriesTable((number, series) for number, series, _ in numbered))
        admitted = [(number, shown) for number, _, shown in numbered if shown is not None]
        with self.journal.told():
            self._tally.load(admitted, ((day, _CHANGES(body)) for day, body in self.journal.segments()))
            for number, body in self.journal.changes():
                self._tally.apply(_CHANGES(body))
                self._given = number

    def _reconcile(self, fingerprints: tuple[str, str]) -> None:
        """Hold the configuration against the one that shaped what is stored."""
        stored = self._stored("fingerprints", ("", ""))
        if stored[1] not in ("", fingerprints[1]):
            if self.journal.first() > 0:
                raise OperationError(
                    f"{self.journal.path} was written under a horizon, grain or survey scale that differs, and its log "
                    "no longer begins at the first event; restore that configuration, or import into a new directory"
                )
            with self.journal.checkpoint() as checkpoint:
                tombstones = list(self._tombstones())
                checkpoint.empty(*(store.name for store in made_anew(Change.WRITE)))
                checkpoint.histories(tombstones)
                checkpoint.meta("position", 0)
                checkpoint.meta("fingerprints", fingerprints)
            self.position = 0
            self._start(SeriesTable(()))
        elif stored != fingerprints:
            self.rebuild(fingerprints)

    def _stored(self, name: str, otherwise: T) -> T:
        stored = self.journal.meta(name)
        with self.journal.told():
            return msgspec.msgpack.decode(stored, type=type(otherwise)) if stored else otherwise


_CUSTOMERS: Final = CUSTOMER.key("")


def _erased_persons(rows: Iterable[tuple[str, int, int]]) -> Erased:
    return Erased({key.removeprefix(_CUSTOMERS): until for key, until, _ in rows})


def _batches(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(keys)
    while some := list(islice(rest, size)):
        yield some


def _non_zero(cells: dict[int, int]) -> dict[int, int]:
    return {cell: amount for cell, amount in cells.items() if amount}
