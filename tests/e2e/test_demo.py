"""The demo for a newcomer who has Prometheus and Alertmanager: its slump is paged, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import urllib3
from engine import until

pytestmark = pytest.mark.long

SOON = """
from agents.demo import producers
producers.SLUMP_AFTER_US //= 4
from agents.cli import main
main()
"""
"""The demo, but checkout slumps after half a minute rather than two: history is backfilled meanwhile all the same."""
PAGED = re.compile(
    r"^PAGE NpsScoreDrop: nps of checkout is .*, lower than in former weeks\n"
    r"  next step  Look .*\n  runbook    \S+/NpsScoreDrop\.md$",
    re.M,
)
PATIENCE_SECONDS = 240.0
END_SECONDS = 30.0


def test_the_slump_of_the_demo_is_paged_in_the_terminal_and_drifts_on_the_page(tmp_path: Path) -> None:
    told = tmp_path / "told.txt"
    with told.open("wb") as out:
        demo = subprocess.Popen(
            [sys.executable, "-c", SOON, "demo", "--listen", "127.0.0.1:0"], cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(tmp_path)}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        until(lambda: demo.poll() is not None or PAGED.search(told.read_text()), "NPS is paged", PATIENCE_SECONDS)
        assert demo.poll() is None, told.read_text()
        page = re.search(r"live page   (http://\S+)/", told.read_text())
        assert page
        until(lambda: state_of_nps(page[1]) == "drifting", "the page says the same", PATIENCE_SECONDS)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(END_SECONDS) == 0
    finally:
        demo.kill()
        demo.wait()
    assert "Traceback" not in told.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["told.txt"], "nothing of it is kept"
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in running, "nobody runs on"


def state_of_nps(address: str) -> str:
    """The state of the series that the alert reads, on the page of the demo."""
    series = orjson.loads(urllib3.request("GET", f"{address}/api/now", timeout=20).data)["series"]
    watched = {"value_stream": "checkout", "touchpoint": "all", "segment": "all", "window": "7d"}
    (state,) = (one["state"] for one in series if (one["kpi"], one["labels"]) == ("nps", watched))
    return str(state)
