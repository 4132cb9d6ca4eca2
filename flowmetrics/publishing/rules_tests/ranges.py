"""The unit test of how far rules look back: a window ago, and at the same time of former weeks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.drift import WEEKS
from flowmetrics.instants import MINUTE_US, duration_text, duration_us
from flowmetrics.publishing.rules.cells import own_labels, watched, windows
from flowmetrics.publishing.rules.recording import NEARBY, WINDOWLESS
from flowmetrics.publishing.rules_tests.form import Asked, Case, Line, Stretch, earlier, later, series
from flowmetrics.publishing.rules_tests.kpis import CLUSTER, worker

EVERY: Final = "25m"
_STEP_US: Final = 25 * MINUTE_US
_DAY: Final = "24h"
_AROUND: Final = {"just before": True, "before": True, "long before": False, "after": False}
"""Where the last value of a week lies, seen from the same time, and whether it is seen."""
_EARLIER: Final = (900.0, 1.0)
"""What it was before that: more, or less."""


def range_case(configuration: Configuration) -> Case:
    """Single samples so long ago that a rule just sees them, or just does not."""
    longest = max((*windows(configuration), f"{7 * max(WEEKS)}d"), key=duration_us)
    now = _whole(later(longest, "3d"))
    lines, told = list[Line](), dict[str, float]()
    for age in sorted(_ages(configuration)):
        name = f"seen {duration_text(age)} ago"
        lines += _known(configuration, name, now, age)
        labels = {"kpi": "any", "value_stream": name, **CLUSTER}
        if age == 0:
            told[series("flowmetrics:kpi:known", labels)] = 2
        for window, more in _windows(configuration).items():
            if any(near <= age < near + duration_us(NEARBY) for near in _seen_from(window)):
                told[series("flowmetrics:kpi:covered", {**labels, **more})] = 1
    for line, values in _weeks(configuration, now):
        lines.append(line)
        told |= values
    query = '{__name__=~"flowmetrics:kpi:(known|covered|same_time.*)"}'
    return Case("how far rules look back", EVERY, now, lines, 'alertname="none"', {}, [Asked(query, now, told)])


def _whole(moment: str) -> str:
    """The next moment at which is evaluated."""
    return duration_text(-(-duration_us(moment) // _STEP_US) * _STEP_US)


def _windows(configuration: Configuration) -> Mapping[str, Mapping[str, str]]:
    """Each window that may be covered, with the label that says so."""
    named = {window: {"window": window} for window in windows(configuration)}
    return {f"{window} ": label for window, label in named.items()} | {WINDOWLESS: {}}


def _seen_from(window: str) -> tuple[int, int]:
    """The ages from which an hour is looked at: a window ago, and a day before that."""
    us = duration_us(window.strip())
    return us, us + duration_us(_DAY)


def _ages(configuration: Configuration) -> set[int]:
    """Now, and for each window: late in the hour, before it and after it, by as little as is evaluated.

    None lies at the very end of the hour: Prometheus 2 sees that one, and Prometheus 3 does not.
    """
    ages = {0}
    for window in _windows(configuration):
        for near in _seen_from(window):
            far = near + duration_us(NEARBY)
            ages |= {last // _STEP_US * _STEP_US for last in (near - 1, far - 1, far + _STEP_US)}
    return ages


def _known(configuration: Configuration, name: str, now: str, age: int) -> Iterator[Line]:
    """Two cells of a KPI with every label there is, known at one moment."""
    for cell in ("one", "another"):
        cells = {**dict.fromkeys(own_labels(configuration), cell), "window": windows(configuration)[-1]}
        labels = {"kpi": "any", "value_stream": name, **cells, **worker("a")}
        moment = duration_text(duration_us(now) - age)
        told = [Stretch(moment, 30.0), *([Stretch(later(moment, EVERY), None)] if age else [])]
        yield Line("flowmetrics_kpi_samples", labels, told)


def _weeks(configuration: Configuration, now: str) -> Iterator[tuple[Line, Mapping[str, float]]]:
    """Values around the same time of each former week: the last one up to it counts, if it lies within an hour."""
    bounded = [each for each in watched(configuration) if each.bounded]
    sides = {"": watched(configuration)[0].kpi.name}
    sides |= {"_upper" if each.rises else "_lower": each.kpi.name for each in bounded}
    for side, kpi in sides.items():
        for (name, counts), before in product(_AROUND.items(), _EARLIER):
            labels = {"kpi": kpi, "value_stream": f"{name}, after {before:g}", **CLUSTER}
            told, values = list[Stretch](), dict[str, float]()
            for week in sorted(WEEKS, reverse=True):
                last = duration_text(_told_at(name, duration_us(now) - duration_us(f"{7 * week}d")))
                told += [Stretch(earlier(last, EVERY), before), Stretch(last, 10.0 * week)]
                told += [Stretch(later(last, EVERY), None)]
                if counts:
                    values[series(f"flowmetrics:kpi:same_time{side}", {**labels, "weeks_ago": str(week)})] = 10.0 * week
            if name == "after":
                told = [stretch for stretch in told if stretch.value != before]
            yield Line(f"flowmetrics:kpi:trusted{side}", labels, told), values


def _told_at(name: str, same_time: int) -> int:
    """The last evaluation up to a time, the first one within the hour before, the last one before that, or the next."""
    latest, hour = same_time // _STEP_US, same_time - duration_us(NEARBY)
    steps = {
        "just before": latest,
        "before": hour // _STEP_US + 1,
        "long before": (hour - 1) // _STEP_US,
        "after": latest + 1,
    }
    return steps[name] * _STEP_US
