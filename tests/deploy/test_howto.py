"""The how-to pages on operating, as an operator follows them: each command is typed, with other paths."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from engine import COMMAND, done, lines
from howto import PAGES, typed
from parts import GO_PROGRAMS, KUBERNETES, ROOT, tool

CONFIGURATION: Final = "broker: local:///var/lib/flowmetrics\ntimezone: Asia/Seoul\n"
VALUES: Final = "podMonitor: {enabled: true}\nprometheusRule: {enabled: true}\n"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in which an operator types, beside `opt` and `etc`."""
    place = tmp_path_factory.mktemp("operator")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        (place / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / "checkout" / name, follow_symlinks=False)
    for folder in ("opt", "etc"):
        (place / folder).mkdir()
    (place / "etc" / "flowmetrics.yaml").write_text(CONFIGURATION)
    (place / "checkout" / "flowmetrics.yaml").write_text(CONFIGURATION)
    (place / "checkout" / "values.yaml").write_text(VALUES)
    (place / "checkout" / "events.jsonl").write_bytes(lines([done("A-1")]))
    return place / "checkout"


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_as_they_stand(page: str, checkout: Path) -> None:
    for name in ("promtool", "amtool", "openssl"):
        tool(name)
    tool("helm", "`go install helm.sh/helm/v3/cmd/helm@v3.19.0`")
    places = {"/opt/flowmetrics": checkout.parent / "opt" / "flowmetrics", "/etc/flowmetrics": checkout.parent / "etc"}
    for block in typed(page):
        words = block.words
        for place, other in places.items():
            words = words.replace(place, str(other))
        if words.startswith("helm "):
            words += f" --kube-version {KUBERNETES}"
        said = subprocess.run(
            ["bash", "-c", words], cwd=checkout, capture_output=True, text=True, timeout=300, check=False,
            env={**os.environ, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}:{GO_PROGRAMS}"},
        )  # fmt: skip
        assert said.returncode == 0, f"{words}\n{said.stdout}{said.stderr}"
        assert said.stdout.strip().endswith(block.output), said.stdout
