"""The how-to pages on operating, as an operator follows them: each command is typed, with other paths."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
import yaml
from engine import COMMAND, EngineProcess, done, lines
from howto import HOW_TO, PAGES, page_text, typed
from parts import GO_PROGRAMS, KUBERNETES, ROOT, of_kind, tool

from flowmetrics.publishing.rules import files as rules
from flowmetrics.settings import read_settings

VALUES: Final = "podMonitor: {enabled: true}\nprometheusRule: {enabled: true}\n"
WITH_EXPECTATION: Final = "expectations: {flow_time: {within: 8d, share: 85%}}\n"
MAPPING: Final = """\
events:
  - type: flowmetrics.item.v1
    source: tickets
    time: {from: changed_at, format: iso}
    data: {item: "${key}", value_stream: checkout, item_type: "${type}", state: "${status}"}
"""
PLACES: Final = {
    "/opt/flowmetrics": "opt/flowmetrics",
    "/etc/flowmetrics": "etc",
    "/var/lib/flowmetrics": "state/flowmetrics",
    "/var/lib/prometheus/metrics2": "state/prometheus",
}
"""What stands for the folders of an operator's machine."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in which an operator types, beside `opt`, `etc` and `state`."""
    place = tmp_path_factory.mktemp("operator")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        (place / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / "checkout" / name, follow_symlinks=False)
    for folder in ("opt", "etc", "state/prometheus"):
        (place / folder).mkdir(parents=True)
    configuration = f"broker: local://{place}/state/flowmetrics\ntimezone: Asia/Seoul\n"
    (place / "etc" / "flowmetrics.yaml").write_text(configuration)
    changed_at = datetime.now(UTC) - timedelta(hours=2)
    for name, text in {
        "flowmetrics.yaml": configuration,
        "values.yaml": VALUES,
        "tickets.csv": f"key,type,status,changed_at\nT-1,Bug,Done,{changed_at.isoformat()}\n",
        "tickets.yaml": MAPPING,
    }.items():
        (place / "checkout" / name).write_text(text)
    (place / "checkout" / "events.jsonl").write_bytes(lines([done("A-1")]))
    type_(place / "checkout", "flowmetrics import tickets.csv --map tickets.yaml")
    return place / "checkout"


def type_(checkout: Path, words: str) -> str:
    """What a command of a page says that ends well."""
    for place, other in PLACES.items():
        words = words.replace(place, str(checkout.parent / other))
    if words.startswith("helm "):
        words += f" --kube-version {KUBERNETES}"
    said = subprocess.run(
        ["bash", "-c", words], cwd=checkout, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}:{GO_PROGRAMS}"},
    )  # fmt: skip
    assert said.returncode == 0, f"{words}\n{said.stdout}{said.stderr}"
    return said.stdout


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_as_they_stand(page: str, checkout: Path) -> None:
    for name in ("promtool", "prometheus", "amtool", "openssl"):
        tool(name)
    tool("helm", "`go install helm.sh/helm/v3/cmd/helm@v3.19.0`")
    for block in typed(page):
        said = type_(checkout, block.words)
        assert said.strip().endswith(block.output), said


@pytest.mark.parametrize("page", sorted(path.name for path in HOW_TO.glob("*.md")))
def test_every_block_for_a_console_is_typed(page: str) -> None:
    for body in re.findall(r"^```console\n(.*?)^```", page_text(page), re.M | re.S):
        assert body.startswith("$ "), f"{page} has commands that no test types: {body}"


@pytest.mark.long
def test_the_rules_that_the_page_on_kubernetes_gives_to_the_chart_are_all_of_them(checkout: Path) -> None:
    tool("helm", "`go install helm.sh/helm/v3/cmd/helm@v3.19.0`")
    (checkout / "own.yaml").write_text(WITH_EXPECTATION)
    (checkout / "own-values.yaml").write_text(
        f"{VALUES}config:\n  broker: local:///var/lib/flowmetrics\n  {WITH_EXPECTATION}"
    )
    make, give = [block.words for block in typed("kubernetes.md") if "rules" in block.words]
    type_(checkout, make.replace(" flowmetrics.yaml", " own.yaml"))
    resources = [
        one for one in yaml.safe_load_all(type_(checkout, give.replace(" values.yaml", " own-values.yaml"))) if one
    ]
    given = [
        rule["alert"]
        for one in of_kind(resources, "PrometheusRule")
        for group in one["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    wanted = [alert.alert for alert in rules.alerts(read_settings(WITH_EXPECTATION, "own.yaml"))]
    assert "FlowTimeBudgetBurn" in wanted
    assert sorted(given) == sorted(wanted)


def test_the_log_is_as_its_page_says(tmp_path: Path) -> None:
    (settings,), (line,) = (
        re.findall(rf"^```{kind}\n(.*?)^```", page_text("logs.md"), re.M | re.S) for kind in ("yaml", "json")
    )
    fields = {*re.findall(r"^\| `(\w+)` \|", page_text("logs.md"), re.M)}
    with EngineProcess(tmp_path, settings) as engine:
        engine.start()
        engine.stop()
        told = [json.loads(one) for one in engine.said_ever.splitlines()]
    assert told
    assert [one for one in (*told, json.loads(line)) if one.keys() != fields - {"exception"}] == []


def test_a_mistake_is_told_as_the_page_on_the_log_says(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^```text\n(.*?)^```", page_text("logs.md"), re.M | re.S)
    (tmp_path / "flowmetrics.yaml").write_text(shown.splitlines()[1].strip())
    said = subprocess.run([COMMAND, "run"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (said.returncode, said.stderr) == (2, shown)
