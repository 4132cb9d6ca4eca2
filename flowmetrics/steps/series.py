"""The numbers of series: a series is a measure, a value stream and label values; a number stands for it in stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from flowmetrics.configuration import Memo
from flowmetrics.limits import LABEL_CHARACTERS_MAX, SERIES_MAX

Series: TypeAlias = tuple[str, ...]
"""(measure, value stream, label values …)"""


class _Told(dict[Series, int]):
    """The numbers of one measure by labels as they are told; overlong labels are cut before they are looked up."""

    def __init__(self, number: Callable[[Series], int]) -> None:
        super().__init__()
        self._number = number

    def __missing__(self, labels: Series) -> int:
        if len(self) >= SERIES_MAX:
            self.clear()
        number = self[labels] = self._number(tuple(label[:LABEL_CHARACTERS_MAX] for label in labels))
        return number


class SeriesTable:
    """Numbers for series, given in order of appearance and kept for good.

    >>> table = SeriesTable(())
    >>> table.number(("flow_load", "shop", "defect", "active")), table.series(0)[1]
    (0, 'shop')
    """

    FULL: Final = ("overflow", "", "")

    def __init__(self, known: Iterable[tuple[int, Series]]) -> None:
        self._numbers: dict[Series, int] = {}
        self._series: dict[int, Series] = {}
        self.told: Mapping[str, Mapping[Series, int]] = Memo(
            lambda name: _Told(lambda labels: self._number((name, *labels)))
        )
        """Measure → labels with the value stream first → number; new numbers are given as they are asked for."""
        for number, series in known:
            self._numbers[series] = number
            self._series[number] = series
        self._next = max(self._series, default=-1) + 1
        self.new: list[tuple[int, Series]] = []
        """Numbers given since the list was last emptied: what a checkpoint has to store."""

    def number(self, series: Series) -> int:
        """The number of a series; a new one when it was never seen."""
        return self.told[series[0]][series[1:]]

    def series(self, number: int) -> Series:
        """The series of a number."""
        return self._series[number]

    def _number(self, series: Series) -> int:
        known = self._numbers.get(series)
        if known is not None:
            return known
        if self._next >= SERIES_MAX:
            series = (series[0], *self.FULL[1:])
            if series in self._numbers:
                return self._numbers[series]
        number, self._next = self._next, self._next + 1
        self._numbers[series] = number
        self._series[number] = series
        self.new.append((number, series))
        return number

    def taken(self) -> list[tuple[int, Series]]:
        """The numbers given since the last call; from then on they count as stored."""
        new, self.new = self.new, []
        return new

    def items(self) -> Iterable[tuple[int, Series]]:
        """Every number and its series."""
        return self._series.items()
