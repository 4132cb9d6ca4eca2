"""The image, as far as it can be tried without a builder of images.

There is no Docker engine where the tests run. So hadolint reads the Dockerfile, the first stage is gone through
instruction by instruction in a folder of its own, and what it makes runs as the second stage says: as user 65532, with
nothing to write to but its two directories. What the base image holds is not tried.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import urllib3
import yaml
from engine import SERVES, done, free_port, lines, until
from parts import DEPLOY, ROOT, checker, passes, tool

DOCKERFILE: Final = DEPLOY / "docker" / "Dockerfile"
STAGES: Final = re.split(r"^(?=FROM )", re.sub(r" *\\\n *", " ", DOCKERFILE.read_text()), flags=re.M)[1:]
"""Each with one instruction a line."""
BUILD_SECONDS: Final = 600
MAY_READ: Final = "-all,+dac_read_search"
"""The interpreter may lie in a folder of root's; reading is no question here."""


def instructions(stage: str, name: str) -> list[str]:
    """What follows an instruction, each time it is there."""
    return re.findall(rf"^{name} (.*)$", stage, re.M)


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    assert passes(checker("hadolint"), DOCKERFILE) == ""


def test_the_image_installs_what_the_other_locks_have() -> None:
    def pinned(lock: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (ROOT / lock).read_text(), re.M))

    assert pinned("requirements.lock") <= pinned("requirements-kafka.lock") <= pinned("requirements-test.lock")


def test_whatever_is_copied_reaches_the_builder_and_nothing_else_does() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for stage in STAGES
        for words in instructions(stage, "COPY")
        if not words.startswith("--from")
        for source in words.split()[:-1]
    }
    assert sent == copied
    assert all((ROOT / source).exists() for source in copied)


def test_the_chart_and_compose_run_the_image_as_it_was_made() -> None:
    (user,) = instructions(STAGES[1], "USER")
    stateful_set = (DEPLOY / "chart" / "templates" / "statefulset.yaml").read_text()
    assert user == "65532:65532"
    assert {f"{name}: 65532" for name in ("runAsUser", "runAsGroup", "fsGroup")} <= set(
        map(str.strip, stateful_set.splitlines())
    )
    (command,) = instructions(STAGES[1], "CMD")
    assert f"args: {yaml.safe_load(command)}".replace("'", "") in stateful_set


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="flowmetrics-image-"))
    folder.chmod(0o755)  # pytest's own folders are closed to others
    return folder


@pytest.fixture(scope="module")
def built() -> Iterator[Path]:
    """The folder in which the first stage was gone through: `opt` and `build` are what they are in the image."""
    folder = _folder()
    try:
        subprocess.run([sys.executable, "-m", "venv", folder / "base"], check=True)
        for line in STAGES[0].splitlines():
            instruction, _, words = line.partition(" ")
            if instruction == "COPY":
                *sources, to = words.split()
                for source in sources:
                    _copy(ROOT / source, folder / "build" / to)
            elif instruction == "RUN":
                _run(words, folder)
        yield folder
    finally:
        shutil.rmtree(folder)


def _copy(source: Path, to: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        to.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, to)


def _run(words: str, folder: Path) -> None:
    here = re.sub(r"(?<![\w/])/(opt|build)/", rf"{folder}/\1/", words).replace("--no-cache-dir ", "")
    path = f"{folder / 'base' / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", here], cwd=folder / "build", env={**os.environ, "PATH": path}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=BUILD_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{here}\n{done.stdout}{done.stderr}"


def contained(folder: Path, *words: str | Path) -> list[str | Path]:
    """A command as the container runs it: nothing can be written but `state` and `temporary`, and root is far away."""
    if os.geteuid():
        pytest.skip("left out: only root can take the right to write away from a process")
    for name in ("state", "temporary"):
        (folder / name).mkdir(exist_ok=True)
        os.chown(folder / name, 65532, 65532)
    writable = " && ".join(
        f"mount --bind {shlex.quote(str(folder / n))} {shlex.quote(str(folder / n))}" for n in ("state", "temporary")
    )
    user = (
        "setpriv --reuid=65532 --regid=65532 --clear-groups --no-new-privs "
        f"--inh-caps={MAY_READ} --ambient-caps={MAY_READ} --bounding-set={MAY_READ}"
    )
    program = " ".join(shlex.quote(str(word)) for word in words)
    script = (
        f"{writable} && mount -o remount,bind,ro / && cd {shlex.quote(str(folder / 'state'))} && exec {user} {program}"
    )
    environment = f"PATH={folder}/opt/flowmetrics/bin:/usr/bin:/bin TMPDIR={folder}/temporary PYTHONDONTWRITEBYTECODE=1"
    return [tool("unshare"), "--mount", "env", "-i", *environment.split(), "sh", "-c", script]


@pytest.mark.long
def test_what_is_built_has_both_runtimes_and_no_tools(built: Path) -> None:
    made = built / "opt" / "flowmetrics"
    assert "version" in passes(made / "bin" / "flowmetrics", "--version")
    passes(made / "bin" / "python", "-c", "import agents.kafka.engine, agents.local.engine")
    names = {path.name.lower() for path in made.glob("lib/python3*/site-packages/*")}
    assert not [name for name in names if fnmatch.fnmatch(name, "pip*") or fnmatch.fnmatch(name, "hatchling*")]


@pytest.mark.long
def test_what_is_built_runs_as_nobody_where_nothing_can_be_written(built: Path) -> None:
    assert passes(*contained(built, "id", "-u")).strip() == "65532"
    refused = subprocess.run(
        contained(built, "touch", built / "opt" / "x", "/var/tmp/x"), capture_output=True, check=False
    )
    assert b"Read-only file system" in refused.stderr
    port = free_port()
    config = built / "flowmetrics.yaml"
    config.write_text(
        (DEPLOY / "docker" / "flowmetrics.yaml").read_text()
        .replace("/var/lib/flowmetrics", str(built / "state")).replace("0.0.0.0:8080", f"127.0.0.1:{port}")
    )  # fmt: skip
    (command,) = instructions(STAGES[1], "CMD")
    words = ["flowmetrics", *yaml.safe_load(command)[:-1], config]
    with (built / "log").open("wb") as log:
        process = subprocess.Popen(contained(built, *words), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until(lambda: SERVES.search((built / "log").read_text()) or process.poll(), "the engine listens", 60)
        assert process.poll() is None, (built / "log").read_text()
        address = f"http://127.0.0.1:{port}"
        accepted = urllib3.request(
            "POST", f"{address}/events", body=lines([done("A-1")]), headers={"Content-Type": "application/x-ndjson"}
        )
        assert accepted.status == 202, accepted.data
        until(
            lambda: b'item_type="all",window="1d"} 1.0' in urllib3.request("GET", f"{address}/metrics").data,
            "it counts",
        )
        (asked,) = instructions(STAGES[1], "HEALTHCHECK")
        healthcheck = yaml.safe_load(asked.partition("CMD ")[2].replace(":8080", f":{port}"))
        passes(built / "opt" / "flowmetrics" / "bin" / healthcheck[0], *healthcheck[1:])
    finally:
        process.terminate()
        assert process.wait(15) == 0, (built / "log").read_text()
    assert "Traceback" not in (built / "log").read_text()
