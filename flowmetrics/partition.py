"""One partition of track: deliveries and letters in, everything that must be written out.

A runtime writes what `Opened` and `Taken` hold in one transaction. If that fails, the partition must be thrown away:
its memory is ahead of what is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import NamedTuple

from flowmetrics.configuration import Configuration
from flowmetrics.engine_metrics import EngineCounters
from flowmetrics.entity import History
from flowmetrics.errors import Rejection
from flowmetrics.kpis import selected
from flowmetrics.routing import partition_of
from flowmetrics.source import FAR_FUTURE, Timed
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.steps.letters import Letter, Post, Sent
from flowmetrics.steps.series import Series, SeriesTable
from flowmetrics.steps.stored import decode_history
from flowmetrics.steps.track import Changes, Touched, Track, keys_of


class Delivery(NamedTuple):
    """An event as it came: when it arrived, and its bytes."""

    arrived_at: int
    body: bytes


class Opened(NamedTuple):
    """A batch that was read: what is to be taken, and what is not."""

    batch: list[Timed]
    misplaced: list[tuple[int, str, Delivery]]
    """(partition, key, delivery): events of entities that live elsewhere."""
    rejected: list[tuple[Rejection, Delivery]]
    held: dict[int, Delivery]
    """Events ahead of now, by number, to be stored until they are released."""
    released: list[int]
    """Numbers of held events that are in the batch now."""

    def keys(self) -> list[str]:
        """The keys of the histories that it touches, so that they can be fetched together."""
        return [key for _, event in self.batch for key in keys_of(event)]


class Taken(NamedTuple):
    """What follows from a batch."""

    changes: Mapping[Series, Mapping[int, int]]
    """For tally, by series; amounts that cancelled out are gone."""
    dirty: set[str]
    """The keys of the histories to store."""
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
        self._source = CloudEvents(configuration.surveys)
        self._track = Track(configuration, selected(configuration), table, self._post.owns)
        self._due_at = min((self._at(delivery) for delivery in held.values()), default=FAR_FUTURE)
        self._next = max(held, default=-1) + 1

    def open(self, deliveries: Iterable[Delivery], now: int) -> Opened:
        """Read a batch, and add to it what was held and is due."""
        opened = Opened([], [], [], {}, [])
        self._release(now, opened)
        for delivery in deliveries:
            timed = self._source.read(delivery.body, delivery.arrived_at)
            if isinstance(timed, Rejection):
                opened.rejected.append((timed, delivery))
                self.counters.add("events_rejected", timed.reason.value)
            elif (elsewhere := self._elsewhere(timed)) is not None:
                opened.misplaced.append((*elsewhere, delivery))
            else:
                self.counters.seen(timed[1].source, timed[0], delivery.arrived_at)
                if timed[0] > now:
                    self._hold(timed[0], delivery, opened)
                else:
                    opened.batch.append(timed)
        return opened

    def take(self, opened: Opened, letters: Iterable[tuple[str, bytes]]) -> Taken:
        """Take what was opened, then copies of histories that live in other partitions."""
        touched: Touched = {}
        self.counters.update(self._track.join(opened.batch, self.histories, touched))
        for key, body in letters:
            self._track.hear(key, decode_history(key, body), self.histories, touched)
        changes = self._track.emit(touched, self.histories)
        return Taken(self._named(changes), set(touched), self._post.write(sorted(touched), self.histories))

    def _elsewhere(self, timed: Timed) -> tuple[int, str] | None:
        """Where an event belongs, if not here; events that touch no entity are at home everywhere."""
        keys = keys_of(timed[1])
        if not keys or self._partitions == 1:
            return None
        home = partition_of(keys[0].encode(), self._partitions)
        return None if home == self._number else (home, keys[0])

    def _release(self, now: int, opened: Opened) -> None:
        if now < self._due_at:
            return
        for number, delivery in self.held.items():
            timed = self._source.read(delivery.body, FAR_FUTURE)
            if isinstance(timed, Rejection):  # only if the configuration changed since
                opened.released.append(number)
            elif timed[0] <= now:
                opened.released.append(number)
                opened.batch.append(timed)
        for number in opened.released:
            del self.held[number]
        self._due_at = min(map(self._at, self.held.values()), default=FAR_FUTURE)

    def _hold(self, at: int, delivery: Delivery, opened: Opened) -> None:
        opened.held[self._next] = self.held[self._next] = delivery
        self._next += 1
        self._due_at = min(self._due_at, at)

    def _at(self, delivery: Delivery) -> int:
        timed = self._source.read(delivery.body, FAR_FUTURE)
        return 0 if isinstance(timed, Rejection) else timed[0]

    def _named(self, changes: Changes) -> dict[Series, dict[int, int]]:
        named = {}
        for number, cells in changes.items():
            kept = {cell: amount for cell, amount in cells.items() if amount}
            if kept:
                named[self.table.series(number)] = kept
        return named
