"""Negative controls: engines that are broken in one place each. A simulation that lets one pass proves nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from process import Parts

from agents.local.epochs import Coming
from agents.local.journal import Fault, Journal
from agents.local.runner import Runner
from flowmetrics.source import Timed
from flowmetrics.steps.stored import decode_history


class PositionFirst(Runner):
    """The position is committed by itself, before histories and changes."""

    def _take(self, batch: list[Timed], hold: list[tuple[int, bytes]], released: list[int], position: int) -> None:
        with self.journal.checkpoint() as checkpoint:
            checkpoint.meta("position", position)
        super()._take(batch, hold, released, position)


class ContributedNotStored(Journal):
    """What an entity contributed last is not there when its history comes back from the store."""

    def histories(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        for key, body in super().histories(keys):
            history = decode_history(key, body)
            history.contributed = {}
            yield key, msgspec.msgpack.encode(history)


class HeldLostOnRestart(Journal):
    """Events ahead of now are kept in memory only, so to say."""

    def __init__(self, directory: Path, fault: Fault) -> None:
        super().__init__(directory, fault)
        self._state.execute("DELETE FROM held")


class ChangesDroppedFirst(Runner):
    """Changes are dropped in a transaction of their own, before the panes that hold them are stored."""

    def store_panes(self) -> None:
        with self.journal.checkpoint() as checkpoint:
            checkpoint.stored_changes(self._given)
        super().store_panes()


class ChangesKept(Runner):
    """Panes are stored in a transaction of their own, before the changes that they hold are dropped."""

    def store_panes(self) -> None:
        with self.journal.checkpoint() as checkpoint:
            checkpoint.series(self._table.taken())
            for epoch, tally in self._tallies():
                for stream, day in sorted(tally.unstored):
                    cells = tally.segment(stream, day)
                    checkpoint.segment(epoch, stream, day, msgspec.msgpack.encode(cells) if cells else None)
        super().store_panes()


class CursorFirst(Runner):
    """The cursor of a sweep is committed by itself, before the histories up to it."""

    def _sweep(self, coming: Coming, keys: Sequence[str]) -> None:
        with self.journal.checkpoint() as checkpoint:
            checkpoint.meta("epochs", msgspec.structs.replace(self._epochs, cursor=keys[-1]))
        super()._sweep(coming, keys)


class PublishedEarly(Runner):
    """An epoch is published once its sweep has begun."""

    def build(self) -> bool:
        if self._coming is None:
            return super().build()
        if keys := self.journal.keys_after("", 1):
            self._sweep(self._coming, keys)
        self._publish(self._coming)
        return True


class NotPromoted(Runner):
    """What histories contributed under an epoch is not theirs once that is published."""

    def _publish(self, coming: Coming) -> None:
        super()._publish(coming)
        self._histories.enter(0)


class EventsInOneEpoch(Runner):
    """Events are not told to the epoch that is being built."""

    def _take(self, batch: list[Timed], hold: list[tuple[int, bytes]], released: list[int], position: int) -> None:
        coming, self._coming = self._coming, None
        super()._take(batch, hold, released, position)
        self._coming = coming


class Stuck(Runner):
    """It stops to take what comes after a while, and says nothing wrong about the rest."""

    def step(self, now: int) -> int:
        return 0 if self.position > STUCK_AT else super().step(now)


STUCK_AT: Final = 20

CONTROLS: Final[Mapping[str, Parts]] = {
    "the position is committed before histories and changes": Parts(runner=PositionFirst),
    "contributions are not stored with the history": Parts(journal=ContributedNotStored),
    "held events are lost on restart": Parts(journal=HeldLostOnRestart),
    "changes are dropped before their panes are stored": Parts(runner=ChangesDroppedFirst),
    "changes are dropped after their panes are stored": Parts(runner=ChangesKept),
    "the cursor is committed before the histories that were swept": Parts(runner=CursorFirst),
    "an epoch is published before its sweep is through": Parts(runner=PublishedEarly),
    "contributions of a new epoch are not found again": Parts(runner=NotPromoted),
    "events during a sweep reach one epoch only": Parts(runner=EventsInOneEpoch),
    "the runner stops without an error": Parts(runner=Stuck),
}
