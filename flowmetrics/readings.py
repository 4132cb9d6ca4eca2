"""The ways to read a KPI from windows that several KPIs share: counts, levels, percentiles, shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from flowmetrics.configuration import ALL, ITEM_TYPES
from flowmetrics.instants import SECOND_US
from flowmetrics.kpi import Measure, Point, Reading, Says, Unit
from flowmetrics.view import View
from flowmetrics.windowing.bins import Ranked, bin_duration_us

BINNED_SECONDS: Final = Says(Unit.SECONDS, lambda number, amount: bin_duration_us(number) / SECOND_US)
"""A duration, as its bin tells it."""
SUMMED_SECONDS: Final = Says(Unit.SECONDS, lambda number, amount: amount / SECOND_US)
"""A duration that is summed in microseconds."""


def declared_labels(view: View, measure: Measure) -> list[tuple[str, ...]]:
    """Label sets shown at zero: the total and the four item types, where the stream has any or is declared.

    Label sets that nobody declared are shown while something lies in them.
    """
    if not view.declared and not any(True for _ in view.series(measure.name)):
        return []
    if measure.labels == ("item_type",):
        return [*((item_type,) for item_type in ITEM_TYPES), (ALL,)]
    return [(ALL,)] if len(measure.labels) == 1 else [()] if not measure.labels else []


def count_per_window(measure: Measure, total: int | None = 0) -> Reading:
    """How many lie in each window; labels: those of the measure, then window."""

    def read(view: View) -> Iterator[Point]:
        zeros = dict.fromkeys(declared_labels(view, measure), 0)
        for window, panes in view.windows:
            for labels, n in {**zeros, **view.counts(measure.name, panes, total)}.items():
                yield Point((*labels, window), float(n), n)

    return read


def level(measure: Measure, total: int | None = 0) -> Reading:
    """How many there are now; nothing older than the horizon is read. Labels: those of the measure."""

    def read(view: View) -> Iterator[Point]:
        zeros = dict.fromkeys(declared_labels(view, measure), 0)
        for labels, n in {**zeros, **view.counts(measure.name, view.horizon, total)}.items():
            yield Point(labels, float(n), n)

    return read


def percentiles_per_window(measure: Measure, total: int = 0) -> Reading:
    """Nearest-rank percentiles in seconds, within 1 %; labels: those of the measure, then window and percentile."""

    def read(view: View) -> Iterator[Point]:
        for window, panes in view.windows:
            for labels, bins in view.bins(measure.name, panes, total).items():
                ranked = Ranked(bins)
                if ranked.total:
                    yield from _percentiles(view, ranked, (*labels, window))

    return read


def _percentiles(view: View, ranked: Ranked, labels: tuple[str, ...]) -> Iterator[Point]:
    for percentile in view.configuration.percentiles:
        seconds = bin_duration_us(ranked.percentile(percentile)) / SECOND_US
        lower, upper = (
            (bin_duration_us(b) / SECOND_US for b in bounds) if (bounds := ranked.bounds(percentile)) else (None, None)
        )
        yield Point((*labels, f"p{percentile}"), seconds, ranked.total, lower, upper)
