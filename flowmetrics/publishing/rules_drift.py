"""The alerts of KPIs: one for each that declares it, on its totals, in its bad direction."""

from __future__ import annotations

from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.kpi import Unit
from flowmetrics.publishing.rules_cells import Watched, minimum_text, watched
from flowmetrics.publishing.rules_form import Alert, RuleGroup
from flowmetrics.publishing.rules_recording import BRIDGED

_SHOWN: Final = {
    Unit.SECONDS: "humanizeDuration",
    Unit.RATIO: "humanizePercentage",
    Unit.SCORE: 'printf "%.1f"',
}


def drift_group(configuration: Configuration) -> RuleGroup:
    """The alerts of all KPIs."""
    return RuleGroup("flowmetrics-kpi-alerts", [_alert(each) for each in watched(configuration)])


def _alert(each: Watched) -> Alert:
    name = each.kpi.name
    sign, side = (">", "high") if each.rises else ("<", "low")
    return Alert(
        each.name,
        f'last_over_time(flowmetrics:kpi:trusted{{kpi="{name}"}}[{BRIDGED}])\n'
        f'{sign} last_over_time(flowmetrics:kpi:band_{side}{{kpi="{name}"}}[{BRIDGED}])',
        each.declared.hold,
        each.declared.hold,
        {
            "severity": each.declared.severity.value,
            "alert_class": "kpi",
            "owner": each.owner,
        },
        {
            "summary": f"{name} of {{{{ $labels.value_stream }}}} is {_shown('$value', each)}, "
            f"{'more' if each.rises else 'less'} than in former weeks",
            "description": f"{each.kpi.question} {_baseline(each)} It is told when the change is "
            f"{minimum_text(each.kpi, each.declared)} or more, three spreads of those weeks, and more than chance.",
            "next_step": each.declared.next_step,
            "runbook_url": f"docs/runbooks/{each.name}.md",
            "dashboard_url": f"/d/flowmetrics-kpi?var-kpi={name}&var-value_stream={{{{ $labels.value_stream }}}}",
        },
    )


def _baseline(each: Watched) -> str:
    """A sentence with the baseline, by a query for the series that has the labels of the alert."""
    query = f'printf "flowmetrics:kpi:baseline{{kpi=\\"{each.kpi.name}\\",value_stream=%q}}" $labels.value_stream'
    first = _shown(". | first | value", each)
    return f"{{{{ with {query} | query }}}}At the same time of former weeks it was {first}.{{{{ end }}}}"


def _shown(value: str, each: Watched) -> str:
    return f"{{{{ {value} | {_SHOWN.get(each.kpi.unit, 'humanize')} }}}}"
