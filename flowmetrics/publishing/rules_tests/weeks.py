"""The unit tests of the alerts about the engine that compare with former weeks, or look back over days."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.drift import WEEKS_MIN
from flowmetrics.publishing.rules.cells import own_labels
from flowmetrics.publishing.rules.engine import EXPECTED_MIN, LATE_SECONDS, of_budgets
from flowmetrics.publishing.rules.recording import WORKER
from flowmetrics.publishing.rules_tests.clusters import (
    ALIVE,
    LITTLE,
    Rules,
    Timeline,
    Tried,
    case,
    during,
    raw,
    recorded,
    rules_of,
)
from flowmetrics.publishing.rules_tests.form import Case, Line, Stretch, earlier, later

WEEKS: Final = Timeline("40m", "24d", "26d")


def week_case(configuration: Configuration) -> Case:
    """What is told against former weeks."""
    rules = rules_of(configuration)
    tried = [
        Tried("alive", ALIVE, None),
        *_late(rules),
        *_baselines(rules, configuration),
        *_long_gone(rules),
        *_long_down(rules),
    ]
    return case("every alert about the engine that looks back over weeks", WEEKS, rules, tried)


def _late(rules: Rules) -> Iterator[Tried]:
    """A source whose events come late, always, seldom, or as they always did."""
    rule, late = rules["FlowmetricsLateEvents"][0], float(LATE_SECONDS)
    since = later(WEEKS.begun, WEEKS.every)  # the first evaluation whose last hour lies behind the begin
    week_ago = earlier(WEEKS.begun, "7d")

    def lag(value: float, usual: float = 0.0, events: float = EXPECTED_MIN, before: str = "1d") -> list[Line]:
        then = [Stretch("0s", 0.0), Stretch(earlier(week_ago, before), usual), Stretch(later(week_ago, "3d"), 0.0)]
        told = [*then, *during(value, timeline=WEEKS)[1:]]
        return [
            raw("event_lag_seconds", *told, source="any"),
            raw(
                "event_lag_seconds",
                *(Stretch(each.begin, 2 * (each.value or 0)) for each in told),
                source="any",
                worker="b",
            ),
            recorded("source:accepted_growth1h", Stretch("0s", events), source="any"),
        ]

    yield Tried("late at", lag(late), None)
    yield Tried("late", lag(late + 1), rule, since, source="any")
    yield Tried("late few", lag(late + 1, events=EXPECTED_MIN - LITTLE), None)
    yield Tried("as late as always", lag(late + 1, usual=(late + 1) / 2), None)
    yield Tried("as late as since an hour before", lag(late + 1, usual=(late + 1) / 2, before=WEEKS.every), None)
    yield Tried("later than always", lag(late + 1, usual=late / 2), rule, since, source="any")
    seldom = [Stretch(later(WEEKS.begun, f"{40 * n}m"), (late + 1) * (n % 2)) for n in range(31)]
    growth = recorded("source:accepted_growth1h", Stretch("0s", float(EXPECTED_MIN)), source="any")
    then = [Stretch(later(earlier(week_ago, "4h"), f"{40 * n}m"), (late + 1) / 2 * (n % 3 > 0)) for n in range(85)]
    told = [Stretch("0s", 0.0), *then, *during(late + 1, timeline=WEEKS)[1:]]
    lines = [raw("event_lag_seconds", *told, source="any"), growth]
    yield Tried("late, and a week ago now and then", lines, rule, since, source="any")
    yield Tried("late now and then", [raw("event_lag_seconds", *seldom, source="any"), growth], None)


def _baselines(rules: Rules, configuration: Configuration) -> Iterator[Tried]:
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
        cell = {"kpi": "any", "value_stream": "some", **dict.fromkeys(own_labels(configuration), "some")}
        known = [Stretch(WEEKS.begun, weeks), Stretch(WEEKS.back, float(WEEKS_MIN))]
        lines = [recorded("kpi:trusted", *trusted, **cell), recorded("kpi:baseline_weeks", *known, **cell)]
        yield Tried(cluster, lines, rule if fires else None, value=1, kpi="any")
    for name in of_budgets(configuration):
        yield Tried(f"{name} needs none", [recorded("kpi:trusted", *always, kpi=name, value_stream="some")], None)


def _with_gaps(gap: str) -> list[Stretch]:
    """Known from the begin on, but for a gap in each 16 hours until the end."""
    returns = [later(WEEKS.begun, f"{16 * n}h") for n in range(5)]
    known = [Stretch(WEEKS.begun, 2.0)]
    for back in returns[1:]:
        known += [Stretch(earlier(back, gap), None), Stretch(back, 2.0)]
    return known


def _long_gone(rules: Rules) -> Iterator[Tried]:
    """One of several engines that is gone for days; after a week it is forgotten."""
    for days, fires in ((4, True), (12, False)):
        since = earlier(WEEKS.begun, f"{days}d")
        gone = raw("build_info", Stretch("0s", 1.0), Stretch(since, None), Stretch(WEEKS.back, 1.0), version="1")
        yield Tried(f"gone for {days} days", [gone], rules["FlowmetricsAbsent"][0] if fires else None, since)


def _long_down(rules: Rules) -> Iterator[Tried]:
    """A worker that cannot be scraped for two days, and was seen days before that; after a week it is forgotten."""
    for days, fires in ((4, True), (8, False)):
        worker = f"seen-{days}-days-before"
        seen = [Stretch("0s", 1.0), Stretch(earlier(WEEKS.begun, f"{days}d"), None)]
        lines = [
            *ALIVE,
            raw("build_info", *seen, worker=worker, version="1"),
            Line("up", dict.fromkeys(WORKER, worker), during(0.0, usual=1.0, timeline=WEEKS)),
        ]
        tried = Tried(f"down, {worker}", lines, rules["FlowmetricsWorkerDown"][0] if fires else None)
        tried.labels |= dict.fromkeys(WORKER, worker)
        yield tried
