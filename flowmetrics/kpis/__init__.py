"""The catalogue: every KPI, declared once, in the order in which people read them."""

from __future__ import annotations

from fnmatch import fnmatchcase

from flowmetrics.configuration import Configuration
from flowmetrics.kpi import Kpi
from flowmetrics.kpis.activity import ACTIVITY_KPIS
from flowmetrics.kpis.adoption import ADOPTION_KPIS
from flowmetrics.kpis.flow import FLOW_KPIS
from flowmetrics.kpis.requests import REQUEST_KPIS
from flowmetrics.kpis.retention import RETENTION_KPIS
from flowmetrics.kpis.surveys import survey_kpis
from flowmetrics.kpis.value import VALUE_KPIS


def catalogue(configuration: Configuration) -> tuple[Kpi, ...]:
    """Every KPI under a configuration; there is one for each configured survey."""
    return (
        *FLOW_KPIS,
        *REQUEST_KPIS,
        *VALUE_KPIS,
        *ACTIVITY_KPIS,
        *ADOPTION_KPIS,
        *RETENTION_KPIS,
        *survey_kpis(configuration.surveys),
    )


def selected(configuration: Configuration) -> tuple[Kpi, ...]:
    """The KPIs that the patterns under `kpis` name.

    >>> [kpi.name for kpi in selected(Configuration(kpis=("flow_ti*", "nps")))]
    ['flow_time', 'nps']
    """
    return tuple(k for k in catalogue(configuration) if any(fnmatchcase(k.name, p) for p in configuration.kpis))
