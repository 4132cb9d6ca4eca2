"""The pages of documentation that are made from declarations: KPIs, metrics of the engine, and the configuration."""

from __future__ import annotations

from collections.abc import Mapping

from flowmetrics.configuration import Configuration
from flowmetrics.engine_metrics import EVERYWHERE, ON_KAFKA, EngineMetric
from flowmetrics.kpi import BurnAlert, Kpi, NoAlert
from flowmetrics.kpis import catalogue
from flowmetrics.markdown import table
from flowmetrics.publishing.rules.cells import minimum_text
from flowmetrics.settings import reference

_GENERATED = "<!-- Made by `flowmetrics generate docs` from a declaration. Change that, not this. -->"


def documents(configuration: Configuration) -> Mapping[str, str]:
    """Path under the project → text: a page for every KPI, an index, the metrics of the engine, and every key."""
    kpis = catalogue(configuration)
    rows = [(f"[{kpi.name}]({kpi.name}.md)", kpi.question, f"`{kpi.metric}`") for kpi in kpis]
    index = [_GENERATED, "# KPIs", "", *table(("KPI", "question", "metric"), rows), ""]
    keys = [
        _GENERATED,
        "# Configuration",
        "",
        "Every key of `flowmetrics.yaml`, all optional.",
        "",
        reference().strip(),
        "",
    ]
    return {
        "docs/configuration.md": "\n".join(keys),
        "docs/engine-metrics.md": "\n".join(_engine_metrics()),
        "docs/kpis/README.md": "\n".join(index),
        **{f"docs/kpis/{kpi.name}.md": "\n".join(_page(kpi)) for kpi in kpis},
    }


def _engine_metrics() -> list[str]:
    runtimes = {"both": EVERYWHERE, "Kafka": ON_KAFKA}
    rows = [_engine_metric(metric, runtime) for runtime, metrics in runtimes.items() for metric in metrics]
    return [
        _GENERATED,
        "# Metrics of the engine",
        "",
        "What `/metrics` says of the engine itself, beside [the KPIs](kpis/README.md). On Kafka each worker says it",
        "of its own partitions; a `unit` is a partition of a step, such as `track-3`. What there is nothing to say",
        "of is absent.",
        "",
        *table(("metric", "type", "labels", "says", "runtime"), rows),
        "",
        "Counters of both runtimes are kept over restarts. On Kafka they move from worker to worker with their",
        "partitions, which `increase` would take for events: ask by how much their sum over workers grew, as the",
        "rules do (`flowmetrics:engine:accepted_growth1h`). Counters of Kafka alone begin at zero with each worker",
        "and stay with it: ask their `increase`.",
        "",
    ]


def _engine_metric(metric: EngineMetric, runtime: str) -> tuple[str, ...]:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"`{metric.name}`", metric.type, labels, metric.help, runtime


def _page(kpi: Kpi) -> list[str]:
    labels = ", ".join(f"`{label}`" for label in ("value_stream", *kpi.labels))
    metrics = [(kpi.metric, kpi.help), *((each.name, each.help) for each in kpi.companions)]
    return [
        _GENERATED,
        f"# {kpi.name}",
        "",
        f"**{kpi.question}**",
        "",
        kpi.help,
        "",
        f"- group: {kpi.group}; unit: {kpi.unit.value}; better: {kpi.better.value}",
        f"- labels: {labels}",
        f"- enough samples to page on: {kpi.samples_min}",
        "",
        *table(("metric", "says"), [(f"`{name}`", says) for name, says in metrics]),
        "",
        "## Alert",
        "",
        _alert(kpi),
        "",
        "## Worked example",
        "",
        kpi.example.story,
        "",
        *table(("time", "event"), [(time, f"`{told}`") for time, told in kpi.example.events]),
        "",
        f"At {kpi.example.at}:",
        "",
        *table(("series", "value"), [(f"`{series}`", _value(at)) for series, at in kpi.example.values.items()]),
        "",
    ]


def _alert(kpi: Kpi) -> str:
    alert = kpi.alert
    if isinstance(alert, NoAlert):
        return f"It pages nobody. {alert.why}"
    if isinstance(alert, BurnAlert):
        return f"It tells when the budget of the expectation is spent too fast. Next step: {alert.next_step}"
    changes = f"moves by {minimum_text(kpi, alert)} the wrong way against the same time of former weeks"
    return f"It tells (`severity: {alert.severity.value}`) when it {changes}. Next step: {alert.next_step}"


def _value(value: float | None) -> str:
    return "absent" if value is None else f"{value:.6g}"
