"""Epochs: how a change of the configuration applies to the past, while the old numbers stay visible and current.

An epoch is a number and a configuration under which histories are read. One is published. When the configuration
changes, the next one is built by a sweep over all histories in the order of their keys:

    item:A ── item:B ── request:7 ──┃── request:8 ── …
             swept                cursor     not yet

An event is joined to its history once. Under the published epoch it emits always; under the coming one only where the
sweep has been, because a history that is not swept yet is emitted whole when the cursor reaches it. So when the sweep
is through, the coming epoch holds what it would hold had it always been there, and can be published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flowmetrics.configuration import Configuration
from flowmetrics.entity import History
from flowmetrics.kpis import selected
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.track import Changes, Touched, Track


class Sweep:
    """The reading of histories under the configuration of the coming epoch, up to `cursor`.

    What it emits is kept in `coming` of each history. Keys are compared as text: for UTF-8 that is the order of their
    bytes, in which stores give them. A key that appears at or below the cursor counts as swept.
    """

    def __init__(
        self,
        configuration: Configuration,
        table: SeriesTable,
        cursor: str = "",
        owns: Callable[[str], bool] = lambda key: True,
    ) -> None:
        self.cursor = cursor
        kpis = selected(configuration)
        self._track = Track(configuration, kpis, table, lambda key: self.swept(key) and owns(key), "coming")

    def swept(self, key: str) -> bool:
        """Whether a history contributes to the coming epoch already."""
        return key <= self.cursor

    def emit(self, touched: Touched, histories: Mapping[str, History]) -> Changes:
        """What follows for the coming epoch from a batch, after the published one has named all that is `touched`.

        All of a history is read: which of its parts an event changes was asked under the other configuration, where
        two moments may lie in one day and here in two.
        """
        swept: Touched = {
            key: dict.fromkeys((*histories[key].parts(), *histories[key].coming)) for key in touched if self.swept(key)
        }
        return self._track.emit(swept, histories)

    def advance(self, keys: Sequence[str], histories: Mapping[str, History]) -> Changes:
        """Sweep the histories next above the cursor, in order.

        Their `coming` is made anew: an epoch that was given up may have left something there.
        """
        self.cursor = keys[-1]
        return self._track.renew(keys, histories)
