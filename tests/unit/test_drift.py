"""What is said of a series: beyond its band it is suspect, and after a dwell it drifts; calm for a dwell it is well."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmetrics.configuration import Configuration
from flowmetrics.drift import WEEKS_MIN, Baseline, Finding, Standing, State, Then, baseline_of, finding, limit_of
from flowmetrics.kpi import Better, DriftAlert, Kpi, Point
from flowmetrics.kpis import catalogue, selected
from flowmetrics.settings import read_settings

KPIS = {kpi.name: kpi for kpi in catalogue(Configuration())}
FLOW_TIME, VELOCITY, NPS = KPIS["flow_time"], KPIS["flow_velocity"], KPIS["nps"]
USUAL = Baseline(100.0, 97.0, 104.0, 5.0, 4)
HOLD, KEEP = 60, 100


def at(value: float | None, samples: int = 1000, lower: float | None = None, upper: float | None = None) -> Point:
    """A point; its bounds are close by, unless they are given."""
    if value is None:
        return Point((), None, samples)
    return Point((), value, samples, value - 1 if lower is None else lower, value + 1 if upper is None else upper)


def played(*findings: Finding, every: int = 10, start: Standing | None = None) -> Standing:
    """The standing after findings, one every ten seconds."""
    standing = start or Standing(State.OK, 0)
    for n, found in enumerate(findings, 1):
        standing = standing.then(found, n * every, HOLD, KEEP)
    return standing


BEYOND, BETWEEN, CALM = [Finding.BEYOND], [Finding.BETWEEN], [Finding.CALM]
DRIFTING = played(*BEYOND * 7)


@pytest.mark.parametrize("kpi", KPIS.values(), ids=lambda kpi: kpi.name)
def test_every_kpi_is_judged_on_its_bad_side_or_says_why_not(kpi: Kpi) -> None:
    limit = limit_of(kpi, at(100.0), USUAL)
    if not isinstance(kpi.alert, DriftAlert):
        assert limit is None
        assert finding(kpi, at(1e9), USUAL) is None
        return
    assert limit is not None
    assert limit.rises == (kpi.better is Better.LOWER) == (limit.at > 100)
    assert abs(limit.at - 100) >= kpi.alert.minimum * (1 if kpi.alert.points else 99.9999)
    assert abs(limit.calm_at - 100) * 2 == pytest.approx(abs(limit.at - 100))


def test_a_change_for_the_better_is_no_drift() -> None:
    assert finding(FLOW_TIME, at(1.0), USUAL) is Finding.CALM
    assert finding(FLOW_TIME, at(500.0), USUAL) is Finding.BEYOND
    assert finding(VELOCITY, at(500.0), USUAL) is Finding.CALM
    assert finding(VELOCITY, at(1.0), USUAL) is Finding.BEYOND


def test_at_the_threshold_nothing_is_said_yet_and_half_way_back_it_is_calm() -> None:
    assert finding(FLOW_TIME, at(120.0), USUAL) is Finding.BETWEEN
    assert finding(FLOW_TIME, at(120.01), USUAL) is Finding.BEYOND
    assert finding(FLOW_TIME, at(110.0), USUAL) is Finding.CALM


def test_a_wide_spread_moves_the_threshold_out() -> None:
    assert finding(FLOW_TIME, at(125.0), replace(USUAL, spread=20.0)) is not Finding.BEYOND


def test_too_few_samples_say_nothing_however_far_the_value_is() -> None:
    assert finding(FLOW_TIME, at(500.0, FLOW_TIME.samples_min - 1), USUAL) is Finding.INSUFFICIENT
    assert finding(FLOW_TIME, at(500.0, FLOW_TIME.samples_min), USUAL) is Finding.BEYOND
    assert finding(FLOW_TIME, at(None, samples=0), USUAL) is Finding.INSUFFICIENT


def test_a_count_is_exact_and_what_it_is_held_against_must_be_large_enough() -> None:
    few = replace(USUAL, value=VELOCITY.samples_min - 1.0)
    assert finding(VELOCITY, at(0.0, samples=0), USUAL) is Finding.BEYOND
    assert finding(VELOCITY, at(0.0, samples=0), few) is Finding.INSUFFICIENT


def test_without_a_baseline_it_is_warming_and_without_a_reading_stale() -> None:
    assert finding(FLOW_TIME, at(500.0), None) is Finding.WARMING
    assert finding(FLOW_TIME, None, USUAL) is Finding.STALE


def test_a_score_whose_bounds_meet_those_of_then_has_not_moved() -> None:
    usual = Baseline(40.0, 33.0, 47.0, 2.0, 4)
    assert finding(NPS, at(20.0, lower=5.0, upper=35.0), usual) is not Finding.BEYOND
    assert finding(NPS, at(20.0, lower=10.0, upper=30.0), usual) is Finding.BEYOND


@pytest.mark.parametrize("middle", [-40.0, 0.0, 30.0])
def test_scores_around_and_below_zero_have_their_limit_below(middle: float) -> None:
    usual = baseline_of(NPS, [Then(middle + x, middle + x - 5, middle + x + 5) for x in (-2, 0, 0, 2)])
    assert usual is not None
    assert finding(NPS, at(middle - 5), usual) is not Finding.BEYOND
    assert finding(NPS, at(middle - 50), usual) is Finding.BEYOND
    assert finding(NPS, at(middle + 50), usual) is Finding.CALM


def test_a_baseline_takes_three_weeks_and_one_odd_week_does_not_move_it() -> None:
    assert baseline_of(FLOW_TIME, [Then(100.0)] * (WEEKS_MIN - 1)) is None
    usual = baseline_of(FLOW_TIME, [Then(100.0), Then(100.0), Then(900.0), Then(102.0)])
    assert usual is not None
    assert 100 <= usual.value <= 102
    assert usual.spread < 10


def alike(kpi: Kpi) -> float:
    """By how much a KPI must move after four weeks that were alike, where chance explains nothing."""
    assert isinstance(kpi.alert, DriftAlert)
    middle = 1e9
    usual = baseline_of(kpi, [Then(middle, middle, middle)] * 4)
    assert usual is not None
    limit = limit_of(kpi, at(middle, lower=middle, upper=middle), usual)
    assert limit is not None
    return abs(limit.at - middle) / (1 if kpi.alert.points else middle)


@pytest.mark.parametrize("kpi", KPIS.values(), ids=lambda kpi: kpi.name)
def test_after_weeks_that_were_all_alike_it_is_the_minimum_that_decides(kpi: Kpi) -> None:
    if isinstance(kpi.alert, DriftAlert):
        assert alike(kpi) == pytest.approx(kpi.alert.minimum, rel=0.001)


@pytest.mark.parametrize("said", ["item_age: {minimum: 30%}", "flow_time: {minimum: 10%}", "nps: {minimum: 2 points}"])
def test_a_minimum_of_an_operator_decides_however_small_it_is(said: str) -> None:
    name, minimum = said.partition(":")[0], float(re.findall(r"\d+", said)[0])
    kpis = {kpi.name: kpi for kpi in selected(read_settings(f"alerts: {{rules: {{{said}}}}}", "f.yaml"))}
    assert alike(kpis[name]) == pytest.approx(minimum / (1 if name == "nps" else 100))


def test_what_swings_by_itself_asks_for_more_as_it_was_measured() -> None:
    """docs/benchmarks.md says how often each alert fired on public logs."""
    assert alike(KPIS["item_age"]) == pytest.approx(0.45)
    assert alike(KPIS["value_reached"]) == pytest.approx(0.15)


def test_beyond_is_suspect_at_once_and_drifts_after_a_dwell() -> None:
    assert played(*BEYOND).state is State.SUSPECT
    assert played(*BEYOND * 6).state is State.SUSPECT
    assert DRIFTING.state is State.DRIFTING


def test_a_short_excursion_begins_its_dwell_anew() -> None:
    assert played(*BEYOND * 5, *CALM, *BEYOND * 5).state is State.SUSPECT
    assert played(*BEYOND * 5, *CALM).state is State.OK


def test_between_the_thresholds_nothing_changes() -> None:
    assert played(*BETWEEN * 20).state is State.OK
    assert played(*BEYOND * 3, *BETWEEN * 2).state is State.SUSPECT
    assert played(*BETWEEN * 20, start=DRIFTING).state is State.DRIFTING


def test_a_drift_ends_after_a_dwell_of_calm_and_not_before() -> None:
    assert played(*CALM * 10, start=DRIFTING).state is State.DRIFTING
    assert played(*CALM * 9, *BEYOND, *CALM * 9, start=DRIFTING).state is State.DRIFTING
    assert played(*CALM * 9, *BETWEEN, *CALM * 9, start=DRIFTING).state is State.DRIFTING
    well = played(*CALM * 11, start=DRIFTING)
    assert well.state is State.OK
    assert not well.drifting


@pytest.mark.parametrize("away", [Finding.STALE, Finding.INSUFFICIENT, Finding.WARMING])
def test_a_drift_does_not_end_because_the_numbers_went_away(away: Finding) -> None:
    gone = played(*[away] * 20, start=DRIFTING)
    assert gone.state.name == away.name
    assert played(*BETWEEN, start=gone).state is State.DRIFTING


def test_a_state_says_since_when_it_holds() -> None:
    assert played(*BEYOND * 3).since == 10
    assert DRIFTING.since == 70
    assert played(*BEYOND * 3, start=DRIFTING).since == 70


@given(st.lists(st.sampled_from([Finding.CALM, Finding.BETWEEN, Finding.BEYOND]), max_size=60))
def test_no_state_flaps_within_a_dwell(findings: list[Finding]) -> None:
    standing, turns = Standing(State.OK, 0), [0 - HOLD]
    for n, found in enumerate(findings, 1):
        before, standing = standing, standing.then(found, n * 10, HOLD, KEEP)
        if before.drifting != standing.drifting:
            turns.append(n * 10)
            assert turns[-1] - turns[-2] >= (HOLD if standing.drifting else KEEP)
