"""The hourly readings: what could be trusted is found again weeks later, and a gap of an hour does not matter."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from agents.live import LiveFeed
from agents.past import FILE, KEPT_HOURS, WEEK_HOURS, Past
from agents.standings import Standings
from flowmetrics.configuration import Configuration
from flowmetrics.kpi import DriftAlert, Kpi, Point
from flowmetrics.kpis import selected
from flowmetrics.steps.read import Points

pytestmark = pytest.mark.usefixtures("pasts")

CONFIGURATION = Configuration(kpis=("flow_time",))
(FLOW_TIME,) = selected(CONFIGURATION)
LABELS = (("value_stream", "shop"), ("item_type", "all"), ("window", "7d"), ("percentile", "p85"))
KEY = ("flow_time", LABELS)
NOW_HOUR = 500_000
DAY_HOURS = 24


def points(value: float | None, samples: int = 100) -> Points:
    bounds = (None, None) if value is None else (value - 1, value + 1)
    return {("flow_time", "shop"): [(LABELS, Point(("all", "7d", "p85"), value, samples, *bounds))]}


@pytest.fixture
def past(tmp_path: Path) -> Past:
    """A past in which the value stream has been known for long."""
    kept = Past(tmp_path)
    kept.begin({"shop": (NOW_HOUR - 6 * WEEK_HOURS) * 3600})
    return kept


def weeks(past: Past, *values: float | None, beside: int = 0) -> None:
    """Keep a value in the same hour of each former week, or beside it; None: nothing was read."""
    for ago, value in enumerate(values, 1):
        if value is not None:
            past.keep(NOW_HOUR - ago * WEEK_HOURS + beside, points(value), [FLOW_TIME])


def usual(past: Past) -> float | None:
    baseline = past.baselines(NOW_HOUR, [FLOW_TIME]).get(KEY)
    return baseline and baseline.value


@pytest.mark.parametrize("beside", [-1, 0, 1])
def test_the_same_hour_of_former_weeks_is_the_baseline_also_an_hour_beside(past: Past, beside: int) -> None:
    weeks(past, 100.0, 110.0, 90.0, 100.0, beside=beside)
    assert usual(past) == 100.0
    assert past.knows(NOW_HOUR)


def test_two_hours_beside_is_another_time(past: Past) -> None:
    weeks(past, 100.0, 110.0, 90.0, 100.0, beside=2)
    assert usual(past) is None
    assert not past.knows(NOW_HOUR)


def test_one_week_may_be_missing_and_not_two(past: Past, tmp_path: Path) -> None:
    other = Past(tmp_path / "none")
    other.begin({"shop": 0})
    weeks(other, 100.0, None, 100.0, 100.0)
    assert usual(other) == 100.0
    another = Past(None)
    another.begin({"shop": 0})
    weeks(another, 100.0, None, None, 100.0)
    assert usual(another) is None


def test_what_could_not_be_trusted_then_is_no_baseline_now(past: Past) -> None:
    for ago in range(1, 5):
        past.keep(NOW_HOUR - ago * WEEK_HOURS, points(100.0, samples=FLOW_TIME.samples_min - 1), [FLOW_TIME])
    assert usual(past) is None
    assert past.knows(NOW_HOUR), "it was read, and nothing could be trusted"


def test_a_window_that_reaches_back_before_the_first_event_is_not_kept(tmp_path: Path) -> None:
    young = Past(tmp_path)
    young.begin({"shop": (NOW_HOUR - 2 * WEEK_HOURS) * 3600})
    weeks(young, 100.0, 110.0)
    young.keep(NOW_HOUR - WEEK_HOURS - DAY_HOURS, points(1.0), [FLOW_TIME])
    (line,) = young.lines("flow_time", "shop")
    assert [hour // 3600 for hour, *_ in line["points"]] == [NOW_HOUR - WEEK_HOURS]


def test_a_restart_remembers_and_five_weeks_are_enough(past: Past, tmp_path: Path) -> None:
    weeks(past, 100.0, 110.0, 90.0, 100.0)
    again = Past(tmp_path)
    assert usual(again) == 100.0
    again.keep(NOW_HOUR - 4 * WEEK_HOURS + KEPT_HOURS + 1, points(5.0), [FLOW_TIME])
    (line,) = again.lines("flow_time", "shop")
    assert len(line["points"]) == 4


def test_a_file_that_cannot_be_opened_for_a_moment_is_kept(tmp_path: Path, pasts: list[Past]) -> None:
    Past(tmp_path).remember("began", {"shop": 7})
    pasts.pop().close()
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        assert Past(tmp_path).remembered("began") is None
    assert Past(tmp_path).remembered("began") == {"shop": 7}


def test_a_damaged_file_begins_anew_and_a_folder_that_cannot_be_written_is_no_reason_to_end(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database at all" * 100)
    assert Past(tmp_path).remembered("began") is None
    lost = Past(tmp_path / "not" / "there")
    lost.remember("x", 1)
    assert lost.remembered("x") == 1


def judged(past: Past, *values: float | None, standings: Standings | None = None) -> Standings:
    """The standings after a value each hour."""
    standings = standings or Standings(past, [FLOW_TIME])
    standings.baselines = past.baselines(NOW_HOUR, [FLOW_TIME])
    for n, value in enumerate(values):
        standings.judge(KEY, None if value is None else points(value)["flow_time", "shop"][0][1], 1000 + n * 3600)
    return standings


def state(standings: Standings) -> str:
    return str(standings.told(KEY, points(200.0)["flow_time", "shop"][0][1])["state"])


def test_a_slump_is_suspect_then_drifts_and_a_restart_does_not_forget_it(past: Past) -> None:
    weeks(past, 100.0, 100.0, 100.0, 100.0)
    standings = judged(past, 100.0)
    assert state(standings) == "ok"
    assert state(judged(past, 200.0, standings=standings)) == "suspect"
    assert state(judged(past, *[200.0] * 4, standings=standings)) == "drifting"
    standings.store()
    again = Standings(past, [FLOW_TIME])
    assert state(again) == "drifting"
    assert state(judged(past, None, standings=again)) == "stale"
    assert state(judged(past, 200.0, standings=again)) == "drifting"


async def test_the_feed_tells_state_baseline_and_limit_and_keeps_the_hour(past: Past) -> None:
    weeks(past, 100.0, 100.0, 100.0, 100.0)
    helper = ThreadPoolExecutor(1)
    feed = LiveFeed(CONFIGURATION, asyncio.get_running_loop(), lambda: (True, ""), past, helper)
    feed.publish(NOW_HOUR * 3600 + 5, points(150.0))
    helper.submit(lambda: None).result()
    feed.publish(NOW_HOUR * 3600 + 6, points(150.0))
    (series,) = orjson.loads(feed.history())["series"]
    assert (series["state"], series["usual"], series["weeks"], series["band_low"]) == ("suspect", 100.0, 4, None)
    assert 100 < series["band_high"] <= 120
    helper.shutdown()
    (line,) = past.lines("flow_time", "shop")
    assert line["points"][-1] == (NOW_HOUR * 3600, 150.0, 149.0, 151.0)


async def test_a_feed_that_is_not_ready_says_stale_and_keeps_nothing(past: Past) -> None:
    weeks(past, 100.0, 100.0, 100.0, 100.0)
    ready, helper = [True], ThreadPoolExecutor(1)
    feed = LiveFeed(CONFIGURATION, asyncio.get_running_loop(), lambda: (ready[0], ""), past, helper)
    feed.publish(NOW_HOUR * 3600 - 60, points(100.0))
    ready[0] = False
    feed.publish(NOW_HOUR * 3600 + 5, {})
    helper.shutdown()
    (series,) = orjson.loads(feed.history())["series"]
    assert (series["state"], series["value"]) == ("stale", None)
    assert NOW_HOUR * 3600 not in [at for at, *_ in past.lines("flow_time", "shop")[0]["points"]]


def test_the_hold_is_that_of_the_alert(past: Past) -> None:
    weeks(past, 100.0, 100.0, 100.0, 100.0)
    assert isinstance(FLOW_TIME.alert, DriftAlert)
    quick: Kpi = replace(FLOW_TIME, alert=replace(FLOW_TIME.alert, hold="30m"))
    assert state(judged(past, 200.0, 200.0, standings=Standings(past, [quick]))) == "drifting"
