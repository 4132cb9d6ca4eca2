"""How a board is written for Grafana: classic dashboard JSON. Only this module knows the Foundation SDK."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from grafana_foundation_sdk.builders import common as shared
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from flowmetrics.publishing.dashboards.board import (
    WIDTH,
    Board,
    Link,
    Panel,
    Query,
    Shape,
    Style,
    Thresholds,
    Variable,
)

TAG: Final = "flowmetrics"
_PROMETHEUS: Final = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
_GRAFANA: Final = common.DataSourceRef(type_val="grafana", uid="-- Grafana --")
_SCHEMA: Final = 39
"""Of Grafana 11; later ones bring what they load up to their own."""
_NO_VALUE: Final = "no data"
"""What is not known is said; it is never shown as zero."""

_GREY, _RED, _BLUE, _YELLOW, _GREEN = "#8e8e8e", "red", "blue", "yellow", "green"
_DASHED: Final = {"fill": "dash", "dash": [8, 8]}
_DOTTED: Final = {"fill": "dot", "dash": [0, 8]}


def render(board: Board) -> str:
    """The board as JSON, the same for the same board; it ends with a line break."""
    made = (
        build.Dashboard(board.title)
        .uid(board.uid)
        .description(board.question)
        .tags([TAG])
        .editable()
        .refresh("1m")
        .time(board.since, "now")
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .variables(list(_variables(board)))
        .links(list(_links(board)))
        .annotations(list(_annotations()))
    )
    for row, placed in _laid_out(board):
        made.with_row(row)
        for panel in placed:
            made.with_panel(panel)
    model = made.build()
    model.schema_version = _SCHEMA
    plain = json.loads(JSONEncoder().encode(model))
    _show_links(plain)
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _show_links(plain: dict[str, Any]) -> None:
    """Take out what hides links and annotations in a menu: the SDK cannot leave it out."""
    for one in (
        *plain["links"],
        *plain["annotations"]["list"],
        *(x for p in plain["panels"] for x in p.get("links", ())),
    ):
        one.pop("placement", None)


# --- the frame ----------------------------------------------------------------------------------------------------


def _variables(board: Board) -> Iterator[Any]:
    yield build.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    for variable in board.variables:
        yield _variable(variable)
    if board.any_filter:
        yield build.AdHocVariable("filters").label("Filters").datasource(_PROMETHEUS)


def _variable(variable: Variable) -> build.QueryVariable:
    made = (
        build.QueryVariable(variable.name)
        .label(variable.title)
        .datasource(_PROMETHEUS)
        .query({"query": variable.query, "refId": f"variable-{variable.name}"})
        .definition(variable.query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.NATURAL_ASC)
        .multi(variable.several)
        .include_all(variable.several)
    )
    if variable.several:
        made.all_value(".+")
        made.current(dashboard.VariableOption(True, ["All"], ["$__all"]))
    elif variable.chosen:
        made.current(dashboard.VariableOption(True, variable.chosen, variable.chosen))
    return made


def _links(board: Board) -> Iterator[build.DashboardLink]:
    if board.below:
        yield (
            build.DashboardLink("One level down")
            .type(dashboard.DashboardLinkType.LINK)
            .url(f"/d/flowmetrics-{board.below}")
            .icon("arrow-down")
            .include_vars(True)
            .keep_time(True)
        )
    yield (
        build.DashboardLink("All boards")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )


def _annotations() -> Iterator[build.AnnotationQuery]:
    changed = (
        prometheus.Dataquery()
        .datasource(_PROMETHEUS)
        .expr("changes(max(flowmetrics_engine_epoch)[5m:15s]) > 0")
        .interval("15s")
        .ref_id("Anno")
    )
    yield (
        build.AnnotationQuery()
        .name("Another configuration")
        .datasource(_PROMETHEUS)
        .target(changed)
        .enable(True)
        .icon_color(_BLUE)
        .title_format("Another configuration")
        .text_format("From here on the numbers, past ones too, are read under another configuration.")
    )
    told = build.AnnotationTarget().type("tags").tags(["release"]).match_any(True).limit(100)
    yield (
        build.AnnotationQuery()
        .name("Releases")
        .datasource(_GRAFANA)
        .target(told)  # type: ignore[arg-type] # Grafana's own annotations are no query of a data source
        .enable(True)
        .icon_color(_GREEN)
    )


# --- the grid -----------------------------------------------------------------------------------------------------


def _laid_out(board: Board) -> Iterator[tuple[build.Row, list[Any]]]:
    """Each section as a row and its panels in place. A shelf of the grid holds panels of one height.

    y     row heading ────────────────────────────────────
    y+1   panel 12 × 8      │ panel 12 × 8
    y+9   panel 6 × 4 │ …
    """
    number, top = 0, 0
    for section in board.sections:
        number += 1
        row = build.Row(section.title).id(number).grid_pos(dashboard.GridPos(h=1, w=WIDTH, x=0, y=top))
        left, top, shelf, placed = 0, top + 1, 0, []
        for panel in section.panels:
            if shelf and (left + panel.width > WIDTH or panel.height != shelf):
                left, top = 0, top + shelf
            number += 1
            spot = dashboard.GridPos(h=panel.height, w=panel.width, x=left, y=top)
            placed.append(_panel(panel).id(number).grid_pos(spot))
            left, shelf = left + panel.width, panel.height
        top += shelf
        yield row, placed


# --- panels -------------------------------------------------------------------------------------------------------


def _panel(panel: Panel) -> Any:
    builders: Mapping[Shape, Callable[[Panel], Any]] = {
        Shape.LINES: _lines,
        Shape.AREAS: _areas,
        Shape.NUMBERS: _numbers,
        Shape.TABLE: _table,
    }
    made = builders[panel.shape](panel)
    made.title(panel.title).description(panel.description).unit(panel.unit).datasource(_PROMETHEUS)
    made.no_value(_NO_VALUE).links([_link(link) for link in panel.links])
    for ref, query in _with_refs(panel.queries):
        made.with_target(_target(panel, ref, query))
    return made


def _with_refs(queries: Sequence[Query]) -> Iterator[tuple[str, Query]]:
    """A, B … Z, AA, AB …: what Grafana calls the queries of a panel."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for n, query in enumerate(queries):
        yield (letters[n // 26 - 1] if n >= 26 else "") + letters[n % 26], query


def _target(panel: Panel, ref: str, query: Query) -> prometheus.Dataquery:
    made = prometheus.Dataquery().datasource(_PROMETHEUS).expr(query.expression).legend_format(query.name).ref_id(ref)
    if panel.shape is Shape.TABLE:
        return made.instant().format(PromQueryFormat.TABLE)
    if panel.shape is Shape.NUMBERS:  # an answer of the past must not stand for one of now
        return made.instant()
    return made.range()


def _link(link: Link) -> build.DashboardLink:
    return build.DashboardLink(link.title).type(dashboard.DashboardLinkType.LINK).url(link.url)


def _property(name: str, value: object) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue(name, value)


def _lines(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .line_width(2)
        .fill_opacity(0)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
        .legend(shared.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM)
                .display_mode(common.LegendDisplayMode.LIST))
        .tooltip(shared.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )  # fmt: skip
    for ref, query in _with_refs(panel.queries):
        properties = list(_drawn(query, panel))
        if properties:
            made.override_by_query(ref, properties)
    return made


def _drawn(query: Query, panel: Panel) -> Iterator[dashboard.DynamicConfigValue]:
    """How a query of a panel differs from what is drawn without more."""
    if query.unit:
        yield _property("unit", query.unit)
    if query.style is Style.TRUSTED:
        return
    colour = {Style.PLAIN: _GREY, Style.USUAL: _BLUE, Style.EDGE: _BLUE, Style.LIMIT: _RED}[query.style]
    yield _property("color", {"mode": "fixed", "fixedColor": colour})
    yield _property("custom.lineWidth", 1)
    if query.style is not Style.PLAIN:
        yield _property("custom.lineStyle", _DASHED if query.style is Style.LIMIT else _DOTTED)
    low, high = ([q.name for q in panel.queries if q.style is Style.EDGE] + ["", ""])[:2]
    if query.name == high and "{{" not in low:  # a range can be filled where its other end has one name
        yield _property("custom.fillBelowTo", low)
        yield _property("custom.fillOpacity", 10)


def _areas(panel: Panel) -> timeseries.Panel:
    return _lines(panel).fill_opacity(60).stacking(shared.StackingConfig().mode(common.StackingMode.NORMAL))


def _numbers(panel: Panel) -> stat.Panel:
    made = (
        stat.Panel()
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.VALUE)
        .orientation(common.VizOrientation.VERTICAL)
        .text_mode(common.BigValueTextMode.AUTO)  # the name too, where there are several
        .reduce_options(shared.ReduceDataOptions().calcs(["last"]).values(False))
    )
    for ref, query in _with_refs(panel.queries):
        made.override_by_query(ref, list(_coloured(query)))
    return made


def _coloured(query: Query) -> Iterator[dashboard.DynamicConfigValue]:
    """Unit and colour of a number."""
    if query.unit:
        yield _property("unit", query.unit)
    steps = _steps(query.thresholds) if query.thresholds else [("text", None)]
    yield _property("color", {"mode": "thresholds"})
    yield _property(
        "thresholds", {"mode": "absolute", "steps": [{"color": colour, "value": value} for colour, value in steps]}
    )


def _steps(of: Thresholds) -> list[tuple[str, float | None]]:
    """Colours, each with the value from which it holds; the first holds below all."""
    if of.yellow is None or of.yellow == of.red:
        return [(_RED, None), (_GREEN, of.red)] if of.low_is_bad else [(_GREEN, None), (_RED, of.red)]
    if of.low_is_bad:
        return [(_RED, None), (_YELLOW, of.red), (_GREEN, of.yellow)]
    return [(_GREEN, None), (_YELLOW, of.yellow), (_RED, of.red)]


def _table(panel: Panel) -> table.Panel:
    names = {f"Value #{ref}": query.name for ref, query in _with_refs(panel.queries)}
    if len(names) == 1:
        names = {"Value": panel.queries[0].name}
    made = (
        table.Panel()
        .filterable(True)
        .with_transformation(dashboard.DataTransformerConfig("merge", options={}))
        .with_transformation(
            dashboard.DataTransformerConfig(
                "organize", options={"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": names}
            )
        )
    )
    for name in dict.fromkeys(query.name for query in panel.queries):
        query = next(query for query in panel.queries if query.name == name)
        made.override_by_name(name, [*_coloured(query), *_cell(query)])
    for column, link in panel.cell_links:
        made.override_by_name(column, [_property("links", [{"title": link.title, "url": link.url}])])
    return made


def _cell(query: Query) -> Iterator[dashboard.DynamicConfigValue]:
    if query.thresholds:
        yield _property("custom.cellOptions", {"type": "color-text"})
