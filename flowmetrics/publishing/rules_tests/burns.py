"""The unit tests of burning budgets, from the shares that the engine shows to what fires."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.instants import duration_us
from flowmetrics.publishing.rules.cells import Burning, burning, windows
from flowmetrics.publishing.rules.drift import FAST_BURN, SLOW_BURN, drift_group
from flowmetrics.publishing.rules.form import Alert
from flowmetrics.publishing.rules_tests.form import Case, Firing, Line, Stretch, later, seen
from flowmetrics.publishing.rules_tests.kpis import CLUSTER, MOVED, RESTARTS, engines, every, worker

NOT_READY: Final = "not ready"
"""The value stream whose worker restarts."""
RENAMED: Final = "renamed"
"""The value stream that another worker shows once it burns."""
SHOWN_TWICE: Final = "shown twice"
"""The value stream that two workers show."""
NEW: Final = "new"
"""The value stream that was not known a window ago."""
_NEAR: Final = 0.0001
"""How near to its limit a burn is tried: shares are no binary fractions."""


def burn_cases(configuration: Configuration) -> list[Case]:
    """The one test of all expectations; none where none is configured."""
    lines, firing, expected = list[Line](), list[Firing](), burning(configuration)
    for each in expected:
        rules = [r for r in drift_group(configuration).rules if isinstance(r, Alert) and r.alert == each.name]
        longest = windows(configuration)[-1]
        for name, burns, number, fires in _tried(each):
            told = {
                "kpi": each.kpi.name,
                "value_stream": name,
                **each.cells,
                **worker(RESTARTS if name == NOT_READY else "a"),
            }
            shown = list[Line]()
            if longest not in burns:
                samples = [Stretch("0s", float(number))]
                shown.append(Line("flowmetrics_kpi_samples", {**told, "window": longest}, samples))
            for window, burn in burns.items():
                shown += _lines({**told, "window": window}, 1 - each.budget * burn, number, each)
            lines += [part for line in shown for part in _by_workers(name, line)]
            for rule, speed, long in zip(rules, ("fast", "slow"), (each.middle, each.long), strict=True):
                if speed in fires:
                    labels = {"kpi": each.kpi.name, "value_stream": name, **each.cells, "window": long}
                    firing.append(Firing(rule, {**labels, **CLUSTER}))
    if not expected:
        return []
    step = every(configuration)
    fired = later(MOVED, seen(max((each.declared.hold for each in expected), key=duration_us), step))
    moments = {MOVED: [], fired: firing}
    return [Case("budgets burn", step, fired, [*engines(fired), *lines], 'alertname=~".+BudgetBurn"', moments)]


def _tried(each: Burning) -> Iterator[tuple[str, Mapping[str, float], int, str]]:
    """Name, burn by window, samples, and the rules that fire."""
    fast, slow, enough = FAST_BURN + _NEAR, SLOW_BURN + _NEAR, each.kpi.samples_min
    named: dict[str, tuple[tuple[float, float, float], int, str]] = {
        "fast": ((fast, fast, 0.0), enough, "fast"),
        "not fast": ((fast, FAST_BURN - _NEAR, 0.0), enough, ""),
        "fast, of few": ((fast, fast, 0.0), enough - 1, ""),
        "slow": ((0.0, slow, slow), enough, "slow"),
        "not slow": ((0.0, slow, SLOW_BURN - _NEAR), enough, ""),
    }
    for name, (burns, number, fires) in named.items():
        by_window = dict(zip((each.short, each.middle, each.long), burns, strict=True))
        if len(by_window) == len(burns):
            yield name, by_window, number, fires
    all_windows = (each.short, each.middle, each.long)
    yield "all", dict.fromkeys(all_windows, FAST_BURN + 1.0), enough, "fast slow"
    yield NOT_READY, dict.fromkeys(all_windows, FAST_BURN + 1.0), enough, ""
    yield RENAMED, dict.fromkeys(all_windows, FAST_BURN + 1.0), enough, "fast slow"
    yield SHOWN_TWICE, dict.fromkeys(all_windows, FAST_BURN + 1.0), enough, "fast slow"
    yield NEW, dict.fromkeys(all_windows, FAST_BURN + 1.0), enough, ""


def _by_workers(name: str, line: Line) -> Iterator[Line]:
    """What workers show of a value stream from the begin on, and once it burns."""
    another = replace(line, labels={**line.labels, **worker("b")})
    since = [Stretch(MOVED, line.stretches[-1].value)]
    if name == NEW:
        yield replace(line, stretches=since)
    elif name == RENAMED:
        yield replace(line, stretches=[line.stretches[0], Stretch(MOVED, None)])
        yield replace(another, stretches=since)
    else:
        yield line
    if name == SHOWN_TWICE:
        yield another


def _lines(labels: Mapping[str, str], share: float, number: int, each: Burning) -> Iterator[Line]:
    values = {
        "value": [Stretch("0s", 1.0), Stretch(MOVED, share)],
        "samples": [Stretch("0s", float(number))],
        "sufficient": [Stretch("0s", float(number >= each.kpi.samples_min))],
    }
    for metric, stretches in values.items():
        yield Line(f"flowmetrics_kpi_{metric}", labels, stretches)
