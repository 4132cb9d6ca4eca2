"""A slump by about a third pages once, says where to look, and resolves: from events to a webhook, on real parts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import shop
from engine import EngineProcess, until
from stage import NAIVE, RUNBOOKS, SETTINGS, SLUMPING, Stage, during, stage, tell

from agents.published import clock_us
from flowmetrics.instants import MINUTE_US, SECOND_US

pytestmark = pytest.mark.long

PAGES = ["ActiveUsersDrift", "FlowTimeDrift", "NpsScoreDrop"]
UNTIL_SALE_US = 50 * SECOND_US
"""Time for the installation to start, and for a look at the quiet before the slump."""
PATIENCE_SECONDS = 60.0


def test_a_slump_in_flow_time_active_users_and_nps_pages_once_each_and_resolves(tmp_path: Path, history: Path) -> None:
    now = clock_us()
    sale_at = -(-(now + UNTIL_SALE_US) // MINUTE_US) * MINUTE_US + SECOND_US
    with EngineProcess(tmp_path / "engine", SETTINGS) as engine:
        tell(engine.ready(), shop.past(now, sale_at))
        with stage(tmp_path, history, [engine]) as here:
            left = sale_at / SECOND_US - time.time()
            assert left > 0, f"this machine is too slow: everything stood {-left:.0f} s after the slump began"
            for _ in during(left):
                assert names(here, "firing") == [], "the weeks before were quiet, and so is it now"
            tell(engine, shop.slump(clock_us()))
            until(
                lambda: {*names(here, "firing")} >= {*PAGES},
                "everything that slumps has paged",
                PATIENCE_SECONDS,
            )
            for page in alerts(here, "firing"):
                name, value_stream = page["labels"]["alertname"], page["labels"]["value_stream"]
                assert value_stream == shop.STREAM
                assert page["annotations"]["runbook_url"] == f"{RUNBOOKS}/{name}.md"
                assert page["annotations"]["next_step"]
            tell(engine, shop.recovery(clock_us()))
            until(lambda: {*names(here, "resolved")} >= {*PAGES}, "all is well again", PATIENCE_SECONDS)
            assert names(here, "firing") == PAGES, "once each, and nothing else"
            assert names(here, "resolved") == PAGES
            assert {page["labels"]["kpi"] for page in alerts(here, "firing")} == set(SLUMPING)


def names(here: Stage, status: str) -> list[str]:
    """The names of these alerts, sorted."""
    return sorted(alert["labels"]["alertname"] for alert in alerts(here, status))


def alerts(here: Stage, status: str) -> list[Mapping[str, Any]]:
    """Of what the pager was told, but for the naive alert: on a busy machine a scrape may fail."""
    return [alert for alert in here.alerts("pager", status) if alert["labels"]["alertname"] != NAIVE]
