"""What happens to an engine and must change nothing: scrapes fail, it begins anew, its pod is renamed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from flowmetrics.instants import duration_us
from flowmetrics.publishing.rules.recording import WORKER
from flowmetrics.publishing.rules_tests.clusters import MINUTES
from flowmetrics.publishing.rules_tests.form import Line, Stretch, earlier, later


def disturbed(lines: Iterable[Line], what: str, moments: Iterable[str]) -> list[Line]:
    """Lines, evaluated as in MINUTES, where at each of these moments something happens to every worker."""
    told = list(lines)
    for moment in moments:
        told = [each for line in told for each in _through(line, what, moment)]
    return told


def _through(line: Line, what: str, moment: str) -> list[Line]:
    return DISTURBANCES[what](line, moment) if line.labels.keys() >= set(WORKER) else [line]


def _gap(line: Line, moment: str) -> list[Line]:
    """Two scrapes fail, which Prometheus says itself. The value before is still seen at the first."""
    end, missing = later(moment, MINUTES.every, MINUTES.every), 0.0 if line.metric == "up" else None
    return [replace(line, stretches=[*_before(line, moment), Stretch(moment, missing), *_from(line, end)])]


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


DISTURBANCES: Final[Mapping[str, Callable[[Line, str], list[Line]]]] = {
    "scrapes fail": _gap,
    "restarted": _restart,
    "renamed": _renamed,
}
"""What is done to a line from a moment on, by what it is called."""
