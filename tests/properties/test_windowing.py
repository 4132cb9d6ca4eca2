"""Panes, windows, slots and bins by themselves, against the plainest way to say what they are."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from worlds import DAY, MINUTE

from flowmetrics.entities.slots import insert_slot, slot_begin, slot_end, slot_of
from flowmetrics.windowing.bins import BINS, Ranked, bin_duration_us, duration_bin
from flowmetrics.windowing.panes import SeriesPanes, cell_of

DAY_PANES = 5
WINDOWS = (1, 3, 8, 20)
HORIZON = 20
NOW = 1000
"""Panes are counted from 1970, which is long ago."""

cells = st.tuples(st.integers(NOW - 30, NOW + 60), st.sampled_from((0, 0, 1, BINS - 1)), st.integers(-2, 3))
moves = st.lists(st.lists(cells, max_size=8) | st.integers(0, 9) | st.just("forget"), max_size=30)


class Plain:
    """Every change that there was."""

    def __init__(self) -> None:
        self.cells: Counter[tuple[int, int]] = Counter()
        self.pane = NOW

    def window(self, panes: int) -> dict[int, int]:
        sums: Counter[int] = Counter()
        for (pane, number), amount in self.cells.items():
            sums[number] += amount * (self.pane - panes < pane <= self.pane)
        return {number: n for number, n in sums.items() if n}

    def alive(self, panes: int) -> bool:
        return any(n and pane > self.pane - panes for (pane, _), n in self.cells.items())


@given(moves)
@example([[(NOW + n, 0, 1) for n in range(40)], 1, 7])
def test_windows_that_slide_are_the_sums_of_their_panes(
    steps: Sequence[list[tuple[int, int, int]] | int | str],
) -> None:
    series, plain = SeriesPanes(DAY_PANES, NOW), Plain()
    for step in steps:
        if isinstance(step, int):
            plain.pane += step
            series.advance(plain.pane)
        elif isinstance(step, list):
            changes: Counter[int] = Counter()
            for pane, number, amount in step:
                plain.cells[pane, number] += amount
                changes[cell_of(pane, number)] += amount
            series.apply(changes)
        elif step == "forget":
            oldest = plain.pane - HORIZON
            series.forget(oldest)
            assert all((day + 1) * DAY_PANES > oldest for day in series.days)
        for panes in WINDOWS:
            assert series.window(panes) == plain.window(panes)
        assert series.alive(HORIZON) == plain.alive(HORIZON)
        assert sum(n for _, n in series.by_pane(8)) == sum(plain.window(8).values())
        assert series.amount(plain.pane) == plain.cells[plain.pane, 0]
    assert all(amount for day in series.days.values() for amount in day.values())
    assert all(series.days.values())


def test_windows_over_many_panes_slide_pane_by_pane_and_leap() -> None:
    """With enough in them that sliding is cheaper than counting anew."""
    dice, series, plain = random.Random(1), SeriesPanes(DAY_PANES, NOW), Plain()
    for _ in range(300):
        places = [(plain.pane + dice.randint(-25, 12), dice.choice((0, 1))) for _ in range(20)]
        plain.cells.update(places)
        series.apply(Counter(cell_of(*place) for place in places))
        plain.pane += dice.choice((0, 1, 1, 2, 3, 30))
        series.advance(plain.pane)
        series.forget(plain.pane - HORIZON)
        for panes in WINDOWS:
            assert series.window(panes) == plain.window(panes)


@given(st.permutations(range(24)).flatmap(lambda order: st.integers(0, 24).map(lambda n: order[:n])))
def test_of_activity_the_first_and_the_last_slot_of_each_day_are_kept_in_any_order(arrived: list[int]) -> None:
    per_day, slots = 8, list[int]()
    for n, slot in enumerate(arrived):
        before = list(slots)
        assert insert_slot(slots, slot, DAY // 4) == (slots != before)
        days = [[one for one in arrived[: n + 1] if one // per_day == day] for day in range(3)]
        assert slots == sorted({end for day in days if day for end in (min(day), max(day))})
        assert not any(insert_slot(slots, one, DAY // 4) for one in arrived[: n + 1])


@pytest.mark.parametrize("at", [0, 1, 5 * MINUTE - 1, 5 * MINUTE, 5 * MINUTE + 1, DAY - 1, DAY])
def test_a_slot_tells_the_pane_and_the_day_of_an_instant(at: int) -> None:
    slot = slot_of(at, 5 * MINUTE)
    assert -(-slot_end(slot, 5 * MINUTE) // (5 * MINUTE)) == -(-at // (5 * MINUTE))
    assert slot_begin(slot, 5 * MINUTE) <= at
    assert slot_begin(slot, 5 * MINUTE) // DAY == at // DAY


@given(st.integers(0, 12_000 * 365 * DAY), st.integers(0, 12_000 * 365 * DAY))
def test_a_bin_stands_for_its_durations_within_one_percent_and_in_their_order(one: int, other: int) -> None:
    assert abs(bin_duration_us(duration_bin(one)) - one) <= 0.01 * one
    assert (duration_bin(one) < duration_bin(other)) <= (one < other)
    assert duration_bin(-one) == 0
    assert duration_bin(0) == 0 < duration_bin(1) < BINS


def test_no_duration_is_beyond_the_last_bin() -> None:
    """It would be counted in the next pane."""
    assert duration_bin(10**30) == BINS - 1


@given(st.lists(st.integers(0, 30), min_size=1, max_size=150), st.integers(1, 100))
def test_a_percentile_is_the_nearest_rank_and_lies_within_its_bounds(values: list[int], percentile: int) -> None:
    ranked, ordered = Ranked(Counter(values)), sorted(values)
    rank = -(-percentile * len(values) // 100)
    assert ranked.percentile(percentile) == ordered[rank - 1]
    assert [ranked.at(n + 1) for n in range(len(values))] == ordered
    bounds = ranked.bounds(percentile)
    assert bounds is None or bounds[0] <= ranked.percentile(percentile) <= bounds[1]


def test_the_bounds_of_a_median_are_ranks_that_hold_it_nineteen_times_of_twenty() -> None:
    """Conover: of a hundred values the 40th and the 61st; of too few there are none."""
    assert Ranked(Counter(range(1, 101))).bounds(50) == (40, 61)
    assert Ranked(Counter(range(1, 101))).bounds(99) is None
    assert Ranked(Counter(range(1, 101))).bounds(1) is None
    assert next(n for n in range(1, 12) if Ranked(Counter(range(n))).bounds(50)) == 8
