"""What the live page is fed with: the catalogue, the values so far, and each reading as it is made."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any, Final

import orjson

from agents.past import HOUR_SECONDS, Past
from agents.standings import Standings
from flowmetrics import __version__
from flowmetrics.configuration import Configuration
from flowmetrics.families import Labels
from flowmetrics.kpi import BurnAlert, DriftAlert, Kpi, NoAlert, Point
from flowmetrics.kpis import selected
from flowmetrics.publishing.rules.cells import watched
from flowmetrics.publishing.rules.form import runbook
from flowmetrics.steps.read import Points

log = logging.getLogger(__name__)

POINTS_MAX: Final = 720
SPACING_SECONDS: Final = 5
"""A point of a chart every five seconds for an hour."""
SERIES_MAX: Final = 5000
"""Series with a chart; a page with more is not read by anybody. Prometheus has them all."""
JUDGE_SECONDS: Final = 5
"""States move with time, too: so often those of unchanged series are looked at."""
STORE_SECONDS: Final = 60
KEEP_SECONDS: Final = 600
"""A reading so soon after a full hour stands for that hour."""
WAITING_MAX: Final = 32
"""Readings that wait for a slow browser; then it is let go, and comes back for the whole."""


class LiveFeed:
    """Keeps the recent past of each series, judges it, and hands every reading to those who listen.

    `past` has the baselines; what takes a while of it is done by `helpers`, of which there is one.
    All that is told names the `worker`, a process, so that nobody takes the numbers of two for those of one.
    """

    def __init__(
        self,
        configuration: Configuration,
        loop: asyncio.AbstractEventLoop,
        state: Callable[[], tuple[bool, str]],
        past: Past,
        helpers: Executor,
    ) -> None:
        local = configuration.broker.startswith("local://")
        self._details = "elsewhere" if not local else "token" if configuration.token_file else "open"
        self._watched = {each.kpi.name: each for each in watched(configuration)}
        self._runbooks = {name: runbook(each.name, configuration) for name, each in self._watched.items()}
        kpis = selected(configuration)
        self._kpis = {kpi.name: self._as_watched(kpi) for kpi in kpis}
        self._past = past
        self._helpers = helpers
        self._standings = Standings(past, self._kpis.values())
        self._read_at = int(time.time())
        """The instant of the last reading; before the first, when this began."""
        self._judged_at = self._stored_at = self._hour = 0
        self._usual_is_new = False
        self._loop = loop
        self._state = state
        self._worker = secrets.token_hex(4)
        self._catalogue = self._catalogue_of(kpis)
        self._seen: dict[tuple[str, str], list[tuple[Labels, Point]]] = {}
        self._series: dict[tuple[str, Labels], tuple[Point, deque[tuple[int, float | None]]]] = {}
        self._listeners: set[asyncio.Queue[bytes | None]] = set()

    def catalogue(self) -> bytes:
        """Every KPI that may be shown."""
        return self._catalogue

    def show(self, kpis: tuple[Kpi, ...]) -> None:
        """From now on these KPIs are shown; where they are others, every browser is let go, and comes back for them.

        Called from the engine's thread.
        """
        catalogue = self._catalogue_of(kpis)
        if catalogue == self._catalogue:
            return
        self._catalogue = catalogue
        self._kpis.update({kpi.name: self._as_watched(kpi) for kpi in kpis})
        self._standings.kpis = self._kpis
        names = {kpi.name for kpi in kpis}
        self._seen = {place: points for place, points in self._seen.items() if place[0] in names}
        self._series = {series: kept for series, kept in self._series.items() if series[0] in names}
        with contextlib.suppress(RuntimeError):  # the server has closed its loop: nobody listens any more
            self._loop.call_soon_threadsafe(self.close)

    def now(self) -> bytes:
        """The state of now: what each series stands at, without its past."""
        ready, reason = self._state()
        series = [self._told(*key, point) for key, (point, _) in list(self._series.items()) if point.value is not None]
        return orjson.dumps({**self._instants(), "ready": ready, "reason": reason, "series": series})

    def history(self) -> bytes:
        """The recent past of each series."""
        series = [
            {**self._told(kpi, labels, point), "points": list(points)}
            for (kpi, labels), (point, points) in list(self._series.items())
        ]
        return orjson.dumps({"worker": self._worker, "series": series})

    def listen(self) -> asyncio.Queue[bytes | None]:
        """A queue of readings as JSON, beginning with the state of now; None ends it."""
        listener: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING_MAX)
        listener.put_nowait(self._reading([]))
        self._listeners.add(listener)
        return listener

    def leave(self, listener: asyncio.Queue[bytes | None]) -> None:
        """No more readings for a queue."""
        self._listeners.discard(listener)

    def beat(self) -> None:
        """The last reading again, without values: the line is not broken, and how old that is tells of the engine."""
        self._broadcast(self._reading([]))

    def publish(self, at: int, points: Points) -> None:
        """Take a reading; called from the engine's thread. What is no KPI of the catalogue is left out."""
        self._read_at = at
        values, points = [], {place: now for place, now in points.items() if place[0] in self._kpis}
        for place in [place for place in self._seen if place not in points]:
            values += [self._gone(at, place[0], labels) for labels, _ in self._seen.pop(place)]
        for place, now in points.items():
            before = self._seen.get(place)
            if before is not now:
                self._seen[place] = now
                values += self._changed(at, place[0], dict(before or ()), now)
        if self._state()[0]:
            self._keep_time(at, points)
        if self._usual_is_new or at - self._judged_at >= JUDGE_SECONDS:
            values += self._judged(at)
        payload = self._reading(values)
        with contextlib.suppress(RuntimeError):  # the server has closed its loop: nobody listens any more
            self._loop.call_soon_threadsafe(self._broadcast, payload)

    def renew(self) -> None:
        """Read the baselines anew: there is more of a past than there was."""
        self._later(self._read_usual, self._hour)

    def _keep_time(self, at: int, points: Points) -> None:
        """What is due: a reading of the hour to be kept, the baselines of the next one, states to be stored."""
        hour = at // HOUR_SECONDS
        if hour != self._hour:
            self._hour = hour
            if at % HOUR_SECONDS < KEEP_SECONDS:
                self._later(self._past.keep, hour, points, tuple(self._kpis.values()))
            self._later(self._read_usual, hour)
        if at - self._stored_at >= STORE_SECONDS:
            self._stored_at = at
            self._later(self._standings.store)

    def _later(self, work: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the server is being stopped
            self._helpers.submit(work, *arguments).add_done_callback(_heard)

    def _read_usual(self, hour: int) -> None:
        self._standings.baselines = self._past.baselines(hour, tuple(self._kpis.values()))
        self._usual_is_new = True

    def _judged(self, at: int) -> list[dict[str, Any]]:
        """The series of which another state is to be told, or another baseline."""
        told, self._usual_is_new, self._judged_at = self._usual_is_new, False, at
        return [
            self._told(*key, point)
            for key, (point, _) in self._series.items()
            if self._standings.judge(key, self._present(point), at) or told
        ]

    def _present(self, point: Point) -> Point | None:
        """The point, if there is a current reading at all."""
        return point if self._state()[0] else None

    def close(self) -> None:
        """Let every listener go."""
        for listener in list(self._listeners):
            self._put(listener, None)

    def _changed(
        self, at: int, kpi: str, before: dict[Labels, Point], now: list[tuple[Labels, Point]]
    ) -> list[dict[str, Any]]:
        values = []
        for labels, point in now:
            if before.pop(labels, None) != point and self._keep(at, kpi, labels, point):
                values.append(self._told(kpi, labels, point))
        return values + [self._gone(at, kpi, labels) for labels in before]

    def _gone(self, at: int, kpi: str, labels: Labels) -> dict[str, Any]:
        nothing = Point((), None, 0)
        self._keep(at, kpi, labels, nothing)
        return self._told(kpi, labels, nothing)

    def _keep(self, at: int, kpi: str, labels: Labels, point: Point) -> bool:
        held = self._series.get((kpi, labels))
        if held is None and len(self._series) >= SERIES_MAX:
            return False
        points = held[1] if held else deque[tuple[int, float | None]](maxlen=POINTS_MAX)
        if len(points) > 1 and at - points[-2][0] < SPACING_SECONDS:
            points.pop()
        points.append((at, point.value))
        self._series[kpi, labels] = (point, points)
        self._standings.judge((kpi, labels), self._present(point), at)
        return True

    def _told(self, kpi: str, labels: Labels, point: Point) -> dict[str, Any]:
        sufficient = None if point.value is None else point.samples >= self._kpis[kpi].samples_min
        return {
            "kpi": kpi,
            "labels": dict(labels),
            "value": point.value,
            "lower": point.lower,
            "upper": point.upper,
            "samples": point.samples,
            "sufficient": sufficient,
            **self._standings.told((kpi, labels), point),
        }

    def _reading(self, values: list[dict[str, Any]]) -> bytes:
        ready, reason = self._state()
        told = {"worker": self._worker, **self._instants(), "ready": ready, "reason": reason, "values": values}
        return orjson.dumps(told)

    def _instants(self) -> dict[str, int]:
        """Of the last reading, and of now by the same clock."""
        return {"at": self._read_at, "now": int(time.time())}

    def _broadcast(self, payload: bytes) -> None:
        for listener in list(self._listeners):
            self._put(listener, payload)

    def _put(self, listener: asyncio.Queue[bytes | None], payload: bytes | None) -> None:
        try:
            listener.put_nowait(payload)
        except asyncio.QueueFull:
            self._listeners.discard(listener)
            listener.get_nowait()
            listener.put_nowait(None)

    def _as_watched(self, kpi: Kpi) -> Kpi:
        """The KPI with the alert that it has under the configuration."""
        each = self._watched.get(kpi.name)
        if each is None:
            return kpi
        return replace(kpi, alert=each.declared, better=each.kpi.better, samples_min=each.kpi.samples_min)

    def _catalogue_of(self, kpis: tuple[Kpi, ...]) -> bytes:
        told = [self._introduced(self._as_watched(kpi)) for kpi in kpis]
        return orjson.dumps({"worker": self._worker, "version": __version__, "details": self._details, "kpis": told})

    def _introduced(self, kpi: Kpi) -> dict[str, Any]:
        """What is said of a KPI; `watched` are the labels of the series that its alert reads."""
        each = self._watched.get(kpi.name)
        return {
            "name": kpi.name,
            "metric": kpi.metric,
            "question": kpi.question,
            "unit": kpi.unit.value,
            "better": kpi.better.value,
            "labels": list(kpi.labels),
            "group": kpi.group,
            "samples_min": kpi.samples_min,
            "watched": dict(each.cells) if each else None,
            "alert": each.name if each else None,
            "runbook": self._runbooks.get(kpi.name),
            "next_step": kpi.alert.next_step if isinstance(kpi.alert, DriftAlert) else None,
            "not_judged": _not_judged(kpi.alert),
        }


def _not_judged(alert: DriftAlert | BurnAlert | NoAlert) -> str | None:
    if isinstance(alert, BurnAlert):
        return f"It is a share of {alert.of} that was promised; the rules watch how fast its budget is spent."
    return alert.why if isinstance(alert, NoAlert) else None


def _heard(done: Future[object]) -> None:
    if (error := done.exception()) is not None:
        log.error("a part of the page failed; report this", exc_info=error)
