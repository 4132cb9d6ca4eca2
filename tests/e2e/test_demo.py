"""The demo, with Prometheus and Alertmanager and without: it shows its slump, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from engine import until

from agents.demo.alarms import MISSING, sound
from agents.top import EngineView
from agents.watching import installed
from flowmetrics.configuration import Configuration

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
SILENT = re.compile(re.escape(MISSING.format("both Prometheus and Alertmanager")))
PATIENCE_SECONDS = 480.0
END_SECONDS = 30.0


@pytest.mark.parametrize(
    ("path", "heard"), [(os.environ["PATH"], PAGED), ("/nowhere", SILENT)], ids=["all installed", "nothing installed"]
)
def test_the_slump_of_the_demo_is_paged_where_it_can_be_and_drifts_on_the_page_anyway(
    tmp_path: Path, path: str, heard: re.Pattern[str]
) -> None:
    told = tmp_path / "told.txt"
    with told.open("wb") as out:
        demo = subprocess.Popen(
            [sys.executable, "-c", SOON, "demo", "--listen", "127.0.0.1:0"], cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(tmp_path), "PATH": path}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        until(lambda: demo.poll() is not None or heard.search(told.read_text()), "it is heard", PATIENCE_SECONDS)
        assert demo.poll() is None, told.read_text()
        page = re.search(r"live page   (http://\S+)/", told.read_text())
        assert page
        said = ("nps", "drifting")
        until(lambda: said in standings(page[1], "checkout"), "the page says the same", PATIENCE_SECONDS)
        for stream in ("search", "mobile-app"):
            healthy = standings(page[1], stream)
            assert ("nps", "ok") in healthy
            assert [kpi for kpi, state in healthy if state == "drifting"] == [], "nothing drifts but the story"
        demo.send_signal(signal.SIGINT)
        assert demo.wait(END_SECONDS) == 0
    finally:
        demo.kill()
        demo.wait()
    assert "Traceback" not in told.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["told.txt"], "nothing of it is kept"
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in running, "nobody runs on"


def standings(address: str, stream: str) -> set[tuple[str, str | None]]:
    """KPI and state of the series of a value stream that alerts read, on the page of the demo."""
    rows = EngineView(address).reading().rows
    return {(row.kpi, row.state) for row in rows if row.is_watched and row.value_stream == stream}


def test_the_program_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in installed() or ():
        (tmp_path / Path(program).name).symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    sound(Configuration(), "", tmp_path, threading.Event(), said.append)
    assert said == [MISSING.format("promtool")]
