"""What the live page is fed with: the catalogue, the values so far, and each reading as it is made."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import orjson

from flowmetrics import __version__
from flowmetrics.families import Labels
from flowmetrics.kpi import Kpi, Point
from flowmetrics.steps.read import Points

POINTS_MAX: Final = 720
SPACING_SECONDS: Final = 5
"""A point of a chart every five seconds for an hour."""
SERIES_MAX: Final = 5000
"""Series with a chart; a page with more is not read by anybody. Prometheus has them all."""
WAITING_MAX: Final = 32
"""Readings that wait for a slow browser; then it is let go, and comes back for the whole."""


class LiveFeed:
    """Keeps the recent past of each series and hands every reading to those who listen."""

    def __init__(
        self, kpis: tuple[Kpi, ...], loop: asyncio.AbstractEventLoop, state: Callable[[], tuple[bool, str]]
    ) -> None:
        self._kpis = {kpi.name: kpi for kpi in kpis}
        self._catalogue = _catalogue(kpis)
        self._loop = loop
        self._state = state
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
        catalogue = _catalogue(kpis)
        if catalogue == self._catalogue:
            return
        self._catalogue = catalogue
        self._kpis.update({kpi.name: kpi for kpi in kpis})
        names = {kpi.name for kpi in kpis}
        self._seen = {place: points for place, points in self._seen.items() if place[0] in names}
        self._series = {series: kept for series, kept in self._series.items() if series[0] in names}
        with contextlib.suppress(RuntimeError):  # the server has closed its loop: nobody listens any more
            self._loop.call_soon_threadsafe(self.close)

    def history(self) -> bytes:
        """The recent past of each series."""
        series = [
            {**self._told(kpi, labels, point), "points": list(points)}
            for (kpi, labels), (point, points) in list(self._series.items())
        ]
        return orjson.dumps({"series": series})

    def listen(self) -> asyncio.Queue[bytes | None]:
        """A queue of readings as JSON, beginning with the state of now; None ends it."""
        listener: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING_MAX)
        listener.put_nowait(self._reading(int(time.time()), []))
        self._listeners.add(listener)
        return listener

    def leave(self, listener: asyncio.Queue[bytes | None]) -> None:
        """No more readings for a queue."""
        self._listeners.discard(listener)

    def beat(self) -> None:
        """A reading without values, so that a silent engine can be told from a broken line."""
        self._broadcast(self._reading(int(time.time()), []))

    def publish(self, at: int, points: Points) -> None:
        """Take a reading; called from the engine's thread."""
        values = []
        for place in [place for place in self._seen if place not in points]:
            values += [self._gone(at, place[0], labels) for labels, _ in self._seen.pop(place)]
        for place, now in points.items():
            before = self._seen.get(place)
            if before is not now:
                self._seen[place] = now
                values += self._changed(at, place[0], dict(before or ()), now)
        payload = self._reading(at, values)
        with contextlib.suppress(RuntimeError):  # the server has closed its loop: nobody listens any more
            self._loop.call_soon_threadsafe(self._broadcast, payload)

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
        }

    def _reading(self, at: int, values: list[dict[str, Any]]) -> bytes:
        ready, reason = self._state()
        return orjson.dumps({"at": at, "ready": ready, "reason": reason, "values": values})

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


def _catalogue(kpis: tuple[Kpi, ...]) -> bytes:
    told = [
        {
            "name": kpi.name,
            "metric": kpi.metric,
            "question": kpi.question,
            "unit": kpi.unit.value,
            "better": kpi.better.value,
            "labels": list(kpi.labels),
            "group": kpi.group,
        }
        for kpi in kpis
    ]
    return orjson.dumps({"version": __version__, "kpis": told})
