"""The catalogue: every KPI, declared once, in the order in which people read them."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final

from flowmetrics.configuration import OFF, Configuration, RuleOverride, Threshold
from flowmetrics.instants import duration_text
from flowmetrics.kpi import Better, DriftAlert, Kpi, NoAlert, Severity, Unit
from flowmetrics.kpis.activity import ACTIVITY_KPIS
from flowmetrics.kpis.adoption import ADOPTION_KPIS
from flowmetrics.kpis.expectations import EXPECTATION_KPIS
from flowmetrics.kpis.flow import FLOW_KPIS
from flowmetrics.kpis.requests import REQUEST_KPIS
from flowmetrics.kpis.retention import RETENTION_KPIS
from flowmetrics.kpis.surveys import survey_kpis
from flowmetrics.kpis.value import VALUE_KPIS

READING: Final = 1
"""Raised with every change of the code by which the same facts contribute otherwise: histories are then read anew.
`tests/catalogue/test_reading.py` fails where that is forgotten."""


def catalogue(configuration: Configuration) -> tuple[Kpi, ...]:
    """Every KPI under a configuration; there is one for each configured survey."""
    return (
        *FLOW_KPIS,
        *REQUEST_KPIS,
        *EXPECTATION_KPIS,
        *VALUE_KPIS,
        *ACTIVITY_KPIS,
        *ADOPTION_KPIS,
        *RETENTION_KPIS,
        *survey_kpis(configuration.surveys),
    )


def selected(configuration: Configuration) -> tuple[Kpi, ...]:
    """The KPIs that the patterns under `kpis` name, with what `alerts.rules` says of them.

    >>> [kpi.name for kpi in selected(Configuration(kpis=("flow_v*", "nps")))]
    ['flow_velocity', 'nps']
    """
    return tuple(
        _ruled(kpi, configuration.rules[kpi.name]) if kpi.name in configuration.rules else kpi
        for kpi in catalogue(configuration)
        if any(fnmatchcase(kpi.name, pattern) for pattern in configuration.kpis)
    )


def _ruled(kpi: Kpi, rule: RuleOverride) -> Kpi:
    """A KPI whose alert is as an operator says."""
    alert = kpi.alert
    if isinstance(alert, NoAlert):
        return kpi
    alert = replace(
        alert,
        severity=alert.severity if rule.severity in (None, OFF) else Severity(rule.severity),
        hold=alert.hold if rule.hold_us is None else duration_text(rule.hold_us),
        keep=alert.keep if rule.keep_us is None else duration_text(rule.keep_us),
    )
    if isinstance(alert, DriftAlert) and rule.minimum is not None:
        alert = replace(alert, minimum=_in_unit(kpi, rule.minimum))
    better = kpi.better if rule.better is None else Better(rule.better)
    return replace(kpi, alert=alert, better=better, samples_min=rule.samples or kpi.samples_min)


def _in_unit(kpi: Kpi, minimum: Threshold) -> float:
    in_hundreds = minimum.unit == "%" or kpi.unit is Unit.RATIO
    return minimum.amount / 100 if in_hundreds else minimum.amount
