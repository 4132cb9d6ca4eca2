"""Audit: what the facts call for, what was emitted, and what the panes hold must be the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from flowmetrics.entity import History, unpack
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.tally import DROPPED, Tally
from flowmetrics.steps.track import Track
from flowmetrics.windowing.bins import BINS


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where the books do not balance, in words, with both amounts."""

    place: str
    called_for: int
    found: int


def compare(
    keys: Iterable[str],
    histories: Mapping[str, History],
    track: Track | None,
    tally: Tally,
    table: SeriesTable,
    oldest: int,
) -> Iterator[Difference]:
    """Every difference; cells up to the pane `oldest` lie outside every reading and are left out.

    First, entity by entity, what the facts call for is held against what was emitted; then the sum of what was emitted
    against the panes. Without `track` nobody knows what facts call for: they are read by other code or another time
    zone database than when it was emitted.
    """
    emitted: Counter[tuple[int, int]] = Counter()
    for key in keys:
        history = histories[key]
        held = {part: unpack(packed) for part, packed in history.contributed.items() if packed}
        called_for = held if track is None else track.contributions(key, histories)
        if called_for != held:
            yield Difference(f"contributions of {key}", _size(called_for), _size(held))
        for contributions in held.values():
            for series, cell, amount in contributions:
                shown = tally.shown(series)
                if shown != DROPPED and cell // BINS > oldest:
                    emitted[shown, cell] += amount
    found = tally.cells()
    for series, cell in sorted({place for place, amount in emitted.items() if amount} | found.keys()):
        if cell // BINS > oldest and emitted[series, cell] != found.get((series, cell), 0):
            place = f"{' '.join(table.series(series))}, pane {cell // BINS}, bin {cell % BINS}"
            yield Difference(place, emitted[series, cell], found.get((series, cell), 0))


def _size(contributions: Mapping[str, list[tuple[int, int, int]]]) -> int:
    return sum(len(some) for some in contributions.values())
