"""The board of the engine itself, made from its metrics as they are declared.

What its alerts read is shown as they read it, beside where they begin. Growth of counters that are kept is a difference
of sums over workers, as in the rules, and for the same reason: `increase` takes a partition that moves for events. What
a worker counts since it began falls to zero with its next start instead, and of that only `increase` knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flowmetrics.engine_metrics import (
    BUILD,
    EVERYWHERE,
    LATENESS,
    ON_KAFKA,
    READY,
    STABLE_OFFSET_AGE,
    STARTED,
    WAITING,
    EngineMetric,
)
from flowmetrics.publishing.dashboards.board import Board, Panel, Query, Section, Shape, Style, Thresholds
from flowmetrics.publishing.rules.engine import BURNS, DIP, HELD_BACK, HELD_BACK_SECONDS, LAG_LIMIT, LATE_SECONDS
from flowmetrics.publishing.rules.recording import WITHOUT_WORKER

_UNITS: Final = {"seconds": "s", "ratio": "percentunit", "bytes": "bytes"}
_AUTO: Final = "__auto"
"""Grafana then names a line by the labels in which it differs from the others."""
_RULES: Final = "Without the rules in Prometheus: no data."

_READ_BY_ALERTS: Final = {
    LATENESS: ("flowmetrics:source:event_lag", f"vector({LATE_SECONDS})"),
    WAITING: ("flowmetrics:engine:lag", LAG_LIMIT),
    STABLE_OFFSET_AGE: (HELD_BACK, f"vector({HELD_BACK_SECONDS})"),
}
"""Gauge → what its alert reads of it, and where that begins."""


def engine_board() -> Board:
    """Whether the engine is well: what comes in, what is refused, how far it is behind."""
    told = [metric for metric in EVERYWHERE if metric not in (READY, STARTED, BUILD)]
    return Board(
        name="engine",
        title="Flowmetrics: the engine",
        question="Can the numbers be relied on just now?",
        variables=(),
        sections=(
            Section("Now", _now()),
            Section(
                "What comes in, and what is refused",
                (*_panels(metric for metric in told if metric.type == "counter"), _burning()),
            ),
            Section("How far behind, and what is shown", _panels(metric for metric in told if metric.type == "gauge")),
            Section("Workers on Kafka; without Kafka there are none", _panels(ON_KAFKA)),
        ),
        since="now-6h",
        any_filter=True,
    )


def _now() -> tuple[Panel, ...]:
    return (
        Panel(
            "Ready",
            "1: what is shown is complete. 0: it is not yet, or no more; alerts are held back meanwhile.",
            "short",
            (
                Query(
                    f"min {WITHOUT_WORKER} (flowmetrics_engine_ready)",
                    _AUTO,
                    thresholds=Thresholds(1.0, low_is_bad=True),
                ),
            ),
            Shape.NUMBERS,
            width=4,
        ),
        Panel(
            "Series of KPIs",
            "How many KPI series are on the page; each costs Prometheus memory.",
            "short",
            (Query("count(flowmetrics_kpi_value)", "series"),),
            Shape.NUMBERS,
            width=4,
        ),
        Panel(
            "Versions",
            "Which version runs where; two for long means that an upgrade stopped half way.",
            "short",
            (Query("count by (version, instance) (flowmetrics_build_info)", "engines"),),
            Shape.TABLE,
            width=6,
        ),
        Panel(
            "Alerts of the engine",
            "Pending and firing. The watchdog always fires: its absence means that alerting itself is broken.",
            "short",
            (
                Query(
                    'max by (alertname, alertstate, severity) (ALERTS{alert_class="engine"})',
                    "fires",
                ),
            ),
            Shape.TABLE,
            width=10,
        ),
    )


def _panels(metrics: Iterable[EngineMetric]) -> tuple[Panel, ...]:
    return tuple(_panel(metric) for metric in metrics)


def _panel(metric: EngineMetric) -> Panel:
    name = metric.name.removeprefix("flowmetrics_").removesuffix("_total")
    title = name.replace("_", " ").capitalize()
    unit = _UNITS.get(name.rpartition("_")[2], "short")
    if metric.type == "counter":
        growth = _growth_of_each(metric.name) if metric in ON_KAFKA else _growth(metric.name)
        return Panel(f"{title} in an hour", metric.help, unit, (Query(growth, _AUTO),), width=8)
    if metric in _READ_BY_ALERTS:
        read, limit = _READ_BY_ALERTS[metric]
        queries = (Query(read, _AUTO), Query(limit, "alert above", Style.LIMIT))
        recorded = ":" in read
        return Panel(title, f"{metric.help} {_RULES}" if recorded else metric.help, unit, queries, width=8)
    if name.endswith("_timestamp_seconds"):
        title = f"Time since {title.lower().removesuffix(' timestamp seconds')}"
        return Panel(title, metric.help, unit, (Query(f"time() - {metric.name}", _AUTO),), width=8)
    return Panel(title, metric.help, unit, (Query(metric.name, _AUTO),), width=8)


def _growth(counter: str) -> str:
    """By how much the sum over workers grew in an hour; of what is known for less than that, since it is."""
    total = f"(sum {WITHOUT_WORKER} ({counter}))"
    recent = f"max_over_time({total}[{DIP}:30s]"
    return f"{recent}) - ({recent} offset 1h) or min_over_time({total}[1h:1m]))"


def _growth_of_each(counter: str) -> str:
    """By how much a counter grew in an hour that begins with its process and stays with it, over workers."""
    return f"sum {WITHOUT_WORKER} (increase({counter}[1h]))"


def _burning() -> Panel:
    pairs = [(factor, long) for _, _, several in BURNS for factor, long, _ in several]
    return Panel(
        "Refused events: way to the alert",
        "How fast the budget of refused events is spent over each window, as a share of how fast the alert asks for: "
        f"above 100 % it fires, if a shorter window says so too. {_RULES}",
        "percentunit",
        (
            *(Query(f"flowmetrics:engine:reject_burn{long} / {factor:g}", long) for factor, long in pairs),
            Query("vector(1)", "alert above", Style.LIMIT),
        ),
        width=8,
    )
