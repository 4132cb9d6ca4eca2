"""Whether a KPI has moved in its bad direction: held against the same time of former weeks, and said calmly.

The baseline is the median of the values one to four weeks ago, the band reaches as far from it as the KPI may move:

    value      │          ┌─────────── beyond: suspect, and drifting once it lasted a dwell
    threshold ─┼──────────┤
    half way   ┼ ─ ─ ─ ─ ─┤ ─ ─ ─ ─ ─  a drift ends below this, once that lasted a dwell
    baseline  ─┼──────────┘

Nothing is said of what is not known: without a reading a series is `stale`, with too few samples `insufficient`, with
too few former weeks `warming`. A drift is remembered through all three: it does not end because the numbers went away.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US, duration_us
from flowmetrics.kpi import Better, DriftAlert, Kpi, Point, Unit

WEEKS_AGO: Final = (1, 2, 3, 4)
"""A baseline is read at the same time of so many weeks ago."""
WEEKS_MIN: Final = 3
"""Of fewer weeks nothing is concluded."""
SPREADS_MIN: Final = 3.0
"""A drift is so many spreads away from the baseline, however small the effect that would matter is."""
SPREAD_FLOOR: Final = 0.05
"""Four weeks that happened to be alike do not make every change a drift: a share of the baseline."""
MAD_TO_DEVIATION: Final = 1.4826
"""The median absolute deviation of a normal distribution times this is its standard deviation."""

_COUNTS: Final = frozenset({Unit.ITEMS, Unit.USERS, Unit.REQUESTS})


class State(enum.Enum):
    """What may be said of a series now."""

    OK = "ok"
    SUSPECT = "suspect"
    """Beyond its band, for less than a dwell."""
    DRIFTING = "drifting"
    WARMING = "warming"
    """There is no baseline yet."""
    INSUFFICIENT = "insufficient"
    """Too few samples lie under it."""
    STALE = "stale"
    """There is no current reading: the engine is not ready, or does not answer."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is usual at this time of the week: median and robust spread of the values of `weeks` weeks."""

    middle: float
    spread: float
    weeks: int


@dataclass(frozen=True, slots=True)
class Band:
    """The values at which a KPI is suspect, on its bad side(s) only, and those at which it is calm again."""

    low: float | None
    high: float | None
    calm_low: float | None
    calm_high: float | None


def baseline_of(kpi: Kpi, values: Sequence[float]) -> Baseline | None:
    """The baseline of the values at the same time of former weeks; None where they are too few.

    >>> from flowmetrics.kpis.flow import FLOW_KPIS
    >>> baseline_of(FLOW_KPIS[0], [100.0, 100.0, 100.0, 900.0])
    Baseline(middle=100.0, spread=5.0, weeks=4)
    >>> baseline_of(FLOW_KPIS[0], [100.0, 110.0])
    """
    if len(values) < WEEKS_MIN:
        return None
    middle = median(values)
    deviation = MAD_TO_DEVIATION * median(abs(value - middle) for value in values)
    counted = math.sqrt(middle) if kpi.unit in _COUNTS and middle > 0 else 0.0  # what chance alone does to a count
    return Baseline(middle, max(deviation, SPREAD_FLOOR * abs(middle), counted), len(values))


def band_of(kpi: Kpi, baseline: Baseline) -> Band | None:
    """How far the KPI may be from its baseline; None where nobody is told of a drift.

    >>> from flowmetrics.kpis.flow import FLOW_KPIS
    >>> band_of(FLOW_KPIS[0], Baseline(100.0, 5.0, 4))
    Band(low=None, high=120.0, calm_low=None, calm_high=110.0)
    """
    if not isinstance(kpi.alert, DriftAlert):
        return None
    middle = baseline.middle
    distance = max(kpi.alert.minimum * abs(middle), SPREADS_MIN * baseline.spread)
    falls, rises = kpi.better is not Better.LOWER, kpi.better is not Better.HIGHER
    return Band(
        middle - distance if falls else None,
        middle + distance if rises else None,
        middle - distance / 2 if falls else None,
        middle + distance / 2 if rises else None,
    )


class Finding(enum.Enum):
    """What one reading says about a series, whatever was said before."""

    CALM = enum.auto()
    BETWEEN = enum.auto()
    BEYOND = enum.auto()
    WARMING = enum.auto()
    INSUFFICIENT = enum.auto()
    STALE = enum.auto()


def finding(kpi: Kpi, point: Point | None, baseline: Baseline | None) -> Finding | None:
    """What a point says against a baseline; None where nobody is told of a drift.

    `point` is None where there is no current reading. A value with bounds is beyond only if they exclude the baseline.
    """
    if not isinstance(kpi.alert, DriftAlert):
        return None
    if point is None:
        return Finding.STALE
    if point.value is None or point.samples < kpi.samples_min:
        return Finding.INSUFFICIENT
    band = band_of(kpi, baseline) if baseline else None
    return _against(baseline, band, point.value, point) if baseline and band else Finding.WARMING


def _against(baseline: Baseline, band: Band, value: float, point: Point) -> Finding:
    lower, upper = (value if bound is None else bound for bound in (point.lower, point.upper))
    if band.low is not None and value < band.low and upper < baseline.middle:
        return Finding.BEYOND
    if band.high is not None and value > band.high and lower > baseline.middle:
        return Finding.BEYOND
    fallen = band.calm_low is not None and value < band.calm_low
    risen = band.calm_high is not None and value > band.calm_high
    return Finding.BETWEEN if fallen or risen else Finding.CALM


def dwell_us(window: str | None) -> int:
    """How long a series must be beyond its band to drift, and calm to be well again: by its window.

    >>> dwell_us("1d") // MINUTE_US, dwell_us("30d") // MINUTE_US, dwell_us(None) // MINUTE_US
    (30, 120, 30)
    """
    return 2 * HOUR_US if window is not None and duration_us(window) > DAY_US else 30 * MINUTE_US


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a series, since when it is so, and what is remembered for the next one. Instants."""

    state: State
    since: int
    drifting: bool = False
    turned_at: int | None = None
    """Since when it is beyond, or while it drifts since when it is calm."""

    def then(self, found: Finding, now: int, dwell: int) -> Standing:
        """The standing after another finding at `now`.

        >>> suspect = Standing(State.OK, 0).then(Finding.BEYOND, 10, dwell=60)
        >>> suspect.state.value, suspect.then(Finding.BEYOND, 70, dwell=60).state.value
        ('suspect', 'drifting')
        """
        if found in _UNKNOWN:
            return self._in(_UNKNOWN[found], now)
        turning = found is (Finding.CALM if self.drifting else Finding.BEYOND)
        if not turning:
            stays = self.drifting or (found is Finding.BETWEEN and self.state is State.SUSPECT)
            turned_at = self.turned_at if stays and not self.drifting else None
            kept = State.DRIFTING if self.drifting else State.SUSPECT if stays else State.OK
            return replace(self._in(kept, now), turned_at=turned_at)
        turned_at = now if self.turned_at is None else self.turned_at
        if now - turned_at < dwell:
            return replace(self._in(State.DRIFTING if self.drifting else State.SUSPECT, now), turned_at=turned_at)
        drifting = not self.drifting
        return replace(self._in(State.DRIFTING if drifting else State.OK, now), drifting=drifting, turned_at=None)

    def _in(self, state: State, now: int) -> Standing:
        return replace(self, state=state, since=self.since if state is self.state else now)


_UNKNOWN: Final = {
    Finding.STALE: State.STALE,
    Finding.INSUFFICIENT: State.INSUFFICIENT,
    Finding.WARMING: State.WARMING,
}
