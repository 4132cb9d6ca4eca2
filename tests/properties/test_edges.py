"""The edges of the protocol: one small test for each rule of the page that lists where it once broke.

Each fails if its rule were broken; the number in its docstring is that of the rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from stories import (
    PLAIN,
    SHORT,
    STATES,
    T,
    activity,
    answer,
    at,
    customer,
    item,
    live,
    request,
    same_in_any_order,
    told,
)
from worlds import DAY, HOUR, MINUTE, SECOND, Event, line

from flowmetrics.configuration import Configuration, ValueStream
from flowmetrics.errors import Reason, Rejection
from flowmetrics.instants import parse_instant
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.steps.audit import compare
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.track import keyed
from flowmetrics.testing import Driver
from flowmetrics.windowing.bins import Ranked

# --- 1: facts ahead of now ----------------------------------------------------------------------------------------


def test_an_activity_ahead_of_now_does_not_hide_the_one_before_it() -> None:
    """Rule 1."""
    page = at(10 * MINUTE, [activity(0), activity(45 * MINUTE)])
    assert page("active_users", "1h") == 1


def test_a_reopen_ahead_of_now_does_not_take_back_a_completion() -> None:
    """Rule 1."""
    events = [item(0, "Doing"), item(MINUTE, "Done"), item(HOUR, "Doing")]
    assert at(30 * MINUTE, events)("flow_velocity", "all", "1h") == 1
    assert at(HOUR, events).count("flow_velocity", "all", "1h") == 0


def test_an_answer_ahead_of_now_does_not_replace_the_one_before_it() -> None:
    """Rule 1."""
    assert at(MINUTE, [answer(0, 10), answer(HOUR, 0)])("nps_score", "all", "all", "1h") == 100


def test_a_clock_that_steps_back_changes_no_window() -> None:
    """Rule 1: the instant of a reading never goes back."""
    driver = Driver(PLAIN)
    driver.deliver([line(one) for one in (item(0, "Done"), item(30 * MINUTE, "Done", "J"), activity(0))])
    driver.advance(T + HOUR)
    values = driver.values()
    driver.tally.advance(T)
    assert driver.values() == values
    driver.advance(T + HOUR)
    driver.deliver([line(item(40 * MINUTE, "Done", "K"))])
    assert driver.values()['flowmetrics_flow_velocity_items{value_stream="shop",item_type="all",window="1h"}'] == 2


# --- 2: one person under several keys -----------------------------------------------------------------------------


def test_two_ids_that_name_each_other_are_one_person() -> None:
    """Rule 2: a cycle of aliases neither loops nor counts twice."""
    links = [customer(0, "a", aliases=["b"]), customer(0, "b", aliases=["a"])]
    page = same_in_any_order(MINUTE, [activity(0, "a"), activity(0, "b"), *links])
    assert page("active_users", "1h") == 1


def test_a_chain_of_aliases_is_one_person_in_any_order() -> None:
    """Rule 2."""
    links = [customer(0, "c", aliases=["b"]), customer(0, "b", aliases=["a"])]
    page = same_in_any_order(MINUTE, [activity(0, "a"), activity(0, "c"), *links])
    assert page("active_users", "1h") == 1


def test_a_person_whose_alias_is_withdrawn_is_two_again() -> None:
    """Rule 2: un-merging is exact, also when it comes after the merge was published."""
    together = [activity(0, "a"), activity(0, "b"), customer(0, "a", aliases=["b"])]
    page = live(*together, MINUTE, customer(MINUTE, "a", aliases=[]))
    assert page("active_users", "1h") == 2
    page = live(*together, MINUTE, customer(MINUTE, "a", aliases=["c"]))
    assert page("active_users", "1h") == 2


def test_a_merged_person_has_one_voice() -> None:
    """Rule 2: the head reads the union of the facts, so the later answer of either id counts."""
    page = same_in_any_order(
        HOUR, [answer(MINUTE, 0, "a"), answer(2 * MINUTE, 10, "b"), customer(0, "b", aliases=["a"])]
    )
    assert page("nps_responses", "all", "all", "1h") == 1
    assert page("nps_score", "all", "all", "1h") == 100


def test_what_a_merged_person_did_last_counts_under_whichever_id() -> None:
    """Rule 2: the last use of a feature, the last activity, the latest word on them, of either."""
    rules = replace(PLAIN, eligible={"pro": {"plan": ("pro",)}})
    for one, other in (("a", "b"), ("b", "a")):
        events = [
            activity(0, one, feature="f"),
            customer(HOUR, one, plan="free", stream="shop"),
            activity(2 * DAY, other, feature="f"),
            customer(2 * DAY, other, plan="pro", aliases=[one]),
        ]
        page = same_in_any_order(2 * DAY + HOUR, events, rules)
        assert page("adopted_users", "f", "1d") == page("active_users", "1d") == page("active_users", "30d") == 1
        assert page("eligible_users", "pro", "1d") == 1


def test_what_a_merged_person_reached_first_counts_under_whichever_id() -> None:
    """Rule 2."""
    for one, other in (("a", "b"), ("b", "a")):
        events = [
            customer(0, one, milestone="signed_up", stream="shop"),
            customer(HOUR, other, milestone="signed_up", stream="shop"),
            customer(3 * HOUR, other, milestone="value_reached", stream="shop"),
            customer(3 * HOUR, other, aliases=[one]),
        ]
        page = same_in_any_order(4 * HOUR, events)
        assert page("time_to_value", "all", "1d", "p50") == pytest.approx(3 * 3600, rel=0.01)


def test_a_merged_person_was_silent_only_while_all_ids_were() -> None:
    """Rules 2 and 3b: of activity and of what was told otherwise."""
    for one, other in (("a", "b"), ("b", "a")):
        events = [
            activity(0, one),
            activity(101 * DAY, other),
            activity(102 * DAY, other),
            customer(102 * DAY, one, aliases=[other]),
        ]
        page = same_in_any_order(104 * DAY, events, SHORT)
        assert page("retention_mature_users", "on", "d1") == 1
        for who, when in ((one, 50 * DAY), (other, 60 * DAY)):
            bridged = [*events, customer(when, who, plan="x")]
            assert at(104 * DAY, bridged, configuration=SHORT).count("retention_mature_users", "on", "d1") == 0


def test_a_merged_person_was_heard_of_when_either_id_was() -> None:
    """Rules 2 and 5f: who is eligible was heard of in the value stream within the horizon."""
    rules = replace(SHORT, eligible={"search": {"plan": ("pro",)}})
    for one, other in (("a", "b"), ("b", "a")):
        events = [
            customer(0, one, plan="pro", stream="shop", aliases=[other]),
            customer(50 * DAY, other, stream="shop"),
        ]
        assert same_in_any_order(70 * DAY, events, rules)("eligible_users", "search", "1d") == 1


def test_the_survivor_of_a_chain_of_duplicates_keeps_the_earliest_creation() -> None:
    """Rule 2: `duplicate_of` lends the creation, over chains."""
    events = [
        request(0, "Backlog", "R3", duplicate_of="R2"),
        request(HOUR, "Backlog", "R2", duplicate_of="R1"),
        request(2 * HOUR, "Backlog", "R1"),
        request(3 * HOUR, "Done", "R1"),
    ]
    page = same_in_any_order(4 * HOUR, events)
    assert page("request_resolution", "all", "full", "1d", "p50") == pytest.approx(3 * 3600, rel=0.01)
    assert page("requests_resolved", "all", "1d") == 1


def test_a_request_that_is_no_longer_a_duplicate_takes_its_creation_back() -> None:
    """Rule 2: leaving a group leaves nothing behind, also when two words were told in one second."""
    events = [
        request(0, "Ready", "R2", duplicate_of=""),
        request(0, "Backlog", "R2", duplicate_of="R1"),
        request(2 * HOUR, "Done", "R1"),
    ]
    page = same_in_any_order(3 * HOUR, events)
    assert page("requests_open", "all") == 1
    assert page("request_resolution", "all", "full", "1d", "p50") == 0


# --- 3: forgetting by horizon -------------------------------------------------------------------------------------


def test_an_item_older_than_the_horizon_leaves_the_load() -> None:
    """Rule 3a: a level is the window of the length of the horizon."""
    events = [item(0, "Ready")]
    assert at(60 * DAY - 6 * MINUTE, events, configuration=SHORT)("flow_load", "all", "waiting") == 1
    assert at(60 * DAY + MINUTE, events, configuration=SHORT).count("flow_load", "all", "waiting") == 0


def test_what_leaves_the_horizon_unfinished_is_counted_from_then_on() -> None:
    """Rule 3a: by the virtual start of an item and the creation of a request, whatever was told since."""
    events = [item(0, "Doing"), item(30 * DAY, "Ready"), request(0, "Ready"), request(30 * DAY, "Doing")]
    for after, inside in ((60 * DAY - 5 * MINUTE, 1), (60 * DAY, 0)):
        page = at(after, events, configuration=SHORT)
        assert page.count("flow_load", "all", "waiting") == page.count("requests_open", "all") == inside
        beyond = [page.count(f"{kind}_beyond_horizon", "all") for kind in ("items", "requests")]
        assert beyond == [1 - inside, 1 - inside]


def test_a_redelivered_item_is_not_in_the_load_twice_however_late() -> None:
    """Rule 3: redelivery long after the horizon contributes what was contributed before, or nothing."""
    ready = item(0, "Ready")
    page = live(ready, DAY, ready, 61 * DAY, ready, 200 * DAY, ready, configuration=SHORT)
    assert page.count("flow_load", "all", "waiting") == 0


def test_panes_that_are_dropped_were_read_by_nothing() -> None:
    """Rule 3a: at the edge of the horizon too; and what is dropped is gone."""
    events = [item(day * DAY + HOUR, "Done", str(day)) for day in range(70)] + [item(DAY, "Ready", "open")]
    keeping, dropping = Driver(SHORT), Driver(SHORT)
    for driver in (keeping, dropping):
        driver.deliver([line(event) for event in events])
    for after in (DAY, 60 * DAY, 60 * DAY + HOUR, 61 * DAY - MINUTE, 61 * DAY, 70 * DAY, 100 * DAY, 131 * DAY):
        for driver in (keeping, dropping):
            driver.advance(T + after)
        dropping.tally.forget()
        assert dropping.values() == keeping.values()
    assert keeping.tally.cells()
    assert not dropping.tally.cells()


def test_an_item_silent_for_longer_than_the_horizon_and_what_is_ahead_begins_anew() -> None:
    """Rule 3b: only the facts after the last such silence are read."""
    page = at(120 * DAY + HOUR, [item(0, "Ready"), item(120 * DAY + MINUTE, "Ready")], configuration=SHORT)
    assert page("flow_load", "all", "waiting") == 1
    age = page("item_age", "all", "p50")
    assert age is not None
    assert age <= 3600
    page = at(120 * DAY, [item(0, "Ready"), item(120 * DAY, "Ready")], configuration=SHORT)
    assert page.count("flow_load", "all", "waiting") == 0


def test_a_silence_of_exactly_the_horizon_and_what_is_ahead_is_not_too_long_wherever_it_lies() -> None:
    """Rule 3b: for requests as for items."""
    for silence, left in ((120 * DAY, 0), (120 * DAY + 1, 1)):
        times = (0, silence, 121 * DAY)
        page = at(122 * DAY, [item(one, "Ready") for one in times], configuration=SHORT)
        assert page.count("flow_load", "all", "waiting") == left
        page = at(122 * DAY, [request(one, "Ready") for one in times], configuration=SHORT)
        assert page.count("requests_open", "all") == left


def test_a_duplicate_silent_for_too_long_lends_only_its_new_beginning() -> None:
    """Rule 3b, for the copy that a duplicate lends (rule 2)."""
    after = 121 * DAY
    events = [
        request(0, "Backlog", "R2"),
        request(after, "Backlog", "R2", duplicate_of="R1"),
        request(after, "Ready", "R1"),
    ]
    assert at(after, events, configuration=SHORT)("requests_open", "all") == 1


def test_a_duplicate_that_was_told_before_all_of_its_group_fell_silent_lends_nothing() -> None:
    """Rule 3b: it may be forgotten by then, so its creation must not show."""
    events = [request(0, "Backlog", "R2", duplicate_of="R1"), request(120 * DAY + 1, "Ready", "R1")]
    page = same_in_any_order(121 * DAY, events, SHORT)
    assert page("requests_open", "all") == 1
    bridged = [*events, request(HOUR, "Backlog", "R3", duplicate_of="R1")]
    page = same_in_any_order(121 * DAY, bridged, SHORT)
    assert page.count("requests_open", "all") == 0


def test_a_customer_silent_for_too_long_has_a_new_first_day() -> None:
    """Rule 3b: retention starts anew after a silence of more than the horizon and 40 days."""
    page = at(112 * DAY, [activity(0), activity(101 * DAY + HOUR), activity(102 * DAY)], configuration=SHORT)
    assert page("retention_mature_users", "on", "d1") == 1
    assert page("retention_ratio", "on", "d1") == 1
    page = at(112 * DAY, [activity(0), activity(100 * DAY), activity(101 * DAY)], configuration=SHORT)
    assert page.count("retention_mature_users", "on", "d1") == 0


def test_a_customer_is_silent_for_too_long_from_the_first_instant_after_it() -> None:
    """Rule 3b: to the grain of what is kept of activity, here on its edge."""
    for silence, mature in ((100 * DAY, 0), (100 * DAY + 1, 1)):
        events = [activity(0), activity(silence), activity(101 * DAY)]
        page = same_in_any_order(103 * DAY, events, SHORT)
        assert page.count("retention_mature_users", "on", "d1") == mature


def test_somebody_erased_who_comes_back_begins_anew_after_a_silence_like_others() -> None:
    """Rules 3b and 18: first heard of by the erase, then silent for too long between two visits."""
    back = 102 * DAY + HOUR
    events = [told("erase", 0, person="ann"), activity(DAY), activity(back), activity(back + DAY)]
    page = at(back + 10 * DAY, events, configuration=SHORT)
    assert page("retention_ratio", "on", "d1") == 1


def test_what_was_heard_of_somebody_before_the_erase_bridges_no_silence_in_any_order() -> None:
    """Rules 3b and 18: what is hidden is not heard of either."""
    events = [
        activity(0, "bob"),
        customer(60 * DAY, segment="smb"),
        told("erase", 61 * DAY, person="ann"),
        activity(120 * DAY, "bob"),
        customer(120 * DAY, aliases=["bob"]),
    ]
    same_in_any_order(122 * DAY, events, SHORT)


def test_a_customer_who_was_only_elsewhere_was_not_silent() -> None:
    """Rule 3b: the entity is the person, not the person in one value stream."""
    events = [activity(0), activity(60 * DAY, stream="help"), activity(101 * DAY)]
    assert at(103 * DAY, events, configuration=SHORT).count("retention_mature_users", "on", "d1") == 0


def test_what_was_told_of_a_customer_before_a_long_silence_is_over() -> None:
    """Rule 3b: milestones and attributes too, else a forgotten history would differ from one that is still there."""
    events = [
        customer(0, milestone="signed_up", segment="smb", stream="shop"),
        customer(101 * DAY, milestone="value_reached", stream="shop"),
    ]
    page = at(102 * DAY, events, configuration=SHORT)
    assert page("time_to_value", "all", "7d", "p50") is None


def test_of_several_long_silences_the_last_one_counts() -> None:
    """Rule 3b."""
    events = [activity(0), activity(101 * DAY), activity(203 * DAY), activity(204 * DAY)]
    page = same_in_any_order(206 * DAY, events, SHORT)
    assert page("retention_mature_users", "on", "d1") == page("retention_ratio", "on", "d1") == 1
    events = [item(0, "Doing"), item(121 * DAY, "Doing"), item(243 * DAY, "Doing")]
    page = same_in_any_order(243 * DAY + HOUR, events, SHORT)
    assert page("flow_load", "all", "active") == 1
    assert page("item_age", "all", "p50") == pytest.approx(3600, abs=300)


def test_what_is_no_longer_kept_of_a_customer_does_not_show_in_any_order() -> None:
    """Rules 3b and 5c: bounded activity is still a function of the set."""
    page = same_in_any_order(131 * DAY, [activity(0), activity(100 * DAY), activity(131 * DAY)], SHORT)
    assert page.count("retention_mature_users", "on", "d30") == 0


def test_what_was_contributed_before_a_long_silence_is_taken_back_although_nothing_reads_it() -> None:
    """Rule 4: what is kept as emitted is what the facts call for, whatever was told and wherever."""
    before = [activity(0, stream="help"), activity(0), customer(0, milestone="signed_up"), answer(0, 9)]
    for after in (activity(101 * DAY), customer(101 * DAY, plan="x"), answer(101 * DAY, 0)):
        driver = Driver(SHORT, T + 101 * DAY)
        for event in (*before, after):
            driver.deliver([line(event)])
        assert not list(compare(driver.histories, driver.histories, driver.track, driver.tally, driver.table, 0))


# --- 5: what reduced customer histories must still do -------------------------------------------------------------


def test_an_older_answer_comes_back_when_the_latest_is_moved_elsewhere() -> None:
    """Rule 5a: the latest version of a response replaces it whole, its touchpoint included."""
    events = [
        answer(MINUTE, 0, touchpoint="checkout", response="1"),
        answer(2 * MINUTE, 10, touchpoint="checkout", response="2"),
        answer(3 * MINUTE, 9, touchpoint="delivery", response="2"),
    ]
    page = same_in_any_order(HOUR, events)
    assert page("nps_score", "checkout", "all", "1h") == -100
    assert page("nps_score", "delivery", "all", "1h") == 100
    assert page("nps_responses", "all", "all", "1h") == 1


def test_an_answer_in_one_value_stream_does_not_silence_the_voice_in_another() -> None:
    """Rule 5b."""
    page = same_in_any_order(HOUR, [answer(MINUTE, 10), answer(2 * MINUTE, 0, stream="help")])
    assert page("nps_score", "all", "all", "1h") == 100
    assert page("nps_score", "all", "all", "1h", stream="help") == -100


def test_all_touchpoints_is_one_voice_and_not_the_sum() -> None:
    """Rule 5b."""
    page = at(HOUR, [answer(MINUTE, 10, touchpoint="checkout"), answer(2 * MINUTE, 0, touchpoint="delivery")])
    assert page("nps_responses", "all", "all", "1h") == 1
    assert page("nps_score", "all", "all", "1h") == -100
    assert page("nps_responses", "checkout", "all", "1h") == 1


def test_retention_is_by_calendar_day_and_its_anchor_moves_with_a_late_earlier_event() -> None:
    """Rule 5d: Tuesday 23:00 and Wednesday 01:00 are day 0 and day 1, two hours apart."""
    tuesday, wednesday = activity(13 * HOUR), activity(15 * HOUR)
    page = same_in_any_order(2 * DAY, [tuesday, wednesday])
    assert page("retention_ratio", "on", "d1") == 1
    assert page("retention_mature_users", "on", "d1") == 1


def test_retention_reads_those_who_matured_within_the_longest_window() -> None:
    """Rule 5d: which cohorts."""
    events = [activity(0)]
    assert at(2 * DAY, events)("retention_mature_users", "on", "d1") == 1
    assert at(33 * DAY, events)("retention_mature_users", "on", "d1") == 0


def test_a_new_segment_moves_the_whole_customer_mature_cohorts_too() -> None:
    """Rule 5f."""
    events = [
        customer(0, milestone="signed_up", segment="smb", stream="shop"),
        customer(HOUR, milestone="value_reached", stream="shop"),
        customer(10 * DAY, segment="enterprise"),
    ]
    page = same_in_any_order(11 * DAY, events)
    assert page("value_reached", "enterprise", "7d") == 1
    assert page("value_reached", "smb", "7d") is None
    assert page("time_to_value", "enterprise", "30d", "p50") == pytest.approx(3600, rel=0.01)
    assert page("time_to_value", "smb", "30d", "p50") is None


def test_a_segment_told_by_an_activity_moves_the_whole_customer_too() -> None:
    """Rule 5f: also where they had been active before."""
    events = [
        customer(0, milestone="signed_up", stream="shop"),
        customer(HOUR, milestone="value_reached", stream="shop"),
        activity(0),
        activity(2 * HOUR, segment="smb"),
        activity(HOUR, segment="enterprise"),
    ]
    page = same_in_any_order(3 * HOUR, events)
    assert page("time_to_value", "smb", "1d", "p50") == pytest.approx(3600, rel=0.01)
    assert page("time_to_value", "none", "1d", "p50") is page("time_to_value", "enterprise", "1d", "p50") is None


def test_an_answer_has_the_segment_that_it_tells() -> None:
    """Rule 5f."""
    page = at(HOUR, [customer(0, segment="enterprise"), answer(MINUTE, 10, segment="smb")])
    assert page("nps_responses", "all", "smb", "1h") == 1
    assert page("nps_responses", "all", "enterprise", "1h") is None


def test_adoption_never_exceeds_one_as_only_eligible_users_are_adopters() -> None:
    """Rule 5f."""
    rules = Configuration(eligible={"search": {"segment": ("enterprise",)}})
    events = [
        activity(0, "ann", feature="search", segment="enterprise"),
        activity(0, "bob", feature="search", segment="smb"),
        customer(0, "eve", segment="enterprise", stream="shop"),
    ]
    page = same_in_any_order(MINUTE, events, rules)
    assert page("adopted_users", "search", "1d") == 1
    assert page("eligible_users", "search", "1d") == 2
    assert page("adoption_ratio", "search", "1d") == 0.5


def test_who_is_eligible_was_heard_of_within_the_horizon_by_the_latest_word_in_any_order() -> None:
    """Rule 5f: seats, active or not."""
    rules = replace(SHORT, eligible={"search": {"plan": ("pro",)}})
    events = [customer(0, plan="pro", stream="shop"), customer(50 * DAY, stream="shop"), customer(0, "bob", plan="pro")]
    page = same_in_any_order(70 * DAY, [*events, customer(0, "eve", plan="pro", stream="shop")], rules)
    assert page("eligible_users", "search", "1d") == 1
    assert at(111 * DAY, events, configuration=rules)("eligible_users", "search", "1d") is None


# --- 6, 7, 8: identity, acceptance, order -------------------------------------------------------------------------


def test_two_bodies_under_one_id_are_two_facts_in_any_order() -> None:
    """Rule 6."""
    events = [item(0, "Backlog", id="1"), item(HOUR, "Doing", id="1"), item(2 * HOUR, "Done", id="1")]
    page = same_in_any_order(3 * HOUR, events)
    assert page("flow_velocity", "all", "1d") == 1
    assert page("flow_time", "all", "1d", "p50") == pytest.approx(3600, rel=0.01)


def test_acceptance_asks_the_stored_arrival_stamp_and_never_the_clock() -> None:
    """Rule 7: an hour ahead of its stamp is taken, more is not, whenever the log is read."""
    read, body = CloudEvents({}).read, line(item(HOUR, "Done"))
    for _ in range(2):
        assert not isinstance(read(body, T), Rejection)
        refused = read(body, T - 1)
        assert isinstance(refused, Rejection)
        assert refused.reason is Reason.TOO_FAR_AHEAD


def test_simultaneous_events_have_one_order_also_where_some_have_no_sequence() -> None:
    """Rule 8: new with sequence 2 comes last, although active without one would come after it by state."""
    events = [
        item(0, "Backlog", id="a", sequence=2),
        item(0, "Doing", id="b"),
        item(0, "Done", id="c", sequence=1),
    ]
    page = same_in_any_order(MINUTE, events)
    assert page.count("flow_velocity", "all", "1h") == 0
    assert page("items_reopened", "all", "1h") == 1


def test_a_sequence_is_an_integer_and_not_a_text() -> None:
    """Rule 8: "9" comes before "10"."""
    page = same_in_any_order(MINUTE, [item(0, "Doing", sequence="9"), item(0, "Done", sequence="10")])
    assert page("flow_velocity", "all", "1h") == 1


def test_without_a_sequence_simultaneous_events_are_in_the_order_of_the_flow_whatever_their_ids() -> None:
    """Rule 8: new, waiting, active, ignore, done, cancelled; ids only after that."""
    page = same_in_any_order(MINUTE, [item(0, "Done", id="1"), item(0, "Doing", id="2"), item(0, "Backlog", id="3")])
    assert page("flow_velocity", "all", "1h") == 1
    assert page("flow_time", "all", "1h", "p50") == 0
    page = same_in_any_order(MINUTE, [item(0, "Cancelled", id="1"), item(0, "Done", id="2")])
    assert page.count("flow_velocity", "all", "1h") == 0
    page = same_in_any_order(MINUTE, [item(0, "Zzz", id="9"), item(0, "Doing", id="1"), item(0, "Parked", id="0")])
    assert page.count("flow_load", "all", "active") == 0


def test_the_same_id_from_two_sources_is_two_facts() -> None:
    """Rule 8: an id is unique only within its source."""
    events = [item(0, "Doing", id="1", source="s"), item(HOUR, "Done", id="1", source="t")]
    assert same_in_any_order(HOUR, events)("flow_velocity", "all", "1h") == 1


def test_what_is_odd_about_an_event_is_counted_when_it_is_new_and_not_when_it_is_repeated() -> None:
    """Rule 6: another body under a known id, and words that nothing is mapped to."""
    driver = Driver(PLAIN, T)

    def counted(**more: Any) -> dict[tuple[str, ...], int]:
        event = item(0, **{"state": "Doing", "id": "1", **more})
        return dict(driver.track(keyed([driver.source.read(line(event), T)]), driver.histories).counted)

    assert counted() == {}
    assert counted() == {}
    assert counted(source="t") == {}
    assert counted(id="2") == {}
    assert counted(title="another") == {("conflicting_ids", "s"): 1}
    odd = {("unmapped", "s", "state"): 1, ("unmapped", "s", "item_type"): 1}
    assert counted(id="3", state="Zzz", item_type="zzz") == odd
    assert counted(id="3", state="Zzz", item_type="zzz") == {}
    assert counted(id="4", item_type="") == {}
    assert counted(title="t" * 1000) == {("conflicting_ids", "s"): 1}
    titles = [fact.title or "" for fact in driver.histories["item:I"].facts]
    assert sorted(map(len, titles)) == [0, 0, 0, 0, 0, 7, 200]


# --- 9, 10, 12: labels, zeros, bounds -----------------------------------------------------------------------------


def test_labels_that_come_and_go_over_the_budget_leave_nothing_behind() -> None:
    """Rule 9: x and y open, x and y solved; neither a label nor the overflow keeps a request."""
    tight = Configuration(value_streams=PLAIN.value_streams, labels_max=1)
    opened = [request(0, "Ready", name, channel=name) for name in "xyz"]
    solved = [request(MINUTE, "Done", name) for name in "xyz"]
    for events in itertools.permutations([*opened, *solved]):
        page = live(HOUR, *events, configuration=tight)
        assert {value for name, value in page.items() if name.startswith("flowmetrics_requests_open")} == {0}
        assert page("requests_resolved", "all", "1d") == 3


def test_the_sum_over_labels_is_the_total_also_over_the_budget() -> None:
    """Rule 9: which labels are folded is an exception, their sum is not."""
    tight = Configuration(value_streams=PLAIN.value_streams, labels_max=1)
    page = at(HOUR, [request(0, "Ready", name, channel=name) for name in "xyz"], configuration=tight)
    shown = {name: value for name, value in page.items() if name.startswith("flowmetrics_requests_open")}
    assert page("requests_open", "all") == 3
    assert sum(shown.values()) == 6


def test_a_number_of_a_series_is_given_once_also_after_a_restart() -> None:
    """Rule 9: what is stored under a number is of one series for good."""
    table = SeriesTable([(4, ("active_users", "shop")), (2, ("active_users", "help"))])
    told = [("active_users", "shop"), ("active_users", "new"), ("active_users", "help"), ("active_users", "newer")]
    assert [table.number(series) for series in told] == [4, 5, 2, 6]
    assert [table.series(number) for number in (4, 5, 2, 6)] == told
    assert table.taken() == [(5, told[1]), (6, told[3])]


def test_distinct_people_are_never_added_up_in_an_overflow_label() -> None:
    """Rule 9: a person in two folded features would count twice."""
    tight = Configuration(labels_max=1)
    page = at(HOUR, [activity(0, feature=name) for name in "xyz"], configuration=tight)
    assert page("adopted_users", "other", "1d") is None
    assert all(value <= 1 for name, value in page.items() if name.startswith("flowmetrics_ado"))
    assert page("active_users", "1d") == 1


def test_value_streams_have_a_budget_of_their_own_and_share_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 9: what is done there is added up, people are not, and each label that was swallowed is counted."""
    monkeypatch.setattr("flowmetrics.steps.tally.VALUE_STREAMS_MAX", 2)
    free = Configuration(value_streams=(("*", ValueStream(states=STATES)),), kpis=("flow_velocity", "active_users"))
    driver = Driver(free)
    for stream in "abcd":
        driver.deliver([line(item(0, "Done", stream, stream=stream)), line(activity(0, stream=stream))])
    driver.advance(T + HOUR)
    total = 'item_type="all",window="1d"}'
    done = {name: n for name, n in driver.values().items() if name.startswith("flowmetrics_flow") and total in name}
    assert done == {
        f'flowmetrics_flow_velocity_items{{value_stream="{stream}",{total}': n
        for stream, n in (("a", 1), ("b", 1), ("other", 2))
    }
    assert [name for name in driver.values() if "active_users" in name and "other" in name] == []
    assert driver.tally.counted["label_overflow", "value_stream"] == 4


def test_the_voice_over_all_touchpoints_is_not_mixed_with_what_overflows() -> None:
    """Rule 9: a total stays one, of whichever segment it is."""
    tight = replace(PLAIN, labels_max=2)
    events = [answer(0, 9, touchpoint="u"), answer(0, 9, "bob", touchpoint="v", segment="p")]
    page = live(HOUR, *events, configuration=tight)
    assert page("nps_responses", "all", "all", "1d") == 2
    assert page("nps_responses", "all", "other", "1d") == page("nps_responses", "other", "other", "1d") == 1


def test_a_label_told_as_the_word_for_the_total_does_not_stand_in_its_place() -> None:
    """Rule 9: contract section 4 keeps "all" for the total of channels, segments and touchpoints."""
    page = at(HOUR, [request(0, "Ready", name, channel=name) for name in ("all", "web")])
    assert [page("requests_open", channel) for channel in ("all", "all_", "web")] == [2, 1, 1]
    page = at(2 * HOUR, [request(0, "Ready", "R", channel="all"), request(HOUR + 1, "Done", "R")])
    assert [page("requests_resolved", channel, "1h") for channel in ("all", "all_")] == [1, 1]
    told_all = {"segment": "all", "stream": "shop"}
    reached = [customer(0, milestone=name, **told_all) for name in ("signed_up", "value_reached")]
    others = [customer(0, "bob", milestone="signed_up", stream="shop")]
    page = at(7 * DAY, [*reached, *others])
    assert [page("value_reached", segment, "7d") for segment in ("all", "all_", "none")] == [0.5, 1, 0]
    assert page("time_to_value", "all_", "30d", "p50") == page("time_to_value", "all", "30d", "p50") == 0
    answers = [answer(0, 10, touchpoint="all", segment="all"), answer(MINUTE, 0, touchpoint="u")]
    page = at(HOUR, answers)
    assert [page("nps_score", touchpoint, "all", "1d") for touchpoint in ("all", "all_", "u")] == [-100, 100, -100]
    assert page("nps_responses", "all_", "all_", "1d") == 1


def test_an_empty_label_is_one_that_was_not_said() -> None:
    """Rule 9: and takes back one that was; a feature without a name is none."""
    page = at(HOUR, [request(0, "Ready", channel=""), request(0, "Ready", "Q", channel="web")])
    assert [page("requests_open", channel) for channel in ("none", "web")] == [1, 1]
    page = at(HOUR, [request(0, "Ready", channel="web"), request(0, "Ready", channel="", sequence=1)])
    assert [page("requests_open", channel) for channel in ("none", "web")] == [1, None]
    page = at(HOUR, [answer(0, 10, touchpoint="", segment=""), activity(0, feature="")])
    assert page("nps_responses", "none", "none", "1d") == 1
    assert not [name for name in page if "feature=" in name]
    milestones = [customer(0, milestone=name, stream="", segment="") for name in ("signed_up", "value_reached")]
    assert at(HOUR, milestones)("time_to_value", "none", "1d", "p50", stream="none") == 0
    assert at(HOUR, [*milestones, activity(0)])("time_to_value", "none", "1d", "p50") == 0


def test_a_label_too_long_is_cut() -> None:
    """Rule 9: a stack trace sent as a channel cannot fill the page; what begins alike is then one."""
    for tail in ("", "y", "yz", "y" * 10_000):
        page = at(HOUR, [request(0, "Ready", channel="x" * 128 + tail), request(0, "Ready", "Q", channel="x" * 128)])
        assert page("requests_open", "x" * 128) == 2
    page = at(HOUR, [item(0, "Doing", stream="x" * 200), activity(0, stream="x" * 200, feature="f" * 200)])
    assert page("flow_load", "all", "active", stream="x" * 128) == 1
    assert page("adopted_users", "f" * 128, "1d", stream="x" * 128) == 1


def test_which_zeros_are_shown_does_not_depend_on_batches() -> None:
    """Rule 10: a type that was corrected at once leaves no series, in two batches as in one."""
    first, second = item(0, "Done", item_type="zzz"), item(0, "Done", item_type="Bug", sequence=1)
    corrected = item(0, "Backlog", sequence=2)
    together = at(HOUR, [first, second, corrected])
    apart = live(HOUR, first, second, corrected)
    assert together == apart
    first, second = request(0, "Ready", channel="x"), request(0, "Ready", channel="y", sequence=1)
    assert at(HOUR, [first, second]) == live(HOUR, first, second)
    assert live(HOUR, first, second)("requests_open", "x") is None


def test_a_value_stream_with_work_in_progress_shows_zero_for_the_other_item_types_and_states() -> None:
    """Rule 10: declared label sets are always shown, also before anything is done there."""
    page = at(HOUR, [item(0, "Doing", item_type="Bug")])
    assert page("flow_load", "defect", "active") == 1
    assert page("flow_load", "defect", "waiting") == 0
    assert page("flow_load", "risk", "active") == 0
    assert page("flow_load", "all", "waiting") == 0


def test_a_channel_whose_requests_are_all_resolved_has_none_open() -> None:
    """Rule 10: zero, and not nothing, while what was resolved lies within the horizon."""
    events = [request(0, "Ready", channel="web"), request(HOUR, "Done"), request(0, "Done", "Q", channel="email")]
    for page in (at(HOUR, events, configuration=SHORT), live(0, *events, HOUR, configuration=SHORT)):
        assert [page("requests_open", channel) for channel in ("all", "web", "email")] == [0, 0, 0]
    page = at(61 * DAY, events, configuration=SHORT)
    assert [page("requests_open", channel) for channel in ("all", "web", "email")] == [None, None, None]
    page = at(2 * HOUR, [*events, request(2 * HOUR, "Cancelled", "Q")])
    assert [page("requests_open", channel) for channel in ("all", "web", "email")] == [0, 0, None]


def test_a_channel_that_is_folded_is_not_said_to_have_none_open() -> None:
    """Rules 9 and 10: it may, among the others."""
    tight = Configuration(value_streams=PLAIN.value_streams, labels_max=1)
    solved = [request(0, "Ready", "Q", channel="y"), request(MINUTE, "Done", "Q")]
    page = live(HOUR, request(0, "Ready", channel="x"), *solved, configuration=tight)
    assert page("requests_resolved", "y", "1d") == 1
    assert [page("requests_open", channel) for channel in ("all", "x", "y")] == [1, 1, None]
    still = [request(0, "Ready", "P", channel="y"), request(0, "Ready", "O", channel="z")]
    page = live(HOUR, request(0, "Ready", channel="x"), *solved, *still, configuration=tight)
    assert [page("requests_open", channel) for channel in ("all", "x", "other", "y")] == [3, 1, 2, None]
    page = live(HOUR, *solved, request(0, "Ready", channel="x"), request(HOUR, "Done"), configuration=tight)
    assert page("requests_open", "all") == 0


def test_a_milestone_told_of_no_value_stream_follows_the_person_to_their_first_activity() -> None:
    """Rule 10: also when the activity comes in a later batch."""
    events = [customer(0, milestone="signed_up"), customer(0, milestone="value_reached"), activity(MINUTE)]
    page = same_in_any_order(HOUR, events)
    assert page("time_to_value", "all", "1d", "p50") == 0
    assert page("time_to_value", "all", "1d", "p50", stream="none") is None


def test_a_milestone_of_no_stream_follows_to_the_first_activity_in_a_stream_that_was_only_named_before() -> None:
    """Rule 10: a stream begins with the first activity there, not with the first word on it."""
    events = [
        customer(0, segment="smb", stream="shop"),
        customer(0, milestone="signed_up"),
        customer(0, milestone="value_reached"),
        activity(MINUTE),
    ]
    page = same_in_any_order(HOUR, events)
    assert page("time_to_value", "smb", "1d", "p50") == 0
    assert page("time_to_value", "all", "1d", "p50", stream="none") is None


def test_an_undeclared_label_is_shown_while_a_retained_pane_of_it_is_filled() -> None:
    """Rule 10: it is zero in windows that do not reach it, and gone with the horizon."""
    events = [item(0, "Doing", item_type="zzz"), item(0, "Done")]
    page = at(2 * DAY, events, configuration=SHORT)
    assert page("flow_velocity", "unmapped", "1d") == 0
    assert page("flow_velocity", "unmapped", "7d") == 1
    page = at(61 * DAY, events, configuration=SHORT)
    assert page("flow_velocity", "unmapped", "1d") is None


def test_a_history_too_long_is_the_same_in_any_order() -> None:
    """Rule 12: the first and the last facts in order stay, never the first to arrive."""
    events = [item(n * MINUTE, ("Ready", "Doing", "Done")[n % 3]) for n in range(1300)]
    page = at(22 * HOUR, events)
    for order in (events[::-1], events[1::2] + events[::2], events[650:] + events[:650]):
        assert at(22 * HOUR, order) == at(22 * HOUR, *([event] for event in order)) == page


def hours(make: Callable[..., Event], **fields: Sequence[Any]) -> list[Event]:
    """Facts an hour apart; of each field the value of that hour."""
    times = range(len(next(iter(fields.values()))))
    return [make(n * HOUR, **{name: values[n] for name, values in fields.items()}) for n in times]


@pytest.mark.parametrize(
    ("limit", "most", "events", "shown", "hidden"),
    [
        pytest.param(
            "transitions.FACTS_PER_HISTORY_MAX",
            2,
            hours(item, state=["Doing", "Parked", "Ready", "Parked", "Done"]),
            {("flow_time", "all", "1d", "p50"): 4 * 3600, ("flow_efficiency", "all", "1d"): 1},
            [],
            id="facts of an item: the first half and the last stay",
        ),
        pytest.param(
            "transitions.FACTS_PER_HISTORY_MAX",
            4,
            hours(request, state=["Ready", "Done", "Ready", "Ready", "Done"]),
            {
                ("request_resolution", "all", "first", "1d", "p50"): 3600,
                ("request_resolution", "all", "full", "1d", "p50"): 4 * 3600,
            },
            [],
            id="facts of a request: the first half and the last stay",
        ),
        pytest.param(
            "transitions.FACTS_PER_HISTORY_MAX",
            2,
            [item(0, "Done", id="1", item_type=kind) for kind in ("Bug", "Chore", "Story")],
            {("flow_velocity", "defect", "1d"): 1},
            [],
            id="facts: also where only their bodies differ",
        ),
        pytest.param(
            "customer.FEATURES_PER_STREAM_MAX",
            1,
            hours(activity, feature=["f", "g", "f", "h"]),
            {("adopted_users", "h", "1d"): 1},
            [("adopted_users", "f", "1d"), ("adopted_users", "g", "1d")],
            id="features: those used last stay",
        ),
        pytest.param(
            "customer.SLOTS_PER_STREAM_MAX",
            2,
            [activity(day * DAY + hour * HOUR) for day, hour in ((0, 0), (1, 0), (1, 1), (2, 0))],
            {("retention_ratio", "on", "d1"): 1, ("stickiness",): 2 / 30, ("active_users", "1d"): 1},
            [],
            id="slots: the latest stay",
        ),
        pytest.param(
            "customer.ANSWERS_PER_SURVEY_MAX",
            2,
            [*(answer(n * HOUR, 3 * n) for n in range(4)), answer(0, 10, touchpoint="u")],
            {("nps_score", "all", "all", "1d"): 100, ("nps_score", "u", "all", "1d"): 100},
            [],
            id="answers: the latest stay, of each touchpoint by itself",
        ),
        pytest.param(
            "customer.MILESTONES_PER_NAME_MAX",
            1,
            [
                *(customer(n * HOUR, milestone="signed_up", stream="shop") for n in (0, 1, 2)),
                *(customer(n * HOUR, milestone="value_reached", stream="shop") for n in (3, 4)),
            ],
            {("time_to_value", "all", "1d", "p50"): 3 * 3600},
            [],
            id="milestones: the earliest stay",
        ),
        pytest.param(
            "customer.MILESTONES_PER_CUSTOMER_MAX",
            2,
            [
                *(customer(n * HOUR, milestone="signed_up", stream="shop") for n in (0, 2)),
                *(customer(n * HOUR, milestone="value_reached", stream="shop") for n in (1, 3)),
                customer(4 * HOUR, milestone="other"),
            ],
            {("time_to_value", "all", "1d", "p50"): 3600},
            [],
            id="milestones of all names: the earliest stay",
        ),
        pytest.param(
            "customer.ANSWERS_PER_PERSON_MAX",
            2,
            [answer(n * HOUR, score, touchpoint=f"{n}") for n, score in enumerate((0, 0, 10, 10))],
            {("nps_score", "all", "all", "1d"): 100},
            [("nps_score", "0", "all", "1d"), ("nps_score", "1", "all", "1d")],
            id="answers of all touchpoints: the latest stay",
        ),
        pytest.param(
            "customer.STREAMS_PER_CUSTOMER_MAX",
            1,
            [activity(0, stream="shop"), activity(HOUR, stream="tool"), customer(2 * HOUR, stream="web")],
            {("active_users", "1d"): 1},
            [],
            id="value streams: the first by name stay",
        ),
    ],
)
def test_a_history_cut_at_its_limit_is_the_same_in_any_order(
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    most: int,
    events: Sequence[Event],
    shown: Mapping[tuple[str, ...], float],
    hidden: Iterable[tuple[str, ...]],
) -> None:
    """Rule 12: limits as they are, but much lower."""
    monkeypatch.setattr(f"flowmetrics.entities.{limit}", most)
    page = same_in_any_order(3 * DAY - HOUR if "retention_ratio" in str(shown) else 6 * HOUR, events)
    assert {labels: page(*labels) for labels in shown} == pytest.approx(shown, rel=0.01)
    assert {page(*labels) for labels in hidden} <= {None}


@pytest.mark.parametrize(
    ("limit", "what", "events"),
    [
        ("transitions.FACTS_PER_HISTORY_MAX", "facts", hours(item, state=["Doing", "Ready", "Done", "Doing"])),
        ("transitions.FACTS_PER_HISTORY_MAX", "facts", hours(request, state=["Doing", "Ready", "Done", "Doing"])),
        ("customer.FEATURES_PER_STREAM_MAX", "features", hours(activity, feature=["f", "g", "h", "i"])),
        ("customer.SLOTS_PER_STREAM_MAX", "slots", [activity(day * DAY) for day in range(4)]),
        ("customer.SLOTS_PER_STREAM_MAX", "slots", [customer(day * DAY, plan=str(day)) for day in range(4)]),
        ("customer.ANSWERS_PER_SURVEY_MAX", "answers", hours(answer, score=[1, 2, 3, 4])),
        ("customer.ANSWERS_PER_PERSON_MAX", "answers", hours(answer, score=[1, 2, 3, 4], touchpoint=[*"abcd"])),
        ("customer.MILESTONES_PER_CUSTOMER_MAX", "milestones", hours(customer, milestone=[*"abcd"])),
        ("customer.STREAMS_PER_CUSTOMER_MAX", "streams", hours(activity, stream=[*"abcd"])),
        ("customer.STREAMS_PER_CUSTOMER_MAX", "streams", hours(customer, stream=[*"abcd"])),
    ],
)
def test_what_is_cut_from_a_history_is_counted(
    monkeypatch: pytest.MonkeyPatch, limit: str, what: str, events: Sequence[Event]
) -> None:
    """Rule 12: four facts where two fit."""
    monkeypatch.setattr(f"flowmetrics.entities.{limit}", 2)
    for order in itertools.permutations(events):
        driver = Driver(PLAIN, T + 4 * DAY)
        told_so = [driver.source.read(line(event), T + 4 * DAY) for event in order]
        assert driver.track(keyed(told_so), driver.histories).counted == {("histories_cut", what): 2}


@pytest.mark.parametrize(
    ("limit", "make"),
    [
        ("transitions.FACTS_PER_HISTORY_MAX", lambda n: item(n * HOUR, "Doing", id=f"{n}")),
        ("transitions.FACTS_PER_HISTORY_MAX", lambda n: request(n * HOUR, "Doing", id=f"{n}")),
        ("customer.FEATURES_PER_STREAM_MAX", lambda n: activity(DAY // 2 + n * SECOND, feature=f"{n}")),
        ("customer.SLOTS_PER_STREAM_MAX", lambda n: activity(n * DAY)),
        ("customer.SLOTS_PER_STREAM_MAX", lambda n: customer(n * DAY, plan=f"{n}", id=f"{n}")),
        ("customer.ANSWERS_PER_SURVEY_MAX", lambda n: answer(n * SECOND, 9, id=f"{n}")),
        ("customer.MILESTONES_PER_NAME_MAX", lambda n: customer(n * SECOND, milestone="signed_up")),
        ("customer.MILESTONES_PER_CUSTOMER_MAX", lambda n: customer(n * SECOND, milestone=f"{n}")),
        ("customer.ANSWERS_PER_PERSON_MAX", lambda n: answer(n * SECOND, 9, id=f"{n}", touchpoint=f"{n}")),
        ("customer.STREAMS_PER_CUSTOMER_MAX", lambda n: activity(n * SECOND, stream=f"{n}")),
        ("customer.STREAMS_PER_CUSTOMER_MAX", lambda n: customer(n * SECOND, stream=f"{n}", id="a")),
    ],
)
def test_a_history_at_its_limit_does_not_grow(
    monkeypatch: pytest.MonkeyPatch, limit: str, make: Callable[[int], Event]
) -> None:
    """Rule 12: as many bytes after forty facts as after thirty."""
    monkeypatch.setattr(f"flowmetrics.entities.{limit}", 2)
    driver, sizes = Driver(PLAIN, T + 100 * DAY), []
    for n in range(10, 51):
        driver.deliver([line(make(n))])
        (history,) = driver.histories.values()
        history.contributed.clear()
        sizes.append(len(msgspec.msgpack.encode(history)))
    assert sizes[20] == sizes[30] == sizes[40]


# --- 13, 14, 15: windows, panes, days -----------------------------------------------------------------------------


def test_the_day_of_active_users_is_the_last_24_hours() -> None:
    """Rule 13: rolling, not the local day."""
    assert at(23 * HOUR, [activity(0)])("active_users", "1d") == 1
    assert at(25 * HOUR, [activity(0)])("active_users", "1d") == 0


def test_stickiness_is_the_mean_of_the_last_30_local_days_over_their_distinct_people() -> None:
    """Rule 13: the days and the people are of the same 30 days, so it is never above 1."""
    everyday = [activity(day * DAY) for day in range(40)]
    once = [activity(5 * DAY, "bob")]
    assert at(39 * DAY, [*everyday, *once])("stickiness") == 1
    assert at(39 * DAY, [*everyday, activity(10 * DAY, "bob")])("stickiness") == pytest.approx(31 / 30 / 2)
    assert at(39 * DAY, [*everyday, activity(39 * DAY, "bob")])("stickiness") == pytest.approx(31 / 30 / 2)
    assert at(39 * DAY, [*everyday, activity(9 * DAY, "bob")])("stickiness") == 1


def test_a_window_leaves_out_its_begin_and_takes_in_its_end() -> None:
    """Rule 14: a pane is (start, end], so an aligned window of an hour is exactly (now - 1 h, now]."""
    done = [item(0, "Done", "I"), item(HOUR, "Done", "J")]
    assert at(HOUR, done)("flow_velocity", "all", "1h") == 1
    assert at(HOUR, [item(1, "Done", "I"), item(HOUR, "Done", "J")])("flow_velocity", "all", "1h") == 2
    uses = [activity(0, "a", feature="f"), activity(1, "b", feature="f"), activity(HOUR, "c", feature="f")]
    page = at(HOUR, uses)
    assert page("active_users", "1h") == page("adopted_users", "f", "1h") == 2


def test_a_window_that_is_not_aligned_ends_now_and_begins_on_the_pane_edge_after_its_begin() -> None:
    """Rule 14: up to one pane short, never long."""
    done = [item(5 * MINUTE, "Done", "I"), item(5 * MINUTE + 1, "Done", "J"), item(HOUR + MINUTE, "Done", "K")]
    assert at(HOUR + MINUTE, done)("flow_velocity", "all", "1h") == 2


def test_what_happens_at_midnight_belongs_to_the_new_day() -> None:
    """Rule 14: also though its pane ends there."""
    day = Configuration(timezone="America/Sao_Paulo")
    midnight = parse_instant("2025-03-05T03:00:00Z") - T
    page = at(midnight + HOUR, [activity(midnight - HOUR), activity(midnight)], configuration=day)
    assert page("stickiness") == pytest.approx(2 / 30)
    page = at(midnight, [activity(midnight - HOUR), activity(midnight)], configuration=day)
    assert page("stickiness") == pytest.approx(2 / 30)
    after = midnight + 29 * DAY
    assert at(after, [activity(midnight), activity(after)], configuration=day)("stickiness") == pytest.approx(2 / 30)


def test_stickiness_moves_at_midnight_itself_also_when_it_was_read_a_second_before() -> None:
    """Rule 14: the first instant of a day ends a pane of the day before."""
    midnight = parse_instant("2025-03-05T00:00:00Z") - T
    events = [activity(midnight - HOUR), activity(midnight + HOUR)]
    driver = Driver(PLAIN)
    driver.deliver([line(event) for event in events])
    sticky = 'flowmetrics_stickiness_ratio{value_stream="shop"}'
    shown = []
    for second in (29 * DAY - 1_000_000, 29 * DAY):
        driver.advance(T + midnight + second)
        shown.append(driver.values()[sticky])
    assert shown == [pytest.approx(2 / 30), pytest.approx(1 / 30)]


@pytest.mark.parametrize(
    ("zone", "begin"),
    [
        ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
        ("Asia/Kathmandu", "2025-03-04T18:15:00Z"),
        ("Australia/Eucla", "2025-03-04T15:15:00Z"),
        ("Asia/Beirut", "2024-03-30T22:00:00Z"),
        ("Africa/Cairo", "2024-04-25T22:00:00Z"),
        ("America/Havana", "2025-03-09T05:00:00Z"),
    ],
)
def test_a_day_begins_at_its_first_instant_that_exists(zone: str, begin: str) -> None:
    """Rule 15: at a midnight that clocks jump over, and at midnights off the full hour."""
    first = parse_instant(begin) - T
    zoned = Configuration(timezone=zone)
    both = at(first + HOUR, [activity(first - 1), activity(first)], configuration=zoned)
    assert both("stickiness") == pytest.approx(2 / 30)
    one = at(first + HOUR, [activity(first), activity(first + HOUR)], configuration=zoned)
    assert one("stickiness") == pytest.approx(1 / 30)


# --- 16: how items and requests are read --------------------------------------------------------------------------


def test_a_fact_is_mapped_by_the_value_stream_on_that_fact() -> None:
    """Rule 16: moving to a stream where "Doing" is done does not back-date a completion."""
    page = at(3 * HOUR, [item(0, "Doing"), item(2 * HOUR, "Doing", stream="other")])
    assert page("flow_velocity", "all", "1h", stream="other") == 0
    assert page("flow_velocity", "all", "1d", stream="other") == 1
    assert page("flow_time", "all", "1d", "p50", stream="other") == pytest.approx(7200, rel=0.01)


def test_done_is_the_entry_into_the_current_unbroken_run_of_done() -> None:
    """Rule 16: a later Closed or a label edit does not move it."""
    events = [item(0, "Doing"), item(HOUR, "Done"), item(3 * HOUR, "Closed"), item(3 * HOUR, "Commented", team="x")]
    page = at(3 * HOUR, events)
    assert page("flow_velocity", "all", "1h") == 0
    assert page("flow_velocity", "all", "1d") == 1
    assert page("flow_time", "all", "1d", "p50") == pytest.approx(3600, rel=0.01)


def test_a_request_is_resolved_when_solved_and_not_when_closed() -> None:
    """Rule 16."""
    page = at(3 * HOUR, [request(0, "Ready"), request(HOUR, "Done"), request(3 * HOUR, "Closed")])
    assert page("requests_resolved", "all", "1h") == 0
    assert page("request_resolution", "all", "full", "1d", "p50") == pytest.approx(3600, rel=0.01)


def test_ignore_stops_the_clock() -> None:
    """Rule 16."""
    page = at(4 * HOUR, [item(0, "Doing"), item(HOUR, "Parked"), item(2 * HOUR, "Doing"), item(3 * HOUR, "Done")])
    assert page("flow_time", "all", "1d", "p50") == pytest.approx(7200, rel=0.01)
    assert page("flow_efficiency", "all", "1d") == 1


def test_ignore_leaves_the_load() -> None:
    """Rule 16."""
    page = at(2 * HOUR, [item(0, "Doing"), item(HOUR, "Parked"), item(0, "Doing", "J")])
    assert page("flow_load", "all", "active") == 1


def test_ignore_does_not_undo_done() -> None:
    """Rule 16: archived after done stays done, also when it is told done again."""
    events = [item(0, "Doing"), item(HOUR, "Done"), item(2 * HOUR, "Parked")]
    assert at(3 * HOUR, events)("flow_velocity", "all", "1d") == 1
    page = at(4 * HOUR, [*events, item(3 * HOUR + MINUTE, "Done")])
    assert page("flow_velocity", "all", "1h") == 0
    assert page("flow_velocity", "all", "1d") == 1
    assert page("items_reopened", "all", "1d") in (0, None)


def test_done_then_cancelled_takes_the_velocity_back() -> None:
    """Rule 16."""
    page = live(item(0, "Doing"), item(0, "Done", sequence=1), HOUR, item(HOUR, "Cancelled"))
    assert page.count("flow_velocity", "all", "1d") == 0
    assert page("flow_time", "all", "1d", "p50") is None


def test_time_back_in_new_is_not_flow_time() -> None:
    """Rule 16: flow time is the seconds in waiting or active before done."""
    page = at(5 * HOUR, [item(0, "Ready"), item(HOUR, "Backlog"), item(3 * HOUR, "Doing"), item(4 * HOUR, "Done")])
    assert page("flow_time", "all", "1d", "p50") == pytest.approx(7200, rel=0.01)


def test_labels_at_completion_are_those_told_up_to_the_completing_fact_in_order() -> None:
    """Rule 16: in order, not by time: a type told later in the same second is too late."""
    events = [
        item(0, "Doing", item_type="Bug"),
        item(HOUR, "Done", sequence=1),
        item(HOUR, "Commented", item_type="Story", sequence=2),
        item(2 * HOUR, "Commented", item_type="Chore"),
    ]
    page = same_in_any_order(3 * HOUR, events)
    assert page("flow_velocity", "defect", "1d") == 1
    assert page("flow_velocity", "feature", "1d") == page("flow_velocity", "debt", "1d") == 0


def test_load_is_by_current_labels() -> None:
    """Rule 16, and definitions 2.0 rule 10."""
    page = at(3 * HOUR, [item(0, "Doing", item_type="Bug"), item(HOUR, "Commented", item_type="Story")])
    assert page("flow_load", "feature", "active") == 1
    assert page.count("flow_load", "defect", "active") == 0


def test_an_absent_field_means_unchanged_so_blocked_ends_only_by_an_explicit_false() -> None:
    """Rule 16."""
    events = [item(0, "Doing", blocked=True), item(HOUR, "Doing"), item(2 * HOUR, "Doing", blocked=False)]
    assert at(HOUR, events)("flow_load", "all", "waiting") == 1
    page = at(4 * HOUR, [*events, item(3 * HOUR, "Done")])
    assert page("flow_efficiency", "all", "1d") == pytest.approx(1 / 3)


def test_deleted_ends_only_by_an_explicit_false_and_the_latest_word_decides() -> None:
    """Rule 16."""
    deleted = [item(0, "Done"), item(HOUR, "Done", deleted=True), item(2 * HOUR, "Done")]
    assert at(3 * HOUR, deleted).count("flow_velocity", "all", "1d") == 0
    assert at(3 * HOUR, [*deleted, item(3 * HOUR, "Done", deleted=False)])("flow_velocity", "all", "1d") == 1
    assert same_in_any_order(3 * HOUR, deleted).count("flow_velocity", "all", "1d") == 0


@pytest.mark.parametrize(
    ("between", "back", "reopens"),
    [
        ([], "Backlog", 1),
        ([], "Ready", 1),
        ([], "Doing", 1),
        (["Parked"], "Doing", 1),
        (["Cancelled"], "Doing", 0),
        (["Commented"], "Done", 0),
        (["Parked"], "Done", 0),
        (["Zzz"], "Closed", 0),
    ],
)
def test_a_reopen_is_leaving_done_for_new_waiting_or_active_also_via_ignore_but_not_via_cancelled(
    between: Iterable[str], back: str, reopens: int
) -> None:
    """Rule 16."""
    states = ["Doing", "Done", *between, back]
    page = at(HOUR, [item(n * MINUTE, state) for n, state in enumerate(states)])
    assert page.count("items_reopened", "all", "1h") == reopens


@pytest.mark.parametrize("word", [{"state": "Cancelled"}, {"state": "Done", "duplicate_of": "R0"}])
def test_a_request_now_cancelled_or_a_duplicate_loses_first_and_full_resolution(word: dict[str, str]) -> None:
    """Rule 16."""
    page = live(request(0, "Ready"), request(0, "Done", sequence=1), HOUR, told("request", HOUR, request="R", **word))
    assert page("request_resolution", "all", "first", "1d", "p50") is None
    assert page("request_resolution", "all", "full", "1d", "p50") is None
    assert page.count("requests_resolved", "all", "1d") == 0
    assert page.count("requests_open", "all") == 0


def test_requests_resolved_counts_those_that_are_resolved_now() -> None:
    """Rule 16: a reopened one keeps only its first resolution."""
    page = live(request(0, "Ready"), request(0, "Done", sequence=1), HOUR, request(HOUR, "Ready"))
    assert page.count("requests_resolved", "all", "1d") == 0
    assert page("request_resolution", "all", "first", "1d", "p50") == 0
    assert page("request_resolution", "all", "full", "1d", "p50") is None
    assert page("requests_open", "all") == 1


def test_age_is_the_time_on_the_clock_from_the_virtual_start() -> None:
    """Rule 16: an hour of work, ten days aside, an hour of work is an age of two hours."""
    events = [item(0, "Doing"), item(HOUR, "Backlog"), item(10 * DAY, "Doing")]
    assert at(10 * DAY + HOUR, events)("item_age", "all", "p50") == pytest.approx(7200, abs=300)


def test_an_item_done_in_the_second_of_its_creation_counts_and_its_flow_time_is_nought_or_unknown() -> None:
    """Contract section 2: done at creation counts in velocity; with `start: created` its flow time is 0."""
    page = at(HOUR, [item(0, "Done")])
    assert page("flow_velocity", "all", "1d") == 1
    assert page("flow_time", "all", "1d", "p50") is None
    created = Configuration(value_streams=(("*", ValueStream(states=STATES, start="created")),))
    for events in ([item(0, "Done")], [item(0, "Backlog"), item(0, "Done")]):
        page = at(HOUR, events, configuration=created)
        assert page("flow_velocity", "all", "1d") == 1
        assert page("flow_time", "all", "1d", "p50") == 0
        assert page("flow_efficiency", "all", "1d") is None


# --- 17: percentiles ----------------------------------------------------------------------------------------------


def test_zero_has_a_bin_of_its_own() -> None:
    """Rule 17: nothing is rounded up from zero, and one second is not zero."""
    events = [item(0, "Doing"), item(0, "Done", sequence=1)]
    assert at(HOUR, events)("flow_time", "all", "1d", "p50") == 0
    later = [item(0, "Doing"), item(1_000_000, "Done")]
    assert at(HOUR, later)("flow_time", "all", "1d", "p50") == pytest.approx(1, rel=0.01)


def test_a_negative_duration_is_zero() -> None:
    """Rule 17: value reached before the start, by a clock or by provisioning."""
    events = [
        customer(HOUR, milestone="signed_up", stream="shop"),
        customer(0, milestone="value_reached", stream="shop"),
    ]
    assert same_in_any_order(2 * HOUR, events)("time_to_value", "all", "1d", "p50") == 0


def test_ages_are_exact_to_one_pane() -> None:
    """Rule 17: beyond 1 % under 500 minutes of age."""
    for minutes in (0, 1, 5, 7, 60):
        age = at(HOUR, [item(HOUR - minutes * MINUTE, "Doing")])("item_age", "all", "p50")
        assert age == pytest.approx(minutes * 60, abs=300)


def test_an_age_grows_by_the_second_also_where_nothing_happens() -> None:
    """Rule 17: within a pane, between two readings."""
    driver = Driver(PLAIN)
    driver.deliver([line(item(0, "Doing"))])
    ages = []
    for second in (1, 2, 60):
        driver.advance(T + HOUR + second * 1_000_000)
        ages.append(
            driver.values()['flowmetrics_item_age_seconds{value_stream="shop",item_type="all",percentile="p50"}']
        )
    assert [age - ages[0] for age in ages] == [0, 1, 59]


def test_the_rank_of_a_percentile_is_an_integer() -> None:
    """Rule 17: (p n + 99) // 100: of twenty items the 95th percentile is the nineteenth."""
    events = [one for n in range(1, 21) for one in (item(0, "Doing", str(n)), item(n * n * MINUTE, "Done", str(n)))]
    page = at(DAY, events)
    for percentile, rank in (("p50", 10), ("p85", 17), ("p95", 19)):
        assert page("flow_time", "all", "1d", percentile) == pytest.approx(rank * rank * 60, rel=0.01)


def test_a_bin_that_is_negative_for_a_moment_is_absent_and_not_an_error() -> None:
    """Rule 17: the two halves of a move can arrive from different partitions."""
    ranked = Ranked({3: -1, 7: 1})
    assert ranked.total == 1
    assert ranked.percentile(50) == 7


# --- 18: erasure --------------------------------------------------------------------------------------------------


def test_an_erase_hides_what_was_before_it_in_any_order_and_also_when_redelivered() -> None:
    """Rule 18: an erase is a fact."""
    before, after = answer(0, 0), answer(2 * HOUR, 10)
    page = same_in_any_order(3 * HOUR, [before, told("erase", HOUR, person="ann"), after, before])
    assert page("nps_responses", "all", "all", "1d") == 1
    assert page("nps_score", "all", "all", "1d") == 100
    page = same_in_any_order(90 * MINUTE, [before, told("erase", HOUR, person="ann")])
    assert page("nps_responses", "all", "all", "1d") is None


def test_an_erase_hides_the_activity_of_its_whole_day() -> None:
    """Rule 18: activity is told apart by UTC day, so nothing of that day can stay."""
    events = [activity(0), told("erase", HOUR, person="ann"), activity(2 * HOUR), activity(DAY)]
    page = same_in_any_order(3 * HOUR, events[:3])
    assert page("active_users", "1d") in (None, 0)
    page = same_in_any_order(DAY, events)
    assert page("active_users", "1d") == 1
    assert page("stickiness") == pytest.approx(1 / 30)


def test_an_erase_hides_the_segment_that_activity_of_its_day_told_and_no_other_in_any_order() -> None:
    """Rule 18: the segment goes with the activity that told it; what is told otherwise is hidden to the instant."""
    signed_up = [customer(2 * HOUR, milestone=name, stream="shop") for name in ("signed_up", "value_reached")]
    erased = told("erase", HOUR, person="ann")
    page = same_in_any_order(3 * HOUR, [erased, *signed_up, activity(2 * HOUR, segment="smb")])
    assert page("time_to_value", "none", "1d", "p50") == 0
    assert page("time_to_value", "smb", "1d", "p50") is None
    page = same_in_any_order(3 * HOUR, [erased, *signed_up, customer(2 * HOUR, segment="smb")])
    assert page("time_to_value", "smb", "1d", "p50") == 0
    page = same_in_any_order(DAY, [erased, *signed_up, activity(DAY, segment="smb")])
    assert page("time_to_value", "smb", "1d", "p50") == 0


def test_an_erase_hides_milestones_and_attributes_told_before_it() -> None:
    """Rule 18."""
    events = [
        customer(0, milestone="signed_up", segment="smb", stream="shop"),
        told("erase", HOUR, person="ann"),
        customer(2 * HOUR, milestone="value_reached", stream="shop"),
    ]
    page = same_in_any_order(8 * DAY, events)
    assert page("value_reached", "all", "7d") is page("value_reached", "smb", "7d") is None
    assert page("time_to_value", "all", "30d", "p50") is page("time_to_value", "smb", "30d", "p50") is None


def test_an_erase_hides_where_somebody_was_known() -> None:
    """Rule 18: a plan that is told again later makes nobody eligible where they are no longer known."""
    rules = replace(PLAIN, eligible={"search": {"plan": ("pro",)}})
    events = [
        customer(0, plan="pro", stream="shop"),
        told("erase", HOUR, person="ann"),
        customer(2 * HOUR, plan="pro", stream="help"),
    ]
    page = same_in_any_order(3 * HOUR, events, rules)
    assert page.count("eligible_users", "search", "1d") == 0
    assert page("eligible_users", "search", "1d", stream="help") == 1


def test_an_erase_hides_the_aliases_told_before_it_in_any_order() -> None:
    """Rule 18: an alias is a fact of the person like any other; it neither joins nor stays."""
    events = [
        customer(0, "a", aliases=["b"]),
        told("erase", HOUR, person="a"),
        activity(DAY, "a"),
        activity(DAY, "b"),
    ]
    assert same_in_any_order(DAY + HOUR, events)("active_users", "1d") == 2


def test_an_erase_spreads_over_the_links_known_at_its_time() -> None:
    """Rule 18: the person is erased under all their ids."""
    events = [
        answer(0, 10, "b"),
        customer(0, "a", aliases=["b"]),
        told("erase", HOUR, person="a"),
        answer(0, 0, "c"),
    ]
    page = same_in_any_order(2 * HOUR, events)
    assert page("nps_responses", "all", "all", "1d") == 1
    assert page("nps_score", "all", "all", "1d") == -100


def test_an_erase_reaches_an_id_whose_link_was_withdrawn_before_in_any_order() -> None:
    """Rule 18 and docs/decisions/4-links.md: deleting cannot be undone, so it must not hang on what arrives later."""
    events = [
        answer(0, 10, "b"),
        customer(0, "a", aliases=["b"]),
        customer(HOUR, "a", aliases=[]),
        told("erase", 2 * HOUR, person="a"),
        answer(3 * HOUR, 0, "b"),
    ]
    page = same_in_any_order(4 * HOUR, events)
    assert page("nps_responses", "all", "all", "1d") == 1
    assert page("nps_score", "all", "all", "1d") == -100


def test_an_erase_does_not_reach_an_id_that_is_linked_only_later() -> None:
    """Rule 18: links known at its time, no others."""
    events = [answer(0, 10, "b"), told("erase", HOUR, person="a"), customer(2 * HOUR, "a", aliases=["b"])]
    assert same_in_any_order(3 * HOUR, events)("nps_responses", "all", "all", "1d") == 1


def test_an_erase_reaches_an_id_that_was_linked_before_and_is_linked_again_later() -> None:
    """Rule 18: since when two were linked is asked, not when it was said last."""
    events = [
        answer(0, 10, "b"),
        customer(0, "a", aliases=["b"]),
        told("erase", HOUR, person="a"),
        customer(2 * HOUR, "a", aliases=["b"]),
    ]
    assert same_in_any_order(3 * HOUR, events).count("nps_responses", "all", "all", "1d") == 0
