"""The board of one KPI in depth, whichever the reader chooses: every series of it, and what its alert sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Final

from flowmetrics.kpi import Kpi
from flowmetrics.publishing.dashboards.board import (
    WIDTH,
    Board,
    Panel,
    Query,
    Section,
    Shape,
    Style,
    Variable,
)
from flowmetrics.publishing.dashboards.choices import choices, shown, value_streams
from flowmetrics.publishing.dashboards.kpis import COUNT, SHARE, THIN, UNITS, WAY, WAY_THRESHOLDS, grouped
from flowmetrics.publishing.dashboards.queries import COUNTED, any_kpi, enough, layer, way_to_alert
from flowmetrics.publishing.rules.cells import Watched

_UNIT_WORDS: Final = {"s": "seconds", "percentunit": "share", "none": "points", "short": "count"}
_ANY: Final = any_kpi('kpi=~"$kpi"', "window", "percentile")


def one_kpi_board(kpis: Sequence[Kpi], alerts: Sequence[Watched], first: Mapping[str, str]) -> Board:
    """A board about the KPI that the variable `kpi` names."""
    labels = ("value_stream", *dict.fromkeys(chain.from_iterable(kpi.labels for kpi in kpis)))
    series = " ".join(f"{{{{{label}}}}}" for label in labels)
    return Board(
        name="kpi",
        title="Flowmetrics: one KPI in depth",
        question="Is this number real, and which part of it moved?",
        variables=(
            Variable("kpi", "KPI", shown("kpi"), kpis[0].name),
            value_streams(several=True, of='kpi=~"$kpi"'),
            *(v for v in choices(kpis, first) if v.name in ("window", "percentile")),
        ),
        sections=(
            Section("Over time", tuple(_over_time(kpis, alerts, series))),
            Section("Now", (_now(kpis, alerts, labels),)),
        ),
        any_filter=True,
    )


def _over_time(kpis: Sequence[Kpi], alerts: Sequence[Watched], series: str) -> Iterator[Panel]:
    def lines(of: Iterable[Kpi], name: str, legend: str, style: Style = Style.TRUSTED) -> Iterator[Query]:
        return _each_unit(of, partial(layer, name), f"{series} {legend}".strip(), style)

    watched = [each.kpi for each in alerts]
    yield Panel(
        "Every series",
        f"Bold: enough samples. {THIN}",
        COUNT,
        (
            *lines(kpis, "value", "few samples", Style.PLAIN),
            *_each_unit(kpis, enough, series),
            *lines((each.kpi for each in alerts if not each.rises), "band_low", "alert below", Style.LIMIT),
            *lines((each.kpi for each in alerts if each.rises), "band_high", "alert above", Style.LIMIT),
        ),
        width=WIDTH,
        height=10,
    )
    yield Panel(
        "The same time of former weeks",
        "What the usual is made of; a week that is missing had too few samples. Only what an alert reads has a usual.",
        COUNT,
        (
            *lines(watched, "trusted", "now"),
            *lines(watched, "same_time", "{{weeks_ago}} weeks ago", Style.PLAIN),
            *lines(watched, "baseline", "usual", Style.USUAL),
        ),
    )
    yield Panel(
        "95 % bounds",
        "Where the true value lies, as far as the samples tell. Counts are exact and have none.",
        COUNT,
        (
            *lines(kpis, "value", ""),
            *lines(_estimated(kpis), "lower", "low", Style.EDGE),
            *lines(_estimated(kpis), "upper", "high", Style.EDGE),
        ),
    )
    yield Panel(
        "Samples",
        "How many items, requests, people or answers lie under each value.",
        COUNT,
        (Query(layer("samples", _ANY), series),),
    )
    yield Panel("How near its alert", WAY, SHARE, (Query(way_to_alert(_ANY), series),))


def _now(kpis: Sequence[Kpi], alerts: Sequence[Watched], labels: Sequence[str]) -> Panel:
    layers = (
        ("value", "now", kpis),
        ("lower", "95 % low", _estimated(kpis)),
        ("upper", "95 % high", _estimated(kpis)),
        ("baseline", "usual", [each.kpi for each in alerts]),
    )
    columns = [
        *(
            replace(query, name=f"{query.name}, {_UNIT_WORDS[query.unit]}")
            for name, title, of in layers
            for query in _each_unit(of, partial(layer, name), title)
        ),
        Query(layer("samples", _ANY), "samples", unit=COUNT),
        Query(way_to_alert(_ANY), "way to its alert", unit=SHARE, thresholds=WAY_THRESHOLDS),
    ]
    return Panel(
        "Every series now",
        "Filter by any label above. Blank: not known, or too few samples.",
        COUNT,
        tuple(grouped(columns, labels)),
        Shape.TABLE,
        width=WIDTH,
        height=10,
    )


def _estimated(kpis: Iterable[Kpi]) -> list[Kpi]:
    return [kpi for kpi in kpis if kpi.unit not in COUNTED]


def _each_unit(
    kpis: Iterable[Kpi], ask: Callable[[str], str], legend: str, style: Style = Style.TRUSTED
) -> Iterator[Query]:
    """A query for each unit, of which one answers: whatever KPI is chosen, its numbers have its unit."""
    names: dict[str, list[str]] = {}
    for kpi in kpis:
        names.setdefault(UNITS[kpi.unit], []).append(kpi.name)
    for unit, of in names.items():
        matchers = f'{_ANY},kpi=~"{"|".join(of)}"'
        yield Query(ask(matchers), legend, style, unit)
