"""Flow KPIs of work items, after the Flow Framework: time, velocity, efficiency, load, distribution; age and reopens.

native    Backlog    Ready     Doing     Done      Doing     Done
state     NEW        WAITING   ACTIVE    DONE      ACTIVE    DONE
clock     ─          ═════════════════   ─         ═══════   stops
          created    start               1st done  reopen    done: velocity and flow time lie in this pane
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from flowmetrics.configuration import ALL, ITEM_TYPES, FlowState
from flowmetrics.entities.work_item import WORK_ITEM, ItemStory
from flowmetrics.entity import Place
from flowmetrics.instants import SECOND_US
from flowmetrics.kpi import (
    Better,
    DriftAlert,
    Example,
    Kpi,
    Measure,
    NoAlert,
    Noise,
    Point,
    Severity,
    Unit,
    ratio_point,
)
from flowmetrics.readings import (
    BINNED_SECONDS,
    SUMMED_SECONDS,
    count_per_window,
    declared_labels,
    level,
    percentiles_per_window,
)
from flowmetrics.view import View
from flowmetrics.windowing.bins import Ranked, duration_bin

_LOAD_STATES: Final = {FlowState.NEW: "new", FlowState.WAITING: "waiting", FlowState.ACTIVE: "active"}


def _done(item: ItemStory) -> Iterable[Place]:
    done = item.done
    return ((done.labels, done.at, 0, 1),) if done else ()


def _flow_time(item: ItemStory) -> Iterable[Place]:
    done = item.done
    return ((done.labels, done.at, duration_bin(done.flow_us), 1),) if done and done.measured else ()


def _clock_sum(item: ItemStory) -> Iterable[Place]:
    done = item.done
    return ((done.labels, done.at, 0, done.flow_us),) if done and done.measured else ()


def _active_sum(item: ItemStory) -> Iterable[Place]:
    done = item.done
    return ((done.labels, done.at, 0, done.active_us),) if done and done.measured else ()


def _load(item: ItemStory) -> Iterable[Place]:
    if item.load_since is None:
        return ()
    labels = (item.value_stream, item.item_type, _LOAD_STATES[item.state])
    return ((labels, item.load_since, 0, 1),)


def _beyond(item: ItemStory) -> Iterable[Place]:
    return (((item.value_stream, item.item_type), item.beyond_at, 0, 1),) if item.load_since is not None else ()


def _reopens(item: ItemStory) -> Iterable[Place]:
    return [((reopen.value_stream, reopen.item_type), reopen.at, 0, 1) for reopen in item.reopens]


DONE: Final = Measure("items_done", WORK_ITEM, ("item_type",), _done)
FLOW_TIME: Final = Measure("flow_time", WORK_ITEM, ("item_type",), _flow_time, says=BINNED_SECONDS)
CLOCK_SUM: Final = Measure("flow_clock_us", WORK_ITEM, ("item_type",), _clock_sum, says=SUMMED_SECONDS)
ACTIVE_SUM: Final = Measure("flow_active_us", WORK_ITEM, ("item_type",), _active_sum, says=SUMMED_SECONDS)
LOAD: Final = Measure("flow_load", WORK_ITEM, ("item_type", "state"), _load)
BEYOND: Final = Measure("items_beyond_horizon", WORK_ITEM, ("item_type",), _beyond)
REOPENED: Final = Measure("items_reopened", WORK_ITEM, ("item_type",), _reopens)


def _read_distribution(view: View) -> Iterator[Point]:
    for window, panes in view.windows:
        counts = view.counts(DONE.name, panes, total=0)
        whole = counts.get((ALL,), 0)
        zeros = dict.fromkeys(declared_labels(view, DONE), 0)
        for labels, n in {**zeros, **counts}.items():
            yield ratio_point((*labels, window), n, whole)


def _read_efficiency(view: View) -> Iterator[Point]:
    for window, panes in view.windows:
        clock = view.counts(CLOCK_SUM.name, panes, total=0)
        active = view.counts(ACTIVE_SUM.name, panes, total=0)
        items = view.counts(FLOW_TIME.name, panes, total=0)
        for labels, clock_us in clock.items():
            if clock_us > 0:
                share = active.get(labels, 0) / clock_us
                yield Point((*labels, window), share, items.get(labels, 0))


def _read_load(view: View) -> Iterator[Point]:
    counts = view.counts(LOAD.name, view.horizon, total=0)
    states = [_LOAD_STATES[s] for s in sorted(view.configuration.stream(view.value_stream).load)]
    shown = declared_labels(view, DONE) or ([(kind,) for kind in (*ITEM_TYPES, ALL)] if counts else [])
    kinds = {kind for kind, *_ in (*shown, *counts)}
    zeros: dict[tuple[str, ...], int] = {(kind, state): 0 for kind in kinds for state in states}
    for labels, n in {**zeros, **counts}.items():
        yield Point(labels, float(n), n)


def _read_age(view: View) -> Iterator[Point]:
    panes: dict[str, dict[int, int]] = defaultdict(dict)
    for (item_type, _state), series in view.series(LOAD.name):
        for pane, n in series.by_pane(view.horizon):
            for label in (item_type, ALL):
                panes[label][-pane] = panes[label].get(-pane, 0) + n
    width_us = view.configuration.resolution_us
    for item_type, ages in panes.items():
        ranked = Ranked(ages)
        for percentile in view.configuration.percentiles if ranked.total else ():
            middle = -ranked.percentile(percentile) * width_us - width_us // 2
            yield Point((item_type, f"p{percentile}"), max(0.0, (view.now - middle) / SECOND_US), ranked.total)


_ONE_ITEM: Final = (
    ("2025-03-01T08:00:00Z", "item item=A-1 value_stream=shop state=Backlog item_type=Bug"),
    ("2025-03-01T09:00:00Z", "item item=A-1 value_stream=shop state=Ready"),
    ("2025-03-01T11:00:00Z", 'item item=A-1 value_stream=shop state="In Progress"'),
    ("2025-03-01T12:00:00Z", "item item=A-1 value_stream=shop state=Done"),
)
_THREE_ITEMS: Final = (
    *_ONE_ITEM,
    ("2025-03-01T12:30:00Z", "item item=A-2 value_stream=shop state=Done item_type=Story"),
    ("2025-03-01T13:00:00Z", 'item item=A-3 value_stream=shop state="In Progress" item_type=Bug'),
)
_AT: Final = "2025-03-01T15:00:00Z"
_SHOP: Final = 'value_stream="shop",item_type="defect"'

FLOW_KPIS: Final = (
    Kpi(
        name="flow_time",
        group="Flow",
        headline=True,
        question="How long does work take from commitment to done?",
        help="Time in waiting and active of items done in the window, nearest-rank percentile, in seconds.",
        unit=Unit.SECONDS,
        better=Better.LOWER,
        labels=("item_type", "window", "percentile"),
        measures=(FLOW_TIME,),
        reading=percentiles_per_window(FLOW_TIME),
        alert=DriftAlert(
            "Look which state the items done last waited in; `flowmetrics explain item KEY` shows it.",
            severity=Severity.PAGE,
            steps=(
                "On the board of the value stream compare p50, p85 and p95: p95 alone means a few stuck items, all "
                "three mean a slow stream.",
                "Look at flow_load and flow_efficiency of the same stream: more load means too much was begun, less "
                "efficiency means it waits.",
                "Compare the item types: closing old defects in one sweep lengthens flow time once, and is no slump.",
                "Ask who is away, and which dependency or environment is down, since the day on which the line left "
                "its band.",
            ),
        ),
        example=Example(
            "Committed at nine and done at noon: three hours, whatever it waited in the backlog.",
            _ONE_ITEM,
            _AT,
            {f'flowmetrics_flow_time_seconds{{{_SHOP},window="1d",percentile="p50"}}': 10800.0},
        ),
    ),
    Kpi(
        name="flow_velocity",
        group="Flow",
        headline=True,
        question="How much work is done?",
        help="Items whose current run of done began in the window.",
        unit=Unit.ITEMS,
        better=Better.HIGHER,
        labels=("item_type", "window"),
        measures=(DONE,),
        reading=count_per_window(DONE),
        alert=DriftAlert(
            "Look whether load grew as well: then work is stuck; if not, less work came in.",
            0.3,
            Noise.COUNTING,
            steps=(
                "Look at the calendar: a holiday or an off-site week halves velocity, and no rule knows of it.",
                "Look at flow_distribution: more of the kind that takes longest means fewer items at the same effort.",
                "Look whether the tracker still sends: FlowmetricsSourceStale tells, and "
                "`flowmetrics_last_event_timestamp_seconds` shows it.",
            ),
        ),
        example=Example(
            "Two items are done, one of them a defect; the third is still in progress.",
            _THREE_ITEMS,
            _AT,
            {
                f'flowmetrics_flow_velocity_items{{{_SHOP},window="1d"}}': 1,
                'flowmetrics_flow_velocity_items{value_stream="shop",item_type="all",window="1d"}': 2,
                'flowmetrics_flow_velocity_items{value_stream="shop",item_type="risk",window="1d"}': 0,
            },
        ),
    ),
    Kpi(
        name="flow_efficiency",
        group="Flow",
        question="How much of the flow time is work rather than waiting?",
        help="Active time over flow time, summed over the items done in the window.",
        unit=Unit.RATIO,
        better=Better.HIGHER,
        labels=("item_type", "window"),
        measures=(ACTIVE_SUM, CLOCK_SUM, FLOW_TIME),
        reading=_read_efficiency,
        alert=DriftAlert(
            "Look at flow_load by state: the queue that grew is where the time goes.",
            noise=Noise.SPREAD,
            steps=(
                "Find the wait: `flowmetrics explain item KEY` of three items done this week shows their intervals.",
                "Look whether a state was renamed in the tool: `flowmetrics_unmapped_total` grows when no pattern "
                "matches it.",
            ),
        ),
        example=Example(
            "One hour of work in three hours of flow time.",
            _ONE_ITEM,
            _AT,
            {f'flowmetrics_flow_efficiency_ratio{{{_SHOP},window="1d"}}': 1 / 3},
        ),
    ),
    Kpi(
        name="flow_load",
        group="Flow",
        question="How much work is in progress?",
        help="Items in progress now, by flow state; items older than the horizon are not counted.",
        unit=Unit.ITEMS,
        better=Better.LOWER,
        labels=("item_type", "state"),
        measures=(LOAD, DONE),
        listed=(LOAD,),
        reading=_read_load,
        alert=DriftAlert(
            "Finish before starting: look at the oldest items in the state that grew.",
            0.3,
            Noise.COUNTING,
            steps=(
                "Look whether velocity fell at the same time (work is stuck) or not (more was begun).",
                "Stop starting in the state that grew until it is back in its band; pair on its oldest items.",
                "Close what nobody will do: `item_age` at p95 shows how old the oldest are.",
            ),
        ),
        example=Example(
            "One defect is in progress.",
            _THREE_ITEMS,
            _AT,
            {
                f'flowmetrics_flow_load_items{{{_SHOP},state="active"}}': 1,
                f'flowmetrics_flow_load_items{{{_SHOP},state="waiting"}}': 0,
            },
        ),
    ),
    Kpi(
        name="flow_distribution",
        group="Flow",
        question="What kind of work is done?",
        help="Share of each item type in the items done in the window; the types sum to 1.",
        unit=Unit.RATIO,
        better=Better.NEITHER,
        labels=("item_type", "window"),
        measures=(DONE,),
        reading=_read_distribution,
        alert=NoAlert("A mix is a decision, not an incident; read it beside flow_velocity."),
        example=Example(
            "One of the two items done is a defect.",
            _THREE_ITEMS,
            _AT,
            {f'flowmetrics_flow_distribution_ratio{{{_SHOP},window="1d"}}': 0.5},
        ),
    ),
    Kpi(
        name="item_age",
        group="Flow",
        question="How old is the work in progress?",
        help="Time on the clock of items in progress now, nearest-rank percentile, in seconds, to one pane.",
        unit=Unit.SECONDS,
        better=Better.LOWER,
        labels=("item_type", "percentile"),
        measures=(LOAD,),
        reading=_read_age,
        alert=DriftAlert(
            "Look at the oldest items first; age shows trouble before flow time does.",
            0.45,
            Noise.SPREAD,
            hold="1d",
            steps=(
                "List the items of the oldest age in the tool, and ask of each: do it now, or say no.",
                "Look whether a state that ends work is unmapped, so that done items seem to go on: "
                "`flowmetrics_unmapped_total`.",
            ),
        ),
        example=Example(
            "In progress for two hours; an age is exact to half a pane, here two and a half minutes.",
            _THREE_ITEMS,
            _AT,
            {f'flowmetrics_item_age_seconds{{{_SHOP},percentile="p50"}}': 7350.0},
        ),
        moves_with_time=True,
    ),
    Kpi(
        name="items_reopened",
        group="Flow",
        question="How often does done work come back?",
        help="Times that an item left done for new, waiting or active in the window.",
        unit=Unit.ITEMS,
        suffix="",
        better=Better.LOWER,
        labels=("item_type", "window"),
        measures=(REOPENED,),
        reading=count_per_window(REOPENED),
        alert=DriftAlert(
            "Look at what was released before the reopens began.",
            0.5,
            Noise.COUNTING,
            steps=(
                "Read the reopened items of the window: one cause, or many?",
                "Look whether a workflow rule or a bot moves items out of done.",
            ),
        ),
        example=Example(
            "Done at noon, in progress again at one.",
            (*_ONE_ITEM, ("2025-03-01T13:00:00Z", 'item item=A-1 value_stream=shop state="In Progress"')),
            _AT,
            {f'flowmetrics_items_reopened{{{_SHOP},window="1d"}}': 1},
        ),
    ),
    Kpi(
        name="items_beyond_horizon",
        group="Flow",
        question="How much work in progress is too old to be counted?",
        help="Items in progress whose clock has run longer than the horizon; they are not in flow_load.",
        unit=Unit.ITEMS,
        suffix="",
        better=Better.LOWER,
        labels=("item_type",),
        measures=(BEYOND,),
        reading=level(BEYOND),
        alert=NoAlert("Nobody has worked on these in a year; close them, or give a longer horizon."),
        example=Example(
            "Begun in 2024 and never finished; the horizon is 400 days.",
            (("2024-01-01T00:00:00Z", "item item=A-1 value_stream=shop state=Doing item_type=Bug"),),
            "2025-03-01T00:00:00Z",
            {
                f"flowmetrics_items_beyond_horizon{{{_SHOP}}}": 1,
                f'flowmetrics_flow_load_items{{{_SHOP},state="active"}}': None,
            },
        ),
    ),
)
