"""The unit tests of what happens around an alert: how long it is held, what a gap changes, and when it is over.

They begin with the recorded series that alerts read, so that minutes can be tried in seconds:

    begin    MOVED          hold            BACK           keep
    ├─ usual ──┤─ beyond ─────┼─── fires ─────┤── usual ─────┼─ over

Usual is half way between the baseline and the band: there nothing begins, and what fires ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from flowmetrics.configuration import Configuration
from flowmetrics.instants import duration_us
from flowmetrics.publishing.rules.cells import Burning, Watched, burning, watched
from flowmetrics.publishing.rules.drift import FAST_BURN, SLOW_BURN, drift_group
from flowmetrics.publishing.rules.form import Alert
from flowmetrics.publishing.rules_tests.form import Case, Firing, Labels, Line, Stretch, earlier, later, seen

EVERY: Final = "4m"
"""Less than the five minutes for which Prometheus knows what fired. No sample that decides lies on the edge of a range
of the rules, where versions of Prometheus differ."""
MOVED: Final = "2h"
FIRING: Final = "288m"
"""So long the change lasts once the alert fires."""

_GAP: Final = "56m"
"""So much may be missing while an alert is pending: the longest that is bridged."""
_LONG_GAP: Final = "152m"
"""So much may be missing while it fires, because it is kept as well."""
Firings: TypeAlias = Sequence[tuple[Alert, str]]
_OVER: Final = "80m"
"""So much later what vanished is over: it is known for an hour more."""
_KNOWN: Final = "52m"
"""So much later what vanished is not over yet, whichever side of the hour belongs to it."""
_LINGERS: Final = "40m"
"""So long what came back stays just beyond half way."""
_BASELINE, _HALF_WAY, _BAND = 64.0, 80.0, 96.0
"""Where the bad direction is up; else the baseline and the band change places."""
_BEYOND: Final = 1.0000001
_LAST: Final = ", last between half way and band"
_WITHOUT: Final = (
    "without trusted", f"without trusted{_LAST}", "without band", f"without band{_LAST}", "without baseline",
)  # fmt: skip
"""One of the three that are compared vanishes, while the others stay where it fires."""
_DOUBLES: Final = ", doubles"
"""Everything doubles where it moves and where it comes back, and not halves."""


def alert_case(configuration: Configuration) -> Case:
    """All alerts of KPIs, minute by minute."""
    rules = [rule for rule in drift_group(configuration).rules if isinstance(rule, Alert)]
    by_name = {rule.alert: rule for rule in rules}
    lines: list[Line] = []
    moments: dict[str, list[Firing]] = {}
    for lasting in {(rule.hold, rule.keep) for rule in rules}:
        for moment in _moments(*lasting):
            moments[moment] = []
    end = later(max(moments, key=duration_us), EVERY)
    for each in watched(configuration):
        rule = by_name[each.name]
        for name in ("at", "touches", "beyond", "gap", "vanished", "lingers", *_WITHOUT):
            for way, before in (("", 2.0), (_DOUBLES, 0.5)) if name in ("beyond", "lingers") else (("", 2.0),):
                labels = _labels(each, name + way)
                lines += _lines(each, name, labels, rule.hold, before)
                _note(moments, rule, name, labels)
    for expected in burning(configuration):
        fast, slow = [rule for rule in rules if rule.alert == expected.name]
        for name, burns, fires in _burns(expected, fast, slow):
            labels = {"kpi": expected.kpi.name, "value_stream": name, **expected.cells}
            lines += [
                Line("flowmetrics:kpi:burn", {**labels, "window": window}, told) for window, told in burns.items()
            ]
            for rule, kind in fires:
                window = expected.middle if rule is fast else expected.long
                _note(moments, rule, kind, {**labels, "window": window})
    ordered = sorted(moments, key=duration_us)
    return Case(
        "every alert begins and ends",
        EVERY,
        end,
        lines,
        'alert_class="kpi"',
        {moment: moments[moment] for moment in ordered},
    )


def _moments(hold: str, keep: str) -> list[str]:
    begin, back = _edges(hold)
    over = later(back, seen(keep, EVERY))
    lingered = later(over, _LINGERS)
    edges = [begin, over, lingered]
    return [*(earlier(edge, EVERY) for edge in (*edges, back)), *edges, later(over, _KNOWN), later(over, _OVER)]


def _edges(hold: str) -> tuple[str, str]:
    """When it begins to fire, and when the change is taken back."""
    begin = later(MOVED, seen(hold, EVERY))
    return begin, later(begin, FIRING)


def _note(moments: Mapping[str, list[Firing]], rule: Alert, name: str, labels: Labels) -> None:
    """Where a stream fires: not where it stays near the band only.

    What vanished is over later, by what is bridged, and so is what lingers.
    """
    if name in ("at", "touches"):
        return
    begin, back = _edges(rule.hold)
    over = later(
        back,
        seen(rule.keep, EVERY),
        {**dict.fromkeys(("vanished", *_WITHOUT), _OVER), "lingers": _LINGERS}.get(name, "0s"),
    )
    for moment, firing in moments.items():
        if duration_us(begin) <= duration_us(moment) < duration_us(over):
            firing.append(Firing(rule, labels))


def _labels(each: Watched, name: str) -> dict[str, str]:
    own = {label: each.cells.get(label, f"some {label}") for label in each.kpi.labels}
    return {"kpi": each.kpi.name, "value_stream": name, **own}


def _lines(each: Watched, name: str, labels: Labels, hold: str, before: float) -> Iterator[Line]:
    """A value, its baseline and its band, all of them so many times as large before it moves, and before it is back."""
    baseline, band = (_BASELINE, _BAND) if each.rises else (_BAND, _BASELINE)
    farther = _BEYOND if each.rises else 1 / _BEYOND
    moved = band if name == "at" else band * farther
    back = _edges(hold)[1]
    edges = (MOVED,) if name in _WITHOUT else (MOVED, back)
    values = _stretches(moved, hold, name, _HALF_WAY, lingering=_HALF_WAY * farther)
    yield Line("flowmetrics:kpi:trusted", labels, _scaled(values, edges, before))
    for metric, value in ((f"band_{'high' if each.rises else 'low'}", band), ("baseline", baseline)):
        gone_us = duration_us(back) if name.removesuffix(_LAST) == f"without {metric.partition('_')[0]}" else math.inf
        known = [
            Stretch(told.begin, value if _stays(told, name) and duration_us(told.begin) < gone_us else None)
            for told in values
        ]
        yield Line(f"flowmetrics:kpi:{metric}", labels, _scaled(known, edges, before))


def _stays(told: Stretch, name: str) -> bool:
    """Whether there is something to compare a value with: it comes and goes with the value, but where that is tried."""
    return told.value is not None or name.startswith("without trusted")


def _scaled(stretches: Sequence[Stretch], moments: Sequence[str], before: float) -> list[Stretch]:
    """Before each of these moments everything is so many times as large: what was known before says something else."""
    edges = [duration_us(edge) for edge in moments]
    times = [before ** sum(duration_us(each.begin) < edge for edge in edges) for each in stretches]
    return [
        replace(each, value=None if each.value is None else each.value * by)
        for each, by in zip(stretches, times, strict=True)
    ]


def _stretches(moved: float, hold: str, kind: str, usual: float = 0.0, lingering: float = 0.0) -> list[Stretch]:
    """What moves, and then comes back, lingers on the way, stays or vanishes; with two gaps where that is tried.

    What touches is beyond once, and lingers from then on.
    """
    begin, back = _edges(hold)
    gaps = []
    if kind == "gap":
        gaps = _silence(moved, later(MOVED, EVERY), _GAP) + _silence(moved, later(begin, "64m"), _LONG_GAP)
    if kind == "touches":
        gaps = [Stretch(later(MOVED, EVERY), lingering)]
    then = {
        "stays": moved, "without band": moved, "without baseline": lingering, "vanished": None, "without trusted": None,
        f"without trusted{_LAST}": None, f"without band{_LAST}": lingering,
    }  # fmt: skip
    lingers = []
    if kind == "lingers":
        lingers = [Stretch(back, lingering)]
    elif kind.endswith(_LAST):
        lingers = [Stretch(earlier(back, _LINGERS), lingering)]
    end = later(back, _LINGERS) if kind == "lingers" else back
    return [Stretch("0s", usual), Stretch(MOVED, moved), *gaps, *lingers, Stretch(end, then.get(kind, usual))]


def _silence(value: float, begin: str, duration: str) -> list[Stretch]:
    return [Stretch(begin, None), Stretch(later(begin, duration), value)]


def _burns(each: Burning, fast: Alert, slow: Alert) -> Iterator[tuple[str, Mapping[str, list[Stretch]], Firings]]:
    """Name, stretches by window, and what fires: each rule with the kind of stream that it sees.

    Of the two windows of a rule each is tried by itself: at its limit, when it comes back, and when it vanishes.
    """
    pairs = (("fast", fast, FAST_BURN, each.middle, each.short), ("slow", slow, SLOW_BURN, each.long, each.middle))
    for name, rule, factor, long, short in pairs:
        moved = factor * _BEYOND
        yield f"{name} beyond", _both(rule, moved, "beyond", long, short), [(rule, "beyond")]
        yield f"{name} gap", _both(rule, moved, "gap", long, short), [(rule, "gap")]
        for one, other in ((long, short), (short, long)) if long != short else ():
            stays = _stretches(moved, rule.hold, "stays")
            at = _stretches(float(factor), rule.hold, "beyond")
            yield f"{name} at the limit over {one}", {one: at, other: stays}, []
            for kind in ("beyond", "vanished"):
                told = {one: _stretches(moved, rule.hold, kind), other: stays}
                yield f"{name} {kind} over {one}", told, [(rule, kind)]


def _both(rule: Alert, moved: float, kind: str, *windows: str) -> dict[str, list[Stretch]]:
    return {window: _stretches(moved, rule.hold, kind) for window in windows}
