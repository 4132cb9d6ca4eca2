"""The unit tests of a source that is silent, against what it sent in former weeks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.drift import WEEKS_MIN
from flowmetrics.instants import duration_us
from flowmetrics.publishing.rules.engine import EXPECTED_MIN
from flowmetrics.publishing.rules_tests.clusters import (
    ALIVE,
    LITTLE,
    Rules,
    Timeline,
    Tried,
    case,
    during,
    recorded,
    rules_of,
    said_to_fire,
)
from flowmetrics.publishing.rules_tests.form import Case, Line, Stretch, earlier, later

QUARTERS: Final = Timeline("9m", "22d", "533h")
"""For what waits a quarter of an hour and looks back over weeks. No range is a multiple of nine minutes."""


def source_case(configuration: Configuration) -> Case:
    """A source that is silent, against what it sent in former weeks."""
    rules = rules_of(configuration)
    return case(
        "a source is silent", QUARTERS, rules, [Tried("alive", ALIVE, None), *_stale(rules), *_forgotten(rules)]
    )


def _stale(rules: Rules) -> Iterator[Tried]:
    """A source that is silent, against what it sent in each former week, from an hour before that time to one after."""
    rule, enough = rules["FlowmetricsSourceStale"][0], float(EXPECTED_MIN)

    def but(value: float | None, begin: str, lasts: str = QUARTERS.every) -> list[Stretch]:
        return [Stretch(begin, value), Stretch(later(begin, lasts), enough)]

    for window in ("1h", "1d"):

        def growth(now: float, *former: Stretch, since: str = "0s", window: str = window) -> list[Line]:
            usual, *silent = during(now, usual=enough, timeline=QUARTERS)
            told = sorted(
                [replace(usual, begin=since), *former, *silent], key=lambda stretch: duration_us(stretch.begin)
            )
            return [recorded(f"source:accepted_growth{window}", *told, source="any")]

        yield Tried(f"silent for {window}", growth(0.0), rule, source="any")
        yield Tried(f"one event in {window}", growth(1.0), None)
        yield Tried(f"silent for {window}, new", growth(0.0, since="10d"), None)
        for week in range(1, WEEKS_MIN + 1):
            then, few = earlier(QUARTERS.begun, f"{7 * week}d"), enough - LITTLE
            # just within two hours of each other, the first just before the begin
            moments = [later(earlier(then, "18m"), f"{108 * n}m") for n in range(4)]
            seldom = [each for moment in moments for each in but(few, moment)]
            yield Tried(f"silent for {window}, few now and then {week} weeks ago", growth(0.0, *seldom), None)
            for what, stretches in (
                ("few until an hour before", but(few, earlier(then, "3h"), "117m")),
                ("a gap", but(None, earlier(then, "36m"), "72m")),
            ):
                lines = growth(0.0, *stretches)
                yield Tried(f"silent for {window}, {what}, {week} weeks ago", lines, rule, source="any")


def _forgotten(rules: Rules) -> Iterator[Tried]:
    """It fires already, and the last event came just less or just more than three weeks ago."""
    rule = rules["FlowmetricsSourceStale"][0]
    fires = said_to_fire(rule, QUARTERS.begun, QUARTERS.back, source="any")
    for what, latest, goes_on in (("less", "2d", True), ("more", "18h", False)):
        told = [Stretch("0s", 0.0), Stretch(latest, 1.0), Stretch(QUARTERS.back, 2.0)]
        lines = [fires, recorded("source:accepted", *told, source="any")]
        yield Tried(f"silent for {what} than three weeks", lines, rule if goes_on else None, source="any")
