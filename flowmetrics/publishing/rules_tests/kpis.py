"""The unit tests of the KPIs' alerts: every alert over value streams that each try one thing.

All value streams live through the same five weeks; then each moves as its name says, and moves back:

    begin            a week ago     MOVED      hold      BACK      keep
    ├── usual … weekly values … usual ─┤ now ─────┼─ fires ──┤ usual ─┼─ over

Where an alert fires is asked of `flowmetrics.drift`, which says the same in Python, so that both agree to the digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.drift import SPREADS, Then, baseline_of, limit_of
from flowmetrics.instants import duration_text, duration_us
from flowmetrics.kpi import Point, Unit
from flowmetrics.publishing.rules.cells import Watched, watched, windows
from flowmetrics.publishing.rules.drift import drift_group
from flowmetrics.publishing.rules.form import Alert
from flowmetrics.publishing.rules.recording import WORKER
from flowmetrics.publishing.rules_tests.form import Asked, Case, Firing, Labels, Line, Stretch, earlier, later, seen
from flowmetrics.publishing.rules_tests.form import series as recorded

MOVED: Final = "36d"
CLUSTER: Final = {"cluster": "eu"}
"""A label of the whole target: every series and every alert keeps it."""
RESTARTS: Final = "restarts"
"""The worker that is not ready while everything moves."""

ASKED: Final = ("beyond minimum", "beyond spread", "renamed")
"""The value streams of which every recorded series is compared."""


def worker(name: str) -> dict[str, str]:
    """The labels of a worker, all of which change when it is renamed; the one that restarts has the job of another."""
    return {**dict.fromkeys(WORKER, name), "job": "a" if name == RESTARTS else name, **CLUSTER}


@dataclass(frozen=True, slots=True)
class Stream:
    """A value stream that tries one thing.

    `weeks` are the values of the latest week and the weeks before it, `far` the distance of their bounds, `now` and
    `near` those from MOVED on; None for no bounds. `silent` are pairs of begin and end without a sample.
    """

    name: str
    weeks: tuple[float, float, float, float]
    far: float | None
    now: float
    near: float | None
    fires: bool
    begin: str = "0s"
    enough: bool = True
    enough_before: bool = True
    silent: tuple[tuple[str, str], ...] = ()
    workers: tuple[tuple[str, str, str], ...] = (("0s", "", "a"),)
    """Begin, end and name of each worker that shows it; the last one goes on."""
    cells: Labels | None = None
    """Labels other than those that the alert reads."""


def every(configuration: Configuration) -> str:
    """How often is evaluated: seldom, so that five weeks take seconds, but a window ago something must be known.

    The minutes around an alert are tried by `alert_case`.
    """
    half_day_us = duration_us("12h")
    return "12h" if all(us % half_day_us == 0 for us in configuration.windows_us) else "2h"


@dataclass(frozen=True, slots=True)
class Times:
    """How often is evaluated, and when everything moves back and ends."""

    every: str
    back: str
    end: str
    longest: str
    """The longest window, in which everything lies."""


def kpi_case(configuration: Configuration) -> Case:
    """All drift alerts, from the series of the engine to what fires."""
    rules = {rule.alert: rule for rule in drift_group(configuration).rules if isinstance(rule, Alert)}
    told = [(each, rules[each.name], list(_streams(each, configuration))) for each in watched(configuration)]
    step = every(configuration)
    back = later(MOVED, _longest((rule.hold for _, rule, _ in told), step), step)
    end = later(back, _longest((rule.keep for _, rule, _ in told), step), step)
    times = Times(step, back, end, windows(configuration)[-1])
    lines = [line for each, _, streams in told for stream in streams for line in _lines(each, stream, times)]
    edges = {edge for _, rule, _ in told for edge in _edges(rule, times)}
    moments = edges | {earlier(edge, step) for edge in edges}
    return Case(
        "every KPI moves in every way",
        step,
        times.end,
        [*engines(times.back), *lines],
        'alertname=~".+Drift|.+ScoreDrop"',
        {
            moment: [
                Firing(rule, {"kpi": each.kpi.name, **_stream_labels(each, stream), **CLUSTER})
                for each, rule, streams in told
                for stream in streams
                if stream.fires and _fires_at(rule, times, moment)
            ]
            for moment in sorted(moments, key=duration_us)
        },
        [asked for each, _, streams in told for stream in streams if (asked := _asked(each, stream, configuration))],
    )


def _longest(durations: Iterable[str], step: str) -> str:
    return max((seen(each, step) for each in durations), key=duration_us)


def _edges(rule: Alert, times: Times) -> tuple[str, str]:
    """When a rule begins to fire, and when it is over."""
    return later(MOVED, seen(rule.hold, times.every)), later(times.back, seen(rule.keep, times.every))


def _fires_at(rule: Alert, times: Times, moment: str) -> bool:
    begin, end = _edges(rule, times)
    return duration_us(begin) <= duration_us(moment) < duration_us(end)


def _streams(each: Watched, configuration: Configuration) -> Iterator[Stream]:
    base = _base(each)
    yield from _pair(each, "minimum", (base,) * 4, 0.0, 0.0)
    _, beyond = _pair(each, "", (base,) * 4, 0.0, 0.0)
    yield replace(beyond, name="better", now=2 * base - beyond.now, fires=False)
    both = later(MOVED, every(configuration))
    yield replace(beyond, name="renamed", workers=(("0s", "20d", "a"), ("20d", both, "b"), (MOVED, "", "c")))
    yield replace(beyond, name="restarted", workers=(("0s", "", RESTARTS),), fires=False)
    yield replace(beyond, name="three weeks", begin=_weeks_behind(each, 3))
    yield replace(beyond, name="two weeks", begin=_weeks_behind(each, 2), fires=False)
    if duration_us(_window(each)) >= duration_us("7d"):
        yield replace(beyond, name="window not covered", begin=earlier(MOVED, "516h"), fires=False)
    if duration_us(_window(each)) >= duration_us("1d"):
        yield replace(beyond, name="hole a window ago", silent=(_hole(each),))
    minimum = each.declared.minimum * (1 if each.declared.points else base)
    yield from _pair(each, "spread", _spreading(base, max(base * 9 / 64, minimum * 3 / 8)), 0.0, 0.0)
    for label, value in _others(each, configuration):
        yield replace(beyond, name="another cell", cells={label: value}, fires=False)
    if each.counted:
        yield from _counted(each)
    else:
        yield replace(beyond, name="few", enough=False, fires=False)
        yield replace(beyond, name="few before", enough_before=False, fires=False)
    if each.bounded:
        yield from _pair(each, "chance", (base,) * 4, base / 4, base / 8)
        yield replace(beyond, name="without bounds", far=None, near=None, fires=False)
    if each.declared.points:
        yield from _pair(each, "zero", (0.0,) * 4, 0.0, 0.0)
        yield from _pair(each, "negative", (-base,) * 4, 0.0, 0.0)


def _asked(each: Watched, stream: Stream, configuration: Configuration) -> Asked | None:
    """Every recorded series of a value stream that has just moved, of one through a rename too; nothing of few."""
    if stream.name == "few" and each.bounded:
        query = f'{{__name__=~"flowmetrics:kpi:trusted.*",kpi="{each.kpi.name}",value_stream="{stream.name}"}}'
        return Asked(query, MOVED, {})
    if stream.name not in ASKED:
        return None
    alert, cells = each.declared, {**_stream_labels(each, stream), **CLUSTER}
    baseline = baseline_of(each.kpi, [Then(week) for week in stream.weeks])
    assert baseline is not None
    base = baseline.value
    labels = {"kpi": each.kpi.name, **cells}
    stream_labels = {"kpi": each.kpi.name, "value_stream": stream.name, **CLUSTER}
    told: dict[str, float] = {}

    def tell(name: str, value: float, **more: str) -> None:
        told[recorded(f"flowmetrics:kpi:{name}", {**labels, **more})] = value

    tell("trusted", stream.now)
    tell("baseline", base)
    tell("baseline_weeks", len(stream.weeks))
    tell("baseline_spread", baseline.spread)
    weeks = [(str(n), value) for n, value in enumerate(stream.weeks, 1)]
    for week, value in weeks:
        tell("same_time", value, weeks_ago=week)
    if each.bounded:
        tell("trusted_lower", stream.now)
        tell("trusted_upper", stream.now)
        facing = "upper" if each.rises else "lower"
        tell(f"baseline_{facing}", base)
        for week, value in weeks:
            tell(f"same_time_{facing}", value, weeks_ago=week)
    tell("margin", alert.minimum if alert.points else alert.minimum * base, reason="minimum")
    tell("margin", SPREADS * baseline.spread, reason="spread")
    if each.bounded:
        tell("margin", 0.0, reason="bounds")
    if each.counted:
        tell("margin", 3 * math.sqrt(2 * base + 2.25) + (4.5 if each.rises else -4.5), reason="counting")
    least = (1 if each.rises else -1) * _base(each) / 2**20
    tell(f"band_{'high' if each.rises else 'low'}", stream.now - least)
    workers = sum(end != "20d" for _, end, _ in stream.workers)
    told[recorded("flowmetrics:kpi:known", stream_labels)] = workers
    told[recorded("flowmetrics:kpi:covered", stream_labels)] = 1
    for window in windows(configuration):
        told[recorded("flowmetrics:kpi:covered", {**stream_labels, "window": window})] = 1
    query = f'{{__name__=~"flowmetrics:kpi:.+",kpi="{each.kpi.name}",value_stream="{stream.name}"}}'
    return Asked(query, MOVED, told)


def _base(each: Watched) -> float:
    """A usual value of which all that is asked are binary fractions, and so large that counting noise is small."""
    return 0.5 if each.kpi.unit is Unit.RATIO else 32.0 if each.declared.points else 16384.0


def _spreading(base: float, deviation: float) -> tuple[float, float, float, float]:
    """Weeks of such a median deviation, nearly: two deviate more, two less, all of them by binary fractions."""
    far = round(deviation * 4 / 3 * 2**20) / 2**20
    return base - far / 2, base + far, base - far, base + far / 2


def _pair(
    each: Watched, name: str, weeks: tuple[float, float, float, float], far: float | None, near: float | None
) -> tuple[Stream, Stream]:
    """Two value streams: one is at the limit, the other beyond it by the least."""
    baseline = baseline_of(each.kpi, [Then(w, w - (far or 0), w + (far or 0)) for w in weeks])
    assert baseline is not None
    limit = limit_of(each.kpi, Point((), 0.0, each.kpi.samples_min, -(near or 0), near or 0), baseline)
    assert limit is not None, f"{each.kpi.name} has no limit at {weeks}"
    least = (1 if each.rises else -1) * _base(each) / 2**20
    at = Stream(f"at {name}", weeks, far, limit.at, near, fires=False)
    return at, replace(at, name=f"beyond {name}", now=limit.at + least, fires=True)


def _counted(each: Watched) -> Iterator[Stream]:
    """Small counts, by which chance is told, and the sample floor: under what falls, or what has risen."""
    floor = each.kpi.samples_min
    if each.rises:
        yield from _pair(each, "chance", (20.0,) * 4, None, None)
        yield from _pair(each, "zero", (0.0,) * 4, None, None)
    else:
        yield from _pair(each, "chance", (max(54.0, floor),) * 4, None, None)
        enough, _ = _pair(each, "", (float(floor),) * 4, None, None)
        yield replace(enough, name="nothing left", now=0.0, fires=enough.now > 0)
        yield replace(enough, name="few", weeks=(floor - 0.5,) * 4, now=0.0, fires=False)


def _others(each: Watched, configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Of each label that the alert matches another value that the engine shows."""
    for label, value in each.cells.items():
        if label == "window":
            yield from ((label, window) for window in windows(configuration)[:2] if window != value)
        else:
            yield label, "another"


def _window(each: Watched) -> str:
    return each.cells.get("window", "7d")


def _weeks_behind(each: Watched, weeks: int) -> str:
    """A begin with which so many weeks lie behind."""
    return earlier(earlier(MOVED, f"{7 * weeks + 6}d"), max(_window(each), "1d", key=duration_us))


def _hole(each: Watched) -> tuple[str, str]:
    """The day before which the window began; what was known a day before that counts instead."""
    middle = earlier(MOVED, _window(each))
    return middle, later(middle, "1d")


def _stream_labels(each: Watched, stream: Stream) -> dict[str, str]:
    known = {**each.cells, **(stream.cells or {})}
    return {"value_stream": stream.name, **{label: known.get(label, f"some {label}") for label in each.kpi.labels}}


def engines(back: str) -> list[Line]:
    """Whether each worker is ready; one restarts when everything moves, and another job has a worker of its name."""
    always = (Stretch("0s", 1.0),)
    restarting = (Stretch("0s", 1.0), Stretch(MOVED, 0.0), Stretch(back, 1.0))
    return [
        *(Line("flowmetrics_engine_ready", worker(name), always) for name in "abc"),
        Line("flowmetrics_engine_ready", worker(RESTARTS), restarting),
        Line("flowmetrics_engine_ready", {**worker(RESTARTS), "job": "another"}, always),
    ]


def _lines(each: Watched, stream: Stream, times: Times) -> Iterator[Line]:
    """The five series of the uniform layer, of each worker in turn."""
    counted, floor = each.counted, each.kpi.samples_min
    values = _history(stream, times.back)
    metrics: dict[str, list[tuple[str, float | None]]] = {"value": values}
    if stream.far is not None and stream.near is not None:
        offsets = [(begin, stream.near if begin == MOVED else stream.far) for begin, _ in values]
        for side, sign in (("lower", -1), ("upper", 1)):
            metrics[side] = [
                (begin, value if value is None else value + sign * off)
                for (begin, value), (_, off) in zip(values, offsets, strict=True)
            ]
    if counted:
        metrics["samples"] = values
        metrics["sufficient"] = [(begin, float((value or 0) >= floor)) for begin, value in values]
    else:
        enough = [(begin, stream.enough if begin == MOVED else stream.enough_before) for begin, _ in values]
        metrics["samples"] = [(begin, float(floor if full else floor - 1)) for begin, full in enough]
        metrics["sufficient"] = [(begin, float(full)) for begin, full in enough]
    labels = {"kpi": each.kpi.name, **_stream_labels(each, stream)}
    over = later(times.end, times.every)
    for begin, until, name in stream.workers:
        silent = [*stream.silent, ("0s", max(stream.begin, begin, key=duration_us)), (until or over, over)]
        for metric, stretches in metrics.items():
            told = _silenced(stretches, silent, over)
            yield Line(f"flowmetrics_kpi_{metric}", {**labels, **worker(name)}, told)
            if metric == "samples" and labels.get("window", times.longest) != times.longest:
                yield Line("flowmetrics_kpi_samples", {**labels, "window": times.longest, **worker(name)}, told)


def _history(stream: Stream, back: str) -> list[tuple[str, float | None]]:
    """Values by the moment from which they hold: each week in the middle of seven days, then what moved, then usual."""
    half = "84h"
    weeks = [
        (earlier(earlier(MOVED, f"{7 * n}d"), half), value) for n, value in reversed(list(enumerate(stream.weeks, 1)))
    ]
    usual = sorted(stream.weeks)
    middle = (usual[1] + usual[2]) / 2
    first = [("0s", stream.weeks[-1])]
    return [*first, *weeks, (earlier(MOVED, half), middle), (MOVED, stream.now), (back, middle)]


def _silenced(
    stretches: Sequence[tuple[str, float | None]], silent: Sequence[tuple[str, str]], end: str
) -> list[Stretch]:
    """Stretches with holes in them."""
    edges = {duration_us(begin) for begin, _ in stretches}
    holes = [(duration_us(begin), duration_us(until)) for begin, until in silent]
    edges |= {edge for hole in holes for edge in hole if edge < duration_us(end)}
    told = []
    for edge in sorted(edges):
        value = [value for begin, value in stretches if duration_us(begin) <= edge][-1]
        hidden = any(begin <= edge < until for begin, until in holes)
        told.append(Stretch(duration_text(edge), None if hidden else value))
    return told
