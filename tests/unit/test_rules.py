"""Every alert of the catalogue says all that somebody needs who is woken by it, and an operator may say otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import yaml

from flowmetrics.configuration import Configuration
from flowmetrics.engine_metrics import EVERYWHERE, ON_KAFKA
from flowmetrics.kpi import Better, BurnAlert, DriftAlert
from flowmetrics.kpis import catalogue, selected
from flowmetrics.kpis.flow import FLOW_KPIS
from flowmetrics.publishing.rules.files import RULES, TESTS, alerts, documents, levels
from flowmetrics.publishing.rules.form import Alert, Recording
from flowmetrics.publishing.rules.runbooks import RUNBOOKS
from flowmetrics.publishing.rules_tests.disturbances import DISTURBANCES
from flowmetrics.settings import read_settings

EXPECTING = read_settings("expectations: {flow_time: {within: 5d, share: 85%}}", "f.yaml")
DOCUMENTS = documents(EXPECTING)
ALERTS = alerts(EXPECTING)


def under(text: str) -> Mapping[str, str]:
    """The files under a configuration."""
    return documents(read_settings(text, "flowmetrics.yaml"))


@cache
def parsed(text: str) -> Any:
    """What is in a file; some are large, and many tests ask."""
    return yaml.load(text, yaml.CSafeLoader)


def rules_of(files: Mapping[str, str], name: str) -> list[dict[str, Any]]:
    """The rules that record or alert under a name."""
    return [
        rule
        for path, text in files.items()
        if path.startswith(RULES)
        for group in parsed(text)["groups"]
        for rule in group["rules"]
        if name in (rule.get("alert"), rule.get("record"))
    ]


def test_every_kpi_that_declares_an_alert_has_one() -> None:
    told = {alert.kpi for alert in ALERTS if alert.kpi}
    declared = {kpi.name for kpi in catalogue(EXPECTING) if isinstance(kpi.alert, DriftAlert)}
    assert declared <= told
    assert told - declared == {"flow_time_met"}, "an expectation that is configured"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.alert} {alert.labels['severity']}")
def test_an_alert_says_whom_it_reaches_what_to_do_and_where_to_read_on(alert: Alert) -> None:
    assert alert.labels.keys() >= {"severity", "alert_class", "owner"}
    assert set(alert.annotations) == {"summary", "description", "next_step", "runbook_url", "dashboard_url"}
    assert alert.annotations["runbook_url"] == f"docs/runbooks/{alert.alert}.md"
    page = DOCUMENTS[f"{RUNBOOKS}/{alert.alert}.md"]
    assert alert.annotations["next_step"] in page
    assert alert.expr in page
    assert alert.steps, "steps that were written by hand"
    assert all(step in page for step in alert.steps)
    always = alert.alert == "FlowmetricsWatchdog"
    assert (alert.hold, alert.keep) == ("0s", "0s") if always else "0s" not in (alert.hold, alert.keep)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.alert} {alert.labels['severity']}")
def test_whoever_follows_a_runbook_finds_each_metric_that_it_names(alert: Alert) -> None:
    """On one machine as well, unless a step begins with "On Kafka", or the alert is about workers on Kafka."""
    kpis = {kpi.metric for kpi in catalogue(EXPECTING)}
    for said in (alert.expr, *alert.annotations.values(), *alert.steps):
        on_kafka = said.startswith("On Kafka ") or "worker on Kafka" in alert.when
        shown = (*EVERYWHERE, *ON_KAFKA) if on_kafka else EVERYWHERE
        named = set(re.findall(r"\bflowmetrics_(?!kpi_)\w+", said))
        assert named <= kpis | {metric.name for metric in shown}, said


@pytest.mark.parametrize("name", sorted({alert.alert for alert in ALERTS}))
def test_an_alert_is_seen_to_fire_and_to_be_quiet(name: str) -> None:
    tests = [parsed(text) for path, text in DOCUMENTS.items() if path.startswith(TESTS)]
    asked = [each for test in tests for case in test["tests"] for each in case["promql_expr_test"]]
    firing = [sum(f'"{name}"' in sample["labels"] for sample in each["exp_samples"]) for each in asked]
    assert any(firing)
    assert name == "FlowmetricsWatchdog" or not all(firing)


UNDISTURBED = {
    "FlowmetricsWatchdog": "it reads nothing",
    "FlowmetricsAbsent": "there is nobody to disturb where it fires",
    "FlowmetricsBaselineMissing": "it reads what was recorded, without workers",
}
NAMED = {"FlowmetricsRestarting", "FlowmetricsWorkerDown"}
"""Alerts of one worker, which is known by its name."""


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (name, what)
        for name in sorted({alert.alert for alert in ALERTS if not alert.kpi} - UNDISTURBED.keys())
        for what in DISTURBANCES
        if what != "renamed" or name not in NAMED
    ],
)
def test_an_alert_about_the_engine_is_seen_to_fire_through_every_disturbance(name: str, what: str) -> None:
    text = DOCUMENTS[f"{TESTS}/flowmetrics-engine.yaml"]
    asked = [each for case in parsed(text)["tests"] for each in case["promql_expr_test"]]
    firing = [sample["labels"] for each in asked for sample in each["exp_samples"]]
    assert any(f'alertname="{name}"' in labels and f', {what}"' in labels for labels in firing)


def test_groups_of_a_test_are_evaluated_in_the_order_of_the_files() -> None:
    for path, text in DOCUMENTS.items():
        if path.startswith(TESTS):
            test = parsed(text)
            files = [f"{RULES}/{name.rpartition('/')[2]}" for name in test["rule_files"]]
            groups = [group["name"] for name in files for group in parsed(DOCUMENTS[name])["groups"]]
            assert test["group_eval_order"] == groups


def test_a_level_reads_only_what_levels_before_it_record() -> None:
    known: set[str] = set()
    for group in levels(EXPECTING):
        for rule in group.rules:
            assert isinstance(rule, Recording)
            assert set(re.findall(r"flowmetrics:[\w:]+", rule.expr)) <= known | {rule.record for rule in group.rules}
        known |= {rule.record for rule in group.rules}


def test_a_kpi_of_which_neither_way_is_worse_can_have_no_drift_alert() -> None:
    with pytest.raises(AssertionError, match="flow_time: an alert says which way is worse"):
        replace(FLOW_KPIS[0], better=Better.NEITHER)


def test_a_survey_of_ones_own_has_rules_tests_and_a_runbook() -> None:
    files = under("surveys: {effort: {scale: [1, 7], better: low}}")
    [alert] = rules_of(files, "EffortScoreDrop")
    assert "> last_over_time(flowmetrics:kpi:band_high" in alert["expr"], "a low score is better"
    assert f"{RUNBOOKS}/EffortScoreDrop.md" in files
    assert "EffortScoreDrop" in files[f"{TESTS}/flowmetrics-recording.yaml"]


def test_an_operator_may_say_otherwise() -> None:
    files = under(
        "alerts:\n"
        "  owner: platform\n"
        "  runbooks: https://wiki.example.org/runbooks/\n"
        "  dashboards: https://grafana.example.org/\n"
        "  engine: {owner: operators}\n"
        "  rules:\n"
        "    flow_time: {minimum: 35%, samples: 77, severity: ticket, owner: checkout, for: 3h, keep_firing_for: 5h}\n"
        "    csat: {minimum: 5 points}\n"
        "    nps: {severity: off}\n"
    )
    [flow_time] = rules_of(files, "FlowTimeDrift")
    assert (flow_time["for"], flow_time["keep_firing_for"]) == ("3h", "5h")
    assert (flow_time["labels"]["severity"], flow_time["labels"]["owner"]) == ("ticket", "checkout")
    assert flow_time["annotations"]["runbook_url"] == "https://wiki.example.org/runbooks/FlowTimeDrift.md"
    assert flow_time["annotations"]["dashboard_url"].startswith("https://grafana.example.org/d/flowmetrics-kpi?")
    [load] = rules_of(files, "FlowLoadDrift")
    assert load["labels"]["owner"] == "platform"
    [absent] = rules_of(files, "FlowmetricsAbsent")
    assert absent["labels"]["owner"] == "operators"
    trusted = {rule["labels"]["kpi"]: rule["expr"] for rule in rules_of(files, "flowmetrics:kpi:trusted")}
    assert re.search(r"flowmetrics_kpi_samples\{[^}]*} >= 77", trusted["flow_time"])
    margins = {tuple(rule["labels"].values()): rule["expr"] for rule in rules_of(files, "flowmetrics:kpi:margin")}
    assert margins["flow_time", "minimum"] == '0.35 * flowmetrics:kpi:baseline{kpi="flow_time"}'
    assert margins["csat", "minimum"] == '0 * flowmetrics:kpi:baseline{kpi="csat"} + 0.05', "percentage points"
    assert not rules_of(files, "NpsScoreDrop")
    assert f"{RUNBOOKS}/NpsScoreDrop.md" not in files


def burning_as(said: str) -> Mapping[str, str]:
    """The files where an operator says something of the budget of flow time."""
    return under(
        f"expectations: {{flow_time: {{within: 5d, share: 85%}}}}\nalerts: {{rules: {{flow_time_met: {said}}}}}"
    )


def test_an_operator_may_say_otherwise_of_a_budget_that_burns() -> None:
    files = burning_as("{severity: ticket, owner: checkout, for: 9h, keep_firing_for: 5h, samples: 77}")
    fast, slow = rules_of(files, "FlowTimeBudgetBurn")
    for rule in (fast, slow):
        assert (rule["for"], rule["keep_firing_for"]) == ("9h", "5h")
        assert (rule["labels"]["severity"], rule["labels"]["owner"]) == ("ticket", "checkout")
    assert fast["labels"] != slow["labels"], "or they would be one alert"
    trusted = {rule["labels"]["kpi"]: rule["expr"] for rule in rules_of(files, "flowmetrics:kpi:trusted")}
    assert re.search(r"flowmetrics_kpi_samples\{[^}]*} >= 77", trusted["flow_time_met"])


@pytest.mark.parametrize(
    ("said", "reached"),
    [("{owner: me}", ["page", "ticket"]), ("{severity: page}", ["page", "ticket"]), ("{severity: info}", ["info"] * 2)],
)
def test_a_severity_is_the_most_that_a_budget_that_burns_is(said: str, reached: list[str]) -> None:
    assert [rule["labels"]["severity"] for rule in rules_of(burning_as(said), "FlowTimeBudgetBurn")] == reached


def test_a_budget_may_burn_without_an_alert() -> None:
    files = burning_as("{severity: off}")
    assert not rules_of(files, "FlowTimeBudgetBurn")
    assert f"{RUNBOOKS}/FlowTimeBudgetBurn.md" not in files


def test_drift_and_burn_of_a_kpi_carry_the_same_kpi_so_that_one_slump_is_one_notification() -> None:
    """Alertmanager groups and inhibits by `kpi`; a drift has it from what its rule reads."""
    drift, *_ = rules_of(DOCUMENTS, "FlowTimeDrift")
    assert 'kpi="flow_time"' in drift["expr"]
    assert {rule["labels"]["kpi"] for rule in rules_of(DOCUMENTS, "FlowTimeBudgetBurn")} == {"flow_time"}


def test_an_operator_may_say_which_way_is_better() -> None:
    said = "alerts: {rules: {flow_velocity: {better: lower}}}"
    [alert] = rules_of(under(said), "FlowVelocityDrift")
    assert "> last_over_time(flowmetrics:kpi:band_high" in alert["expr"]
    assert "higher than" in alert["annotations"]["summary"]
    kpis = {kpi.name: kpi for kpi in selected(read_settings(said, "f.yaml"))}
    assert kpis["flow_velocity"].better is Better.LOWER


def test_what_an_operator_says_is_what_the_page_goes_by() -> None:
    configuration = read_settings("alerts: {rules: {flow_time: {minimum: 35%, samples: 77}}}", "f.yaml")
    kpis = {kpi.name: kpi for kpi in selected(configuration)}
    alert = kpis["flow_time"].alert
    assert isinstance(alert, DriftAlert)
    assert (alert.minimum, kpis["flow_time"].samples_min) == (0.35, 77)
    assert kpis["flow_load"].samples_min == 30


def test_without_an_expectation_no_budget_burns() -> None:
    assert not [alert for alert in alerts(Configuration()) if "Burn" in alert.alert and alert.kpi]
    assert [kpi.name for kpi in catalogue(Configuration()) if isinstance(kpi.alert, BurnAlert)]
