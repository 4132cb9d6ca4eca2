"""What the KPIs stood at over the last five weeks, a reading an hour: the past of charts, and the baseline of states.

A file of its own beside the journal, so that nothing waits for it and it may be deleted: it begins anew.

    hours   KPI, hour → labels, value, bounds of each series that could be trusted then
    meta    began: value stream → since when it is known;  standings: what states have to remember
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from flowmetrics.drift import SAMPLED, WEEKS, Baseline, Then, baseline_of
from flowmetrics.families import Labels
from flowmetrics.instants import SECOND_US, duration_us
from flowmetrics.kpi import DriftAlert, Kpi, Point
from flowmetrics.steps.read import Points

log = logging.getLogger(__name__)

FILE: Final = "readings.db"
HOUR_SECONDS: Final = 3600
WEEK_HOURS: Final = 7 * 24
KEPT_HOURS: Final = (WEEKS[-1] + 1) * WEEK_HOURS
NEAR_HOURS: Final = 1
"""A reading so far from the same time of a week still is one: it bridges a restart."""
SERIES_MAX: Final = 5000
"""Series kept of an hour; the page shows no more either."""

SeriesKey: TypeAlias = tuple[str, Labels]
"""A KPI and the full labels of one of its series."""
Row: TypeAlias = tuple[list[tuple[str, str]], float, float | None, float | None]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Row]).decode

_DAMAGED: Final = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""What SQLite says of a file that holds something else: one that is only locked, or finds no descriptor, is kept."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS hours (kpi TEXT, hour INTEGER, body BLOB, PRIMARY KEY (kpi, hour)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
"""


class Past:
    """The file of readings in a folder; in memory where the folder cannot be written. May be used by any thread."""

    def __init__(self, folder: Path | None) -> None:
        self._lock = threading.Lock()
        self._database = _opened(folder)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    def keep(self, hour: int, points: Points, kpis: Iterable[Kpi]) -> None:
        """Keep what can be trusted of a reading at the begin of an hour, and forget what is older than five weeks."""
        began = self.begin({stream: hour * HOUR_SECONDS for _, stream in points})
        left, rows = SERIES_MAX, []
        for kpi in kpis:
            of = [pair for (name, _), pairs in points.items() if name == kpi.name for pair in pairs]
            kept = [row for labels, point in of if (row := _row(kpi, labels, point, hour, began))][:left]
            left -= len(kept)
            rows.append((kpi.name, hour, zlib.compress(_encode(kept), 1)))
        self._write("INSERT OR REPLACE INTO hours VALUES (?, ?, ?)", rows)
        self._write("DELETE FROM hours WHERE hour < ?", [(hour - KEPT_HOURS,)])

    def begin(self, seconds: Mapping[str, int]) -> Mapping[str, int]:
        """Note since which second value streams are known, where that is news; since when all are."""
        began: dict[str, int] = self.remembered("began") or {}
        news = {stream: at for stream, at in seconds.items() if at < began.get(stream, at + 1)}
        if news:
            began.update(news)
            self.remember("began", began)
        return began

    def baselines(self, hour: int, kpis: Iterable[Kpi]) -> dict[SeriesKey, Baseline]:
        """What is usual at an hour, of each series that was trusted in enough of the weeks before it."""
        found: dict[SeriesKey, Baseline] = {}
        for kpi in kpis:
            weekly: dict[Labels, list[Then]] = defaultdict(list)
            for weeks in WEEKS:
                near: dict[Labels, list[Then]] = defaultdict(list)
                then = hour - weeks * WEEK_HOURS
                for _, rows in self._hours(kpi.name, then - NEAR_HOURS, then + NEAR_HOURS):
                    for labels, value, lower, upper in rows:
                        near[_labels(labels)].append(Then(value, lower, upper))
                for key, several in near.items():
                    weekly[key].append(_middle(several))
            for key, thens in weekly.items():
                baseline = baseline_of(kpi, thens)
                if baseline is not None:
                    found[kpi.name, key] = baseline
        return found

    def lines(self, kpi: str, value_stream: str) -> list[dict[str, Any]]:
        """The series of a KPI in a value stream over what is kept: labels, and points of second, value and bounds."""
        lines: dict[Labels, list[tuple[int, float, float | None, float | None]]] = defaultdict(list)
        for hour, rows in self._hours(kpi, 0, 2**62):
            for labels, value, lower, upper in rows:
                key = _labels(labels)
                if ("value_stream", value_stream) in key:
                    lines[key].append((hour * HOUR_SECONDS, value, lower, upper))
        return [{"labels": dict(labels), "points": points} for labels, points in lines.items()]

    def knows(self, hour: int) -> bool:
        """Whether each week before an hour was read near it, whatever could be trusted then."""
        with self._lock:
            return all(
                self._database.execute(
                    "SELECT 1 FROM hours WHERE hour BETWEEN ? AND ? LIMIT 1",
                    (then - NEAR_HOURS, then + NEAR_HOURS),
                ).fetchone()
                for then in (hour - weeks * WEEK_HOURS for weeks in WEEKS)
            )

    def remember(self, name: str, value: object) -> None:
        """Keep a word."""
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(name, _encode(value))])

    def remembered(self, name: str) -> Any:
        """A word that was kept; None for none."""
        with self._lock:
            row = self._database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return msgspec.msgpack.decode(row[0]) if row else None

    def _hours(self, kpi: str, first: int, last: int) -> list[tuple[int, list[Row]]]:
        with self._lock:
            sql = "SELECT hour, body FROM hours WHERE kpi = ? AND hour BETWEEN ? AND ? ORDER BY hour"
            stored = self._database.execute(sql, (kpi, first, last)).fetchall()
        return [(hour, _decode(zlib.decompress(body))) for hour, body in stored]

    def _write(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        with self._lock:
            try:
                with self._database:
                    self._database.executemany(sql, rows)
            except sqlite3.Error as error:  # a full disk stops the engine, which says so; not the page
                log.warning("readings are not kept for now: %s", error)


def _middle(several: Sequence[Then]) -> Then:
    """Of readings within an hour of each other the one in the middle."""
    return sorted(several, key=lambda then: then.value)[(len(several) - 1) // 2]


def _row(kpi: Kpi, labels: Labels, point: Point, hour: int, began: Mapping[str, int]) -> Row | None:
    sampled = not isinstance(kpi.alert, DriftAlert) or kpi.alert.noise in SAMPLED
    if point.value is None or (sampled and point.samples < kpi.samples_min):
        return None
    said = dict(labels)
    window_us = duration_us(said["window"]) if "window" in said else 0
    if hour * HOUR_SECONDS - window_us // SECOND_US < began[said["value_stream"]]:
        return None  # the window reaches back to before anything was told: a part of it is no reading of it
    return [*labels], point.value, point.lower, point.upper


def _opened(folder: Path | None) -> sqlite3.Connection:
    """The database in a folder: what is damaged begins anew, and what cannot be opened or written is kept in memory."""
    if folder is not None:
        with suppress(sqlite3.Error, OSError):
            try:
                return _connect(folder / FILE)
            except sqlite3.Error as error:
                if error.sqlite_errorcode & 0xFF in _DAMAGED:
                    return _anew(folder / FILE)
    return _connect(":memory:")


def _anew(path: Path) -> sqlite3.Connection:
    log.warning("%s could not be read; the baselines of states begin anew", path)
    for beside in ("", "-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    return _connect(path)


def _connect(path: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.executescript(_SCHEMA)
        database.execute("SELECT count(*) FROM meta").fetchone()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _labels(labels: Iterable[tuple[str, str]]) -> Labels:
    return tuple((name, value) for name, value in labels)
