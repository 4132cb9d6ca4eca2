"""The variables of boards: which value streams, which part of them, over which window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from flowmetrics.kpi import Kpi
from flowmetrics.publishing.dashboards.board import Variable
from flowmetrics.publishing.dashboards.queries import as_chosen, scraped


def value_streams(several: bool = False, of: str = "") -> Variable:
    """The choice of value streams, among those that the matchers `of` find."""
    return Variable("value_stream", "Value stream", shown("value_stream", of), several=several)


def choices(kpis: Iterable[Kpi], first: Mapping[str, str]) -> Iterator[Variable]:
    """A variable for each label of the KPIs that the reader chooses, and what is chosen `first`."""
    labels = {label for kpi in kpis for label in kpi.labels if label not in as_chosen(kpi, first).drawn}
    for label, usual in first.items():
        if label in labels:
            yield Variable(label, label.replace("_", " ").capitalize(), shown(label), usual)


def shown(label: str, of: str = "") -> str:
    """The question after the values of a label that KPIs are shown with, those that the matchers `of` find."""
    return f"label_values({scraped('value', of)}, {label})"
