"""The generated rules and their tests, judged by promtool: under another configuration, and when a clause is broken."""

from __future__ import annotations

import random
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from scraping import tool

from benchmarks.mutate_rules import NOTHING, Judge, Mutant, excuse, mutants
from flowmetrics.kpis.flow import FLOW_KPIS
from flowmetrics.publishing.rules.files import RULES, TESTS, documents
from flowmetrics.publishing.rules.runbooks import RUNBOOKS
from flowmetrics.settings import read_settings

pytestmark = pytest.mark.long

OTHERS = """
kpis: [flow_time, flow_time_met, active_users, requests_open, csat, effort]
windows: [1d, 14d]
percentiles: [50, 90]
surveys: {effort: {scale: [1, 7], better: low}}
expectations: {flow_time: {within: 5d, share: 90%}}
alerts:
  rules:
    flow_time: {minimum: 35%, samples: 77, for: 45m, keep_firing_for: 90m}
    active_users: {samples: 100, for: 1d}
    flow_time_met: {severity: ticket, owner: me, for: 1d, samples: 40}
    requests_open: {better: higher}
    csat: {minimum: 5 points}
"""

EXPECTING = """
kpis: [flow_time, flow_time_met]
expectations: {flow_time: {within: 5d, share: 85%}}
"""
"""A budget over the usual windows, each of which is another."""


def written(folder: Path, configuration: str) -> Path:
    """The files under a configuration."""
    for name, text in documents(read_settings(configuration, "flowmetrics.yaml")).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def judged(*arguments: str | Path) -> str:
    """What promtool says where it finds a mistake."""
    run = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    return "" if run.returncode == 0 else run.stdout + run.stderr


def test_other_windows_percentiles_floors_and_surveys_keep_their_tests(tmp_path: Path) -> None:
    tool("promtool")
    folder = written(tmp_path, OTHERS)
    assert judged("check", "rules", *folder.glob("deploy/prometheus/rules/*.yaml")) == ""
    for name in ("recording", "kpis"):
        assert judged("test", "rules", folder / TESTS / f"flowmetrics-{name}.yaml") == ""


@pytest.mark.parametrize(
    ("name", "tried"),
    [
        ("recording", ("fast", "not fast", "fast, of few", "slow", "not slow", "renamed")),
        ("kpis", ("fast vanished over 1d", "fast vanished over 7d", "slow vanished over 30d")),
    ],
)
def test_a_budget_burns_by_each_of_the_usual_windows(name: str, tried: tuple[str, ...], tmp_path: Path) -> None:
    tool("promtool")
    path = written(tmp_path, EXPECTING) / TESTS / f"flowmetrics-{name}.yaml"
    assert all(f'value_stream="{each}"' in path.read_text() for each in tried)
    assert judged("test", "rules", path) == ""


def test_a_kpi_that_is_added_has_rules_tests_and_a_runbook_without_an_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool("promtool")
    new = replace(FLOW_KPIS[0], name="brand_new", labels=("region", *FLOW_KPIS[0].labels))
    monkeypatch.setattr("flowmetrics.kpis.FLOW_KPIS", (*FLOW_KPIS, new))
    folder = written(tmp_path, "kpis: [brand_new]")
    assert "(region {{ $labels.region }})" in (folder / RULES / "flowmetrics-kpis.yaml").read_text()
    assert (folder / RUNBOOKS / "BrandNewDrift.md").exists()
    for name in ("recording", "kpis"):
        path = folder / TESTS / f"flowmetrics-{name}.yaml"
        assert 'alertname="BrandNewDrift"' in path.read_text()
        assert judged("test", "rules", path) == ""


def test_an_alert_says_which_series_it_is_and_quotes_the_baseline_of_that_one(tmp_path: Path) -> None:
    tool("promtool")
    path = written(tmp_path, "kpis: [flow_load]") / TESTS / "flowmetrics-kpis.yaml"
    weeks = {("waiting", "eu"): 10, ("waiting", "us"): 20, ("active", "eu"): 30}
    series = {
        f'flowmetrics:kpi:{name}{{kpi="flow_load",value_stream="shop",state="{state}",cluster="{cluster}"}}': value
        for (state, cluster), baseline in weeks.items()
        for name, value in (("trusted", 77), ("band_high", 66), ("baseline", baseline))
    }
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": f"{value}x300"} for name, value in series.items()],
        "alert_rule_test": [{"alertname": "FlowLoadDrift", "eval_time": "4h", "exp_alerts": []}],
    }
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "evaluation_interval": "1m", "tests": [case]}))
    told = judged("test", "rules", path)
    for (state, cluster), baseline in weeks.items():
        [alert] = [
            each for each in told.split("Labels:") if f'cluster="{cluster}"' in each and f'state="{state}"' in each
        ]
        assert f"flow_load of shop (state {state}) is 77, higher than in former weeks" in alert
        assert f"At the same time of former weeks it was {baseline}." in alert


@pytest.mark.parametrize(
    ("alert", "metric", "wrong", "well"),
    [
        ("FlowmetricsNotReady", "flowmetrics_engine_ready", "0x30", "1x30"),
        ("FlowmetricsRestarting", "flowmetrics_engine_start_time_seconds", "0+1x30", "0x30"),
    ],
)
def test_an_alert_about_the_engine_names_the_worker(
    alert: str, metric: str, wrong: str, well: str, tmp_path: Path
) -> None:
    tool("promtool")
    path = written(tmp_path, "") / TESTS / "flowmetrics-engine.yaml"
    workers = [("eu", "a:8080", "flow-0", wrong), ("eu", "b:8080", "flow-1", well), ("us", "c:8080", "flow-0", wrong)]
    series = {
        f'{metric}{{cluster="{cluster}",instance="{instance}",pod="{pod}",job="flow"}}': values
        for cluster, instance, pod, values in workers
    }
    series[f'{metric}{{cluster="ap",instance="d:8080",job="flow"}}'] = wrong
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"alertname": alert, "eval_time": "30m", "exp_alerts": []}],
    }
    path.write_text(yaml.safe_dump({**loaded(path), "evaluation_interval": "1m", "tests": [case]}))
    told = judged("test", "rules", path)
    for cluster, named in (("eu", "a:8080 (pod flow-0)"), ("us", "c:8080 (pod flow-0)"), ("ap", "d:8080")):
        [said] = [each for each in told.split("Labels:") if f'cluster="{cluster}"' in each]
        assert f': {named}"' in said, said


def test_what_an_alert_says_can_be_filled_in(tmp_path: Path) -> None:
    tool("promtool")
    path = written(tmp_path, OTHERS) / TESTS / "flowmetrics-kpis.yaml"
    test = yaml.safe_load(path.read_text())
    [case] = test["tests"]
    firing = max(case["promql_expr_test"], key=lambda asked: len(asked["exp_samples"]))
    names = {re.findall(r'alertname="(\w+)"', sample["labels"])[0] for sample in firing["exp_samples"]}
    case["alert_rule_test"] = [
        {"alertname": name, "eval_time": firing["eval_time"], "exp_alerts": []} for name in sorted(names)
    ]
    path.write_text(yaml.safe_dump({**test, "tests": [{**case, "promql_expr_test": []}]}))
    told = judged("test", "rules", path)
    assert all(name in told for name in names)
    assert "error" not in told.lower(), told
    assert "<no value>" not in told, told


def test_a_source_that_sends_by_day_and_falls_silent_is_told_through_the_night_until_it_sends(tmp_path: Path) -> None:
    """For three weeks it sends for ten hours a day, then for two hours; its next event comes on the next day."""
    tool("promtool")
    path = written(tmp_path, "") / TESTS / "flowmetrics-engine-sources.yaml"
    rules = path.parents[1] / "rules" / "flowmetrics-engine.yaml"
    kept = [only(group, "flowmetrics:source:accepted", "FlowmetricsSourceStale") for group in loaded(rules)["groups"]]
    rules.write_text(yaml.safe_dump({"groups": kept}))
    days = " ".join(f"{300 * day}+2x149 {300 * day + 300}+0x209" for day in range(21))
    sent = f"{days} 6300+2x29 6360+0x389 6361+2x9"  # one sample in four minutes
    case = {
        "interval": "4m",
        "input_series": [{"series": 'flowmetrics_events_accepted_total{source="tracker"}', "values": sent}],
        "promql_expr_test": [
            {
                "expr": 'count_over_time(ALERTS{alertname="FlowmetricsSourceStale",alertstate="firing"}[2d])',
                "eval_time": moment,
                "exp_samples": [{"labels": labels, "value": count}] if count else [],
            }
            for moment, count in (("507h12m", 0), ("507h16m", 1), ("532h12m", 375), ("532h36m", 375))
            for labels in (FIRING,)
        ],
    }
    path.write_text(yaml.safe_dump({**loaded(path), "evaluation_interval": "4m", "tests": [case]}))
    assert judged("test", "rules", path) == ""


FIRING = (
    '{alert_class="engine",alertname="FlowmetricsSourceStale",alertstate="firing",'
    'owner="flowmetrics",severity="page",source="tracker"}'
)


def loaded(path: Path) -> Any:
    """What is in a file of YAML."""
    return yaml.load(path.read_text(), yaml.CSafeLoader)


def only(group: dict[str, Any], *names: str) -> dict[str, Any]:
    """A group with the rules whose names begin so."""
    return {**group, "rules": [r for r in group["rules"] if (r.get("alert") or r["record"]).startswith(names)]}


# Twelve of some thousand, always the same ones; `make mutate` tries them all.
SAMPLE = random.Random(5).sample([each for each in mutants(Judge().rules) if each.what != NOTHING], 12)


@pytest.mark.parametrize("mutant", SAMPLE, ids=str)
def test_a_broken_clause_is_noticed(mutant: Mutant) -> None:
    tool("promtool")
    assert Judge().notices(mutant) or excuse(mutant)
