"""What must hold between the keys of a configuration file; each check notes its mistakes where they can be mended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias, cast

from flowmetrics.configuration import DEFAULT_SURVEYS, Configuration, Survey, Threshold
from flowmetrics.errors import nearest
from flowmetrics.instants import duration_text
from flowmetrics.kpi import Better, BurnAlert, DriftAlert, Kpi, NoAlert
from flowmetrics.kpis import catalogue
from flowmetrics.limits import HORIZON_US_MIN
from flowmetrics.yaml_text import Spot, Walk, quoted

Said: TypeAlias = Mapping[str, Any]
"""What a file says: values by the names of fields; `value_streams`, `surveys` and `eligible` by name."""

_DEFAULTS: Final = Configuration()
_PROMOTERS: Final = (0, 10)


def check(walk: Walk, said: Said) -> None:
    """Note every mistake between keys. A value that was wrong by itself is not held against others."""
    for each in _CHECKS:
        each(walk, said)


def merged_survey(name: str, said: Said) -> Survey:
    """A survey of the file over the default one of that name: what is not said stays, but `top` and `better` replace
    each other.
    """
    default = DEFAULT_SURVEYS.get(name, Survey(*_PROMOTERS))
    scale = {"low": default.low, "high": default.high}
    score = {} if said.keys() & {"top", "better"} else {"top": default.top, "better": default.better}
    return Survey(**{**scale, **score, **said})


def _check_panes(walk: Walk, said: Said) -> None:
    width_us = walk.known("resolution", _DEFAULTS.resolution_us)
    if width_us is None:
        return
    for spot in _given(walk, "windows[", "horizon"):
        us = walk.known(spot.path, 0)
        if us and us % width_us:
            below_us = us // width_us * width_us
            near = " or ".join(duration_text(n) for n in (below_us, below_us + width_us) if n)
            walk.mistake(
                spot,
                f"{spot.what} is {quoted(spot.text())}, no multiple of the resolution {duration_text(width_us)}; "
                f"write {near}",
            )


def _check_horizon(walk: Walk, said: Said) -> None:
    horizon_us = walk.known("horizon", _DEFAULTS.horizon_us)
    windows_us = walk.known("windows", _DEFAULTS.windows_us)
    if horizon_us is None or not windows_us or horizon_us >= max(HORIZON_US_MIN, *windows_us):
        return
    longest_us = max(windows_us)
    least_us, reader = max((longest_us, "the longest window"), (HORIZON_US_MIN, "what stickiness reads"))
    for spot in _given(walk, "horizon", "windows["):
        if spot.path == "horizon" or walk.known(spot.path, 0) == longest_us:
            horizon, least = duration_text(horizon_us), duration_text(least_us)
            walk.mistake(spot, f"the horizon {horizon} is shorter than {reader}; write {least} or more")
            return


def _given(walk: Walk, *beginnings: str) -> Iterable[Spot]:
    return (spot for beginning in beginnings for path, spot in walk.spots.items() if path.startswith(beginning))


def _check_journey(walk: Walk, said: Said) -> None:
    start = walk.known("time_to_value.from", _DEFAULTS.time_to_value.start)
    value = walk.known("time_to_value.to", _DEFAULTS.time_to_value.value)
    if start == value and start is not None:
        spot = next(iter(_given(walk, "time_to_value.to", "time_to_value.from")))
        walk.mistake(spot, f"time_to_value runs from {quoted(start)} to {quoted(start)}; name two milestones")


def _fixed_kpis() -> tuple[Kpi, ...]:
    return catalogue(Configuration(surveys={}))


def _check_surveys(walk: Walk, said: Said) -> None:
    taken = _taken_names()
    for name, survey in said.get("surveys", {}).items():
        spot = walk.spots[f"surveys.{name}"]
        if name in taken:
            walk.mistake(
                spot, f"the survey {quoted(name)} would be mixed up with a KPI or metric; give it another name"
            )
        if "top" in survey and "better" in survey:
            walk.mistake(walk.spots[f"{spot.path}.better"], f"{spot.path} gives top and better; keep one of them")
        elif walk.known(f"{spot.path}.scale", _PROMOTERS) is not None:
            _check_score(walk, spot, name, survey)


def _taken_names() -> frozenset[str]:
    kpis = _fixed_kpis()
    metrics = {metric for kpi in kpis for metric in (kpi.metric, *(c.name for c in kpi.companions))}
    return frozenset({kpi.name for kpi in kpis} | {metric.removeprefix("flowmetrics_") for metric in metrics})


def _check_score(walk: Walk, spot: Spot, name: str, said: Said) -> None:
    """The scale of a survey must be known, and suit the way in which its score is read."""
    if "low" not in said and name not in DEFAULT_SURVEYS:
        walk.mistake(spot, f"{spot.path} has no scale; add one such as scale: [1, 5]")
        return
    survey = merged_survey(name, said)
    steps, scale = survey.high - survey.low, f"[{survey.low}, {survey.high}]"
    tried = walk.spots.get(f"{spot.path}.top") or walk.spots.get(f"{spot.path}.scale") or spot
    if survey.top is not None and survey.top > steps:
        walk.mistake(tried, f"{spot.path}.top is {survey.top}; on the scale {scale} it must be from 1 to {steps}")
    broken = any(walk.known(f"{spot.path}.{key}", 0) is None for key in ("top", "better"))
    if survey.top is None and survey.better is None and not broken and (survey.low, survey.high) != _PROMOTERS:
        walk.mistake(
            tried, f"{spot.path} has neither top nor better, so its scale must be [0, 10], not {scale}; add one of them"
        )


def _check_kpis(walk: Walk, said: Said) -> None:
    names = [*(kpi.name for kpi in _fixed_kpis()), *DEFAULT_SURVEYS, *said.get("surveys", {})]
    for spot in _given(walk, "kpis["):
        pattern = walk.known(spot.path, "")
        if pattern and not any(fnmatchcase(name, pattern) for name in names):
            walk.mistake(spot, f"{spot.what} is {quoted(pattern)}, which no KPI matches.{nearest(pattern, names)}")


def _check_rules(walk: Walk, said: Said) -> None:
    """An override must be of a KPI that has an alert, of what that goes by, and in the unit in which it is declared."""
    surveys = {**DEFAULT_SURVEYS, **{name: merged_survey(name, each) for name, each in said.get("surveys", {}).items()}}
    kpis = {kpi.name: kpi for kpi in catalogue(Configuration(surveys=surveys))}
    known = [name for name, kpi in kpis.items() if isinstance(kpi.alert, DriftAlert)]
    words = ", ".join(known)
    for name, rule in said.get("rules", {}).items():
        spot = _key_spot(walk.spots["alerts.rules"], name)
        if name not in kpis:
            walk.mistake(spot, f"{quoted(name)} is no KPI.{nearest(name, known) or f' It takes {words}.'}")
        elif isinstance(alert := kpis[name].alert, NoAlert):
            walk.mistake(spot, f"{quoted(name)} has no alert. {alert.why}")
        elif isinstance(alert, BurnAlert):
            _check_burning(walk, spot, alert, rule)
        elif "minimum" in rule:
            better = Better(rule.get("better", kpis[name].better))
            _check_minimum(walk.spots[f"alerts.rules.{name}.minimum"], alert, better)


def _check_burning(walk: Walk, spot: Spot, alert: BurnAlert, rule: Said) -> None:
    if f"expectations.{alert.of}" not in walk.spots:
        walk.mistake(spot, f"{spot.path} needs what is expected; add expectations.{alert.of}")
    for key in ("minimum", "better"):
        if key in rule:
            tried = walk.spots[f"{spot.path}.{key}"]
            promised = f"expectations.{alert.of}.share"
            walk.mistake(tried, f"{tried.what} says nothing of a budget that burns; {promised} says what is promised")


def _key_spot(spot: Spot, name: str) -> Spot:
    """Where a section says a name."""
    return next(Spot(key, f"{spot.path}.{name}", spot.walk) for key, _ in spot.node.value if key.value == name)


def _check_minimum(spot: Spot, alert: DriftAlert, better: Better) -> None:
    """It must be in the unit in which it is declared, and not so large that nothing falls by more."""
    minimum = cast("Threshold", spot.walk.found[spot.path])
    wanted, right = ("points", "points such as 8 points") if alert.points else ("%", "a percentage such as 30%")
    if minimum.unit != wanted:
        spot.walk.mistake(spot, f"{spot.what} must be {right}, not {quoted(spot.text())}")
    elif not alert.points and better is Better.HIGHER and minimum.amount >= 100:
        spot.walk.mistake(spot, f"{spot.what} must be below 100%, not {quoted(spot.text())}; nothing falls by more")


def _check_expectations(walk: Walk, said: Said) -> None:
    for name, each in said.get("expectations", {}).items():
        for field, key, example in (("within_us", "within", "5d"), ("share", "share", "85%")):
            spot = walk.spots[f"expectations.{name}"]
            if field not in each and walk.known(f"{spot.path}.{key}", 0) is not None:
                walk.mistake(spot, f"{spot.path} has no {key}; add one such as {key}: {example}")


_CHECKS: Final[tuple[Callable[[Walk, Said], None], ...]] = (
    _check_panes,
    _check_horizon,
    _check_journey,
    _check_surveys,
    _check_kpis,
    _check_rules,
    _check_expectations,
)
