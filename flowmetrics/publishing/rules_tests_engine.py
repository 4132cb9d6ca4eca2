"""The unit tests of the alerts about the engine: of what they read, around their limits, and over weeks.

Each engine lives in a cluster of its own, whose name says what is tried; a cluster is a label that all rules keep.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias

from flowmetrics.configuration import Configuration
from flowmetrics.drift import WEEKS_MIN
from flowmetrics.instants import duration_text, duration_us
from flowmetrics.publishing.rules_cells import own_labels
from flowmetrics.publishing.rules_engine import (
    BURNS,
    DIP,
    EXPECTED_MIN,
    LAG_EVENTS_MIN,
    LATE_SECONDS,
    REJECTS_BUDGET,
    REJECTS_MIN,
    RESTARTS_MIN,
    burn_windows,
    engine_groups,
)
from flowmetrics.publishing.rules_form import Alert
from flowmetrics.publishing.rules_recording import WORKER
from flowmetrics.publishing.rules_tests_form import (
    Asked,
    Case,
    Firing,
    Line,
    Stretch,
    earlier,
    later,
    seen,
    series,
)

_LEAST: Final = 1.0000001
_LITTLE: Final = 0.1
"""Less than one event: no count falls short by it, so that a threshold is tried closer than any count can."""
_BUSY_LAG: Final = 240.0
"""What may wait where 600 events arrive with each evaluation: those of a minute, read from the latest eight."""


Rules: TypeAlias = Mapping[str, Sequence[Alert]]


class Timeline(NamedTuple):
    """How often is evaluated, when everything begins, and when it is as it was."""

    every: str
    begun: str
    back: str


MINUTES: Final = Timeline("4m", "25h", "28h")
"""No range of minutes is a multiple of four, or versions of Prometheus would differ in what lies on its edge."""
WEEKS: Final = Timeline("40m", "24d", "26d")
QUARTERS: Final = Timeline("9m", "22d", "533h")
"""For what waits a quarter of an hour and looks back over weeks. No range is a multiple of nine minutes."""


def engine_cases(configuration: Configuration) -> tuple[Case, ...]:
    """What happens within minutes: around every limit, with counters that move, and with no engine at all."""
    rules = _rules(configuration)
    tried = [*_lag(rules), *_rejects(rules), *_others(rules), *_absent(rules), *_restarting(rules), *_disturbed(rules)]
    watchdog = Firing(rules["FlowmetricsWatchdog"][0], {})
    nobody = Firing(rules["FlowmetricsAbsent"][0], {})
    return (
        _case("every alert about the engine begins and ends", MINUTES, rules, tried),
        _counters(SOON),
        _counters(LATE),
        Case(
            "nobody is scraped",
            MINUTES.every,
            "20m",
            [Line("up", {"job": "another"}, [Stretch("0s", 1.0)])],
            'alert_class="engine"',
            {"4m": [watchdog], "8m": [watchdog, nobody]},
        ),
        Case(
            "nobody is scraped any more",
            MINUTES.every,
            "24m",
            [_raw("build_info", Stretch("0s", 1.0), Stretch("8m", None), version="1")],
            'alert_class="engine"',
            {"20m": [watchdog], "24m": [watchdog, nobody]},
        ),
    )


def week_case(configuration: Configuration) -> Case:
    """What is told against former weeks."""
    rules = _rules(configuration)
    tried = [
        _Tried("alive", _ALIVE, None),
        *_late(rules),
        *_baselines(rules, own_labels(configuration)),
        *_long_gone(rules),
    ]
    return _case("every alert about the engine that looks back over weeks", WEEKS, rules, tried)


def source_case(configuration: Configuration) -> Case:
    """A source that is silent, against what it sent in former weeks."""
    rules = _rules(configuration)
    return _case("a source is silent", QUARTERS, rules, [_Tried("alive", _ALIVE, None), *_stale(rules)])


class _Tried:
    """One engine: its lines, and the alert that fires while its condition holds from `since` until `back`, with the
    value that is in its sentence, where that is tried too. By default that is from when the timeline says."""

    def __init__(
        self,
        cluster: str,
        lines: Sequence[Line],
        rule: Alert | None,
        since: str = "",
        value: float | None = None,
        until: str = "",
        **labels: str,
    ) -> None:
        self.lines = [Line(line.metric, {**line.labels, "cluster": cluster}, line.stretches) for line in lines]
        self.rule = rule
        self.value = value
        self.labels = {**labels, "cluster": cluster}
        self.since, self.until = since, until

    def span(self, timeline: Timeline) -> tuple[str, str]:
        """When it begins to fire, and when it is over; never where nothing fires."""
        if self.rule is None:
            return "0s", "0s"
        begin = later(self.since or timeline.begun, seen(self.rule.hold, timeline.every))
        return begin, later(self.until or timeline.back, seen(self.rule.keep, timeline.every))


def _case(name: str, timeline: Timeline, rules: Rules, tried: Sequence[_Tried]) -> Case:
    spans = [(each, *each.span(timeline)) for each in tried]
    edges = {edge for each, *span in spans if each.rule for edge in span}
    moments = sorted(edges | {earlier(edge, timeline.every) for edge in edges}, key=duration_us)
    watchdog = Firing(rules["FlowmetricsWatchdog"][0], {})
    firing = {
        moment: [
            watchdog,
            *(
                Firing(each.rule, each.labels, each.value)
                for each, begin, end in spans
                if each.rule and duration_us(begin) <= duration_us(moment) < duration_us(end)
            ),
        ]
        for moment in moments
    }
    lines = [line for each in tried for line in each.lines]
    return Case(name, timeline.every, later(moments[-1], timeline.every), lines, 'alert_class="engine"', firing)


def _rules(configuration: Configuration) -> Rules:
    rules: dict[str, list[Alert]] = {}
    for group in engine_groups(configuration):
        for rule in group.rules:
            if isinstance(rule, Alert):
                rules.setdefault(rule.alert, []).append(rule)
    return rules


def _raw(metric: str, /, *stretches: Stretch, worker: str = "a", **labels: str) -> Line:
    """A series that a worker shows."""
    return Line(f"flowmetrics_{metric}", {**labels, **dict.fromkeys(WORKER, worker)}, stretches)


def _recorded(name: str, /, *stretches: Stretch, **labels: str) -> Line:
    """A series that a rule recorded."""
    return Line(f"flowmetrics:{name}", labels, stretches)


def _during(value: float, usual: float = 0.0, step: float = 0.0, timeline: Timeline = MINUTES) -> list[Stretch]:
    """A value that is another than usual between begin and end."""
    return [Stretch("0s", usual), Stretch(timeline.begun, value, step), Stretch(timeline.back, usual)]


_ALIVE: Final = (
    _raw("build_info", Stretch("0s", 1.0), version="1"),
    _raw("engine_ready", Stretch("0s", 1.0)),
)


def _lag(rules: Rules) -> Iterator[_Tried]:
    """Waiting events that get fewer, that are few for what arrives, and that do neither."""
    rule = rules["FlowmetricsLagNotDraining"][0]
    least, waiting = float(LAG_EVENTS_MIN), "consumer_lag_events"
    stuck = later(MINUTES.begun, "12m")  # the first evaluation whose last quarter of an hour lies behind the begin
    arriving = _raw("events_accepted_total", Stretch("0s", 0.0, 600.0), source="any")
    for cluster, value, step, lines, fires in (
        ("lag at", least, 0.0, _ALIVE, False),
        ("lag", least * _LEAST, 0.0, _ALIVE, True),
        ("lag drains", 5000.0, -1.0, _ALIVE, False),
        ("lag grows", least + 1, 1.0, _ALIVE, True),
        ("lag of a busy engine", _BUSY_LAG, 0.0, [*_ALIVE, arriving], False),
        ("lag of a busy engine that is stuck", _BUSY_LAG + 1, 0.0, [*_ALIVE, arriving], True),
    ):
        yield _Tried(cluster, [*lines, _raw(waiting, *_during(value, step=step))], rule if fires else None, stuck)
    halves = [_raw(waiting, *_during(least / 2 + 1), worker=name) for name in "ab"]
    yield _Tried("lag of two workers", [*_ALIVE, *halves], rule, stuck)
    taken = [Stretch(later("24h", f"{4 * n}m"), 99.0 if n % 3 else 0.0) for n in range(61)]
    yield _Tried("lag that is taken now and then", [*_ALIVE, _raw(waiting, *taken)], None)
    # each step is longer than the alert waits, and shorter than that and the quarter of an hour that it looks at
    steps = [Stretch("0s", 0.0), *(Stretch(later("24h", f"{20 * n}m"), 9000.0 - 750 * n) for n in range(13))]
    yield _Tried("lag that drains in steps", [*_ALIVE, _raw(waiting, *steps)], None)


def _rejects(rules: Rules) -> Iterator[_Tried]:
    """Each pair of windows: both beyond, one of them at its limit, and too few events to tell."""
    for rule, (_, _, pairs) in zip(rules["FlowmetricsRejectsBurning"], BURNS, strict=True):
        for factor, long, short in pairs:
            for name, by_long, by_short, number, fires in (
                ("burning", factor * _LEAST, factor * _LEAST, REJECTS_MIN, True),
                ("burning at", factor, 99.0, REJECTS_MIN, False),
                ("burning over", 99.0, factor, REJECTS_MIN, False),
                ("burning few", 99.0, 99.0, REJECTS_MIN - _LITTLE, False),
            ):
                lines = [
                    _recorded(f"engine:reject_burn{long}", *_during(by_long)),
                    _recorded(f"engine:reject_burn{short}", *_during(by_short)),
                    _recorded(f"engine:rejected_growth{long}", *_during(number)),
                ]
                yield _Tried(f"{name} {long}", lines, rule if fires else None)


def _others(rules: Rules) -> Iterator[_Tried]:
    """One label set too many, and a worker that is not ready."""
    begun, alive = MINUTES.begun, Stretch("0s", 1.0)
    yield _Tried("no overflow", [_recorded("engine:overflow_growth1h", *_during(0.0))], None)
    yield _Tried(
        "overflow", [_recorded("engine:overflow_growth1h", *_during(1.0))], rules["FlowmetricsSeriesBudget"][0]
    )
    ready = _raw("engine_ready", alive)
    yield _Tried("ready", [ready], None)
    yield _Tried(
        "not ready",
        [ready, _raw("engine_ready", *_during(0.0, usual=1.0), worker="b")],
        rules["FlowmetricsNotReady"][0],
    )
    for missing, fires in ((2, True), (3, False)):  # the first is still seen, and what was seen counts for ten minutes
        width = duration_us(MINUTES.every) * (missing + 1)
        loops = [duration_text(us) for us in range(duration_us(begun), duration_us(MINUTES.back), width)]
        shown = [each for loop in loops for each in (Stretch(loop, 0.0), Stretch(later(loop, MINUTES.every), None))]
        loop = _raw("engine_ready", alive, *shown, Stretch(MINUTES.back, 1.0), worker="b")
        rule = rules["FlowmetricsNotReady"][0] if fires else None
        yield _Tried(f"not ready whenever it is seen, and {missing} scrapes fail", [ready, loop], rule)


def _absent(rules: Rules) -> Iterator[_Tried]:
    """An engine that is gone."""
    begun, every, alive = MINUTES.begun, MINUTES.every, Stretch("0s", 1.0)
    gone = _raw("build_info", alive, Stretch(begun, None), Stretch(MINUTES.back, 1.0), version="1")
    # what was there four minutes before is still seen, and what was seen counts for ten minutes
    yield _Tried("gone", [gone], rules["FlowmetricsAbsent"][0], later(begun, "12m"))
    for cluster, lines in (
        ("gone on the day it came", [_raw("build_info", Stretch("12h", 1.0), Stretch(begun, None), version="1")]),
        (
            "restarted",
            [_raw("build_info", alive, Stretch(begun, None), Stretch(later(begun, every), 1.0), version="1")],
        ),
        (
            "renamed, and of another version",
            [
                _raw("build_info", alive, Stretch(begun, None), version="1"),
                _raw("build_info", Stretch(begun, 1.0), version="2", worker="b"),
            ],
        ),
    ):
        yield _Tried(cluster, lines, None)


def _long_gone(rules: Rules) -> Iterator[_Tried]:
    """One of several engines that is gone for days; after a week it is forgotten."""
    for days, fires in ((4, True), (12, False)):
        since = earlier(WEEKS.begun, f"{days}d")
        gone = _raw("build_info", Stretch("0s", 1.0), Stretch(since, None), Stretch(WEEKS.back, 1.0), version="1")
        yield _Tried(f"gone for {days} days", [gone], rules["FlowmetricsAbsent"][0] if fires else None, since)


def _restarting(rules: Rules) -> Iterator[_Tried]:
    """A worker that begins again and again, and one that cannot be scraped."""
    begun, often = MINUTES.begun, float(RESTARTS_MIN)
    rule, down = rules["FlowmetricsRestarting"][0], rules["FlowmetricsWorkerDown"][0]
    yield _Tried("begins again and again", _begins(), rule, later(begun, "16m"))
    seldom = [Stretch("0s", 100.0), Stretch(begun, 100.0, 1.0), Stretch(later(begun, "16m"), 100.0 + often - 1)]
    workers = [_raw("engine_start_time_seconds", *seldom, worker=name) for name in "ab"]
    yield _Tried("two workers that begin again", workers, None)
    for cluster, seen_until, fires in (("seen today", "5h", True), ("seen a day ago", "40m", False)):
        worker = cluster.replace(" ", "-")
        lines = [
            *_ALIVE,
            _raw("build_info", Stretch("0s", 1.0), Stretch(seen_until, None), worker=worker, version="1"),
            Line("up", dict.fromkeys(WORKER, worker), _during(0.0, usual=1.0)),
        ]
        tried = _Tried(f"down, {cluster}", lines, down if fires else None)
        tried.labels |= dict.fromkeys(WORKER, worker)
        yield tried
    stranger, gone = dict.fromkeys(WORKER, "stranger"), _during(0.0, usual=1.0)
    others = [Line("up", {**stranger, label: "a"}, gone) for label in ("instance", "job")]
    yield _Tried("other targets of the job and of the machine are down", [*_ALIVE, *others], None)


def _begins() -> list[Line]:
    """A worker that begins before each scrape, until that is seldom enough when it is to be over."""
    begun, last = duration_us(MINUTES.begun), earlier(MINUTES.back, "72m")
    count = (duration_us(last) - begun) // duration_us(MINUTES.every)
    told = [Stretch("0s", 100.0), Stretch(MINUTES.begun, 100.0, 1.0), Stretch(last, 100.0 + count - 1)]
    return [*_ALIVE, _raw("engine_start_time_seconds", *told)]


def _disturbed(rules: Rules) -> Iterator[_Tried]:
    """What fires, through what must change nothing, from what workers show: while it waits, and while it fires."""
    begun, back, every = MINUTES.begun, MINUTES.back, MINUTES.every
    page, ticket = rules["FlowmetricsRejectsBurning"]
    arriving = _raw("events_accepted_total", Stretch("0s", 0.0, 1000.0), source="any")
    for name, lines, fires in (
        (
            "lag",
            [*_ALIVE, _raw("consumer_lag_events", *_during(LAG_EVENTS_MIN + 1.0))],
            [(rules["FlowmetricsLagNotDraining"][0], later(begun, "12m"), back)],
        ),
        (
            "refused",
            [*_ALIVE, arriving, _counted_until("events_rejected_total", 2000.0, earlier(back, "32m"), reason="any")],
            [(page, begun, back), (ticket, begun, later(back, "88m"))],
        ),
        (
            "overflow",
            [*_ALIVE, _counted_until("label_overflow_total", 1.0, earlier(back, "60m"), metric="any")],
            [(rules["FlowmetricsSeriesBudget"][0], begun, back)],
        ),
        (
            "not ready",
            [*_ALIVE, _raw("engine_ready", *_during(0.0, usual=1.0), worker="b")],
            [(rules["FlowmetricsNotReady"][0], begun, back)],
        ),
        ("begins", _begins(), [(rules["FlowmetricsRestarting"][0], later(begun, "16m"), back)]),
    ):
        moments = [later(fires[0][1], every), later(begun, "80m")]
        for what, through in _DISTURBANCES.items():
            if (name, what) == ("begins", "renamed"):
                continue  # a worker is known by its name
            disturbed = lines
            for moment in moments:
                disturbed = [each for line in disturbed for each in through(line, moment)]
            for number, (rule, since, until) in enumerate(fires):
                yield _Tried(f"{name}, {what}", disturbed if number == 0 else [], rule, since, until=until)


def _counted_until(metric: str, step: float, last: str, /, **labels: str) -> Line:
    """A counter that grows from the begin until it did for the last time."""
    grown = step * ((duration_us(last) - duration_us(MINUTES.begun)) // duration_us(MINUTES.every) + 1)
    told = [Stretch("0s", 0.0), Stretch(MINUTES.begun, step, step), Stretch(later(last, MINUTES.every), grown)]
    return _raw(metric, *told, **labels)


def _gap(line: Line, moment: str) -> list[Line]:
    """Two scrapes fail. The value before is still seen at the first."""
    end = later(moment, MINUTES.every, MINUTES.every)
    return [replace(line, stretches=[*_before(line, moment), Stretch(moment, None), *_from(line, end)])]


def _restart(line: Line, moment: str) -> list[Line]:
    """Two scrapes fail, and at the third the engine is not ready."""
    [holed] = _gap(line, moment)
    ready = later(moment, *[MINUTES.every] * 3)
    if line.metric == "flowmetrics_engine_ready":
        back = Stretch(earlier(ready, MINUTES.every), 0.0)
        return [replace(line, stretches=[*_before(holed, back.begin), back, *_from(line, ready)])]
    return [holed]


def _renamed(line: Line, moment: str) -> list[Line]:
    """Another worker shows the same, a scrape later: until then the former one is seen."""
    labels = {name: f"{value}2" if name in WORKER else value for name, value in line.labels.items()}
    after = _from(line, later(moment, MINUTES.every))
    if all(each.value is None for each in after):
        return [line]  # it was renamed before
    return [
        replace(line, stretches=[*_before(line, moment), Stretch(moment, None)]),
        Line(line.metric, labels, after),
    ]


def _before(line: Line, moment: str) -> list[Stretch]:
    return [each for each in line.stretches if duration_us(each.begin) < duration_us(moment)]


def _from(line: Line, moment: str) -> list[Stretch]:
    """What a line goes on with."""
    us = duration_us(moment)
    begun = [each for each in line.stretches if duration_us(each.begin) <= us]
    first, value = Stretch(moment, None), begun[-1].value if begun else None
    if value is not None:
        steps = (us - duration_us(begun[-1].begin)) // duration_us(MINUTES.every)
        first = Stretch(moment, value + steps * begun[-1].step, begun[-1].step)
    return [first, *(each for each in line.stretches if duration_us(each.begin) > us)]


_DISTURBANCES: Final[Mapping[str, Callable[[Line, str], list[Line]]]] = {
    "scrapes fail": _gap,
    "restarted": _restart,
    "renamed": _renamed,
}


def _stale(rules: Rules) -> Iterator[_Tried]:
    """A source that is silent, against what it sent in each former week, from an hour before that time to one after."""
    rule, enough = rules["FlowmetricsSourceStale"][0], float(EXPECTED_MIN)

    def but(value: float | None, begin: str, lasts: str = QUARTERS.every) -> list[Stretch]:
        return [Stretch(begin, value), Stretch(later(begin, lasts), enough)]

    for window in ("1h", "1d"):

        def growth(now: float, *former: Stretch, since: str = "0s", window: str = window) -> list[Line]:
            usual, *silent = _during(now, usual=enough, timeline=QUARTERS)
            told = sorted(
                [replace(usual, begin=since), *former, *silent], key=lambda stretch: duration_us(stretch.begin)
            )
            return [_recorded(f"source:accepted_growth{window}", *told, source="any")]

        yield _Tried(f"silent for {window}", growth(0.0), rule, source="any")
        yield _Tried(f"one event in {window}", growth(1.0), None)
        yield _Tried(f"silent for {window}, new", growth(0.0, since="10d"), None)
        for week in range(1, WEEKS_MIN + 1):
            then, few = earlier(QUARTERS.begun, f"{7 * week}d"), enough - _LITTLE
            # just within two hours of each other, the first just before the begin
            moments = [later(earlier(then, "18m"), f"{108 * n}m") for n in range(4)]
            seldom = [each for moment in moments for each in but(few, moment)]
            yield _Tried(f"silent for {window}, few now and then {week} weeks ago", growth(0.0, *seldom), None)
            for what, stretches in (
                ("few until an hour before", but(few, earlier(then, "3h"), "117m")),
                ("a gap", but(None, earlier(then, "36m"), "72m")),
            ):
                lines = growth(0.0, *stretches)
                yield _Tried(f"silent for {window}, {what}, {week} weeks ago", lines, rule, source="any")


def _late(rules: Rules) -> Iterator[_Tried]:
    """A source whose events come late, always, seldom, or as they always did."""
    rule, late = rules["FlowmetricsLateEvents"][0], float(LATE_SECONDS)
    since = later(WEEKS.begun, WEEKS.every)  # the first evaluation whose last hour lies behind the begin
    week_ago = earlier(WEEKS.begun, "7d")

    def lag(value: float, usual: float = 0.0, events: float = EXPECTED_MIN) -> list[Line]:
        then = [Stretch("0s", 0.0), Stretch(earlier(week_ago, "1d"), usual), Stretch(later(week_ago, "3d"), 0.0)]
        told = [*then, *_during(value, timeline=WEEKS)[1:]]
        return [
            _raw("event_lag_seconds", *told, source="any"),
            _raw(
                "event_lag_seconds",
                *(Stretch(each.begin, 2 * (each.value or 0)) for each in told),
                source="any",
                worker="b",
            ),
            _recorded("source:accepted_growth1h", Stretch("0s", events), source="any"),
        ]

    yield _Tried("late at", lag(late), None)
    yield _Tried("late", lag(late + 1), rule, since, source="any")
    yield _Tried("late few", lag(late + 1, events=EXPECTED_MIN - _LITTLE), None)
    yield _Tried("as late as always", lag(late + 1, usual=(late + 1) / 2), None)
    yield _Tried("later than always", lag(late + 1, usual=late / 2), rule, since, source="any")
    seldom = [Stretch(later(WEEKS.begun, f"{40 * n}m"), (late + 1) * (n % 2)) for n in range(31)]
    growth = _recorded("source:accepted_growth1h", Stretch("0s", float(EXPECTED_MIN)), source="any")
    then = [Stretch(later(earlier(week_ago, "4h"), f"{40 * n}m"), (late + 1) / 2 * (n % 2)) for n in range(85)]
    told = [Stretch("0s", 0.0), *then, *_during(late + 1, timeline=WEEKS)[1:]]
    lines = [_raw("event_lag_seconds", *told, source="any"), growth]
    yield _Tried("late, and a week ago now and then", lines, rule, since, source="any")
    yield _Tried("late now and then", [_raw("event_lag_seconds", *seldom, source="any"), growth], None)


def _baselines(rules: Rules, labels: Collection[str]) -> Iterator[_Tried]:
    """A KPI without a baseline, with too short a one, and with one; and one that is not known all the time."""
    rule = rules["FlowmetricsBaselineMissing"][0]
    always = [Stretch(WEEKS.begun, 2.0)]
    for cluster, trusted, weeks, fires in (
        ("no former weeks", always, None, True),
        ("too few former weeks", always, WEEKS_MIN - 1.0, True),
        ("former weeks", always, float(WEEKS_MIN), False),
        ("no former weeks, and a sample is missing", _with_gaps("40m"), None, True),
        ("no former weeks, and two samples are missing", _with_gaps("80m"), None, False),
    ):
        cell = {"kpi": "any", "value_stream": "some", **dict.fromkeys(labels, "some")}
        known = [Stretch(WEEKS.begun, weeks), Stretch(WEEKS.back, float(WEEKS_MIN))]
        lines = [_recorded("kpi:trusted", *trusted, **cell), _recorded("kpi:baseline_weeks", *known, **cell)]
        yield _Tried(cluster, lines, rule if fires else None, value=1, kpi="any")


def _with_gaps(gap: str) -> list[Stretch]:
    """Known from the begin on, but for a gap in each 16 hours until the end."""
    returns = [later(WEEKS.begun, f"{16 * n}h") for n in range(5)]
    known = [Stretch(WEEKS.begun, 2.0)]
    for back in returns[1:]:
        known += [Stretch(earlier(back, gap), None), Stretch(back, 2.0)]
    return known


SOON: Final = "8h"
"""So much is enough for most of what is tried."""
LATE: Final = "80h"
"""So much the longest windows take."""
_FROM_ZERO: Final = Stretch("0s", 0, 1)
_PER_STEP: Final = {"accepted": 990.0, "rejected": 10.0, "overflow": 1.0}
_COUNTERS: Final = {
    "accepted": ("events_accepted_total", {"source": "any"}),
    "rejected": ("events_rejected_total", {"reason": "any"}),
    "overflow": ("label_overflow_total", {"metric": "any"}),
}


class _Counted(NamedTuple):
    """Counters in a cluster, and by how much they are said to grow in each window, over all sources and by source."""

    lines: Sequence[Line]
    growth: Mapping[str, int]
    of_sources: Mapping[str, int]


def _counters(now: str) -> Case:
    """What is made of counters that move from worker to worker, that nobody shows for a moment, and that begin."""
    width = {window: _steps(window) for window in burn_windows() if duration_us(window) < duration_us(now)}
    told = {"counted": _Counted(_counting(_FROM_ZERO), width, width), **dict(_sunk(now, width))}
    if now == SOON:
        told |= _moved(now, width)
    engines = [_Tried(cluster, [*_ALIVE, *counted.lines], None) for cluster, counted in told.items()]
    asked = {name: value for cluster, counted in told.items() for name, value in _grown(cluster, counted)}
    query = '{__name__=~"flowmetrics:(engine|source):.+_(growth|burn).+"} > -Inf'  # nothing of nothing is no number
    lines = [line for each in engines for line in each.lines]
    return Case(f"counters after {now}", MINUTES.every, now, lines, 'alertname="none"', {}, [Asked(query, now, asked)])


def _moved(now: str, width: Mapping[str, int]) -> dict[str, _Counted]:
    """Counters that another worker shows, that begin, and that nobody shows any more."""
    handed = [*_counting(_FROM_ZERO, Stretch(_ago(now, 1), None)), *_counting(Stretch(now, _steps(now)), worker="b")]
    return {
        "handed over": _Counted(handed, width, width),
        "begun": _Counted(_counting(Stretch(now, 7)), dict.fromkeys(width, 7), {}),
        "shown by nobody": _Counted(
            _counting(_FROM_ZERO, Stretch(_ago(now, 3), None)), {w: max(0, n - 4) for w, n in width.items()}, {}
        ),
        "half of it is gone, and then all": _Counted(
            [
                *_counting(_FROM_ZERO, Stretch(_ago(now, 40), None)),
                *_counting(Stretch("0s", 1000), Stretch(_ago(now, 3), None), worker="b"),
            ],
            _less(now, width, 40),
            {},
        ),
        "begun, and one is not ready": _Counted(
            [*_counting(Stretch(now, 7)), _raw("engine_ready", Stretch("0s", 0.0), worker="b")], {}, {}
        ),
        "not shown by anybody an hour ago": _Counted(
            _counting(_FROM_ZERO, *_hole(now, width["1h"], 4)), {**width, "1h": width["1h"] + 4}, _but(width, "1h")
        ),
    }


def _sunk(now: str, width: Mapping[str, int]) -> Iterator[tuple[str, _Counted]]:
    """One of two workers does not show its part: for ten minutes, which are bridged, and for longer.

    A missing sample is seen for five minutes more.
    """
    other = _counting(Stretch("0s", 1000), worker="b")
    apart = [steps for steps in sorted(width.values(), reverse=True) if steps >= _steps("1h")]
    for missing in (3, 4):
        holes = [stretch for steps in apart for stretch in _hole(now, steps, missing)]
        showed = {w: n if n not in apart else n + missing if missing == 3 else _steps(now) for w, n in width.items()}
        yield f"half of it was gone, {missing}", _Counted([*_counting(_FROM_ZERO, *holes), *other], showed, showed)
    # bridged and not; and just within and just beyond ten minutes before the shorter windows, and three times as long
    for since in (2, 3, 8, 9, 11) if now == SOON else (2, 3):
        gone = [*_counting(_FROM_ZERO, Stretch(_ago(now, since), None)), *other]
        shows = {w: max(0, n - 3) for w, n in width.items()} if since == 2 else _less(now, width, since)
        yield f"half of it is gone since {since}", _Counted(gone, shows, shows)


def _less(now: str, width: Mapping[str, int], since: int) -> dict[str, int]:
    """By how much what is left is less than what was shown before each window, in the ten minutes looked at there."""

    def less(window: str) -> int:
        looked_at = range(_steps(window), _steps(later(window, DIP)))
        return next((max(steps, since + 1) - _steps(now) for steps in looked_at if steps >= since), 0)

    return {window: less(window) for window in width}


def _hole(now: str, steps: int, missing: int) -> list[Stretch]:
    """So many samples that are missing, the last of them so many evaluations ago."""
    return [Stretch(_ago(now, steps + missing - 1), None), Stretch(_ago(now, steps - 1), _steps(now) - steps + 1, 1)]


def _ago(now: str, steps: int) -> str:
    return earlier(now, f"{4 * steps}m")


def _but(values: Mapping[str, int], left_out: str) -> dict[str, int]:
    return {name: value for name, value in values.items() if name != left_out}


def _steps(duration: str) -> int:
    return -(-duration_us(duration) // duration_us(MINUTES.every))


def _counting(*shape: Stretch, worker: str = "a") -> list[Line]:
    """All counters of a worker, each at its own speed; the shape is in evaluations."""
    return [
        _raw(
            metric,
            *(
                Stretch(each.begin, None if each.value is None else each.value * speed, each.step * speed)
                for each in shape
            ),
            worker=worker,
            **labels,
        )
        for (metric, labels), speed in zip(_COUNTERS.values(), _PER_STEP.values(), strict=True)
    ]


def _grown(cluster: str, counted: _Counted) -> Iterator[tuple[str, float]]:
    """The recorded series of a cluster."""
    accepted, rejected, overflow = _PER_STEP.values()
    labels = {"cluster": cluster}
    for window, steps in counted.growth.items():
        yield series(f"flowmetrics:engine:accepted_growth{window}", labels), accepted * steps
        yield series(f"flowmetrics:engine:rejected_growth{window}", labels), rejected * steps
        if steps:
            share = rejected * steps / (accepted * steps + rejected * steps)
            yield series(f"flowmetrics:engine:reject_burn{window}", labels), share / REJECTS_BUDGET
        if window == "1h":
            yield series(f"flowmetrics:engine:overflow_growth{window}", labels), overflow * steps
    for window in [window for window in ("1h", "1d") if window in counted.of_sources]:
        told = {"cluster": cluster, "source": "any"}
        yield series(f"flowmetrics:source:accepted_growth{window}", told), accepted * counted.of_sources[window]
