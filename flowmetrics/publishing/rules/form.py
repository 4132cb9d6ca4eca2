"""What a rule of Prometheus is: recorded or alerted, in groups, and how they are written as YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from flowmetrics.configuration import Configuration

GENERATED: Final = "# Made by `flowmetrics generate rules` from the catalogue. Change the declaration, not this.\n"

INTERVAL: Final = "1m"
"""How often groups are evaluated: a value may be five minutes old before Prometheus takes it for gone."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A series that is computed from others and stored under its own name."""

    record: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """The rule as YAML holds it."""
        return {"record": self.record, "expr": self.expr, **({"labels": dict(self.labels)} if self.labels else {})}


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert: it fires once `expr` has held for `hold`, and goes on for `keep` after it does not."""

    alert: str
    expr: str
    hold: str
    keep: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    when: str
    """The condition in words: the end of "It fires when …"."""
    steps: Sequence[str]
    """What to do after the next step: the hand-written part of the runbook."""
    kpi: str = ""
    """The KPI that it is about; empty for the engine."""

    def plain(self) -> dict[str, Any]:
        """The rule as YAML holds it."""
        durations = {"for": self.hold, "keep_firing_for": self.keep}
        return {
            "alert": self.alert,
            "expr": self.expr,
            **{key: duration for key, duration in durations.items() if duration != "0s"},
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
        }


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that are evaluated one after another. Groups are evaluated beside each other."""

    name: str
    rules: Sequence[Recording | Alert]

    def plain(self) -> dict[str, Any]:
        """The group as YAML holds it."""
        return {"name": self.name, "interval": INTERVAL, "rules": [rule.plain() for rule in self.rules]}


class _Dumper(yaml.SafeDumper):
    """Expressions of several lines are written as they are."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def yaml_text(content: Mapping[str, Any]) -> str:
    """A file of generated YAML, in the order in which keys are given."""
    body = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=False)
    return GENERATED + str(body)


def rule_file(groups: Iterable[RuleGroup]) -> str:
    """A file of rules as Prometheus loads it."""
    return yaml_text({"groups": [group.plain() for group in groups]})


def asking(query: str, then: str) -> str:
    """A part of a sentence in which `then` tells what Prometheus answers to a query of the same series.

    The labels of what fires stand where the query has `{}`.
    """
    matchers = (
        '{{ $all := "" }}{{ range $name, $value := $labels }}{{ if ne $name "__name__" }}'
        '{{ $all = printf "%s%s=%q," $all $name $value }}{{ end }}{{ end }}'
    )
    asked = query.replace("{}", "{%s}")
    return f'{matchers}{{{{ with printf "{asked}" $all | query }}}}{then}{{{{ end }}}}'


def still_firing(alert: str) -> str:
    """The clause that holds for what an alert fires for already: there it has labels that its rule adds."""
    added = "alert_class, alertname, alertstate, owner, severity"
    return f'and ignoring ({added}) ALERTS{{alertname="{alert}",alertstate="firing"}}'


def runbook(alert: str, configuration: Configuration) -> str:
    """Where the runbook of an alert is read: an address, or a file of the checkout."""
    return f"{configuration.runbooks_url.rstrip('/')}/{alert}.md"


def links(alert: str, board: str, configuration: Configuration) -> dict[str, str]:
    """The annotations that lead from an alert to its runbook and to a board."""
    return {
        "runbook_url": runbook(alert, configuration),
        "dashboard_url": f"{(configuration.dashboards_url or '').rstrip('/')}/d/flowmetrics-{board}",
    }
