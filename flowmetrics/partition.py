"""One partition of track: deliveries and letters in, everything that must be written out.

A runtime writes what `Opened` and `Taken` hold in one transaction. If that fails, the partition must be thrown away:
its memory is ahead of what is stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from flowmetrics.configuration import Configuration
from flowmetrics.engine_metrics import EngineCounters, Seen
from flowmetrics.entity import History
from flowmetrics.epochs import Sweep
from flowmetrics.errors import Rejection
from flowmetrics.kpis import selected
from flowmetrics.routing import partition_of
from flowmetrics.source import FAR_FUTURE, Timed
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.steps.letters import Letter, Post, Sent
from flowmetrics.steps.series import Series, SeriesTable
from flowmetrics.steps.stored import decode_history
from flowmetrics.steps.track import Changes, Keyed, Touched, Track, key_of, keyed

ALL_KEYS: Final = "\U0010ffff"
"""The cursor of a sweep that is through: every key, also one to come, is below it."""

Delivery: TypeAlias = tuple[int, bytes]
"""An event as it came: when it arrived, and its bytes."""


class Opened(NamedTuple):
    """A batch that was read: what is to be taken, and what is not."""

    batch: list[Keyed]
    misplaced: list[tuple[int, str, Delivery]]
    """(partition, key, delivery): events of entities that live elsewhere."""
    rejected: list[tuple[Rejection, Delivery]]
    held: dict[int, Delivery]
    """Events ahead of now, by number, to be stored until they are released."""
    released: list[int]
    """Numbers of held events that are in the batch now."""


class Taken(NamedTuple):
    """What follows from a batch."""

    changes: Mapping[Series, Mapping[int, int]]
    """For tally, by series, under the published epoch; amounts that cancelled out are gone."""
    coming: Mapping[Series, Mapping[int, int]]
    """The same under the epoch that is being built."""
    letters: list[Letter]
    """Copies for other partitions."""


class Partition:
    """Partition `partition` of `partitions`, over what is stored of it.

    `histories[key]` must give the history of any key, a fresh one for a new entity. `held` are the events that wait for
    their time; `sent` is what letters have said. Both are changed in place.
    """

    def __init__(
        self,
        configuration: Configuration,
        place: tuple[int, int],
        histories: MutableMapping[str, History],
        table: SeriesTable,
        held: dict[int, Delivery],
        sent: MutableMapping[str, Sent],
        counters: EngineCounters,
    ) -> None:
        self._number, self._partitions = place
        self.histories = histories
        self.table = table
        self.held = held
        self.counters = counters
        self._post = Post(*place, sent)
        self._sweep: Sweep | None = None
        self.enter(configuration)
        self._due_at = min((self._at(delivery) for delivery in held.values()), default=FAR_FUTURE)
        self._next = max(held, default=-1) + 1
        self._touched: Touched = {}
        self._changes: Changes = defaultdict(dict)
        self._coming: Changes = defaultdict(dict)
        self._letters: list[Letter] = []

    # --- epochs, see `flowmetrics.epochs` -------------------------------------------------------------------------
    def enter(self, configuration: Configuration) -> None:
        """From now on histories are read under this configuration, and none is being built."""
        self.configuration = configuration
        self._source = CloudEvents(configuration.surveys)
        self._track = Track(configuration, selected(configuration), self.table, self._post.owns)
        self._sweep = None

    def build(self, configuration: Configuration, cursor: str) -> None:
        """Build the next epoch, which has come to the key `cursor`."""
        self._sweep = Sweep(configuration, self.table, cursor, self._post.owns)

    def sweep(self, keys: Sequence[str], *, last: bool) -> None:
        """Go on with the coming epoch: the histories of these keys, which are in memory and next above the cursor.

        After the `last` ones every key counts as swept.
        """
        assert self._sweep is not None
        if keys:
            _add(self._sweep.advance(keys, self.histories), self._coming)
        if last:
            self._sweep.cursor = ALL_KEYS

    # --- batches --------------------------------------------------------------------------------------------------
    def open(self, deliveries: Iterable[Delivery], now: int) -> Opened:
        """Read a batch, and add to it what was held and is due."""
        opened, seen = Opened([], [], [], {}, []), Seen()
        self._release(now, opened)
        read, take, saw = self._source.read, opened.batch.append, seen.add
        number, partitions = self._number, self._partitions
        for delivery in deliveries:
            arrived_at, body = delivery
            timed = read(body, arrived_at)
            if isinstance(timed, Rejection):
                opened.rejected.append((timed, delivery))
                self.counters.add("events_rejected", timed.reason.value)
                continue
            at, event = timed
            key = key_of(event)
            if key and (home := partition_of(key.encode(), partitions)) != number:
                opened.misplaced.append((home, key, delivery))
                continue
            saw(event.source, at, arrived_at)
            if at > now:
                self._hold(at, delivery, opened)
            elif key:  # an event that tells of no entity is at home everywhere
                take((at, event, key))
        self.counters.saw(seen)
        return opened

    def join(self, batch: Iterable[Keyed]) -> None:
        """Join what was opened to the histories, which should be in memory by now."""
        self.counters.update(self._track.join(batch, self.histories, self._touched))

    def hear(self, copies: Iterable[tuple[str, History]]) -> None:
        """Take copies of histories that live in other partitions."""
        for key, copy in copies:
            self._track.hear(key, copy, self.histories, self._touched)

    def settle(self, most: int) -> Collection[str]:
        """Find out what follows from about `most` of the histories that changed: the keys of those to store, none when
        all is settled.

        Who is linked to them is settled too, perhaps again.
        """
        touched = self._touched
        some = dict(touched.popitem() for _ in range(min(most, len(touched))))
        linked = self._track.add(some, self.histories, self._changes)
        for key in linked:
            touched.pop(key, None)
        if self._sweep is not None:
            _add(self._sweep.emit(some, self.histories), self._coming)
        self._letters += self._post.write(linked, self.histories)
        return some.keys()

    def taken(self) -> Taken:
        """All that followed since this was asked last; everything must be settled."""
        taken = Taken(self._named(self._changes), self._named(self._coming), self._letters)
        self._letters = []
        self._changes, self._coming = defaultdict(dict), defaultdict(dict)
        return taken

    def take(self, opened: Opened, letters: Iterable[tuple[str, bytes]]) -> Taken:
        """Join, hear, settle, all at once."""
        self.join(opened.batch)
        self.hear((key, decode_history(key, body)) for key, body in letters)
        self.settle(len(self._touched))
        return self.taken()

    def _release(self, now: int, opened: Opened) -> None:
        if now < self._due_at:
            return
        for number, delivery in self.held.items():
            timed = self._again(delivery)
            if isinstance(timed, Rejection):  # only if the configuration changed since
                opened.released.append(number)
            elif timed[0] <= now:
                opened.released.append(number)
                opened.batch.extend(keyed([timed]))
        for number in opened.released:
            del self.held[number]
        self._due_at = min(map(self._at, self.held.values()), default=FAR_FUTURE)

    def _hold(self, at: int, delivery: Delivery, opened: Opened) -> None:
        opened.held[self._next] = self.held[self._next] = delivery
        self._next += 1
        self._due_at = min(self._due_at, at)

    def _again(self, delivery: Delivery) -> Timed | Rejection:
        """An event that was accepted before."""
        return self._source.read(delivery[1], FAR_FUTURE)

    def _at(self, delivery: Delivery) -> int:
        timed = self._again(delivery)
        return 0 if isinstance(timed, Rejection) else timed[0]

    def _named(self, changes: Changes) -> dict[Series, dict[int, int]]:
        named = {}
        for number, cells in changes.items():
            kept = {cell: amount for cell, amount in cells.items() if amount}
            if kept:
                named[self.table.series(number)] = kept
        return named


def _add(changes: Changes, sums: Changes) -> None:
    for number, cells in changes.items():
        for cell, amount in cells.items():
            sums[number][cell] = sums[number].get(cell, 0) + amount
