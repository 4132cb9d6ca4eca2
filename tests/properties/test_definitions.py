"""The edge cases that the definitions name, one small test each; docstrings tell the section.

What has a test elsewhere is not repeated: ties, aliases, erasing, percentiles and the other edges are in test_edges.py,
worked examples in tests/catalogue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from stories import PLAIN, STATES, T, activity, answer, at, customer, item, live, request, same_in_any_order, told
from worlds import DAY, HOUR, MINUTE, SECOND, Event, line

from flowmetrics.configuration import Configuration, ValueStream
from flowmetrics.instants import parse_instant
from flowmetrics.testing import Driver

LONG_WINDOW = Configuration(value_streams=PLAIN.value_streams, windows_us=(DAY, 90 * DAY))
CREATED = ValueStream(states=STATES, start="created")


def reading(stream: ValueStream) -> Configuration:
    """All value streams are read in one way."""
    return Configuration(windows_us=PLAIN.windows_us, value_streams=(("*", stream),))


# --- 2.0: rules that hold for all metrics -------------------------------------------------------------------------


def test_a_source_that_was_out_for_two_days_moves_no_completion() -> None:
    """2.0 rule 1, and 7.8: what counts is when it happened, not when it was told."""
    page = live(2 * DAY, item(0, "Doing"), item(HOUR, "Done"))
    assert page("flow_velocity", "all", "1d") == 0
    assert page("flow_velocity", "all", "30d") == 1
    assert page("flow_time", "all", "30d", "p50") == pytest.approx(3600, rel=0.01)


def test_what_is_not_known_is_absent_and_what_is_counted_is_zero() -> None:
    """2.0 rule 6, and 7.5: also for a value stream of which nothing was ever told, once it is configured."""
    page = at(HOUR, [])
    for count in ("flow_velocity", "items_reopened", "requests_resolved"):
        assert page(count, "all", "1d", stream="other") == 0
    for state in ("waiting", "active"):
        assert page("flow_load", "all", state, stream="other") == 0
    assert page("requests_open", "all", stream="other") == 0
    assert page("active_users", "1d", stream="other") == 0
    unknown = ("flow_time", "flow_efficiency", "flow_distribution", "item_age", "request_res", "nps", "stickiness")
    assert not [name for name in page if name.startswith(tuple(f"flowmetrics_{kpi}" for kpi in unknown))]
    assert not [name for name in page if "_reached" in name or "adopt" in name or "retention" in name]


@pytest.mark.parametrize(("answers", "enough"), [(49, 0), (50, 1)])
def test_every_number_comes_with_bounds_and_samples_and_says_whether_they_are_enough(answers: int, enough: int) -> None:
    """2.0 rule 7: too few are still published."""
    driver = Driver(PLAIN)
    driver.deliver([line(answer(0, 9 + n % 2, str(n))) for n in range(answers)])
    driver.advance(T + HOUR)
    values = driver.values()
    labels = 'value_stream="shop",touchpoint="all",segment="all",window="1d"}'
    uniform = {name: values[f'flowmetrics_kpi_{name}{{kpi="nps",{labels}'] for name in ("samples", "sufficient")}
    assert uniform == {"samples": answers, "sufficient": enough}
    assert values[f'flowmetrics_kpi_value{{kpi="nps",{labels}'] == 100
    for bound in ("lower", "upper"):
        assert (
            values[f'flowmetrics_kpi_{bound}{{kpi="nps",{labels}'] == values[f"flowmetrics_nps_score_{bound}{{{labels}"]
        )


def test_a_number_that_is_not_known_has_no_samples_that_are_enough() -> None:
    """2.0 rule 7: an alert that asks for enough samples stays silent."""
    driver = Driver(PLAIN)
    driver.deliver([line(answer(0, 9))])
    driver.advance(T + 2 * DAY)
    labels = '{kpi="nps",value_stream="shop",touchpoint="all",segment="all",window="1d"}'
    shown = {name.partition("{")[0]: value for name, value in driver.values().items() if name.endswith(labels)}
    assert shown == {"flowmetrics_kpi_samples": 0, "flowmetrics_kpi_sufficient": 0}


@pytest.mark.parametrize("actor", ["bot", "internal", "test"])
def test_who_is_not_a_human_customer_is_in_no_number_of_customers(actor: str) -> None:
    """2.0 rule 8, and 7.14: a flood of crawlers moves nothing, on no page of the customer's."""
    ann = [activity(0), activity(DAY), customer(0, milestone="signed_up", stream="shop"), answer(0, 9)]
    flood = [
        activity(n % 2 * DAY + n * SECOND, f"{actor} {n % 10}", actor=actor, feature="search", segment="smb")
        for n in range(40)
    ]
    flood += [activity(n * HOUR, "ann", actor=actor, feature="search", segment="smb") for n in range(40)]
    for after in (DAY + HOUR, 40 * DAY):
        assert at(after, [*ann, *flood]) == at(after, ann)


@pytest.mark.parametrize(
    ("begins", "next_begins", "hours"),
    [
        ("2025-03-29T23:00:00Z", "2025-03-30T22:00:00Z", 23),
        ("2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z", 25),
    ],
)
def test_a_day_on_which_clocks_are_changed_is_as_long_as_it_is(begins: str, next_begins: str, hours: int) -> None:
    """2.0 rule 9, and 7.18: both ends of it are one day, and its neighbours are others."""
    berlin = Configuration(timezone="Europe/Berlin")
    begin, end = (parse_instant(one) - T for one in (begins, next_begins))
    assert end - begin == hours * HOUR
    for events, days in (
        ([begin, end - 1], 1),
        ([begin - 1, begin], 2),
        ([end - 1, end], 2),
        ([begin - 1, begin, end - 1, end], 3),
    ):
        page = at(end + HOUR, [activity(one) for one in events], configuration=berlin)
        assert page("stickiness") == pytest.approx(days / 30)
    page = at(end + 2 * DAY, [activity(begin), activity(end - 1)], configuration=berlin)
    assert page("retention_ratio", "on", "d1") == 0
    page = at(end + 2 * DAY, [activity(begin), activity(end)], configuration=berlin)
    assert page("retention_ratio", "on", "d1") == 1


# --- 2.1: flow ----------------------------------------------------------------------------------------------------


def test_flow_efficiency_is_the_ratio_of_sums_and_not_the_mean_of_ratios() -> None:
    """2.1: an hour of one, and an hour of three."""
    quick = [item(0, "Doing", "I"), item(HOUR, "Done", "I")]
    slow = [item(0, "Ready", "J"), item(2 * HOUR, "Doing", "J"), item(3 * HOUR, "Done", "J")]
    assert at(4 * HOUR, [*quick, *slow])("flow_efficiency", "all", "1d") == 0.5


def test_the_shares_of_the_distribution_sum_to_one_and_what_no_type_is_mapped_to_has_its_own() -> None:
    """2.1: never dropped."""
    types = ("Bug", "Story", "Chore", "zzz", None)
    page = at(HOUR, [item(0, "Done", str(n), item_type=kind) for n, kind in enumerate(types)])
    shares = [page("flow_distribution", kind, "1d") for kind in ("feature", "defect", "risk", "debt", "unmapped")]
    assert shares == pytest.approx([0.2, 0.2, 0, 0.2, 0.4])
    assert page("flow_distribution", "all", "1d") == 1


def test_an_item_that_skipped_waiting_and_active_counts_and_its_flow_time_is_not_known() -> None:
    """2.1: from new to done, and from a state that nobody mapped."""
    for first in ("Backlog", "Zzz", "Commented"):
        page = at(2 * HOUR, [item(0, first, item_type="Bug"), item(HOUR, "Done")])
        assert page("flow_velocity", "defect", "1d") == page("flow_distribution", "defect", "1d") == 1
        assert page("flow_time", "all", "1d", "p50") is page("flow_efficiency", "all", "1d") is None
    page = at(2 * HOUR, [item(0, "Backlog"), item(HOUR, "Done")], configuration=reading(CREATED))
    assert page("flow_time", "all", "1d", "p50") == pytest.approx(3600, rel=0.01)
    assert page("flow_efficiency", "all", "1d") == 0


def test_a_start_that_nobody_told_of_is_not_made_up_when_a_later_run_has_one() -> None:
    """2.1: done at first sight, then reopened: from there on the clock is known."""
    events = [item(0, "Done"), item(2 * HOUR, "Doing"), item(3 * HOUR, "Done")]
    assert at(HOUR, events)("flow_time", "all", "1d", "p50") is None
    for gap in ("exclude", "include"):
        page = at(4 * HOUR, events, configuration=reading(ValueStream(states=STATES, reopen_gap=gap)))
        assert page("flow_time", "all", "1d", "p50") == pytest.approx(3600, rel=0.01)


def test_an_item_first_heard_of_at_work_is_as_old_as_the_first_word_on_it() -> None:
    """2.1: no start is made up before it."""
    assert at(HOUR, [item(0, "Doing")])("item_age", "all", "p50") == pytest.approx(3600, abs=300)


@pytest.mark.parametrize(("gap", "hours"), [("exclude", 2), ("include", 5)])
def test_the_time_that_a_reopened_item_sat_in_done_is_flow_time_only_if_it_is_configured(gap: str, hours: int) -> None:
    """2.1: an hour of work, three in done, an hour of work."""
    events = [item(0, "Doing"), item(HOUR, "Done"), item(4 * HOUR, "Doing"), item(5 * HOUR, "Done")]
    page = at(6 * HOUR, events, configuration=reading(ValueStream(states=STATES, reopen_gap=gap)))
    assert page("flow_time", "all", "1d", "p50") == pytest.approx(hours * 3600, rel=0.01)
    assert page("flow_efficiency", "all", "1d") == pytest.approx(2 / hours)


def test_a_reopened_item_is_work_in_progress_from_then_on_and_its_completion_is_taken_back() -> None:
    """2.1: it is counted again when it is done again, once."""
    events = [item(0, "Doing"), item(HOUR, "Done"), item(2 * HOUR, "Ready"), item(3 * HOUR, "Done")]
    page = at(2 * HOUR - SECOND, events)
    assert (page("flow_velocity", "all", "1d"), page.count("flow_load", "all", "waiting")) == (1, 0)
    page = live(2 * HOUR - SECOND, *events[:2], 2 * HOUR, events[2])
    assert (page.count("flow_velocity", "all", "1d"), page("flow_load", "all", "waiting")) == (0, 1)
    page = live(2 * HOUR - SECOND, *events[:2], 2 * HOUR, events[2], 3 * HOUR, events[3])
    assert (page("flow_velocity", "all", "1d"), page.count("flow_load", "all", "waiting")) == (1, 0)
    assert page("items_reopened", "all", "1d") == 1


def test_a_reopen_after_sixty_days_amends_the_window_of_then() -> None:
    """7.20."""
    first = [item(0, "Doing"), item(HOUR, "Done")]
    page = live(59 * DAY, *first, configuration=LONG_WINDOW)
    assert page("flow_velocity", "all", "90d") == 1
    page = live(59 * DAY, *first, 60 * DAY, item(60 * DAY, "Doing"), configuration=LONG_WINDOW)
    assert page.count("flow_velocity", "all", "90d") == 0
    assert page("items_reopened", "all", "1d") == 1
    page = live(60 * DAY, *first, item(60 * DAY, "Doing"), 61 * DAY, item(61 * DAY, "Done"), configuration=LONG_WINDOW)
    assert page("flow_velocity", "all", "1d") == page("flow_velocity", "all", "90d") == 1


def test_a_cancelled_item_leaves_the_load_at_once_and_is_in_no_number_of_what_is_done() -> None:
    """2.1."""
    page = live(HOUR - SECOND, item(0, "Doing"), HOUR, item(HOUR, "Cancelled"))
    assert page.count("flow_load", "all", "active") == page.count("flow_velocity", "all", "1d") == 0
    for kpi in ("flow_time", "flow_efficiency", "flow_distribution", "item_age"):
        assert not [name for name in page if name.startswith(f"flowmetrics_{kpi}")]


def test_an_item_that_is_cancelled_no_longer_goes_on_without_the_time_between() -> None:
    """2.1: nor is it a reopen."""
    events = [item(0, "Doing"), item(HOUR, "Cancelled"), item(3 * HOUR, "Doing"), item(4 * HOUR, "Done")]
    assert at(3 * HOUR, events)("flow_load", "all", "active") == 1
    page = at(5 * HOUR, events)
    assert page("flow_time", "all", "1d", "p50") == pytest.approx(7200, rel=0.01)
    assert page.count("items_reopened", "all", "1d") == 0


def test_work_that_is_blocked_waits() -> None:
    """2.1: in the load and in efficiency; what waits anyway or is done is none the worse."""
    page = at(HOUR, [item(0, "Doing", blocked=True)])
    assert (page("flow_load", "all", "waiting"), page("flow_load", "all", "active")) == (1, 0)
    events = [item(0, "Doing"), item(HOUR, "Commented", blocked=True), item(4 * HOUR, "Done")]
    page = at(5 * HOUR, events)
    assert page("flow_time", "all", "1d", "p50") == pytest.approx(4 * 3600, rel=0.01)
    assert page("flow_efficiency", "all", "1d") == 0.25
    assert page("flow_velocity", "all", "1d") == 1
    assert at(HOUR, [item(0, "Ready", blocked=True)])("flow_load", "all", "waiting") == 1
    assert at(HOUR, [item(0, "Backlog", blocked=True)]).count("flow_load", "all", "waiting") == 0


def test_of_two_states_at_once_the_first_in_the_configuration_counts() -> None:
    """2.1: labels of a tracker as one word."""
    done_first = ValueStream(states={"done": ("*closed*",), "active": ("*doing*",)})
    active_first = ValueStream(states={"active": ("*doing*",), "done": ("*closed*",)})
    event = item(0, "doing, closed")
    assert at(HOUR, [event], configuration=reading(done_first))("flow_velocity", "all", "1d") == 1
    assert at(HOUR, [event], configuration=reading(active_first))("flow_load", "all", "active") == 1


def test_load_follows_the_stream_of_now_and_a_completion_stays_where_it_was_done() -> None:
    """2.1, and 2.0 rule 10: moved at work, and moved after it was done."""
    moved = [item(0, "Doing"), item(HOUR, "Doing", stream="help")]
    page = live(HOUR - SECOND, moved[0], HOUR, moved[1])
    assert page("flow_load", "all", "active", stream="help") == 1
    assert page.count("flow_load", "all", "active") == 0
    page = at(4 * HOUR, [*moved, item(2 * HOUR, "Done", stream="help"), item(3 * HOUR, "Commented")])
    assert page("flow_velocity", "all", "1d", stream="help") == 1
    assert page.count("flow_velocity", "all", "1d") == 0
    assert page("flow_time", "all", "1d", "p50", stream="help") == pytest.approx(7200, rel=0.01)


def test_an_item_that_moves_is_read_by_the_rules_of_the_stream_in_which_it_is() -> None:
    """2.1: where a clock runs from creation, then where it runs from commitment; types have other names there too."""
    there = ValueStream(states=STATES, item_types={"risk": ("Bug",)})
    unlike = Configuration(value_streams=(("help", there), ("*", CREATED)))
    events = [
        item(0, "Backlog", item_type="Bug"),
        item(HOUR, "Backlog", stream="help"),
        item(3 * HOUR, "Doing", stream="help"),
        item(4 * HOUR, "Done", stream="help"),
    ]
    page = at(HOUR - SECOND, events, configuration=unlike)
    assert page("flow_load", "defect", "new") == 1
    page = at(2 * HOUR, events, configuration=unlike)
    assert page.count("flow_load", "all", "new") == page.count("flow_load", "all", "new", stream="help") == 0
    page = same_in_any_order(5 * HOUR, events, unlike)
    assert page("flow_time", "risk", "1d", "p50", stream="help") == pytest.approx(7200, rel=0.01)
    assert page("flow_velocity", "risk", "1d", stream="help") == 1


def test_a_reopen_counts_where_the_work_went_on() -> None:
    """2.1: not where it had been done."""
    page = at(3 * HOUR, [item(0, "Doing"), item(HOUR, "Done"), item(2 * HOUR, "Doing", stream="help")])
    assert page("items_reopened", "all", "1d", stream="help") == 1
    assert page.count("items_reopened", "all", "1d") == page.count("flow_velocity", "all", "1d") == 0


def test_an_item_deleted_at_its_source_is_in_no_number_at_all() -> None:
    """2.1: neither its completion, nor its reopen, nor its load, also beyond the horizon."""
    life = [item(0, "Doing"), item(HOUR, "Done"), item(2 * HOUR, "Doing")]
    rest = [item(0, "Done", "J")]
    gone = item(3 * HOUR, "Commented", deleted=True)
    for after in (4 * HOUR, 401 * DAY):
        assert live(4 * HOUR, *rest, *life, gone, after) == live(4 * HOUR, *rest, after)


def test_seconds_count_also_for_what_is_done_within_a_day() -> None:
    """7.9."""
    page = at(HOUR, [item(0, "Backlog"), item(10 * SECOND, "Doing"), item(75 * SECOND, "Done")])
    assert page("flow_time", "all", "1d", "p50") == pytest.approx(65, rel=0.01)


def test_an_item_created_before_the_window_and_done_inside_it_counts() -> None:
    """7.7."""
    page = at(30 * DAY, [item(0, "Doing"), item(30 * DAY - HOUR, "Done")])
    assert page("flow_velocity", "all", "1d") == 1
    assert page("flow_time", "all", "1d", "p50") == pytest.approx(30 * 86400 - 3600, rel=0.01)


# --- 2.4: requests ------------------------------------------------------------------------------------------------


def test_the_time_in_an_ignored_state_is_not_waited_and_the_request_is_not_open() -> None:
    """2.4: the clock pauses while the customer must act, if it is configured so."""
    events = [request(0, "Ready"), request(HOUR, "Parked"), request(3 * HOUR, "Ready"), request(4 * HOUR, "Done")]
    assert at(2 * HOUR, events).count("requests_open", "all") == 0
    assert at(3 * HOUR, events)("requests_open", "all") == 1
    page = at(5 * HOUR, events)
    for kind in ("first", "full"):
        assert page("request_resolution", "all", kind, "1d", "p50") == pytest.approx(7200, rel=0.01)


def test_the_full_resolution_takes_in_the_time_between_two_solutions_whatever_is_configured_for_items() -> None:
    """2.4: the customer was not served meanwhile."""
    events = [request(0, "Ready"), request(HOUR, "Done"), request(5 * HOUR, "Ready"), request(6 * HOUR, "Done")]
    for gap in ("exclude", "include"):
        page = at(7 * HOUR, events, configuration=reading(ValueStream(states=STATES, reopen_gap=gap)))
        assert page("request_resolution", "all", "first", "1d", "p50") == pytest.approx(3600, rel=0.01)
        assert page("request_resolution", "all", "full", "1d", "p50") == pytest.approx(6 * 3600, rel=0.01)
        assert page("requests_resolved", "all", "1d") == 1


def test_a_request_solved_when_it_is_first_heard_of_took_no_time() -> None:
    """2.4: it begins with its first event, whatever that says."""
    page = at(HOUR, [request(0, "Done")])
    assert page("request_resolution", "all", "first", "1d", "p50") == 0
    assert page("requests_resolved", "all", "1d") == 1


def test_a_request_that_moves_is_open_where_it_is_and_resolved_where_it_was_solved() -> None:
    """2.4: its wait goes on; each fact is mapped by the stream that it names."""
    events = [request(0, "Done", stream="other"), request(2 * HOUR, "Ready"), request(3 * HOUR, "Done")]
    assert at(HOUR, events)("requests_open", "all", stream="other") == 1
    page = at(2 * HOUR, events)
    assert (page("requests_open", "all"), page.count("requests_open", "all", stream="other")) == (1, 0)
    page = same_in_any_order(4 * HOUR, [*events, request(3 * HOUR + MINUTE, "Commented", stream="help")])
    assert page("request_resolution", "all", "full", "1d", "p50") == pytest.approx(3 * 3600, rel=0.01)
    assert page.count("requests_resolved", "all", "1d", stream="help") == 0


# --- 2.5: time to value -------------------------------------------------------------------------------------------


def milestone(after: int, name: str, who: str = "ann") -> Event:
    return customer(after, who, milestone=name, stream="shop")


def test_signing_up_again_does_not_start_the_clock_anew() -> None:
    """2.5: nor does reaching value again end it anew."""
    events = [milestone(0, "signed_up"), milestone(HOUR, "value_reached")]
    again = [milestone(2 * HOUR, "signed_up"), milestone(3 * HOUR, "value_reached")]
    page = same_in_any_order(4 * HOUR, [*events, *again])
    assert page("time_to_value", "all", "1d", "p50") == pytest.approx(3600, rel=0.01)


def test_value_reached_at_the_last_instant_of_the_time_counts_and_later_does_not() -> None:
    """2.5: (0, 7 d], also when both are told of the same instant."""
    for after, reached in ((0, 1), (7 * DAY, 1), (7 * DAY + 1, 0)):
        page = at(8 * DAY, [milestone(0, "signed_up"), milestone(after, "value_reached")])
        assert page("value_reached", "all", "7d") == reached


def test_who_never_reaches_value_is_in_the_share_and_who_had_no_time_yet_is_not() -> None:
    """2.5: right-censoring."""
    events = [milestone(0, "signed_up"), milestone(HOUR, "value_reached"), milestone(0, "signed_up", "bob")]
    late = [milestone(DAY, "signed_up", "eve"), milestone(DAY, "value_reached", "eve")]
    page = at(7 * DAY - 5 * MINUTE, [*events, *late])
    assert page("value_reached", "all", "7d") is None
    assert at(7 * DAY, [*events, *late])("value_reached", "all", "7d") == 0.5
    assert at(8 * DAY, [*events, *late])("value_reached", "all", "7d") == pytest.approx(2 / 3)


# --- 2.6, 2.7: adoption, activity, retention ----------------------------------------------------------------------


def test_a_feature_is_adopted_by_who_used_it_in_the_window_whether_or_not_they_had_before() -> None:
    """2.6: the last use counts, as for activity; eligible are those active in the window."""
    events = [activity(0, feature="f"), activity(2 * DAY, feature="f"), activity(2 * DAY, "bob")]
    page = same_in_any_order(2 * DAY + HOUR, events)
    assert (page("adopted_users", "f", "1d"), page("eligible_users", "f", "1d")) == (1, 2)
    page = at(3 * DAY, events)
    assert (page("adopted_users", "f", "1d"), page("adopted_users", "f", "30d")) == (0, 1)
    assert page("adoption", "f", "1d") is None


def test_ids_that_differ_in_case_are_different_people() -> None:
    """2.6: ids are as they were given."""
    assert at(MINUTE, [activity(0, "ann"), activity(0, "Ann")])("active_users", "1d") == 2


def test_two_ids_that_turn_out_to_be_one_person_lower_activity_by_one_and_take_back_from_retention() -> None:
    """2.6, and 7.13."""
    events = [activity(0, "a"), activity(DAY, "b")]
    page = live(4 * DAY, *events)
    assert page("active_users", "30d") == page("retention_mature_users", "on", "d1") == 2
    assert page("retention_ratio", "on", "d1") == 0
    page = live(4 * DAY, *events, customer(3 * DAY, "b", aliases=["a"]))
    assert page("active_users", "30d") == page("retention_mature_users", "on", "d1") == 1
    assert page("retention_ratio", "on", "d1") == 1
    assert page("stickiness") == pytest.approx(2 / 30)


@pytest.mark.parametrize(
    ("day", "on", "on_or_after", "bracket"),
    [(6, 0, 0, 0), (7, 1, 1, 1), (8, 0, 1, 1), (13, 0, 1, 1), (14, 0, 1, 0)],
)
def test_the_three_ways_to_ask_who_came_back(day: int, on: int, on_or_after: int, bracket: int) -> None:
    """2.7: on day 7 exactly, then or later, within days 7 to 13."""
    page = at(20 * DAY, [activity(0), activity(day * DAY)])
    shares = [page("retention_ratio", mode, "d7") for mode in ("on", "on_or_after", "bracket")]
    assert shares == [on, on_or_after, bracket]


def test_only_who_had_time_to_come_back_is_asked_for() -> None:
    """2.7: day 7 is over at the midnight after it, the bracket six days later."""
    over = 7 * DAY + 14 * HOUR
    events = [activity(0), activity(DAY, "bob")]
    for after, on, bracket in (
        (over - 5 * MINUTE, 0, 0),
        (over, 1, 0),
        (over + DAY, 2, 0),
        (over + 6 * DAY - 5 * MINUTE, 2, 0),
        (over + 6 * DAY, 2, 1),
    ):
        page = at(after, events)
        mature = [page.count("retention_mature_users", mode, "d7") for mode in ("on", "on_or_after", "bracket")]
        assert mature == [on, on, bracket]


# --- 2.8: surveys -------------------------------------------------------------------------------------------------


def scores(survey: str, told_scores: Sequence[int]) -> list[Event]:
    """One answer of one person each."""
    return [told("response", 0, respondent=str(n), survey=survey, score=one) for n, one in enumerate(told_scores)]


def test_who_answers_9_or_10_promotes_who_answers_up_to_6_detracts_and_all_count() -> None:
    """2.8, and 7.12: zero and negative scores are shown like others."""
    for score in range(11):
        page = at(HOUR, scores("nps", [score]))
        assert page("nps_score", "all", "all", "1d") == 100 * (score >= 9) - 100 * (score <= 6)
    assert at(HOUR, scores("nps", range(11)))("nps_score", "all", "all", "1d") == pytest.approx(100 * (2 - 7) / 11)
    assert at(HOUR, scores("enps", [0, 10]))("enps_score", "all", "all", "1d") == 0


def test_csat_is_the_share_of_the_best_two_answers_and_ces_the_mean() -> None:
    """2.8."""
    assert at(HOUR, scores("csat", [1, 2, 3, 4, 5]))("csat", "all", "all", "1d") == 0.4
    assert at(HOUR, scores("ces", [1, 2, 6]))("ces_score", "all", "all", "1d") == 3


def test_an_answer_counts_when_it_was_given_also_if_it_is_partial() -> None:
    """2.8: not when it was asked for; its score was given."""
    page = at(MINUTE, [answer(0, 10, asked_at="2025-02-01T00:00:00Z", partial=True)])
    assert page("nps_responses", "all", "all", "1h") == 1


def test_an_edited_answer_is_replaced_as_a_whole_in_any_order() -> None:
    """2.8: one voice, the one told last."""
    events = [answer(0, 0, response="1"), answer(MINUTE, 9, response="1"), answer(2 * MINUTE, 7, response="1")]
    page = same_in_any_order(HOUR, events)
    assert (page("nps_score", "all", "all", "1h"), page("nps_responses", "all", "all", "1h")) == (0, 1)


# --- 7: traps of peers --------------------------------------------------------------------------------------------


def test_any_number_of_channels_and_features_stays_within_the_budget_and_what_it_swallowed_is_counted() -> None:
    """7.16: the total loses nothing."""
    tight = Configuration(value_streams=PLAIN.value_streams, labels_max=20)
    driver = Driver(tight)
    driver.deliver([line(request(0, "Ready", str(n), channel=f"channel {n}")) for n in range(100)])
    driver.deliver([line(activity(0, str(n), feature=f"feature {n}")) for n in range(100)])
    driver.advance(T + HOUR)
    values = driver.values()
    by_kpi = Counter(name.partition("{")[0] for name in values if "_kpi_" not in name)
    assert (
        by_kpi["flowmetrics_requests_open"] == 22 + 1
    )  # those of the budget, the others, the total; and of a declared stream
    assert by_kpi["flowmetrics_adopted_users"] == 20 * len(tight.windows_us)
    assert values['flowmetrics_requests_open{value_stream="shop",channel="all"}'] == 100
    assert values['flowmetrics_requests_open{value_stream="shop",channel="other"}'] == 80
    assert driver.tally.counted["label_overflow", "requests_open"] == 80
    assert driver.tally.counted["label_overflow", "feature_users"] == 80
