"""The board of the engine itself, made from the families that it declares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flowmetrics.engine_metrics import COUNTERS, EngineCounters, epoch_families
from flowmetrics.families import Family
from flowmetrics.publishing.dashboards_board import Board, Panel, Query, Section, Shape, Verdict

KAFKA: Final = (
    Family("flowmetrics_partition_lag_records", "Records that a partition has not taken.", "gauge", ()),
    Family("flowmetrics_engine_partitions_owned", "Partitions of a step that a worker owns.", "gauge", ()),
    Family("flowmetrics_engine_recovery_seconds", "How long a unit took until it was caught up.", "gauge", ()),
    Family(
        "flowmetrics_engine_stable_offset_age_seconds",
        "How long an open transaction holds back a unit's input.",
        "gauge",
        (),
    ),
    Family("flowmetrics_engine_checkpoints_total", "Transactions that were committed.", "counter", ()),
    Family("flowmetrics_engine_checkpoint_seconds_total", "Time that transactions took.", "counter", ()),
    Family("flowmetrics_engine_checkpoint_bytes_total", "Bytes that transactions wrote.", "counter", ()),
    Family("flowmetrics_engine_histories_read_total", "Histories asked for, by where they were.", "counter", ()),
)
"""What workers on Kafka say besides; `agents.kafka.families` makes them, and a test holds both together."""

_UNITS: Final = {"seconds": "s", "ratio": "percentunit", "bytes": "bytes"}
_AUTO: Final = "__auto"
"""Grafana then names a line by the labels in which it differs from the others."""


def engine_board() -> Board:
    """Whether the engine is well: what comes in, what is refused, how far it is behind."""
    told = [*EngineCounters([]).families(0), *epoch_families(None, None)]
    gauges = [f for f in told if f.type == "gauge" and f.name != "flowmetrics_build_info"]
    return Board(
        name="engine",
        title="Flowmetrics: the engine",
        question="Can the numbers be relied on just now?",
        variables=(),
        sections=(
            Section("Now", _now()),
            Section("What comes in, and what is refused", _panels(f for f in told if f.type == "counter")),
            Section("How far behind, and what is shown", _panels(gauges)),
            Section("Workers on Kafka; without Kafka there are none", _panels(KAFKA)),
        ),
        since="now-6h",
    )


def _now() -> tuple[Panel, ...]:
    return (
        Panel(
            "Ready",
            "1: what is shown is complete. 0: it is not yet, or no more; alerts are held back meanwhile.",
            "short",
            (Query("min(flowmetrics_engine_ready)", "ready", verdict=Verdict.LOW_IS_BAD),),
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


def _panels(families: Iterable[Family]) -> tuple[Panel, ...]:
    return tuple(_panel(family) for family in families)


def _panel(family: Family) -> Panel:
    name = family.name.removeprefix("flowmetrics_").removesuffix("_total")
    title = name.replace("_", " ").capitalize()
    unit = _UNITS.get(name.rpartition("_")[2], "short")
    if family.type == "counter":
        labels = COUNTERS[name][0] if name in COUNTERS else ("step", "place")
        expression = f"sum by ({', '.join(labels)}) (increase({family.name}[1h]))"
        return Panel(f"{title} in an hour", family.help, unit, (Query(expression, _AUTO),), width=8)
    if name.endswith("_timestamp_seconds"):
        title = f"Time since {title.lower().removesuffix(' timestamp seconds')}"
        return Panel(title, family.help, unit, (Query(f"time() - {family.name}", _AUTO),), width=8)
    return Panel(title, family.help, unit, (Query(family.name, _AUTO),), width=8)
