"""The unit for one machine: systemd reads it, finds little exposed, and what it takes away the engine does not need.

The machine of the tests is not run by systemd, so the unit itself is not started.
"""

from __future__ import annotations

import configparser
import ctypes
import errno
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from engine import COMMAND, EngineProcess, done, until
from parts import DEPLOY, fails, passes, run, tool

from agents.past import Past

UNIT: Final = DEPLOY / "systemd" / "flowmetrics.service"
PR_SET_MDWE: Final = 65
PR_GET_MDWE: Final = 66
PR_SET_NO_NEW_PRIVS: Final = 38
ALLOW: Final = 0x7FFF_0000
REFUSE: Final = 0x0005_0000
"""What libseccomp calls these two; to the second the number of the error is added."""


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


@pytest.mark.usefixtures("pasts")
def test_the_engine_needs_no_system_call_that_is_refused_nor_does_the_reading_of_its_past(tmp_path: Path) -> None:
    with EngineProcess(tmp_path / "engine") as engine:
        engine.start(ready=refusing()).ready()
        engine.post(*(done(f"A-{n}", ago=(2 + n % 20) * 86_400.0) for n in range(200)))
        engine.shows(lambda page: page.velocity(window="30d"), 200)
        past = Past(engine.data)
        until(lambda: past.remembered("filled"), "the past is read", 240)
        engine.stop()


def refusing() -> Callable[[], None]:
    """What takes the system calls from a process that the unit takes away, as systemd does."""
    seccomp, allowed = ctypes.CDLL("libseccomp.so.2"), calls_of_the_unit()
    seccomp.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(seccomp.seccomp_init(REFUSE + errno.ENOSYS))
    for name in calls("@known"):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # a call of this machine
            verdict = ALLOW if name in allowed else REFUSE + errno.EPERM
            assert seccomp.seccomp_rule_add(rules, verdict, number, 0) == 0

    def refuse() -> None:
        if seccomp.seccomp_load(rules):
            raise OSError("seccomp_load")

    return refuse


def calls_of_the_unit() -> set[str]:
    """The system calls that the unit leaves."""
    left = calls("@default")
    for line in re.findall("^SystemCallFilter=(.*)$", UNIT.read_text(), re.M):
        named = set().union(*map(calls, line.lstrip("~").split()))
        left = left - named if line.startswith("~") else left | named
    return left


def calls(group: str) -> set[str]:
    """The system calls of a group, and of the groups in it."""
    told = passes(tool("systemd-analyze"), "--no-pager", "syscall-filter", group).splitlines()[1:]
    named = {line.strip() for line in told if not line.strip().startswith("#")}
    return set().union(*(calls(name) if name.startswith("@") else {name} for name in named))
