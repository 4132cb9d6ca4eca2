"""The unit tests of what is made of counters: by how much they grow, whichever workers show them when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from flowmetrics.instants import duration_us
from flowmetrics.publishing.rules.engine import DIP, REJECTS_BUDGET, burn_windows
from flowmetrics.publishing.rules_tests.clusters import ALIVE, MINUTES, Tried, raw
from flowmetrics.publishing.rules_tests.form import Asked, Case, Line, Stretch, earlier, later, series

_SOON: Final = "8h"
"""So much is enough for most of what is tried."""
_LATE: Final = "80h"
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


def counter_cases() -> tuple[Case, ...]:
    """After hours and after days, for the longer windows."""
    return _counters(_SOON), _counters(_LATE)


def _counters(now: str) -> Case:
    """What is made of counters that move from worker to worker, that nobody shows for a moment, and that begin."""
    width = {window: _steps(window) for window in burn_windows() if duration_us(window) < duration_us(now)}
    told = {"counted": _Counted(_counting(_FROM_ZERO), width, width), **dict(_sunk(now, width))}
    if now == _SOON:
        told |= _moved(now, width)
    engines = [Tried(cluster, [*ALIVE, *counted.lines], None) for cluster, counted in told.items()]
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
            [*_counting(Stretch(now, 7)), raw("engine_ready", Stretch("0s", 0.0), worker="b")], {}, {}
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
    for since in (2, 3, 8, 9, 11) if now == _SOON else (2, 3):
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
        raw(
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
