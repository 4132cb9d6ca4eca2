"""The alerts of KPIs: one for each that declares it, on its totals, in its bad direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.drift import SPREADS
from flowmetrics.kpi import Kpi, Severity, Unit
from flowmetrics.publishing.rules.cells import Burning, Watched, burning, minimum_text, watched
from flowmetrics.publishing.rules.form import Alert, RuleGroup, asking, links, still_firing
from flowmetrics.publishing.rules.recording import BRIDGED

FAST_BURN: Final = 2
"""Spending so fast takes half of a month's budget within a week."""
SLOW_BURN: Final = 1
"""Spending so fast, or faster, leaves nothing of it."""

_SHOWN: Final = {
    Unit.SECONDS: "humanizeDuration",
    Unit.RATIO: "humanizePercentage",
    Unit.SCORE: 'printf "%.1f"',
}


def drift_group(configuration: Configuration) -> RuleGroup:
    """The alerts of all KPIs."""
    drifts = [_drift(each, configuration) for each in watched(configuration)]
    burns = [alert for each in burning(configuration) for alert in _burns(each, configuration)]
    return RuleGroup("flowmetrics-kpi-alerts", [*drifts, *burns])


def _drift(each: Watched, configuration: Configuration) -> Alert:
    name = each.kpi.name
    way = "higher" if each.rises else "lower"
    minimum = minimum_text(each.kpi, each.declared)
    return Alert(
        each.name,
        f"{beyond(each)}\nor {lingering(each)}\n{still_firing(each.name)}",
        each.declared.hold,
        each.declared.keep,
        _labels(each.declared.severity, each.owner),
        {
            "summary": f"{name} of {_stream(each.kpi, each.cells)} is {_shown('$value', each.kpi)}, {way} than in "
            "former weeks",
            "description": f"{each.kpi.question}{_baseline(each.kpi)} A change is told when it is {minimum} or more, "
            "and more than chance.",
            "next_step": each.declared.next_step,
            **_links(each.name, name, each.cells, configuration),
        },
        f"{name} is {way} than the median of the same time one to four weeks ago: by {minimum} or more, by "
        f"{SPREADS} spreads of those weeks or more, and by more than chance explains",
        each.declared.steps,
        name,
    )


def beyond(each: Watched) -> str:
    """The condition under which an alert begins: the value lies beyond its band."""
    return f"{_bridged(each, 'trusted')}\n{_sign(each)} {_band(each)}"


def lingering(each: Watched) -> str:
    """The condition under which an alert that fires goes on: the value is not half way back, as `Limit.calm_at` says.

    It holds wherever that of `beyond` does.
    """
    half_way = f"({_band(each)} + {_bridged(each, 'baseline')}) / 2"
    return f"{_bridged(each, 'trusted')}\n{_sign(each)} {half_way}"


def _sign(each: Watched) -> str:
    return ">" if each.rises else "<"


def _band(each: Watched) -> str:
    return _bridged(each, "band_high" if each.rises else "band_low")


def _bridged(each: Watched, name: str) -> str:
    """A recorded series of the KPI as it was last known."""
    return f'last_over_time(flowmetrics:kpi:{name}{{kpi="{each.kpi.name}"}}[{BRIDGED}])'


def _burns(each: Burning, configuration: Configuration) -> Iterator[Alert]:
    """Both windows must agree: the long one that it matters, the short one that it goes on.

    The label `kpi` is that of which something was expected, so that its drift and its budget are one notification.
    """
    name = each.kpi.name
    pairs = (
        (Severity.PAGE, FAST_BURN, each.middle, each.short),
        (Severity.TICKET, SLOW_BURN, each.long, each.middle),
    )
    for severity, factor, long, short in pairs:
        burns = [
            f'last_over_time(flowmetrics:kpi:burn{{kpi="{name}",window="{window}"}}[{BRIDGED}]) > {factor}'
            for window in (long, short)
        ]
        reached = max(severity, each.declared.severity, key=list(Severity).index)
        yield Alert(
            each.name,
            "\nand ignoring (window) ".join(burns),
            each.declared.hold,
            each.declared.keep,
            {**_labels(reached, each.owner), "kpi": each.declared.of, "burn": f"{factor}x over {long}"},
            {
                "summary": f"The budget of {each.declared.of} of {_stream(each.kpi, each.cells)} burns "
                '{{ $value | printf "%.1f" }} times as fast as it may',
                "description": f"{each.kpi.question} Expected: {1 - each.budget:.6g}; less over {long}, {short}.",
                "next_step": each.declared.next_step,
                **_links(each.name, name, {"window": long}, configuration),
            },
            f"more than {factor} times the share that may be late was late, over {long} and over {short}",
            each.declared.steps,
            name,
        )


def _labels(severity: Severity, owner: str) -> dict[str, str]:
    return {"severity": severity.value, "alert_class": "kpi", "owner": owner}


def _links(alert: str, kpi: str, cells: Mapping[str, str], configuration: Configuration) -> dict[str, str]:
    """To the runbook, and to the board of the KPI as the alert reads it."""
    chosen = "".join(f"&var-{label}={cells[label]}" for label in ("window", "percentile") if label in cells)
    stream = "{{ $labels.value_stream | urlquery }}"
    return links(alert, f"kpi?var-kpi={kpi}&var-value_stream={stream}{chosen}", configuration)


def _stream(kpi: Kpi, cells: Mapping[str, str]) -> str:
    """The value stream, and which of its series it is, where an alert reads several."""
    free = [label for label in kpi.labels if label not in cells and label != "window"]
    named = ", ".join(f"{label} {{{{ $labels.{label} }}}}" for label in free)
    return "{{ $labels.value_stream }}" + (f" ({named})" if named else "")


def _baseline(kpi: Kpi) -> str:
    """A sentence with the baseline of the very series that fires: the one with all labels that it has."""
    first = _shown(". | first | value", kpi)
    return asking("flowmetrics:kpi:baseline{}", f" At the same time of former weeks it was {first}.")


def _shown(value: str, kpi: Kpi) -> str:
    return f"{{{{ {value} | {_SHOWN.get(kpi.unit, 'humanize')} }}}}"
