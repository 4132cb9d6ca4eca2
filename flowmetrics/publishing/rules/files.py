"""The rules for Prometheus that follow from the catalogue, and the files that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.publishing.rules.drift import drift_group
from flowmetrics.publishing.rules.engine import engine_groups
from flowmetrics.publishing.rules.form import Alert, RuleGroup, rule_file
from flowmetrics.publishing.rules.recording import recording_groups
from flowmetrics.publishing.rules.runbooks import RUNBOOKS, runbooks
from flowmetrics.publishing.rules_tests.alerts import alert_case
from flowmetrics.publishing.rules_tests.burns import burn_cases
from flowmetrics.publishing.rules_tests.counters import counter_cases
from flowmetrics.publishing.rules_tests.engine import engine_cases, second_case
from flowmetrics.publishing.rules_tests.form import test_file
from flowmetrics.publishing.rules_tests.kpis import kpi_case
from flowmetrics.publishing.rules_tests.ranges import range_case
from flowmetrics.publishing.rules_tests.sources import source_case
from flowmetrics.publishing.rules_tests.weeks import week_case

TESTS: Final = "deploy/prometheus/tests"
RULES: Final = "deploy/prometheus/rules"

FOLDERS: Final = (RULES, TESTS, RUNBOOKS)
"""Folders that hold nothing else."""


def levels(configuration: Configuration) -> tuple[RuleGroup, ...]:
    """The groups of recording rules in the order in which history is computed: each reads only those before it."""
    return recording_groups(configuration)


def groups(configuration: Configuration) -> tuple[RuleGroup, ...]:
    """Every group: the levels, the alerts of KPIs, then the engine."""
    return (*levels(configuration), drift_group(configuration), *engine_groups(configuration))


def alerts(configuration: Configuration) -> tuple[Alert, ...]:
    """Every alert, in the order of the files; one name may have rules of several severities."""
    return tuple(rule for group in groups(configuration) for rule in group.rules if isinstance(rule, Alert))


def documents(configuration: Configuration) -> Mapping[str, str]:
    """Path under the project → text."""
    return {
        f"{RULES}/flowmetrics-recording.yaml": rule_file(levels(configuration)),
        f"{RULES}/flowmetrics-kpis.yaml": rule_file([drift_group(configuration)]),
        f"{RULES}/flowmetrics-engine.yaml": rule_file(engine_groups(configuration)),
        **_tests(configuration),
        **runbooks(alerts(configuration), configuration),
    }


def _tests(configuration: Configuration) -> Mapping[str, str]:
    recorded, kpis, engine = levels(configuration), drift_group(configuration), engine_groups(configuration)
    files = {
        "recording": (["recording", "kpis"], (*recorded, kpis), [kpi_case(configuration), *burn_cases(configuration)]),
        "ranges": (["recording"], recorded, [range_case(configuration)]),
        "kpis": (["kpis"], (kpis,), [alert_case(configuration)]),
        "engine": (["engine"], engine, [*engine_cases(configuration), *counter_cases()]),
        "engine-seconds": (["engine"], engine, [second_case(configuration)]),
        "engine-weeks": (["engine"], engine, [week_case(configuration)]),
        "engine-sources": (["engine"], engine, [source_case(configuration)]),
    }
    return {
        f"{TESTS}/flowmetrics-{name}.yaml": test_file([f"flowmetrics-{n}.yaml" for n in rules], of, *cases)
        for name, (rules, of, cases) in files.items()
    }
