"""The unit tests of the alerts about the engine that tell within minutes: around each limit, and when disturbed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.instants import duration_text, duration_us
from flowmetrics.publishing.rules.engine import (
    BURNS,
    DIP,
    HELD_BACK_SECONDS,
    LAG_EVENTS_MIN,
    LATE_SECONDS,
    REJECTS_MIN,
    RESTARTS_MIN,
)
from flowmetrics.publishing.rules.recording import WORKER
from flowmetrics.publishing.rules_tests.clusters import (
    ALIVE,
    LITTLE,
    MINUTES,
    Rules,
    Timeline,
    Tried,
    case,
    during,
    raw,
    recorded,
    rules_of,
    said_to_fire,
)
from flowmetrics.publishing.rules_tests.disturbances import DISTURBANCES, disturbed
from flowmetrics.publishing.rules_tests.form import Case, Firing, Line, Stretch, earlier, later

SECONDS: Final = Timeline("45s", "21m", "30m")
"""For what waits for two minutes."""
_LEAST: Final = 1.0000001
_SILENT: Final = raw(
    "events_accepted_total",
    Stretch("0s", 0.0, 1.0),
    Stretch("24h", 360.0),
    Stretch(MINUTES.back, 361.0),
    source="any",
)
"""What a source sent that has been silent for an hour when everything begins."""
_BUSY_LAG: Final = 240.0
"""What may wait where 600 events arrive with each evaluation: those of a minute, read from the latest eight."""


def engine_cases(configuration: Configuration) -> tuple[Case, ...]:
    """What happens within minutes: around every limit, when disturbed, and with no engine at all."""
    rules = rules_of(configuration)
    several = (_lag, _rejects, _others, _absent, _restarting, _still_silent, _well, _disturbed)
    tried = [each for tries in several for each in tries(rules)]
    watchdog = Firing(rules["FlowmetricsWatchdog"][0], {})
    nobody = Firing(rules["FlowmetricsAbsent"][0], {})
    return (
        case("every alert about the engine begins and ends", MINUTES, rules, tried),
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
            [raw("build_info", Stretch("0s", 1.0), Stretch("8m", None), version="1")],
            'alert_class="engine"',
            {"20m": [watchdog], "24m": [watchdog, nobody]},
        ),
    )


def second_case(configuration: Configuration) -> Case:
    """Events that are held back: around the limit, and for how long what a worker said last is remembered."""
    rules, limit, gone = rules_of(configuration), float(HELD_BACK_SECONDS), "24m"
    rule, every_us = rules["FlowmetricsEventsHeldBack"][0], duration_us(SECONDS.every)
    forgotten = later(gone, duration_text(duration_us(DIP) // every_us * every_us))
    vanishes = [Stretch("0s", 0.0), Stretch(SECONDS.begun, limit + 1), Stretch(gone, None)]
    anew = _held([Stretch(gone, 0.0, 45.0), Stretch(SECONDS.back, 0.0)], worker="b")
    halves = [_held(during(limit / 2 + 1, timeline=SECONDS), worker) for worker in "ab"]
    tried = [Tried("alive", ALIVE, None)]
    for cluster, lines, fires, until in (
        ("held back below", [_held(during(limit - 1, timeline=SECONDS))], False, ""),
        ("held back at", [_held(during(limit, timeline=SECONDS))], False, ""),
        ("held back", [_held(during(limit + 1, timeline=SECONDS))], True, ""),
        ("held back, as two workers say", halves, False, ""),
        ("held back, and nobody says so any more", [_held(vanishes)], True, forgotten),
        ("held back, and another worker counts anew", [_held(vanishes), anew], True, forgotten),
    ):
        tried.append(Tried(cluster, lines, rule if fires else None, until=until, unit="track-0"))
    return case("events are held back", SECONDS, rules, tried)


def _held(stretches: Sequence[Stretch], worker: str = "a") -> Line:
    return raw("engine_stable_offset_age_seconds", *stretches, worker=worker, unit="track-0")


def _lag(rules: Rules) -> Iterator[Tried]:
    """Waiting events that get fewer, that are few for what arrives, and that do neither."""
    rule = rules["FlowmetricsLagNotDraining"][0]
    least, waiting = float(LAG_EVENTS_MIN), "consumer_lag_events"
    stuck = later(MINUTES.begun, "12m")  # the first evaluation whose last quarter of an hour lies behind the begin
    arriving = raw("events_accepted_total", Stretch("0s", 0.0, 600.0), source="any")
    for cluster, value, step, lines, fires in (
        ("lag at", least, 0.0, ALIVE, False),
        ("lag", least * _LEAST, 0.0, ALIVE, True),
        ("lag drains", 5000.0, -1.0, ALIVE, False),
        ("lag grows", least + 1, 1.0, ALIVE, True),
        ("lag of a busy engine", _BUSY_LAG, 0.0, [*ALIVE, arriving], False),
        ("lag of a busy engine that is stuck", _BUSY_LAG + 1, 0.0, [*ALIVE, arriving], True),
    ):
        yield Tried(cluster, [*lines, raw(waiting, *during(value, step=step))], rule if fires else None, stuck)
    halves = [raw(waiting, *during(least / 2 + 1), worker=name) for name in "ab"]
    yield Tried("lag of two workers", [*ALIVE, *halves], rule, stuck)
    taken = [Stretch(later("24h", f"{4 * n}m"), 99.0 if n % 3 else 0.0) for n in range(61)]
    yield Tried("lag that is taken now and then", [*ALIVE, raw(waiting, *taken)], None)
    # each step is longer than the alert waits, and shorter than that and the quarter of an hour that it looks at
    steps = [Stretch("0s", 0.0), *(Stretch(later("24h", f"{20 * n}m"), 9000.0 - 750 * n) for n in range(13))]
    yield Tried("lag that drains in steps", [*ALIVE, raw(waiting, *steps)], None)


def _rejects(rules: Rules) -> Iterator[Tried]:
    """Each pair of windows: both beyond, one of them at its limit, and too few events to tell."""
    for rule, (_, _, pairs) in zip(rules["FlowmetricsRejectsBurning"], BURNS, strict=True):
        for factor, long, short in pairs:
            for name, by_long, by_short, number, fires in (
                ("burning", factor * _LEAST, factor * _LEAST, REJECTS_MIN, True),
                ("burning at", factor, 99.0, REJECTS_MIN, False),
                ("burning over", 99.0, factor, REJECTS_MIN, False),
                ("burning few", 99.0, 99.0, REJECTS_MIN - LITTLE, False),
            ):
                lines = [
                    recorded(f"engine:reject_burn{long}", *during(by_long)),
                    recorded(f"engine:reject_burn{short}", *during(by_short)),
                    recorded(f"engine:rejected_growth{long}", *during(number)),
                ]
                yield Tried(f"{name} {long}", lines, rule if fires else None)


def _others(rules: Rules) -> Iterator[Tried]:
    """One label set too many, and a worker that is not ready."""
    begun, alive = MINUTES.begun, Stretch("0s", 1.0)
    yield Tried("no overflow", [recorded("engine:overflow_growth1h", *during(0.0))], None)
    yield Tried("overflow", [recorded("engine:overflow_growth1h", *during(1.0))], rules["FlowmetricsSeriesBudget"][0])
    ready = raw("engine_ready", alive)
    yield Tried("ready", [ready], None)
    yield Tried(
        "not ready",
        [ready, raw("engine_ready", *during(0.0, usual=1.0), worker="b")],
        rules["FlowmetricsNotReady"][0],
    )
    for missing, fires in ((2, True), (3, False)):  # the first is still seen, and what was seen counts for ten minutes
        width = duration_us(MINUTES.every) * (missing + 1)
        loops = [duration_text(us) for us in range(duration_us(begun), duration_us(MINUTES.back), width)]
        shown = [each for loop in loops for each in (Stretch(loop, 0.0), Stretch(later(loop, MINUTES.every), None))]
        loop = raw("engine_ready", alive, *shown, Stretch(MINUTES.back, 1.0), worker="b")
        rule = rules["FlowmetricsNotReady"][0] if fires else None
        yield Tried(f"not ready whenever it is seen, and {missing} scrapes fail", [ready, loop], rule)


def _absent(rules: Rules) -> Iterator[Tried]:
    """An engine that is gone."""
    begun, every, alive = MINUTES.begun, MINUTES.every, Stretch("0s", 1.0)
    gone = raw("build_info", alive, Stretch(begun, None), Stretch(MINUTES.back, 1.0), version="1")
    # what was there four minutes before is still seen, and what was seen counts for ten minutes
    yield Tried("gone", [gone], rules["FlowmetricsAbsent"][0], later(begun, "12m"))
    for cluster, lines in (
        ("gone on the day it came", [raw("build_info", Stretch("12h", 1.0), Stretch(begun, None), version="1")]),
        (
            "restarted",
            [raw("build_info", alive, Stretch(begun, None), Stretch(later(begun, every), 1.0), version="1")],
        ),
        (
            "renamed, and of another version",
            [
                raw("build_info", alive, Stretch(begun, None), version="1"),
                raw("build_info", Stretch(begun, 1.0), version="2", worker="b"),
            ],
        ),
    ):
        yield Tried(cluster, lines, None)


def _restarting(rules: Rules) -> Iterator[Tried]:
    """A worker that begins again and again, and targets that are no workers and cannot be scraped."""
    begun, often = MINUTES.begun, float(RESTARTS_MIN)
    rule = rules["FlowmetricsRestarting"][0]
    yield Tried("begins again and again", _begins(), rule, later(begun, "16m"))
    seldom = [Stretch("0s", 100.0), Stretch(begun, 100.0, 1.0), Stretch(later(begun, "16m"), 100.0 + often - 1)]
    workers = [raw("engine_start_time_seconds", *seldom, worker=name) for name in "ab"]
    yield Tried("two workers that begin again", workers, None)
    stranger, gone = dict.fromkeys(WORKER, "stranger"), during(0.0, usual=1.0)
    others = [Line("up", {**stranger, label: "a"}, gone) for label in ("instance", "job")]
    yield Tried("other targets of the job and of the machine are down", [*ALIVE, *others], None)


def _begins() -> list[Line]:
    """A worker that begins before each scrape, until that is seldom enough when it is to be over."""
    begun, last = duration_us(MINUTES.begun), earlier(MINUTES.back, "72m")
    count = (duration_us(last) - begun) // duration_us(MINUTES.every)
    told = [Stretch("0s", 100.0), Stretch(MINUTES.begun, 100.0, 1.0), Stretch(last, 100.0 + count - 1)]
    return [*ALIVE, raw("engine_start_time_seconds", *told)]


def _still_silent(rules: Rules) -> Iterator[Tried]:
    """Silent for an hour, and nothing is known of former weeks; what is said to fire is something else."""
    stale, late = rules["FlowmetricsSourceStale"][0], rules["FlowmetricsLateEvents"][0]
    span = (MINUTES.begun, MINUTES.back)
    for what, said in (
        ("it waits to fire", said_to_fire(stale, *span, "pending", source="any")),
        ("another alert fires", said_to_fire(late, *span, source="any")),
        ("it fires for another source", said_to_fire(stale, *span, source="another")),
    ):
        yield Tried(f"silent, and {what}", [*ALIVE, _SILENT, said], None)


def _well(rules: Rules) -> Iterator[Tried]:
    """A worker that can be scraped, but for a moment."""
    lines = [*ALIVE, Line("up", dict.fromkeys(WORKER, "a"), [Stretch("0s", 1.0)])]
    for what in DISTURBANCES:
        yield Tried(f"well, {what}", disturbed(lines, what, [MINUTES.begun, later(MINUTES.begun, "80m")]), None)


def _disturbed(rules: Rules) -> Iterator[Tried]:
    """What fires, through what must change nothing, from what workers show: while it waits, and while it fires."""
    begun, back, every = MINUTES.begun, MINUTES.back, MINUTES.every
    page, ticket = rules["FlowmetricsRejectsBurning"]
    arriving = raw("events_accepted_total", Stretch("0s", 0.0, 1000.0), source="any")
    stale = rules["FlowmetricsSourceStale"][0]
    for name, labels, lines, fires in (
        (
            "silent",
            {"source": "any"},
            [*ALIVE, _SILENT, said_to_fire(stale, begun, later(begun, "16m"), source="any")],
            [(stale, begun, back)],
        ),
        (
            "held back",
            {"unit": "track-0"},
            [*ALIVE, _held(during(HELD_BACK_SECONDS + 1.0))],
            [(rules["FlowmetricsEventsHeldBack"][0], begun, back)],
        ),
        (
            "late",
            {"source": "any"},
            [
                *ALIVE,
                arriving,
                raw("event_lag_seconds", Stretch(begun, LATE_SECONDS + 1.0), Stretch(back, 0.0), source="any"),
            ],
            [(rules["FlowmetricsLateEvents"][0], begun, back)],
        ),
        (
            "down",
            dict.fromkeys(WORKER, "b"),
            [
                *ALIVE,
                raw("build_info", Stretch("0s", 1.0), Stretch(begun, None), worker="b", version="1"),
                Line("up", dict.fromkeys(WORKER, "b"), during(0.0, usual=1.0)),
            ],
            [(rules["FlowmetricsWorkerDown"][0], begun, back)],
        ),
        (
            "lag",
            {},
            [*ALIVE, raw("consumer_lag_events", *during(LAG_EVENTS_MIN + 1.0))],
            [(rules["FlowmetricsLagNotDraining"][0], later(begun, "12m"), back)],
        ),
        (
            "refused",
            {},
            [*ALIVE, arriving, _counted_until("events_rejected_total", 2000.0, earlier(back, "32m"), reason="any")],
            [(page, begun, back), (ticket, begun, later(back, "88m"))],
        ),
        (
            "overflow",
            {},
            [*ALIVE, _counted_until("label_overflow_total", 1.0, earlier(back, "60m"), metric="any")],
            [(rules["FlowmetricsSeriesBudget"][0], begun, back)],
        ),
        (
            "not ready",
            {},
            [*ALIVE, raw("engine_ready", *during(0.0, usual=1.0), worker="b")],
            [(rules["FlowmetricsNotReady"][0], begun, back)],
        ),
        ("begins", {}, _begins(), [(rules["FlowmetricsRestarting"][0], later(begun, "16m"), back)]),
    ):
        moments = [later(fires[0][1], every), later(begun, "80m")]
        for what in DISTURBANCES:
            if name in ("begins", "down") and what == "renamed":
                continue  # a worker is known by its name
            told = disturbed(lines, what, moments)
            for number, (rule, since, until) in enumerate(fires):
                tried = Tried(f"{name}, {what}", told if number == 0 else [], rule, since, until=until)
                tried.labels |= labels
                yield tried


def _counted_until(metric: str, step: float, last: str, /, **labels: str) -> Line:
    """A counter that grows from the begin until it did for the last time."""
    grown = step * ((duration_us(last) - duration_us(MINUTES.begun)) // duration_us(MINUTES.every) + 1)
    told = [Stretch("0s", 0.0), Stretch(MINUTES.begun, step, step), Stretch(later(last, MINUTES.every), grown)]
    return raw(metric, *told, **labels)
