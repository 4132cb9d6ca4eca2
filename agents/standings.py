"""The states of all series as readings come in, and what of them outlives a restart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from agents.past import Past, SeriesKey
from flowmetrics.drift import Baseline, Standing, State, finding, limit_of
from flowmetrics.instants import SECOND_US, duration_us
from flowmetrics.kpi import DriftAlert, Kpi, Point

_NAME: Final = "standings"
_WELL: Final = frozenset({State.OK, State.WARMING, State.INSUFFICIENT})
Stored = list[tuple[str, list[tuple[str, str]], str, int, bool, int | None]]


class Standings:
    """The state of each series, by its findings so far. `baselines` may be replaced at any time."""

    def __init__(self, past: Past, kpis: Iterable[Kpi]) -> None:
        self._past = past
        self.kpis: Mapping[str, Kpi] = {kpi.name: kpi for kpi in kpis}
        self.baselines: Mapping[SeriesKey, Baseline] = {}
        self._standings: dict[SeriesKey, Standing] = {}
        self._stored: Stored = msgspec.convert(past.remembered(_NAME) or [], Stored, strict=False)
        for kpi, labels, state, since, drifting, turned_at in self._stored:
            self._standings[kpi, tuple(labels)] = Standing(State(state), since, drifting, turned_at)

    def judge(self, key: SeriesKey, point: Point | None, at: int) -> bool:
        """Take the reading of a series at second `at`, None where there is none; whether its state changed."""
        kpi = self.kpis[key[0]]
        found = finding(kpi, point, self.baselines.get(key))
        if found is None or not isinstance(kpi.alert, DriftAlert):
            return False
        before = self._standings.get(key)
        hold, keep = (duration_us(lasting) // SECOND_US for lasting in (kpi.alert.hold, kpi.alert.keep))
        after = self._standings[key] = (before or Standing(State.WARMING, at)).then(found, at, hold, keep)
        return before is None or after.state is not before.state

    def told(self, key: SeriesKey, point: Point) -> dict[str, Any]:
        """The state of a series as it is told: `state` and `since`, `usual` at this time, and its limit."""
        kpi, standing, baseline = self.kpis[key[0]], self._standings.get(key), self.baselines.get(key)
        limit = limit_of(kpi, point, baseline) if baseline else None
        return {
            "state": standing.state.value if standing else None,
            "since": standing.since if standing else None,
            "usual": baseline.value if baseline else None,
            "weeks": baseline.weeks if baseline else 0,
            "band_low": limit.at if limit and not limit.rises else None,
            "band_high": limit.at if limit and limit.rises else None,
        }

    def store(self) -> None:
        """Keep what must outlive a restart: who is suspect, and who drifts."""
        now: Stored = [
            (kpi, [*labels], one.state.value, one.since, one.drifting, one.turned_at)
            for (kpi, labels), one in list(self._standings.items())
            if one.drifting or one.state not in _WELL
        ]
        if now != self._stored:
            self._past.remember(_NAME, now)
            self._stored = now
