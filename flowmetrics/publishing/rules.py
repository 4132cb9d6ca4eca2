"""The rules for Prometheus that follow from the catalogue, and the files that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.publishing.rules_drift import drift_group
from flowmetrics.publishing.rules_form import Alert, RuleGroup, rule_file
from flowmetrics.publishing.rules_recording import recording_groups

RULES: Final = "deploy/prometheus/rules"


def levels(configuration: Configuration) -> tuple[RuleGroup, ...]:
    """The groups of recording rules in the order in which history is computed: each reads only those before it."""
    return recording_groups(configuration)


def groups(configuration: Configuration) -> tuple[RuleGroup, ...]:
    """Every group: the levels, then the alerts."""
    return (*levels(configuration), drift_group(configuration))


def alerts(configuration: Configuration) -> tuple[Alert, ...]:
    """Every alert, in the order of the files."""
    return tuple(rule for group in groups(configuration) for rule in group.rules if isinstance(rule, Alert))


def documents(configuration: Configuration) -> Mapping[str, str]:
    """Path under the project → text."""
    return {
        f"{RULES}/flowmetrics-recording.yaml": rule_file(levels(configuration)),
        f"{RULES}/flowmetrics-kpis.yaml": rule_file([drift_group(configuration)]),
    }
