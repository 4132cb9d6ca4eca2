"""The recording rules: every KPI in one shape, gated for trust, compared with the same time of former weeks.

A level reads only levels before it, and their past, so that history can be computed one level after another:

    known                                 which KPIs have any value
    covered                               whether a window is full: the KPI was known a window ago
    trusted                               what alerts read: enough samples, window covered, engine ready
    same_time                             the trusted value one to four weeks ago
    baseline, baseline_weeks              the median of those, and how many there are
    baseline_spread                       how far they lie from each other
    margin                                by how much a value must leave the baseline, by reason
    band_low, band_high                   the value at which the alert fires
    burn                                  how many times as fast as it may the budget of an expectation is spent

Labels that Prometheus or its operator adds for the whole of a target, such as a cluster, stay: nothing is joined by a
list of labels that are kept, only by one of labels that are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.drift import MAD_TO_DEVIATION, SPREADS, WEEKS, WEEKS_MIN
from flowmetrics.instants import SECOND_US, duration_us
from flowmetrics.kpi import Kpi, Noise
from flowmetrics.publishing.rules.cells import Burning, Watched, burning, own_labels, watched, windows
from flowmetrics.publishing.rules.form import Recording, RuleGroup

WORKER: Final = ("instance", "pod", "job", "container", "endpoint", "node", "worker")
"""Labels that tell one worker from another: a rename of a pod must not break what is compared over weeks."""

WITHOUT_WORKER: Final = f"without ({', '.join(WORKER)})"

BRIDGED: Final = "1h"
"""For how long an alert goes by what was last known, so that a restart or a failed scrape resets nothing."""

NEARBY: Final = "1h"
"""How far from a moment of the past a sample may lie: a backfill may have one an hour."""

WINDOWLESS: Final = "7d"
"""How long a KPI without windows, such as a level, must be known: what was there before it began arrives meanwhile."""


def recording_groups(configuration: Configuration) -> tuple[RuleGroup, ...]:
    """One group for each level, in the order in which they must be computed."""
    kpis = watched(configuration)
    levels: dict[str, Sequence[Recording]] = {
        "known": [_known(configuration)],
        "covered": _covered(configuration),
        "trusted": _trusted(kpis, burning(configuration)),
        "same_time": _same_time(kpis),
        "baseline": _baseline(),
        "baseline_spread": [_spread()],
        "margin": _margins(kpis),
        "band": [*map(_band, kpis), *map(_burn, burning(configuration))],
    }
    return tuple(RuleGroup(f"flowmetrics-{n}-{name}", rules) for n, (name, rules) in enumerate(levels.items(), 1))


def of_any_worker(scraped: str) -> str:
    """The series that a selector finds, without the labels of workers: one series stays one when a pod is renamed."""
    return f"max {WITHOUT_WORKER} ({scraped})"


def _known(configuration: Configuration) -> Recording:
    dropped = ", ".join((*WORKER, *own_labels(configuration)))
    longest = windows(configuration)[-1]  # what lies in any window lies in this one
    counted = f'count without ({dropped}) (flowmetrics_kpi_samples{{window=~"|{longest}"}})'
    return Recording("flowmetrics:kpi:known", counted)


def _covered(configuration: Configuration) -> list[Recording]:
    """Known a window ago, or a day before that, should Prometheus have had a gap just then."""

    def covered(window: str) -> str:
        seconds = duration_us(window) // SECOND_US
        known = [f"present_over_time(flowmetrics:kpi:known[{NEARBY}] offset {s}s)" for s in (seconds, seconds + 86400)]
        return "\nor ".join(known)

    named = [Recording("flowmetrics:kpi:covered", covered(w), {"window": w}) for w in windows(configuration)]
    return [*named, Recording("flowmetrics:kpi:covered", covered(WINDOWLESS))]


def _trusted(kpis: Sequence[Watched], expected: Sequence[Burning]) -> list[Recording]:
    """What an alert may go by. Of a count even the least, or a fall to nothing would not be seen."""
    values = [
        *(_gated(each.kpi, each.selector, "" if each.counted else _enough(each)) for each in kpis),
        *(_gated(each.kpi, each.selector, _enough(each)) for each in expected),
    ]
    return [*values, *(_bound(each, side) for each in kpis if each.bounded for side in ("lower", "upper"))]


def _bound(each: Watched, side: str) -> Recording:
    bound = of_any_worker(f"flowmetrics_kpi_{side}{{{each.selector}}}")
    trusted = _of(each, "trusted")
    return Recording(f"flowmetrics:kpi:trusted_{side}", f"{bound}\nand {trusted}", {"kpi": each.kpi.name})


def _gated(kpi: Kpi, selector: str, enough: str) -> Recording:
    others = ", ".join(label for label in kpi.labels if label != "window")
    return Recording(
        "flowmetrics:kpi:trusted",
        of_any_worker(
            f"\n  flowmetrics_kpi_value{{{selector}}}\n{enough}  and on (instance, job) flowmetrics_engine_ready == 1\n"
        )
        + f'\nand {f"ignoring ({others}) " if others else ""}flowmetrics:kpi:covered{{kpi="{kpi.name}"}}',
        {"kpi": kpi.name},
    )


def _enough(each: Watched | Burning) -> str:
    """Whether enough samples lie under the value."""
    if each.samples_given:
        return f"  and flowmetrics_kpi_samples{{{each.selector}}} >= {each.kpi.samples_min}\n"
    return f"  and flowmetrics_kpi_sufficient{{{each.selector}}} == 1\n"


def _burn(each: Burning) -> Recording:
    late = f'(1 - flowmetrics:kpi:trusted{{kpi="{each.kpi.name}"}})'
    return Recording("flowmetrics:kpi:burn", f"{late} / {each.budget:.6g}", {"kpi": each.kpi.name})


def _same_time(kpis: Sequence[Watched]) -> list[Recording]:
    """What was known last at that time, so that a short gap does not matter.

    Of the bounds that which faces the bad side is enough: from there the bounds of now may come.
    """
    facing = {
        f"_{side}": "|".join(each.kpi.name for each in kpis if each.bounded and each.rises is rises)
        for side, rises in (("lower", False), ("upper", True))
    }
    selected = {"": "", **{side: f'{{kpi=~"{names}"}}' for side, names in facing.items() if names}}
    return [
        Recording(
            f"flowmetrics:kpi:same_time{side}",
            f"last_over_time(flowmetrics:kpi:trusted{side}{of}[{NEARBY}] offset {week * 7}d)",
            {"weeks_ago": str(week)},
        )
        for side, of in selected.items()
        for week in WEEKS
    ]


def _baseline() -> list[Recording]:
    medians = [
        Recording(
            f"flowmetrics:kpi:baseline{side}",
            f"quantile without (weeks_ago) (0.5, flowmetrics:kpi:same_time{side})",
        )
        for side in ("", "_lower", "_upper")
    ]
    weeks = Recording("flowmetrics:kpi:baseline_weeks", "count without (weeks_ago) (flowmetrics:kpi:same_time)")
    return [*medians, weeks]


def _spread() -> Recording:
    """The median absolute deviation as a standard deviation; 0 where weeks are alike, and the minimum decides."""
    return Recording(
        "flowmetrics:kpi:baseline_spread",
        f"{MAD_TO_DEVIATION} * quantile without (weeks_ago) (0.5, abs(\n"
        "  flowmetrics:kpi:same_time - ignoring (weeks_ago) group_left () flowmetrics:kpi:baseline\n"
        "))",
    )


def _of(each: Watched, name: str) -> str:
    """A recorded series of one KPI. Every operand is selected, though they are joined: others need not be looked at."""
    return f'flowmetrics:kpi:{name}{{kpi="{each.kpi.name}"}}'


def _minimum(each: Watched) -> str:
    """The least change that is told, in the unit of the KPI; for each series that has a baseline."""
    baseline, minimum = _of(each, "baseline"), each.declared.minimum
    return f"0 * {baseline} + {minimum:g}" if each.declared.points else f"{minimum:g} * {baseline}"


def _margins(kpis: Sequence[Watched]) -> list[Recording]:
    """How far from the baseline a change begins, in the unit of the KPI, by the reason for it."""
    spread = Recording("flowmetrics:kpi:margin", f"{SPREADS} * flowmetrics:kpi:baseline_spread", {"reason": "spread"})
    minimum = [_margin(each, "minimum", _minimum(each)) for each in kpis]
    noise = [
        _margin(each, each.declared.noise.value, by_noise[each.rises](each))
        for each in kpis
        if (by_noise := _NOISE.get(each.declared.noise))
    ]
    return [spread, *minimum, *noise]


def _margin(each: Watched, reason: str, expr: str) -> Recording:
    return Recording("flowmetrics:kpi:margin", expr, {"kpi": each.kpi.name, "reason": reason})


def _above_bounds(each: Watched) -> str:
    return (
        f"({_of(each, 'baseline_upper')} - {_of(each, 'baseline')})\n"
        f"+ ({_of(each, 'trusted')} - {_of(each, 'trusted_lower')})"
    )


def _below_bounds(each: Watched) -> str:
    return (
        f"({_of(each, 'baseline')} - {_of(each, 'baseline_lower')})\n"
        f"+ ({_of(each, 'trusted_upper')} - {_of(each, 'trusted')})"
    )


# Two counts a and b differ by chance while (a - b)² < 9 (a + b), because the variance of a count is about itself;
# solved for the distance of b from a.
def _above_count(each: Watched) -> str:
    return f"4.5 + 3 * sqrt(2 * {_of(each, 'baseline')} + 2.25)"


def _below_count(each: Watched) -> str:
    return f"3 * sqrt(2 * {_of(each, 'baseline')} + 2.25) - 4.5"


_NOISE: Final[Mapping[Noise, Mapping[bool, Callable[[Watched], str]]]] = {
    Noise.BOUNDS: {True: _above_bounds, False: _below_bounds},
    Noise.COUNTING: {True: _above_count, False: _below_count},
}
"""The margin that noise takes, by whether the bad direction is up."""


def _band(each: Watched) -> Recording:
    """The value at which the alert fires; a count also needs the sample floor under the larger of now and then."""
    sign, side = ("+", "high") if each.rises else ("-", "low")
    limit = f"{_of(each, 'baseline')} {sign} max without (reason) ({_of(each, 'margin')})"
    gates = [f"and {_of(each, 'baseline_weeks')} >= {WEEKS_MIN}"]
    if each.counted and each.rises:
        limit = f"clamp_min({limit}, {each.kpi.samples_min})"
    elif each.counted:
        gates.append(f"and {_of(each, 'baseline')} >= {each.kpi.samples_min}")
    elif each.bounded:
        margin = f'flowmetrics:kpi:margin{{kpi="{each.kpi.name}",reason="bounds"}}'
        gates.append(f"and ignoring (reason) {margin}")
    return Recording(f"flowmetrics:kpi:band_{side}", "\n".join([limit, *gates]), {"kpi": each.kpi.name})
