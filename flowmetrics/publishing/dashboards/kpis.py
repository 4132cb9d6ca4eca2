"""The panels of one KPI, made from its declaration alone: lines over time, its parts now, one number of a house."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from flowmetrics.kpi import Better, Companion, DriftAlert, Kpi, NoAlert, Unit
from flowmetrics.publishing.dashboards.board import WIDTH, Link, Panel, Query, Shape, Style, Thresholds
from flowmetrics.publishing.dashboards.queries import (
    COUNTED,
    Cut,
    as_alert_reads,
    as_chosen,
    change_together,
    enough,
    is_mix,
    scraped,
    together,
)
from flowmetrics.publishing.rules.cells import TOTALS, Watched

UNITS: Final = {
    Unit.SECONDS: "s",
    Unit.ITEMS: "short",
    Unit.RATIO: "percentunit",
    Unit.SCORE: "none",
    Unit.USERS: "short",
    Unit.REQUESTS: "short",
}
"""What Grafana calls the units of KPIs."""

SHARE: Final = UNITS[Unit.RATIO]
COUNT: Final = UNITS[Unit.ITEMS]

UNKNOWN: Final = "No line: not known, which is not zero."
THIN: Final = f"Thin grey: too few samples. {UNKNOWN}"
WAY: Final = (
    "How much of the way from the usual to its alert a KPI has gone: at 100 % the alert fires, once it lasts; below "
    "zero it is better than usual. Blank: it has no alert, or too few samples."
)
WAY_THRESHOLDS: Final = Thresholds(1.0, 0.5)
TIME: Final = "${__url_time_range}"
"""The end of a link that keeps the time range."""

WEEK_AGO: Final = "167h"
"""Two hours that end here have the same time of last week in their middle, so that a gap does not matter."""
_USUAL: Final = "the median of the same time one to four weeks ago"
_WORDS: Final = {"nps": "NPS", "enps": "eNPS", "csat": "CSAT", "ces": "CES"}
_HOUSE: Final = {
    Unit.SECONDS: "The mean over value streams, weighted by the samples of each; not a percentile of the whole.",
    Unit.ITEMS: "The sum over value streams.",
    Unit.RATIO: "Over value streams, weighted by the samples of each.",
    Unit.SCORE: "Over value streams; each answer counts once in each.",
    Unit.USERS: "The sum over value streams; somebody who uses two counts in both.",
    Unit.REQUESTS: "The sum over value streams.",
}


def title_of(kpi: Kpi) -> str:
    """The heading of a KPI.

    >>> from flowmetrics.kpis.flow import FLOW_KPIS
    >>> title_of(FLOW_KPIS[0])
    'Flow time'
    """
    return _WORDS.get(kpi.name, kpi.name.replace("_", " ").capitalize())


def describe(kpi: Kpi) -> str:
    """Question, help and what to do when it drifts, as Markdown."""
    said = [f"**{kpi.question}**", kpi.help]
    if not isinstance(kpi.alert, NoAlert):
        said.append(f"When its alert fires: {kpi.alert.next_step}")
    said.append(UNKNOWN if kpi.unit in COUNTED else f"Thin grey: fewer than {kpi.samples_min} samples. {UNKNOWN}")
    return "\n\n".join(said)


def in_depth(kpi: str, title: str, place: str = "") -> Link:
    """The way to the board of one KPI, keeping value streams, time range, and the choices of `place`."""
    return Link(f"{title} in depth", f"/d/flowmetrics-kpi?var-kpi={kpi}&${{value_stream:queryparam}}{place}&{TIME}")


def links(cut: Cut) -> tuple[Link, ...]:
    """From a KPI to all of its series."""
    return (in_depth(cut.kpi.name, title_of(cut.kpi), cut.place),)


# --- over time ----------------------------------------------------------------------------------------------------


def lines(cut: Cut, width: int = WIDTH // 2) -> Panel:
    """A KPI over time: bold where enough samples lie under it, beside what is usual and where its alert fires."""
    kpi = cut.kpi
    return Panel(
        title=title_of(kpi),
        description=describe(kpi),
        unit=UNITS[kpi.unit],
        queries=tuple(_values(cut)) if is_mix(kpi) else (*_values(cut), *_range(cut), *_limits(cut)),
        shape=Shape.AREAS if is_mix(kpi) else Shape.LINES,
        width=width,
        links=links(cut),
        kpi=kpi.name,
    )


def _values(cut: Cut) -> Iterator[Query]:
    name = _legend(cut.drawn)
    if cut.kpi.unit in COUNTED or is_mix(cut.kpi):
        yield Query(cut.layer("value"), name or title_of(cut.kpi))
    else:
        yield Query(cut.layer("value"), f"{name} few samples".strip(), Style.PLAIN)
        yield Query(enough(cut.matchers), name or title_of(cut.kpi))


def _range(cut: Cut) -> Iterator[Query]:
    """Bounds of a score; of what has an alert, what it was at this time in former weeks, and how far that varied.

    Of several series in one panel the ranges would lie over each other: there are none.
    """
    if cut.drawn:
        return
    if bounds(cut.kpi):
        yield Query(cut.layer("lower"), "95 % low", Style.EDGE)
        yield Query(cut.layer("upper"), "95 % high", Style.EDGE)
    if isinstance(cut.kpi.alert, DriftAlert):
        usual, spread = cut.layer("baseline"), cut.layer("baseline_spread")
        if not bounds(cut.kpi):
            yield Query(f"{usual} - {spread}", "usual low", Style.EDGE)
            yield Query(f"{usual} + {spread}", "usual high", Style.EDGE)
        yield Query(usual, "usual", Style.USUAL)


def _limits(cut: Cut) -> Iterator[Query]:
    """Where its drift alert fires: on its bad side only."""
    if isinstance(cut.kpi.alert, DriftAlert):
        side, word = ("high", "above") if cut.kpi.better is Better.LOWER else ("low", "below")
        yield Query(cut.layer(f"band_{side}"), f"{_legend(cut.drawn)} alert {word}".strip(), Style.LIMIT)


def counts(cut: Cut, width: int = WIDTH // 2) -> Panel | None:
    """What lies under a KPI, as its companions count it; None where it has none but bounds."""
    counting = [c for c in cut.kpi.companions if c not in bounds(cut.kpi)]
    if not counting:
        return None
    matchers, by = cut.matchers.partition(",")[2], ", ".join(cut.drawn)  # their names say which KPI they are of
    return Panel(
        title=f"{title_of(cut.kpi)}: what lies under it",
        description=" ".join(companion.help for companion in counting),
        unit=COUNT,
        queries=tuple(
            Query(
                f"max by ({by}) ({companion.name}{{{matchers}}})",
                f"{_legend(cut.drawn)} {companion.name.removeprefix('flowmetrics_').replace('_', ' ')}".strip(),
            )
            for companion in counting
        ),
        width=width,
    )


def bounds(kpi: Kpi) -> tuple[Companion, ...]:
    """The companions that are its 95 % bounds: two of a score, none of most."""
    return tuple(c for c in kpi.companions if c.name in (f"{kpi.metric}_lower", f"{kpi.metric}_upper"))


# --- by its parts -------------------------------------------------------------------------------------------------


def parts(kpi: Kpi, choices: Mapping[str, str], width: int = WIDTH // 3) -> Panel | None:
    """A table of a KPI now, a row for each part of a total; None where it has no parts."""
    cut = as_chosen(kpi, choices, free=tuple(TOTALS))
    if not cut.drawn:
        return None
    columns = (
        Query(cut.layer("value"), "now"),
        Query(f"quantile_over_time(0.5, {scraped('value', cut.matchers)}[2h] offset {WEEK_AGO})", "a week ago"),
        Query(cut.layer("samples"), "samples", unit=COUNT),
    )
    return Panel(
        title=f"{title_of(kpi)} by {' and '.join(label.replace('_', ' ') for label in cut.drawn)}",
        description="Now, and within an hour of the same time a week ago. Blank: not known, which is not zero.",
        unit=UNITS[kpi.unit],
        queries=tuple(grouped(columns, cut.drawn)),
        shape=Shape.TABLE,
        width=width,
    )


def grouped(columns: Iterable[Query], labels: Iterable[str]) -> Iterator[Query]:
    """Columns of a table whose rows are told apart by labels, and by nothing else."""
    by = ", ".join(labels)
    for column in columns:
        yield replace(column, expression=f"max by ({by}) ({column.expression})")


# --- of a house ---------------------------------------------------------------------------------------------------


def number(each: Watched, width: int = WIDTH // 4) -> Panel:
    """One number of all chosen value streams now, and how far it is from what is usual."""
    kpi = each.kpi
    return Panel(
        title=title_of(kpi),
        description=f"{describe(kpi)}\n\n{_HOUSE[kpi.unit]} The change is against {_USUAL}.",
        unit=UNITS[kpi.unit],
        queries=(
            Query(together(as_alert_reads(each), "value"), "now", Style.PLAIN),
            _judged(each, "against the usual"),
        ),
        shape=Shape.NUMBERS,
        width=width,
        height=4,
        links=links(as_alert_reads(each)),
        kpi=kpi.name,
    )


def trend(each: Watched, width: int = WIDTH // 4) -> Panel:
    """A KPI of all chosen value streams over time, beside what is usual."""
    cut = as_alert_reads(each)
    return Panel(
        title=f"{title_of(each.kpi)} over time",
        description=f"{describe(each.kpi)}\n\n{_HOUSE[each.kpi.unit]}",
        unit=UNITS[each.kpi.unit],
        queries=(
            Query(together(cut, "value"), "few samples", Style.PLAIN),
            Query(together(cut, "trusted"), "now"),
            Query(together(cut, "baseline"), "usual", Style.USUAL),
        ),
        width=width,
        height=5,
        links=links(cut),
        kpi=each.kpi.name,
    )


def by_stream(each: Watched, width: int = WIDTH // 2) -> Panel:
    """A KPI over time, a line for each value stream."""
    cut = as_alert_reads(each)
    cut = replace(cut, drawn=("value_stream", *cut.drawn))
    return replace(lines(cut, width), title=f"{title_of(each.kpi)} by value stream")


def change_by_stream(each: Watched) -> Query:
    """How far a KPI of each value stream is from what is usual: a column of a table."""
    return _judged(each, title_of(each.kpi), "value_stream")


def value_by_stream(each: Watched) -> Query:
    """A KPI of each value stream: a column of a table."""
    expression = together(as_alert_reads(each), "value", "value_stream")
    return Query(expression, title_of(each.kpi), unit=UNITS[each.kpi.unit])


def _judged(each: Watched, name: str, by: str = "") -> Query:
    red = each.declared.minimum if each.rises else 0 - each.declared.minimum
    return Query(
        change_together(each, by),
        name,
        unit=UNITS[each.kpi.unit] if each.declared.points else SHARE,
        thresholds=Thresholds(red, red / 2, low_is_bad=not each.rises),
    )


def _legend(labels: Iterable[str]) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in labels)
