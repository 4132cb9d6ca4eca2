"""Whether a KPI has moved in its bad direction: held against the same time of former weeks, and said calmly.

The baseline is the median of the values one to four weeks ago. The limit lies as far from it as the KPI must move: by
its minimum, by three spreads of those weeks, and beyond what chance explains. The rules for Prometheus say the same:

    value      │          ┌─────────── beyond: suspect, and drifting once that was held
    limit     ─┼──────────┤
    half way   ┼ ─ ─ ─ ─ ─┤ ─ ─ ─ ─ ─  a drift ends below this, once that was kept
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

from flowmetrics.kpi import Better, DriftAlert, Kpi, Noise, Point

WEEKS: Final = (1, 2, 3, 4)
"""A baseline is read at the same time of so many weeks ago."""
WEEKS_MIN: Final = 3
"""How many former weeks a baseline takes before anything is concluded."""
SPREADS: Final = 3
"""How many spreads away from the baseline a change begins."""
MAD_TO_DEVIATION: Final = 1.4826
"""The standard deviation of a normal distribution over its median absolute deviation."""
SAMPLED: Final = frozenset({Noise.BOUNDS, Noise.SPREAD})
"""Where too few samples make a value worthless; a count is exact, and what it is compared with must be large enough."""


class State(enum.Enum):
    """What may be said of a series now."""

    OK = "ok"
    SUSPECT = "suspect"
    """Beyond its limit, not for long enough to be sure."""
    DRIFTING = "drifting"
    WARMING = "warming"
    """There is no baseline yet."""
    INSUFFICIENT = "insufficient"
    """Too few samples lie under it."""
    STALE = "stale"
    """There is no current reading: the engine is not ready, or does not answer."""


@dataclass(frozen=True, slots=True)
class Then:
    """What a series stood at in the same hour of one former week, with its bounds if it has any."""

    value: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is usual at this time of the week: medians of value and bounds, robust spread, and of how many weeks."""

    value: float
    lower: float | None
    upper: float | None
    spread: float
    weeks: int


def baseline_of(kpi: Kpi, weekly: Sequence[Then]) -> Baseline | None:
    """The baseline of former weeks; None where they are too few, or where nobody is told of a drift.

    >>> from flowmetrics.kpis.flow import FLOW_KPIS
    >>> baseline_of(FLOW_KPIS[0], [Then(100.0), Then(100.0), Then(100.0), Then(900.0)])
    Baseline(value=100.0, lower=None, upper=None, spread=0.0, weeks=4)
    """
    if len(weekly) < WEEKS_MIN or not isinstance(kpi.alert, DriftAlert):
        return None
    middle = median(then.value for then in weekly)
    lower = [then.lower for then in weekly if then.lower is not None]
    upper = [then.upper for then in weekly if then.upper is not None]
    return Baseline(
        middle,
        median(lower) if lower else None,
        median(upper) if upper else None,
        MAD_TO_DEVIATION * median(abs(then.value - middle) for then in weekly),
        len(weekly),
    )


@dataclass(frozen=True, slots=True)
class Limit:
    """The value beyond which a KPI has moved, the one at which it is calm again, and whether its bad side is up."""

    at: float
    calm_at: float
    rises: bool


def limit_of(kpi: Kpi, point: Point, baseline: Baseline) -> Limit | None:
    """Where the drift of a series begins; None where nobody is told, or where chance cannot be told from change.

    >>> from flowmetrics.kpis.flow import FLOW_KPIS
    >>> limit_of(FLOW_KPIS[0], Point((), 130.0, 50, 125.0, 140.0), Baseline(100.0, 97.0, 104.0, 5.0, 4))
    Limit(at=120.0, calm_at=110.0, rises=True)
    """
    alert, rises = kpi.alert, kpi.better is Better.LOWER
    if not isinstance(alert, DriftAlert):
        return None
    noise = _noise(alert.noise, rises, point, baseline)
    counted = alert.noise is Noise.COUNTING
    if noise is None or (counted and not rises and baseline.value < kpi.samples_min):
        return None
    minimum = alert.minimum if alert.points else alert.minimum * baseline.value
    margin = max(SPREADS * baseline.spread, minimum, noise)
    if counted and rises:
        margin = max(margin, kpi.samples_min - baseline.value)
    sign = 1 if rises else -1
    return Limit(baseline.value + sign * margin, baseline.value + sign * margin / 2, rises)


def _noise(noise: Noise, rises: bool, point: Point, baseline: Baseline) -> float | None:
    """By how much chance alone may move the value in its bad direction; None where that cannot be told.

    Two counts a and b differ by chance while (a - b)² < 9 (a + b), because the variance of a count is about itself;
    solved for the distance of b from a.
    """
    if noise is Noise.SPREAD:
        return 0.0
    if noise is Noise.COUNTING:
        return 3 * math.sqrt(2 * max(baseline.value, 0.0) + 2.25) + (4.5 if rises else -4.5)
    then, now = (baseline.upper, point.lower) if rises else (baseline.lower, point.upper)
    if then is None or now is None or point.value is None:
        return None
    return abs(then - baseline.value) + abs(now - point.value)


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

    `point` is None where there is no current reading.
    """
    alert = kpi.alert
    if not isinstance(alert, DriftAlert):
        return None
    if point is None:
        return Finding.STALE
    if point.value is None or (alert.noise in SAMPLED and point.samples < kpi.samples_min):
        return Finding.INSUFFICIENT
    if baseline is None:
        return Finding.WARMING
    limit = limit_of(kpi, point, baseline)
    return _against(limit, point.value) if limit else Finding.INSUFFICIENT


def _against(limit: Limit, value: float) -> Finding:
    sign = 1 if limit.rises else -1
    if sign * value > sign * limit.at:
        return Finding.BEYOND
    return Finding.BETWEEN if sign * value > sign * limit.calm_at else Finding.CALM


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a series, since when it is so, and what is remembered for the next one. Instants."""

    state: State
    since: int
    drifting: bool = False
    turned_at: int | None = None
    """Since when it is beyond, or while it drifts since when it is calm."""

    def then(self, found: Finding, now: int, hold: int, keep: int) -> Standing:
        """The standing after another finding at `now`: a drift begins once it is beyond for `hold`, and ends once it is
        calm for `keep`.

        >>> suspect = Standing(State.OK, 0).then(Finding.BEYOND, 10, hold=60, keep=600)
        >>> suspect.state.value, suspect.then(Finding.BEYOND, 70, hold=60, keep=600).state.value
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
        if now - turned_at < (keep if self.drifting else hold):
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
