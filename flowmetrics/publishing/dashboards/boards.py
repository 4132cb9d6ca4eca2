"""Which boards there are, and what is on which: one for each level of a house, and one for each subject.

    chief executive ─▶ executive ─▶ manager ─▶ team          a few numbers, … by value stream, … of one, … of today
                                       │
    value stream · requests · users · scores · one KPI · the engine

Nothing here names a KPI but the two that make a service level expectation: a KPI that is added later is on the boards
of its group and of its level.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Final, NamedTuple

from flowmetrics.configuration import Configuration
from flowmetrics.entities.request import REQUEST
from flowmetrics.entities.work_item import WORK_ITEM
from flowmetrics.instants import duration_text
from flowmetrics.kpi import BurnAlert, Kpi, NoAlert
from flowmetrics.kpis import selected
from flowmetrics.publishing.dashboards import kpis as panels
from flowmetrics.publishing.dashboards.board import (
    WIDTH,
    Board,
    Link,
    Panel,
    Query,
    Section,
    Shape,
    Style,
    Thresholds,
)
from flowmetrics.publishing.dashboards.choices import choices, value_streams
from flowmetrics.publishing.dashboards.engine import engine_board
from flowmetrics.publishing.dashboards.one_kpi import one_kpi_board
from flowmetrics.publishing.dashboards.queries import (
    STREAMS,
    as_alert_reads,
    as_chosen,
    layer,
    usual_choices,
    way_to_alert,
)
from flowmetrics.publishing.rules.cells import Watched, burning, watched


class _Subject(NamedTuple):
    """A board about groups of KPIs."""

    name: str
    title: str
    question: str
    groups: tuple[str, ...]


SUBJECTS: Final = (
    _Subject("value-stream", "Flowmetrics: value stream", "How does work flow through a value stream?", ("Flow",)),
    _Subject("requests", "Flowmetrics: requests", "How long do customers wait for an answer?", ("Requests",)),
    _Subject(
        "users",
        "Flowmetrics: users and time to value",
        "Who uses it, who comes back, and how soon is it of value?",
        ("Adoption", "Value"),
    ),
    _Subject("scores", "Flowmetrics: scores", "What do people say, and what moved it?", ("Surveys",)),
)


def subject_of(kpi: Kpi) -> str:
    """The name of the board that is about a KPI; a group that is new is on that of the value stream.

    >>> from flowmetrics.kpis.activity import ACTIVITY_KPIS
    >>> subject_of(ACTIVITY_KPIS[0])
    'users'
    """
    return next((subject.name for subject in SUBJECTS if kpi.group in subject.groups), SUBJECTS[0].name)


def boards(configuration: Configuration) -> tuple[Board, ...]:
    """Every board that has something to show under a configuration."""
    alerts, first = watched(configuration), usual_choices(configuration)
    names = {each.kpi.name: each.name for each in alerts}
    names |= {each.kpi.name: each.name for each in burning(configuration)}
    kpis = [_with_its_alert(kpi, names) for kpi in selected(configuration) if _is_shown(kpi, configuration)]
    heads = [each for each in alerts if each.kpi.headline]
    made = (
        _chief_executive(heads),
        _executive(heads),
        _manager(alerts),
        _team(kpis, configuration, first),
        *(_about(subject, kpis, first) for subject in SUBJECTS),
        one_kpi_board(kpis, alerts, first),
        engine_board(),
    )
    lead = partial(_with_runbook, names, configuration.runbooks_url.rstrip("/"))
    full = [
        replace(board, sections=tuple(Section(s.title, tuple(map(lead, s.panels))) for s in board.sections if s.panels))
        for board in made
    ]
    shown = {board.name for board in full if board.sections}
    return tuple(replace(b, below=b.below if b.below in shown else "") for b in full if b.name in shown)


def _is_shown(kpi: Kpi, configuration: Configuration) -> bool:
    """Whether it has a value: of an expectation that nobody has configured there is none."""
    return not isinstance(kpi.alert, BurnAlert) or kpi.alert.of in configuration.expectations


def _with_its_alert(kpi: Kpi, names: Mapping[str, str]) -> Kpi:
    """The KPI, without an alert that is turned off."""
    if kpi.name in names or isinstance(kpi.alert, NoAlert):
        return kpi
    return replace(kpi, alert=NoAlert("The configuration turns its alert off."), headline=False)


def _with_runbook(names: Mapping[str, str], base: str, panel: Panel) -> Panel:
    """The panel, with the way to the runbook of its alert; where runbooks have no address, with their names."""
    if "://" not in base:
        told = f"\n\nRunbook: `{base}/{names[panel.kpi]}.md`." if panel.kpi in names else ""
        return replace(panel, description=panel.description + told)
    runbook = f"{base}/{names.get(panel.kpi, '${__value.text}')}.md"
    if panel.kpi in names:
        return replace(panel, links=(*panel.links, Link("Runbook", runbook)))
    if any("alertname" in query.expression for query in panel.queries):
        return replace(panel, cell_links=(*panel.cell_links, ("alertname", Link("Runbook", runbook))))
    return panel


# --- levels -------------------------------------------------------------------------------------------------------


def _chief_executive(heads: Sequence[Watched]) -> Board:
    rows = [heads[i : i + 4] for i in range(0, len(heads), 4)]
    shown = chain.from_iterable((*map(panels.number, row), *map(panels.trend, row)) for row in rows)
    return Board(
        name="chief-executive",
        title="Flowmetrics: chief executive",
        question="Are we getting better, and where must I ask?",
        variables=(value_streams(several=True),),
        sections=(Section("How we are doing", tuple(shown)),),
        below="executive",
        since="now-90d",
    )


def _executive(heads: Sequence[Watched]) -> Board:
    here = "${__value.text}"
    down = Link(f"What moved in {here}", f"/d/flowmetrics-manager?var-value_stream={here}&{panels.TIME}")
    tables = (
        Panel(
            "Against the usual",
            "How far each KPI of a value stream is from the median of the same time one to four weeks ago. Red: as far "
            "as its alert asks for. Blank: not known, or too few samples.",
            panels.SHARE,
            tuple(panels.change_by_stream(each) for each in heads),
            Shape.TABLE,
            cell_links=(("value_stream", down),),
        ),
        Panel(
            "Now",
            "The same KPIs as they are, whatever lies under them. Blank: not known, which is not zero.",
            panels.COUNT,
            tuple(panels.value_by_stream(each) for each in heads),
            Shape.TABLE,
            cell_links=(("value_stream", down),),
        ),
    )
    return Board(
        name="executive",
        title="Flowmetrics: executive",
        question="Which value stream moved, and which way?",
        variables=(value_streams(several=True),),
        sections=(
            Section("Value streams", tables if heads else ()),
            Section("Over time, beside releases", tuple(panels.by_stream(each) for each in heads)),
        ),
        below="manager",
    )


def _manager(alerts: Sequence[Watched]) -> Board:
    return Board(
        name="manager",
        title="Flowmetrics: middle manager",
        question="What moved in my value stream, and why?",
        variables=(value_streams(),),
        sections=(
            Section("What moved", (_near_alerts(alerts), _alerts()) if alerts else ()),
            *(
                Section(
                    subject.title.partition(": ")[2].capitalize(),
                    tuple(panels.lines(as_alert_reads(a)) for a in alerts if subject_of(a.kpi) == subject.name),
                )
                for subject in SUBJECTS
            ),
        ),
        below="team",
    )


def _near_alerts(alerts: Sequence[Watched]) -> Panel:
    labels = dict.fromkeys(("kpi", *chain.from_iterable(as_alert_reads(each).drawn for each in alerts)))
    columns = (
        Query(way_to_alert(STREAMS), "way to its alert", thresholds=panels.WAY_THRESHOLDS),
        Query(f"{layer('samples', STREAMS)} and {layer('trusted', STREAMS)}", "samples", unit=panels.COUNT),
    )
    return Panel(
        "Every KPI that has an alert",
        panels.WAY,
        panels.SHARE,
        tuple(panels.grouped(columns, labels)),
        Shape.TABLE,
        cell_links=(("kpi", panels.in_depth("${__value.text}", "${__value.text}")),),
    )


def _alerts() -> Panel:
    alerts = f'ALERTS{{alert_class="kpi",{STREAMS}}}'
    labels = ("kpi", "alertname", "alertstate", "severity", "owner")
    return Panel(
        "Alerts of this value stream",
        "Pending and firing alerts of KPIs. Blank: none.",
        panels.COUNT,
        tuple(panels.grouped([Query(alerts, "alert")], labels)),
        Shape.TABLE,
        cell_links=(("kpi", panels.in_depth("${__value.text}", "${__value.text}")),),
    )


def _team(kpis: Sequence[Kpi], configuration: Configuration, first: Mapping[str, str]) -> Board:
    work = [kpi for kpi in kpis if kpi.measures[0].entity in (WORK_ITEM, REQUEST)]
    first = {**first, "window": duration_text(min(configuration.windows_us))}
    now = [panels.lines(as_chosen(kpi, first)) for kpi in work if "window" not in kpi.labels]
    done = [panels.lines(as_chosen(kpi, first)) for kpi in work if "window" in kpi.labels]
    return Board(
        name="team",
        title="Flowmetrics: field team",
        question="What should we take up next, and what is stuck?",
        variables=(value_streams(), *choices(work, first)),
        sections=(
            Section("Age against what is expected", _expectation(kpis, configuration, first)),
            Section("On the table now", tuple(now)),
            Section("What came out of it", tuple(done)),
        ),
        since="now-7d",
    )


def _expectation(kpis: Sequence[Kpi], configuration: Configuration, first: Mapping[str, str]) -> tuple[Panel, ...]:
    """Work in progress against the service level expectation: what most of the work done lately took at most."""
    named = {kpi.name: kpi for kpi in kpis}
    if not {"flow_time", "item_age"} <= named.keys():
        return ()
    age, longest = named["item_age"], duration_text(configuration.longest_us)
    most, last = first["percentile"], f"p{max(configuration.percentiles)}"
    expected = as_chosen(named["flow_time"], first, window=longest, percentile=most).layer("value")
    oldest = as_chosen(age, first, percentile=last).layer("value")
    said = f"The service level expectation: {most[1:]} % of the items done in {longest} took at most this."
    return (
        Panel(
            "Oldest work in progress",
            f"The age that {last[1:]} % of the work in progress has not passed.",
            "s",
            (Query(oldest, "oldest", Style.PLAIN),),
            Shape.NUMBERS,
            WIDTH // 4,
        ),
        Panel(
            "Oldest against the expectation",
            f"{said} At 100 % the oldest work is as old; above it, look at it first.",
            panels.SHARE,
            (Query(f"sum({oldest}) / sum({expected})", "of it", thresholds=Thresholds(1.0, 0.5)),),
            Shape.NUMBERS,
            WIDTH // 4,
        ),
        Panel(
            "Age of work in progress",
            f"{age.help} {said}",
            "s",
            (
                Query(as_chosen(age, first, free=("percentile",)).layer("value"), "{{percentile}}"),
                Query(expected, "expected", Style.LIMIT),
            ),
            links=panels.links(as_chosen(age, first)),
            kpi=age.name,
        ),
    )


# --- subjects -----------------------------------------------------------------------------------------------------


def _about(subject: _Subject, kpis: Sequence[Kpi], first: Mapping[str, str]) -> Board:
    of = [kpi for kpi in kpis if subject_of(kpi) == subject.name]
    return Board(
        name=subject.name,
        title=subject.title,
        question=subject.question,
        variables=(value_streams(), *choices(of, first)),
        sections=tuple(Section(panels.title_of(kpi), tuple(_in_detail(kpi, first))) for kpi in of),
        below="team",
    )


def _in_detail(kpi: Kpi, first: Mapping[str, str]) -> Iterator[Panel]:
    cut, table = as_chosen(kpi, first), panels.parts(kpi, first)
    yield panels.lines(cut, WIDTH - table.width if table else WIDTH)
    yield from (panel for panel in (table, panels.counts(cut)) if panel)
