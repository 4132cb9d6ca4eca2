"""Audit: what the facts call for, what was emitted, and what the panes hold must be the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from flowmetrics.entity import History, unpack
from flowmetrics.steps.series import Series, SeriesTable
from flowmetrics.steps.tally import DROPPED, Tally
from flowmetrics.steps.track import Track
from flowmetrics.windowing.bins import BINS

Emitted: TypeAlias = Counter[tuple[Series, int]]
"""Series and cell → the sum of what all histories contributed."""


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
    """Every difference; cells up to the pane `oldest` lie outside every reading and are left out."""
    emitted: Emitted = Counter()
    yield from uncalled(keys, histories, track, table, emitted)
    yield from unbalanced(emitted, tally, table, oldest)


def uncalled(
    keys: Iterable[str], histories: Mapping[str, History], track: Track | None, table: SeriesTable, emitted: Emitted
) -> Iterator[Difference]:
    """Entity by entity, where what the facts call for is not what was emitted; that is added to `emitted`.

    Without `track` nobody knows what facts call for: they are read by other code or another time zone database than
    when it was emitted.
    """
    for key in keys:
        held = {part: unpack(packed) for part, packed in histories[key].contributed.items() if packed}
        called_for = held if track is None else track.contributions(key, histories)
        if called_for != held:
            yield Difference(f"contributions of {key}", _size(called_for), _size(held))
        for contributions in held.values():
            for series, cell, amount in contributions:
                emitted[table.series(series), cell] += amount


def unbalanced(
    emitted: Mapping[tuple[Series, int], int], tally: Tally, table: SeriesTable, oldest: int
) -> Iterator[Difference]:
    """Where the panes do not hold the sum of what was emitted; `table` is that of the tally."""
    called_for: Counter[tuple[int, int]] = Counter()
    for (series, cell), amount in emitted.items():
        if amount and cell // BINS > oldest:
            shown = tally.shown(table.number(series))
            if shown != DROPPED:
                called_for[shown, cell] += amount
    found = tally.cells()
    for number, cell in sorted({place for place, amount in called_for.items() if amount} | found.keys()):
        if cell // BINS > oldest and called_for[number, cell] != found.get((number, cell), 0):
            place = f"{' '.join(table.series(number))}, pane {cell // BINS}, bin {cell % BINS}"
            yield Difference(place, called_for[number, cell], found.get((number, cell), 0))


def _size(contributions: Mapping[str, list[tuple[int, int, int]]]) -> int:
    return sum(len(some) for some in contributions.values())
