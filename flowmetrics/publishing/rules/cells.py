"""Which alerts the KPIs have under a configuration, and which of their series those read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flowmetrics.configuration import ALL, OFF, Configuration, RuleOverride
from flowmetrics.instants import duration_text, duration_us
from flowmetrics.kpi import Better, BurnAlert, DriftAlert, Kpi, Noise, Unit, camel
from flowmetrics.kpis import selected

TOTALS: Final = frozenset({"item_type", "channel", "segment", "touchpoint"})
"""Labels over which every KPI also gives the total."""

WEEK: Final = "7d"
MONTH: Final = "30d"


@dataclass(frozen=True, slots=True)
class Watched:
    """A KPI with a drift alert, and what follows from its declaration and the configuration."""

    kpi: Kpi
    declared: DriftAlert
    owner: str
    samples_given: bool
    """Whether the configuration says another sample floor than the engine knows."""
    cells: Mapping[str, str]
    """Label → value of the series that the alert reads, besides `kpi`; a label that is not here has each value."""

    @property
    def name(self) -> str:
        """The name of the alert."""
        return f"{camel(self.kpi.name)}{'ScoreDrop' if self.declared.points else 'Drift'}"

    @property
    def rises(self) -> bool:
        """Whether the bad direction is up."""
        return self.kpi.better is Better.LOWER

    @property
    def counted(self) -> bool:
        """Whether the value is a count: exact however small, so the floor is for what it is compared with."""
        return self.declared.noise is Noise.COUNTING

    @property
    def bounded(self) -> bool:
        """Whether chance is told by the bounds of the value."""
        return self.declared.noise is Noise.BOUNDS

    @property
    def selector(self) -> str:
        """The matchers of the series that the alert reads."""
        return matchers({"kpi": self.kpi.name, **self.cells})


@dataclass(frozen=True, slots=True)
class Burning:
    """A service level expectation that is configured: the KPI that gives the share which meets it, and its budget.

    `short`, `middle` and `long` are the windows over which the burning of the budget is read.
    """

    kpi: Kpi
    declared: BurnAlert
    owner: str
    budget: float
    short: str
    middle: str
    long: str
    samples_given: bool
    """Whether the configuration says another sample floor than the engine knows."""
    cells: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of the alert."""
        return f"{camel(self.declared.of)}BudgetBurn"

    @property
    def selector(self) -> str:
        """The matchers of the series that the alert reads, of every window."""
        return matchers({"kpi": self.kpi.name, **self.cells})


def watched(configuration: Configuration) -> tuple[Watched, ...]:
    """Every KPI with a drift alert, in the order of the catalogue.

    >>> first = watched(Configuration())[0]
    >>> first.name, first.selector
    ('FlowTimeDrift', 'kpi="flow_time",item_type="all",window="7d",percentile="p85"')
    """
    return tuple(
        Watched(
            kpi,
            kpi.alert,
            said.owner or configuration.alerts_owner,
            said.samples is not None,
            _cells(kpi, kpi.alert, configuration),
        )
        for kpi, said in _alerting(configuration)
        if isinstance(kpi.alert, DriftAlert)
    )


def burning(configuration: Configuration) -> tuple[Burning, ...]:
    """Every expectation that is configured and has an alert, in the order of the catalogue."""
    wanted = [duration_text(min(configuration.windows_us)), WEEK, MONTH]
    short, middle, long = (_window(window, configuration.windows_us) for window in wanted)
    return tuple(
        Burning(
            kpi,
            kpi.alert,
            said.owner or configuration.alerts_owner,
            1 - expectation.share.amount / 100,
            short,
            middle,
            long,
            said.samples is not None,
            {label: ALL for label in kpi.labels if label in TOTALS},
        )
        for kpi, said in _alerting(configuration)
        if isinstance(kpi.alert, BurnAlert) and (expectation := configuration.expectations.get(kpi.alert.of))
    )


def _alerting(configuration: Configuration) -> Iterator[tuple[Kpi, RuleOverride]]:
    """The KPIs whose alert is not turned off, and what an operator says of it."""
    for kpi in selected(configuration):
        said = configuration.rules.get(kpi.name, RuleOverride())
        if said.severity != OFF:
            yield kpi, said


def own_labels(configuration: Configuration) -> tuple[str, ...]:
    """Every label that some KPI has of its own, sorted."""
    return tuple(sorted({label for kpi in selected(configuration) for label in kpi.labels}))


def windows(configuration: Configuration) -> tuple[str, ...]:
    """The configured windows as label values, the shortest first."""
    return tuple(duration_text(us) for us in sorted(configuration.windows_us))


def matchers(values: Mapping[str, str]) -> str:
    """Label matchers in the order in which they are given."""
    return ",".join(f'{label}="{value}"' for label, value in values.items())


def minimum_text(kpi: Kpi, alert: DriftAlert) -> str:
    """The least change that counts, as people say it.

    >>> from flowmetrics.kpis import catalogue
    >>> [minimum_text(k, k.alert) for k in catalogue(Configuration()) if k.name in ("flow_time", "nps", "csat")]
    ['20 %', '8 points', '8 percentage points']
    """
    if not alert.points:
        return f"{alert.minimum * 100:g} %"
    if kpi.unit is Unit.RATIO:
        return f"{alert.minimum * 100:g} percentage points"
    return f"{alert.minimum:g} points"


def _cells(kpi: Kpi, alert: DriftAlert, configuration: Configuration) -> dict[str, str]:
    percentile = min(sorted(configuration.percentiles), key=lambda p: abs(p - alert.percentile))
    known = {
        "window": _window(alert.window, configuration.windows_us),
        "percentile": f"p{percentile}",
        **dict.fromkeys(TOTALS, ALL),
        **dict(alert.only),
    }
    return {label: known[label] for label in kpi.labels if label in known}


def _window(wanted: str, windows_us: Sequence[int]) -> str:
    """The longest window up to the wanted one, so that weeks do not overlap; else the shortest there is."""
    wanted_us = duration_us(wanted)
    return duration_text(max((us for us in windows_us if us <= wanted_us), default=min(windows_us)))
