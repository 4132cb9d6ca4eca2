"""Tally: changes in, panes kept; which label sets are shown is decided here, once, and kept.

Changes carry true labels. A value stream and measure with more label sets than the budget folds the rest into the
overflow label; measures of distinct people drop them instead, because a person in two folded sets would count twice.
Value streams beyond theirs are folded where the overflow is owned, and dropped in other partitions, or each would show
an overflow of its own.
Admission is stored and never freed, so that what was added under one label is taken back under the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from flowmetrics.configuration import ALL, Configuration
from flowmetrics.entity import Counted
from flowmetrics.instants import DAY_US
from flowmetrics.kpi import Kpi
from flowmetrics.limits import VALUE_STREAMS_MAX
from flowmetrics.steps.series import SeriesTable
from flowmetrics.view import LabelValues, View
from flowmetrics.windowing.bins import BINS
from flowmetrics.windowing.panes import SeriesPanes

DROPPED: Final = -1


class Tally:
    """The panes of every series; `pane` is where windows end and never goes back.

    `owns` says of a value stream that is declared, or the overflow, whether it is shown here, or in another partition.
    """

    def __init__(
        self,
        configuration: Configuration,
        kpis: Iterable[Kpi],
        table: SeriesTable,
        now: int = 0,
        owns: Callable[[str], bool] = lambda stream: True,
    ) -> None:
        self._configuration = configuration
        self._owns = owns
        self._declared = [stream for stream in configuration.declared_streams if owns(stream)]
        self._table = table
        self._distinct = {m.name for kpi in kpis for m in kpi.measures if m.distinct}
        self.day_panes = DAY_US // configuration.resolution_us
        self.pane = configuration.pane(now)
        self.streams: dict[str, dict[str, dict[LabelValues, SeriesPanes]]] = {}
        self.admitted: dict[int, int] = {}
        self.new_admissions: list[tuple[int, int]] = []
        self.stirred: set[tuple[str, str]] = set()
        """(measure, value stream) that changed since a reader last emptied the set."""
        self.unstored: dict[tuple[str, int], set[int]] = defaultdict(set)
        """(value stream, day) → series that changed since the last checkpoint emptied it."""
        self.counted: Counted = Counter()
        """What the engine counts on the way; whoever reads it empties it."""
        self._panes: dict[int, SeriesPanes] = {}

    def apply(self, changes: Mapping[int, Mapping[int, int]]) -> None:
        """Add the changes of a batch."""
        day_cells = self.day_panes * BINS
        for number, cells in changes.items():
            shown = self.admitted.get(number)
            if shown is None:
                shown = self._admit(number)
            if shown == DROPPED:
                continue
            self._panes[shown].apply(cells)
            series = self._table.series(shown)
            self.stirred.add((series[0], series[1]))
            for day in {cell // day_cells for cell in cells}:
                self.unstored[series[1], day].add(shown)

    def advance(self, now: int) -> None:
        """Move the end of every window to the pane of `now`; a clock that steps back changes nothing."""
        pane = self._configuration.pane(now)
        if pane > self.pane:
            self.pane = pane
            for series in self._panes.values():
                series.advance(pane)

    def view(self, value_stream: str, now: int) -> View:
        """What a KPI sees of one value stream."""
        return View(self._configuration, now, value_stream, self.streams.get(value_stream, {}))

    def value_streams(self) -> list[str]:
        """The value streams that have series or are declared, sorted."""
        return sorted({*self.streams, *self._declared})

    def segment(self, value_stream: str, day: int) -> dict[int, dict[int, int]]:
        """The cells of one value stream and day, by series number: the unit in which panes are stored."""
        return {number: cells for series, number in self._members(value_stream) if (cells := series.days.get(day))}

    def load(
        self,
        admitted: Iterable[tuple[int, int]],
        segments: Iterable[tuple[int, Mapping[int, dict[int, int]]]],
    ) -> None:
        """Put back what was stored: admissions, then (day, cells by series number)."""
        for number, shown in admitted:
            self.admitted[number] = shown
            if shown != DROPPED:
                self._series(shown)
        for day, cells_of in segments:
            for number, cells in cells_of.items():
                self._series(number).load(day, cells)

    def forget(self) -> list[tuple[str, int]]:
        """Drop the days that lie before the horizon; (value stream, day) of what was dropped."""
        oldest = self.pane - self._configuration.panes(self._configuration.horizon_us)
        return sorted(
            {
                (self._table.series(number)[1], day)
                for number, series in self._panes.items()
                for day in series.forget(oldest)
            }
        )

    def cells(self) -> dict[tuple[int, int], int]:
        """Every cell that is not zero, by series number and cell: what `audit` holds against the histories."""
        return {
            (number, cell): amount
            for number, series in self._panes.items()
            for cells in series.days.values()
            for cell, amount in cells.items()
        }

    def shown(self, number: int) -> int:
        """The number under which a series is shown: its own, that of the overflow, or DROPPED."""
        return self.admitted.get(number, number)

    def _members(self, value_stream: str) -> Iterable[tuple[SeriesPanes, int]]:
        for measure, by_labels in self.streams.get(value_stream, {}).items():
            for labels, series in by_labels.items():
                yield series, self._table.number((measure, value_stream, *labels))

    def _admit(self, number: int) -> int:
        measure, stream, *labels = self._table.series(number)
        overflow = self._configuration.labels_overflow
        if stream not in self.streams and len(self.streams) >= VALUE_STREAMS_MAX:
            self.counted["label_overflow", "value_stream"] += 1
            if not self._owns(overflow):  # it is shown once, on the page of whoever owns it
                return self._show(number, DROPPED)
            stream = overflow
        budget = self._configuration.labels_max
        if len(self.streams.get(stream, {}).get(measure, ())) >= budget:
            self.counted["label_overflow", measure] += 1
            labels = [ALL if label == ALL else overflow for label in labels]
        shown = self._table.number((measure, stream, *labels))
        if shown != number and measure in self._distinct:
            shown = DROPPED
        return self._show(number, shown)

    def _show(self, number: int, shown: int) -> int:
        if shown != DROPPED:
            self._series(shown)
        self.admitted[number] = shown
        self.new_admissions.append((number, shown))
        return shown

    def _series(self, number: int) -> SeriesPanes:
        series = self._panes.get(number)
        if series is None:
            series = self._panes[number] = SeriesPanes(self.day_panes, self.pane)
            measure, stream, *labels = self._table.series(number)
            self.streams.setdefault(stream, {}).setdefault(measure, {})[tuple(labels)] = series
        return series
