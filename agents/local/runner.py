"""The local engine: it drives the steps over the journal, one checkpoint a batch.

    log ──read──▶ decode ──▶ due now? ──▶ track ──▶ tally (in memory) ──▶ read ──▶ page
                              │ no: held             │ changes
                              └── one transaction: histories, changes, held, position ──┘
                                  every few seconds another: panes, and the changes they hold are dropped

After a change of the configuration the former epoch stays published while the next one is built between the batches
(`flowmetrics.epochs`): a portion of the histories is one transaction, and so is the turn.

Nothing here computes a KPI; nothing in the steps knows of the journal, threads or the clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Final, TypeVar

import msgspec

from agents.histories import HotHistories
from agents.local.epochs import Coming, Epochs
from agents.local.journal import Checkpoint, Journal
from flowmetrics.configuration import CUSTOMER_AHEAD_US, Configuration
from flowmetrics.engine_metrics import EngineCounters, Seen, epoch_families
from flowmetrics.entities.customer import CUSTOMER, CustomerHistory
from flowmetrics.epochs import Sweep
from flowmetrics.errors import ConfigurationError, OperationError, Rejection
from flowmetrics.events import CustomerEvent, EraseEvent
from flowmetrics.families import Family
from flowmetrics.instants import DAY_US, SECOND_US
from flowmetrics.limits import LATENESS_DAYS
from flowmetrics.settings import effective, fingerprint, read_settings
from flowmetrics.source import FAR_FUTURE, Timed
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.sources.pseudonyms import Erased
from flowmetrics.steps.audit import Difference, compare
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.stored import decode_history, encode_history
from flowmetrics.steps.tally import Tally
from flowmetrics.steps.track import Changes, keyed, keys_of
from flowmetrics.topology import Change, assemble, made_anew

BATCH_EVENTS_MAX: Final = 10_000
"""Events of one checkpoint: from 2,000 on the cost of a commit no longer shows; more only delays what is visible."""

TALLY_STORE_US: Final = 5 * SECOND_US
"""How often panes are stored; what tally has not stored is read again from `changes` after a crash."""

SWEEP_HISTORIES: Final = 1000
"""Histories that are swept for the coming epoch between two batches: some fifty milliseconds."""

DROPPED_SEGMENTS: Final = 200
"""Segments of a former epoch that are dropped between two batches."""

ERASE_BYTES: Final = 1024 * 1024
"""How much of the log is looked through at a time for what is to be erased: at most some thirty milliseconds."""

T = TypeVar("T")

_encode: Final = msgspec.msgpack.Encoder().encode
_CHANGES: Final = msgspec.msgpack.Decoder(dict[int, dict[int, int]]).decode


log = logging.getLogger(__name__)


class Runner:
    """The steps over one journal. `now` is given from outside, and never goes back.

    `configuration` is that of the published epoch: the one that was given, or a former one until `build` has come to
    the end. After an exception the runner must be thrown away: its memory may be ahead of the journal.
    """

    configuration: Configuration

    def __init__(self, configuration: Configuration, journal: Journal, tzdata_version: str, now: int) -> None:
        self._wanted = configuration
        self._tzdata_version = tzdata_version
        self.journal = journal
        self.now = max(now, self._stored("now", 0))
        self.position = self._stored("position", 0)
        self.counters = EngineCounters(self._stored("counters", []))
        self._source = CloudEvents(configuration.surveys)
        self._epochs = self._stored("epochs", Epochs())
        self._histories = HotHistories(journal, configuration.hot_entities_max, self._epochs.published)
        self._coming: Coming | None = None
        self._start()
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
        changes = {self._epochs.published: _non_zero(tracked.changes)}
        if self._coming is not None:
            changes[self._coming.number] = _non_zero(self._coming.sweep.emit(tracked.touched, self._histories))
        with self.journal.checkpoint() as checkpoint:
            checkpoint.histories(self._histories.rows(sorted(tracked.touched)), self.now)
            self._put_changes(checkpoint, changes)
            checkpoint.hold(hold)
            checkpoint.release(released)
            if not {EraseEvent, CustomerEvent}.isdisjoint(map(type, map(itemgetter(1), batch))):
                checkpoint.erased(self._erased(tracked.touched))
            self._words(checkpoint, position)
        self.position = position
        self._apply(changes)

    def _put_changes(self, checkpoint: Checkpoint, changes: Mapping[int, Changes]) -> None:
        """Store what follows for each epoch."""
        checkpoint.series(self._table.taken())
        for epoch, some in changes.items():
            if some:
                self._given += 1
                checkpoint.changes(self._given, epoch, _encode(some))

    def _apply(self, changes: Mapping[int, Changes]) -> None:
        """What was stored is true in memory, too."""
        for epoch, tally in self._tallies():
            tally.apply(changes.get(epoch, {}))
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
        checkpoint.series(self._table.taken())
        for epoch, tally in self._tallies():
            checkpoint.shown(epoch, tally.new_admissions)
            for stream, day in sorted({*tally.unstored, *tally.forget()}):
                cells = tally.segment(stream, day)
                checkpoint.segment(epoch, stream, day, _encode(cells) if cells else None)
            tally.unstored.clear()
            tally.new_admissions = []
        checkpoint.stored_changes(self._given)
        self.counters.update(self._tally.counted)  # with the panes that it is of: what is not stored is counted again
        self._tally.counted.clear()
        self._words(checkpoint, self.position)

    def _tallies(self) -> list[tuple[int, Tally]]:
        """The panes of each epoch."""
        coming = [] if self._coming is None else [(self._coming.number, self._coming.steps.tally)]
        return [(self._epochs.published, self._tally), *coming]

    def forget(self) -> None:
        """Drop histories that lie outside every reading, and the log beyond its retention."""
        silent_us = 2 * self.configuration.horizon_us + CUSTOMER_AHEAD_US + LATENESS_DAYS * DAY_US
        with self.journal.checkpoint() as checkpoint:
            checkpoint.forget_histories(self.now - silent_us)
        self._histories.forget()
        self.journal.trim(self.now - self._wanted.log_retention_us, self.position)
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

    def _tombstones(self) -> Iterator[tuple[str, bytes]]:
        """What erasing left of persons: that they are erased, and whom events that are gone linked them to."""
        for key, body in self.journal.histories([key for key, _, _ in self.journal.erased()]):
            history = decode_history(key, body)
            assert isinstance(history, CustomerHistory)
            at = history.erased_at
            links = {other: told_at for other, told_at in history.mentioned.items() if told_at <= at}
            left = CustomerHistory(
                first_at=history.first_at, latest_at=history.latest_at, erased_at=at, mentioned=links
            )
            yield key, encode_history(left)

    # --- reading --------------------------------------------------------------------------------------------------
    def families(self, now: int) -> list[Family]:
        """Every KPI family at `now`."""
        self.now = max(now, self.now)
        self._tally.advance(self.now)
        return self.read.families(self._tally, self.now)

    def engine_families(self) -> list[Family]:
        """What the engine says about itself, without `engine_ready`, which only the process knows."""
        counters = EngineCounters.together([self.counters])
        counters.update(self._tally.counted)
        return [
            *counters.families(self.waiting),
            *epoch_families(self._epochs.published, self._epochs.progress),
        ]

    @property
    def waiting(self) -> int:
        """How many events of the log were not taken yet."""
        return self.journal.end - self.position

    @property
    def caught_up(self) -> bool:
        """Whether every event of the log was taken."""
        return self.waiting <= 0

    # --- proof ----------------------------------------------------------------------------------------------------
    def audit(self, each: Callable[[list[str]], Iterable[str]] = iter) -> Iterator[Difference]:
        """Where the contributions that facts call for, those emitted and the panes do not agree.

        `each` is given the keys of all histories, and goes through them: it may show how far it is.
        """
        oldest = self._tally.pane - self.configuration.panes(self.configuration.horizon_us)
        keys = list(self.journal.keys())
        track = self._track if self._is_as_read else None
        yield from compare(each(keys), self._histories, track, self._tally, self._table, oldest)

    # --- epochs ---------------------------------------------------------------------------------------------------
    @property
    def epoch(self) -> int:
        """The number of the published epoch."""
        return self._epochs.published

    @property
    def progress(self) -> float:
        """How much of the coming epoch is built; 1 while none is."""
        return self._epochs.progress

    def build(self) -> bool:
        """Go on a little with the coming epoch, or with dropping panes of former ones; whether there may be more."""
        if self._coming is None:
            return self._drop_former()
        keys = self.journal.keys_after(self._epochs.cursor, SWEEP_HISTORIES)
        if keys:
            self._sweep(self._coming, keys)
        if len(keys) < SWEEP_HISTORIES:
            self._publish(self._coming)
        return True

    def _sweep(self, coming: Coming, keys: Sequence[str]) -> None:
        self._histories.prefetch(keys)
        changes = {coming.number: _non_zero(coming.sweep.advance(keys, self._histories))}
        swept = self._epochs.swept + len(keys)
        self._epochs = msgspec.structs.replace(self._epochs, cursor=coming.sweep.cursor, swept=swept)
        with self.journal.checkpoint() as checkpoint:
            checkpoint.histories_again(self._histories.rows(keys))
            self._put_changes(checkpoint, changes)
            checkpoint.meta("epochs", self._epochs)
        self._apply(changes)

    def _publish(self, coming: Coming) -> None:
        """Every history is swept: the coming epoch is the one that is shown, from this transaction on."""
        self._epochs = Epochs(coming.number, coming.number)
        with self.journal.checkpoint() as checkpoint:
            self._put_published(checkpoint)
        self._histories.enter(coming.number)
        self.configuration, self._is_as_read = self._wanted, True
        self._track, self._tally, self.read = coming.steps
        self._coming = None
        self._former = self.journal.former(self._epochs.kept)

    def _put_published(self, checkpoint: Checkpoint) -> None:
        checkpoint.meta("configuration", effective(self._wanted))
        checkpoint.meta("fingerprints", fingerprint(self._wanted, self._tzdata_version))
        self._put_epochs(checkpoint)

    def _put_epochs(self, checkpoint: Checkpoint) -> None:
        checkpoint.meta("epochs", self._epochs)
        checkpoint.keep_epochs(*self._epochs.kept)

    def _drop_former(self) -> bool:
        if self._former:
            with self.journal.checkpoint() as checkpoint:
                checkpoint.drop_panes(self._former[0], DROPPED_SEGMENTS)
            self._former = self.journal.former(self._epochs.kept)
        return bool(self._former)

    # --- start ----------------------------------------------------------------------------------------------------
    def _start(self) -> None:
        """Hold the configuration against the one under which the published epoch is read, and go on from there."""
        wanted, stored = fingerprint(self._wanted, self._tzdata_version), self._stored("fingerprints", ("", ""))
        if stored[1] not in ("", wanted[1]):
            self._empty()
            stored = wanted
        published = self._published_configuration(stored == wanted)
        self.configuration = published or self._wanted
        self._is_as_read = fingerprint(self.configuration, self._tzdata_version) == stored
        self._table = SeriesTable(self.journal.series())
        self._given = self.journal.given()
        self._track, self._tally, self.read = assemble(self.configuration, self._table, self.now)
        if published is not None:
            self._restore(self._epochs.published, self._tally)
        if published is not self._wanted:
            self._coming = self._come(wanted[0])
        elif self._epochs.shape:
            self._give_up()
        self._former = self.journal.former(self._epochs.kept)
        while published is None and self._coming is not None:
            self.build()  # there is nothing that could be shown meanwhile

    def _published_configuration(self, is_wanted: bool) -> Configuration | None:
        """The one under which the published epoch is read; None where that cannot be told any more."""
        text = self._stored("configuration", "")
        if is_wanted and text:
            return self._wanted
        try:
            return read_settings(text, "the former configuration") if text else None
        except ConfigurationError as error:
            log.warning("%s All histories are read anew before anything is shown.", error)
            return None

    def _restore(self, epoch: int, tally: Tally) -> None:
        with self.journal.told():
            tally.load(self.journal.shown(epoch), ((day, _CHANGES(body)) for day, body in self.journal.segments(epoch)))
            for _, of, body in self.journal.changes():
                if of == epoch:
                    tally.apply(_CHANGES(body))

    def _come(self, shape: str) -> Coming:
        """Begin to build the next epoch, or go on with it if it is this one."""
        if self._epochs.shape != shape:
            number, histories = self._epochs.begun + 1, self.journal.histories_count()
            self._epochs = Epochs(self._epochs.published, number, shape, histories=histories)
            with self.journal.checkpoint() as checkpoint:
                self._put_epochs(checkpoint)
        steps = assemble(self._wanted, self._table, self.now)
        self._restore(self._epochs.begun, steps.tally)
        return Coming(self._epochs.begun, Sweep(self._wanted, self._table, self._epochs.cursor), steps)

    def _give_up(self) -> None:
        """The configuration of the published epoch is back: the one that was being built is no more."""
        self._epochs = Epochs(self._epochs.published, self._epochs.begun)
        with self.journal.checkpoint() as checkpoint:
            self._put_epochs(checkpoint)

    def _empty(self) -> None:
        """What is stored was shaped by another configuration: take everything from the log again, if it is whole."""
        if self.journal.first() > 0:
            raise OperationError(
                f"{self.journal.path} was written under a horizon, grain or survey scale that differs, and its log "
                "no longer begins at the first event; restore that configuration, or import into a new directory"
            )
        number = self._epochs.begun + 1
        self._epochs, self.position = Epochs(number, number), 0
        with self.journal.checkpoint() as checkpoint:
            tombstones = list(self._tombstones())
            checkpoint.empty(*(store.name for store in made_anew(Change.WRITE)))
            checkpoint.histories(tombstones, self.now)
            checkpoint.meta("position", 0)
            self._put_published(checkpoint)
        self._histories.enter(number)

    def _stored(self, name: str, otherwise: T) -> T:
        stored = self.journal.meta(name)
        with self.journal.told():
            return msgspec.msgpack.decode(stored, type=type(otherwise)) if stored else otherwise


_CUSTOMERS: Final = CUSTOMER.key("")


def _erased_persons(rows: Iterable[tuple[str, int, int]]) -> Erased:
    return Erased({key.removeprefix(_CUSTOMERS): until for key, until, _ in rows})


def _non_zero(changes: Changes) -> Changes:
    return {
        series: kept
        for series, cells in changes.items()
        if (kept := {cell: amount for cell, amount in cells.items() if amount})
    }
