"""The runbook of every alert: a frame that follows from its declaration, and the steps that were written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.kpi import Kpi
from flowmetrics.kpis import catalogue
from flowmetrics.markdown import table
from flowmetrics.publishing.rules.cells import Watched, watched
from flowmetrics.publishing.rules.form import Alert

RUNBOOKS: Final = "docs/runbooks"

_GENERATED: Final = (
    "<!-- Made by `flowmetrics generate rules` from the declaration of the alert. Change that, not this. -->"
)
_REACHES: Final = {
    "page": "somebody now",
    "ticket": "a queue, for the next working day",
    "info": "boards only",
    "none": "nobody: it proves that alerting works",
}


def runbooks(alerts: Sequence[Alert], configuration: Configuration) -> Mapping[str, str]:
    """Path under the project → page: one for each name of an alert, and an index."""
    kpis = {kpi.name: kpi for kpi in catalogue(configuration)}
    drifts = {each.name: each for each in watched(configuration)}
    named = [(name, list(rules)) for name, rules in groupby(alerts, attrgetter("alert"))]
    pages = {f"{RUNBOOKS}/{name}.md": _page(rules, kpis, drifts.get(name)) for name, rules in named}
    rows = [(f"[{name}]({name}.md)", _severities(rules), rules[0].annotations["next_step"]) for name, rules in named]
    index = [_GENERATED, "# Runbooks", "", *table(("alert", "severity", "next step"), rows), ""]
    return {f"{RUNBOOKS}/README.md": "\n".join(index), **pages}


def _page(rules: Sequence[Alert], kpis: Mapping[str, Kpi], drift: Watched | None) -> str:
    first = rules[0]
    kpi = kpis.get(first.kpi)
    about = [f"**{kpi.question}** See [{kpi.name}](../kpis/{kpi.name}.md).", ""] if kpi else []
    return "\n".join(
        [
            _GENERATED,
            f"# {first.alert}",
            "",
            *about,
            *(line for rule in rules for line in _condition(rule)),
            "## Next step",
            "",
            first.annotations["next_step"],
            "",
            "## Then",
            "",
            *(f"{number}. {step}" for number, step in enumerate(first.steps, 1)),
            "",
            *(_is_it_real(drift) if drift else []),
            "## The rule",
            "",
            *(line for rule in rules for line in ("```promql", rule.expr, "```", "")),
        ]
    )


def _condition(rule: Alert) -> list[str]:
    lasting = f" This must last for {rule.hold}, and be over for {rule.keep}." if rule.hold != "0s" else ""
    severity = rule.labels["severity"]
    return [f"It fires when {rule.when}.{lasting} Severity `{severity}`: it reaches {_REACHES[severity]}.", ""]


def _is_it_real(drift: Watched) -> list[str]:
    name, side = drift.kpi.name, "high" if drift.rises else "low"
    queries = (
        ("now, and where it would fire", f'flowmetrics:kpi:trusted{{kpi="{name}"}}'),
        ("", f'flowmetrics:kpi:band_{side}{{kpi="{name}"}}'),
        ("the same time of former weeks", f'flowmetrics:kpi:same_time{{kpi="{name}"}}'),
        ("what decides: the largest reason", f'flowmetrics:kpi:margin{{kpi="{name}"}}'),
        ("how much lies under it", f"flowmetrics_kpi_samples{{{drift.selector}}}"),
    )
    return [
        "## Is it real?",
        "",
        f"It reads `{drift.selector}`, with {drift.kpi.samples_min} or more under "
        f"{'the former weeks or now' if drift.counted else 'the value'}. Ask Prometheus:",
        "",
        *table(("what", "query"), [(what, f"`{query}`") for what, query in queries]),
        "",
        "- A holiday, an import of old data or a new way of working moves it too; no rule knows of those.",
        "- It is quiet while the engine is not ready, and a gap, a restart or a renamed pod does not fire it.",
        "- Once it fires, it goes on until the value is half way back to the former weeks, as on the live page.",
        "- Prometheus knows for five minutes what fires: while it is away for longer, what is half way back ends.",
        "- A change that lasts for more than two weeks becomes the baseline: the alert ends, although nothing is well.",
        "",
        "Too many, or too few? In `flowmetrics.yaml`, and then `flowmetrics generate rules`:",
        "",
        "```yaml",
        "alerts:",
        "  rules:",
        f"    {name}: {{minimum: {_minimum(drift)}, samples: {drift.kpi.samples_min}, "
        f"severity: {drift.declared.severity.value}, for: {drift.declared.hold}, "
        f"keep_firing_for: {drift.declared.keep}}}",
        "```",
        "",
    ]


def _minimum(drift: Watched) -> str:
    amount = drift.declared.minimum
    if drift.declared.points and drift.kpi.unit.value != "ratio":
        return f"{amount:g} points"
    return f"{amount * 100:g}{' points' if drift.declared.points else '%'}"


def _severities(rules: Sequence[Alert]) -> str:
    return ", ".join(dict.fromkeys(rule.labels["severity"] for rule in rules))
