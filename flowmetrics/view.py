"""What a KPI sees of one value stream when it is read: its series, their windows, and the instant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from flowmetrics.configuration import ALL, Configuration
from flowmetrics.instants import duration_text
from flowmetrics.windowing.panes import SeriesPanes

LabelValues: TypeAlias = tuple[str, ...]
Bins: TypeAlias = Mapping[int, int]


@dataclass(frozen=True)
class View:
    """One value stream at one instant.

    `panes` maps a measure to its series by label values; every series stands at the pane of `now`.
    """

    configuration: Configuration
    now: int
    value_stream: str
    panes: Mapping[str, Mapping[LabelValues, SeriesPanes]]

    @cached_property
    def declared(self) -> bool:
        """Whether the value stream is named in the configuration, so that its counts are shown from the start."""
        return self.value_stream in self.configuration.declared_streams

    @property
    def windows(self) -> Iterator[tuple[str, int]]:
        """The configured windows: label and length in panes."""
        return ((duration_text(us), self.configuration.panes(us)) for us in self.configuration.windows_us)

    @property
    def horizon(self) -> int:
        """The length in panes over which levels are read."""
        return self.configuration.panes(self.configuration.horizon_us)

    @property
    def longest(self) -> int:
        """The length in panes of the longest window."""
        return self.configuration.panes(self.configuration.longest_us)

    def series(self, measure: str) -> Iterator[tuple[LabelValues, SeriesPanes]]:
        """The series of a measure that are alive: something lies in them within the horizon or ahead."""
        for labels, series in self.panes.get(measure, {}).items():
            if series.alive(self.horizon):
                yield labels, series

    def bins(self, measure: str, panes: int, total: int | None = None) -> dict[LabelValues, Bins]:
        """The window of each living series; `total` is the index of the label over which `all` sums."""
        windows: dict[LabelValues, Bins] = {}
        totals: dict[LabelValues, dict[int, int]] = {}
        for labels, series in self.series(measure):
            window = series.window(panes)
            windows[labels] = window
            if total is not None:
                sums = totals.setdefault((*labels[:total], ALL, *labels[total + 1 :]), {})
                for number, amount in window.items():
                    sums[number] = sums.get(number, 0) + amount
        return {**windows, **totals}

    def counts(self, measure: str, panes: int, total: int | None = None) -> dict[LabelValues, int]:
        """The sum of all bins of each window of `bins`."""
        return {labels: sum(bins.values()) for labels, bins in self.bins(measure, panes, total).items()}
