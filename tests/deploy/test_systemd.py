"""The unit for one machine: systemd reads it, finds little exposed, and what it takes away the engine does not need.

The machine of the tests is not run by systemd, so the unit itself is not started.
"""

from __future__ import annotations

import configparser
import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from engine import COMMAND, EngineProcess, done
from parts import DEPLOY, fails, passes, run, tool

UNIT: Final = DEPLOY / "systemd" / "flowmetrics.service"
PR_SET_MDWE: Final = 65
PR_GET_MDWE: Final = 66
PR_SET_NO_NEW_PRIVS: Final = 38


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "flowmetrics.service"
    text = re.sub("^(User|Group)=.*\n", "", UNIT.read_text(), flags=re.M)  # nobody is installed here
    unit.write_text(text.replace("/opt/flowmetrics/bin/flowmetrics", str(COMMAND)))
    assert run(tool("systemd-analyze"), "verify", "--man=no", unit).stderr == ""
    unit.write_text(unit.read_text().replace("StateDirectory=", "StateDir="))
    assert "StateDir" in run(tool("systemd-analyze"), "verify", "--man=no", unit).stderr


def test_systemd_finds_little_exposed() -> None:
    tool("systemd-analyze")
    security = ("systemd-analyze", "--no-pager", "security", "--offline=true")
    passes(*security, "--threshold=15", UNIT)
    fails(*security, "--threshold=1", UNIT)


def test_the_unit_gives_the_engine_its_folder_and_its_configuration() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT.read_text())
    service = unit["Service"]
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    assert service["ExecStart"].endswith("run --config /etc/flowmetrics/flowmetrics.yaml")
    users = (DEPLOY / "systemd" / "flowmetrics.sysusers").read_text().split()
    assert users[1] == service["User"] == service["Group"]


def test_systemd_makes_the_user(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    users = DEPLOY / "systemd" / "flowmetrics.sysusers"
    passes(tool("systemd-sysusers"), f"--root={tmp_path}", "--inline", *users.read_text().splitlines())
    (made,) = (tmp_path / "etc" / "passwd").read_text().splitlines()
    assert made.startswith("flowmetrics:")
    assert made.endswith(":/var/lib/flowmetrics:/usr/sbin/nologin")


def test_the_engine_runs_without_memory_that_is_both_written_and_executed(tmp_path: Path) -> None:
    prctl: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl

    if prctl(PR_GET_MDWE, 0, 0, 0, 0) < 0:
        pytest.skip("left out: this kernel cannot forbid such memory; Linux 6.3 can")

    def as_the_unit_says() -> None:
        if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(PR_SET_MDWE, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")

    with EngineProcess(tmp_path / "engine") as engine:
        engine.start(ready=as_the_unit_says).ready()
        engine.post(done("A-1"))
        engine.shows(lambda page: page.velocity(), 1)
        engine.stop()
