"""A directory whose events are older than itself: its past is read out of the log, and states begin at once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from engine import EngineProcess, done, until

from agents import filling
from agents.past import FILE, Past
from agents.published import clock_us
from agents.serving import FILL_LOOK_SECONDS
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError

pytestmark = pytest.mark.usefixtures("pasts")

Make: TypeAlias = Callable[..., EngineProcess]
DAY = 86_400.0


def of_days(*days: int, each: int = 6) -> list[dict[str, Any]]:
    """Items done at noon of some days before now, so many each."""
    return [done(f"{day}-{n}", ago=(day + 0.5) * DAY + n) for day in days for n in range(each)]


def velocity(engine: EngineProcess) -> dict[str, Any]:
    """What is said of the velocity of the shop over seven days."""
    labels = {"value_stream": "shop", "item_type": "all", "window": "7d"}
    told = engine.get("/api/now").json["series"]
    return next((one for one in told if one["kpi"] == "flow_velocity" and one["labels"] == labels), {})


def test_an_import_of_the_past_is_judged_within_moments_and_after_a_restart(make: Make) -> None:
    engine = make().ready()
    engine.post(*of_days(*range(7, 45)))
    said = until(lambda: (one := velocity(engine)).get("usual") and one, "the past is read", 240)
    assert (said["usual"], said["weeks"], said["value"]) == (42, 4, 0)
    until(lambda: velocity(engine)["state"] == "suspect", "it is judged")
    (line,) = [
        line
        for line in engine.get("/api/past?kpi=flow_velocity&value_stream=shop").json["lines"]
        if line["labels"]["item_type"] == "all" and line["labels"]["window"] == "7d"
    ]
    assert len(line["points"]) > 200
    assert {value for _, value, *_ in line["points"][:100]} <= {36, 42, 48}
    engine.stop()
    engine.ready()
    until(lambda: velocity(engine).get("state") == "suspect", "a restart forgets nothing")


def test_a_young_log_stays_warming_and_no_week_is_made_up(make: Make) -> None:
    engine = make().ready()
    engine.post(*of_days(*range(10), each=12))
    past = Past(engine.data)
    until(lambda: past.remembered("filled"), "the log was looked at", 240)
    assert velocity(engine)["state"] == "warming"
    assert velocity(engine)["usual"] is None


def test_a_few_events_of_now_start_no_reading_of_the_log(make: Make) -> None:
    engine = make().ready()
    engine.post(*(done(f"A-{n}") for n in range(5)))
    engine.shows(lambda page: page.velocity(), 5.0)
    assert Past(engine.data).remembered("filled") is None
    until(lambda: velocity(engine).get("state") == "warming", "it is read")


def test_a_log_that_cannot_be_read_ends_the_reading_of_the_past_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "flowmetrics.db").write_bytes(b"no database" * 1000)
    asked = f"broker: local://{tmp_path}\n".encode()
    told = subprocess.run([sys.executable, "-m", "agents.filling"], input=asked, capture_output=True, check=False)
    assert told.returncode == 1
    assert b"is not filled for now: " in told.stderr
    assert b"Traceback" not in told.stderr


def test_a_reading_of_the_past_that_is_killed_is_not_begun_again_at_once(make: Make) -> None:
    engine = make().ready()
    engine.post(*of_days(*range(7, 45)))
    (reader,) = until(lambda: readers(engine), "the log is read")
    os.kill(reader, signal.SIGKILL)  # as a system does that has no memory left
    until(lambda: "it is tried again in 60 s" in engine.said, "it is told")
    looked_twice = time.monotonic() + 2 * FILL_LOOK_SECONDS
    while time.monotonic() < looked_twice:
        assert readers(engine) == []
        time.sleep(0.1)


def readers(engine: EngineProcess) -> list[int]:
    """The processes that an engine lets read its log."""
    running = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    each = [line.split() for line in running.splitlines()]
    return [int(pid) for pid, parent, *args in each if parent == str(engine.pid) and "agents.filling" in args]


def test_a_past_that_cannot_be_kept_is_not_taken_for_read(make: Make) -> None:
    engine = make().ready()
    engine.post(*of_days(0))
    engine.stop()
    past = Past(engine.data)
    with sqlite3.connect(engine.data / FILE) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON meta BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
    other.close()
    with pytest.raises(OperationError, match="cannot be kept"):
        filling.fill(Configuration(broker=f"local://{engine.data}"), past, clock_us())
