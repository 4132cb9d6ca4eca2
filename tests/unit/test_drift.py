"""What is said of a series: beyond its band it is suspect, and after a dwell it drifts; calm for a dwell it is well."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmetrics.configuration import Configuration
from flowmetrics.drift import WEEKS_MIN, Baseline, Finding, Standing, State, band_of, baseline_of, finding
from flowmetrics.kpi import Better, DriftAlert, Kpi, NoAlert, Point
from flowmetrics.kpis import catalogue

KPIS = {kpi.name: kpi for kpi in catalogue(Configuration())}
FLOW_TIME, VELOCITY, NPS = KPIS["flow_time"], KPIS["flow_velocity"], KPIS["nps"]
USUAL = Baseline(100.0, 5.0, 4)
DWELL = 60


def at(value: float | None, samples: int = 1000, lower: float | None = None, upper: float | None = None) -> Point:
    return Point((), value, samples, lower, upper)


def played(*findings: Finding, every: int = 10, start: Standing | None = None) -> Standing:
    """The standing after findings, one every ten seconds."""
    standing = start or Standing(State.OK, 0)
    for n, found in enumerate(findings, 1):
        standing = standing.then(found, n * every, DWELL)
    return standing


BEYOND, BETWEEN, CALM = [Finding.BEYOND], [Finding.BETWEEN], [Finding.CALM]
DRIFTING = played(*BEYOND * 7)


@pytest.mark.parametrize("kpi", KPIS.values(), ids=lambda kpi: kpi.name)
def test_every_kpi_is_judged_or_says_why_not(kpi: Kpi) -> None:
    band = band_of(kpi, USUAL)
    if isinstance(kpi.alert, NoAlert):
        assert band is None
        assert finding(kpi, at(1e9), USUAL) is None
        return
    assert band is not None
    assert (band.high is None) == (kpi.better is Better.HIGHER)
    assert (band.low is None) == (kpi.better is Better.LOWER)
    for edge, calm in ((band.low, band.calm_low), (band.high, band.calm_high)):
        if edge is not None and calm is not None:
            assert abs(edge - 100) >= 100 * kpi.alert.minimum * 0.999999
            assert abs(calm - 100) < abs(edge - 100)


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
    assert finding(FLOW_TIME, at(500.0, samples=FLOW_TIME.samples_min - 1), USUAL) is Finding.INSUFFICIENT
    assert finding(FLOW_TIME, at(500.0, samples=FLOW_TIME.samples_min), USUAL) is Finding.BEYOND
    assert finding(FLOW_TIME, at(None, samples=0), USUAL) is Finding.INSUFFICIENT


def test_without_a_baseline_it_is_warming_and_without_a_reading_stale() -> None:
    assert finding(FLOW_TIME, at(500.0), None) is Finding.WARMING
    assert finding(FLOW_TIME, None, USUAL) is Finding.STALE


def test_a_score_whose_bounds_hold_the_baseline_has_not_moved() -> None:
    usual = Baseline(40.0, 2.0, 4)
    assert finding(NPS, at(20.0, lower=-5.0, upper=45.0), usual) is not Finding.BEYOND
    assert finding(NPS, at(20.0, lower=10.0, upper=30.0), usual) is Finding.BEYOND


@pytest.mark.parametrize("middle", [-40.0, 0.0, 30.0])
def test_scores_around_and_below_zero_have_their_band_below(middle: float) -> None:
    usual = baseline_of(NPS, [middle - 2, middle, middle, middle + 2])
    assert usual is not None
    band = band_of(NPS, usual)
    assert band is not None
    assert band.low is not None
    assert band.calm_low is not None
    assert band.low < band.calm_low < middle
    assert finding(NPS, at(middle - 50, lower=middle - 60, upper=middle - 40), usual) is Finding.BEYOND


def test_a_baseline_takes_three_weeks_and_one_odd_week_does_not_move_it() -> None:
    assert baseline_of(FLOW_TIME, [100.0] * (WEEKS_MIN - 1)) is None
    usual = baseline_of(FLOW_TIME, [100.0, 100.0, 900.0, 102.0])
    assert usual is not None
    assert 100 <= usual.middle <= 102
    assert usual.spread < 10


def test_weeks_that_were_all_alike_leave_room_and_small_counts_leave_more() -> None:
    alike = baseline_of(FLOW_TIME, [100.0] * 4)
    counted = baseline_of(VELOCITY, [9.0] * 4)
    assert alike is not None
    assert counted is not None
    assert alike.spread == 5.0
    assert counted.spread == 3.0


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
    assert played(*CALM * 6, start=DRIFTING).state is State.DRIFTING
    assert played(*CALM * 5, *BEYOND, *CALM * 5, start=DRIFTING).state is State.DRIFTING
    well = played(*CALM * 7, start=DRIFTING)
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
    standing, turns = Standing(State.OK, 0), [0 - DWELL]
    for n, found in enumerate(findings, 1):
        before, standing = standing, standing.then(found, n * 10, DWELL)
        if before.drifting != standing.drifting:
            turns.append(n * 10)
    assert all(later - earlier >= DWELL for earlier, later in pairwise(turns))


def test_only_kpis_with_a_drift_alert_have_one() -> None:
    assert isinstance(FLOW_TIME.alert, DriftAlert)
    assert {name for name, kpi in KPIS.items() if band_of(kpi, USUAL) is None} >= {"stickiness", "retention"}
