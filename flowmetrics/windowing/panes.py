"""The panes of one series, and the windows over them that end now.

A pane is (start, start + width]; pane p ends at p widths. A window of W panes at pane P is the panes (P - W, P]:

    pane      …  P-W │ P-W+1  …   P │ P+1 …
                left │ out    in    │ ahead of now: waits

Windows are kept incrementally: a change to a pane inside is added at once, and when P moves, what enters is added and
what leaves is taken off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from flowmetrics.windowing.bins import BINS

NO_PANE: Final = -1


def cell_of(pane: int, number: int) -> int:
    """Pane and bin in one integer, in the order of panes.

    >>> cell_of(3, 5), divmod(cell_of(3, 5), BINS)
    (6149, (3, 5))
    """
    return pane * BINS + number


class SeriesPanes:
    """The cells of one series, by day, and its windows.

    `days` maps a day (panes counted in `day_panes`) to its cells; no cell is zero. `pane` is where windows end; it
    never goes back.
    """

    __slots__ = ("_newest", "_windows", "day_cells", "days", "pane")

    def __init__(self, day_panes: int, pane: int) -> None:
        self.day_cells = day_panes * BINS
        self.days: dict[int, dict[int, int]] = {}
        self.pane = pane
        self._windows: dict[int, dict[int, int]] = {}
        self._newest = NO_PANE

    def apply(self, changes: Mapping[int, int]) -> None:
        """Add signed amounts to cells; a cell that becomes zero is gone."""
        days, day_cells = self.days, self.day_cells
        for cell, amount in changes.items():
            if not amount:
                continue  # added and taken back within the batch
            day = cell // day_cells
            cells = days.get(day)
            if cells is None:
                cells = days[day] = {}
            left = cells.get(cell, 0) + amount
            if left:
                cells[cell] = left
            else:
                del cells[cell]
                if not cells:
                    del days[day]
        if self._windows:
            for cell, amount in changes.items():
                self._count(cell, amount)
        self._newest = NO_PANE

    def load(self, day: int, cells: dict[int, int]) -> None:
        """Put back the cells of a day as they were stored; before any window is read."""
        self.days[day] = cells
        self._newest = NO_PANE

    def advance(self, pane: int) -> None:
        """Move the end of every window to a later pane."""
        assert pane >= self.pane
        if self._windows and pane > self.pane:
            if len(self._windows) * (pane - self.pane) > self._size():
                self._windows.clear()  # far ahead: the next reading counts afresh
            else:
                self._slide(pane)
        self.pane = pane

    def window(self, panes: int) -> Mapping[int, int]:
        """The sum of each bin over the last `panes` panes; no sum is zero."""
        sums = self._windows.get(panes)
        if sums is None:
            sums = self._windows[panes] = {}
            for cell, amount in self._cells_between(self.pane - panes, self.pane):
                _add(sums, cell % BINS, amount)
        return sums

    def amount(self, pane: int) -> int:
        """What lies in bin 0 of one pane."""
        cell = cell_of(pane, 0)
        return self.days.get(cell // self.day_cells, {}).get(cell, 0)

    def by_pane(self, panes: int) -> Iterator[tuple[int, int]]:
        """(pane, amount) of the last `panes` panes, bins together, in no order."""
        for cell, amount in self._cells_between(self.pane - panes, self.pane):
            yield cell // BINS, amount

    def alive(self, panes: int) -> bool:
        """Whether anything lies in the last `panes` panes or ahead of now: only then is the series shown."""
        if self._newest == NO_PANE and self.days:
            self._newest = max(self.days[max(self.days)]) // BINS
        return self._newest > self.pane - panes

    def forget(self, oldest_pane: int) -> list[int]:
        """Drop the days that end before a pane; the days that were dropped."""
        last = cell_of(oldest_pane, 0) // self.day_cells
        dropped = [day for day in self.days if day < last]
        for day in dropped:
            del self.days[day]
        if dropped:
            self._newest = NO_PANE
        return dropped

    def _slide(self, pane: int) -> None:
        for panes, sums in self._windows.items():
            for cell, amount in self._cells_between(self.pane, pane):
                _add(sums, cell % BINS, amount)
            for cell, amount in self._cells_between(self.pane - panes, pane - panes):
                _add(sums, cell % BINS, -amount)

    def _count(self, cell: int, amount: int) -> None:
        pane, number = divmod(cell, BINS)
        for panes, sums in self._windows.items():
            if self.pane - panes < pane <= self.pane:
                _add(sums, number, amount)

    def _cells_between(self, after: int, until: int) -> Iterator[tuple[int, int]]:
        first, last = cell_of(after + 1, 0), cell_of(until + 1, 0)
        wanted = range(first // self.day_cells, (last - 1) // self.day_cells + 1)
        few, many = (wanted, self.days) if len(wanted) < len(self.days) else (self.days, wanted)
        for day in few:
            if day in many:
                for cell, amount in self.days[day].items():
                    if first <= cell < last:
                        yield cell, amount

    def _size(self) -> int:
        return sum(len(cells) for cells in self.days.values())


def _add(sums: dict[int, int], number: int, amount: int) -> None:
    left = sums.get(number, 0) + amount
    if left:
        sums[number] = left
    else:
        sums.pop(number, None)
