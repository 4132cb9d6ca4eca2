"""The demo's company tells what the contract says, the same every time, and its slump is there to be seen."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from statistics import mean, median

import msgspec
import pytest

from agents.demo.producers import Company
from flowmetrics.events import (
    EVENT_TYPES,
    ActivityEvent,
    CustomerEvent,
    Envelope,
    Event,
    ItemEvent,
    RequestEvent,
    ResponseEvent,
)
from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US, SECOND_US, instant_of, parse_instant

BEGIN = parse_instant("2025-03-05T10:13:20Z")
DAYS = 45
LIVE_US = 11 * MINUTE_US
HEALTHY = ("search", "mobile-app")
DECODER = msgspec.json.Decoder(Event)


class Told:
    """What a company told, decoded."""

    def __init__(self, seed: int) -> None:
        self.company = Company(seed, BEGIN)
        self.past = [DECODER.decode(line) for line in self.company.past(DAYS)]
        self.live = [DECODER.decode(line) for line in self.company.until(BEGIN + LIVE_US)]

    @property
    def events(self) -> list[Event]:
        return self.past + self.live

    def steady(self, stream: str) -> list[Event]:
        return [e for e in self.live if e.data.value_stream == stream and at(e) < self.company.slump_at]

    def slumped(self, stream: str) -> list[Event]:
        return [e for e in self.live if e.data.value_stream == stream and at(e) >= self.company.slump_at]

    def minutes(self, *, slumped: bool) -> float:
        before_us = self.company.slump_at - BEGIN
        return (LIVE_US - before_us if slumped else before_us) / MINUTE_US

    def flow_days(self, events: Iterable[Event]) -> list[float]:
        """The time from the first state after the backlog to done of the items done among these events."""
        begun: dict[str, int] = {}
        for event in self.events:
            if isinstance(event, ItemEvent) and event.data.state != "Backlog":
                begun.setdefault(event.data.item, at(event))
        done = [e for e in events if isinstance(e, ItemEvent) and e.data.state == "Done"]
        return [(at(e) - begun[e.data.item]) / DAY_US for e in done]

    def velocity(self, stream: str, now: int) -> int:
        """The items that were done in the 24 hours before and still are."""
        items = (e for e in self.events if isinstance(e, ItemEvent) and e.data.value_stream == stream and at(e) <= now)
        latest = {e.data.item: e for e in items}
        return sum(e.data.state == "Done" and at(e) > now - DAY_US for e in latest.values())

    def active_users(self, stream: str, now: int) -> int:
        acts = (e for e in self.events if isinstance(e, ActivityEvent) and e.data.actor == "human")
        return len({e.data.customer for e in acts if e.data.value_stream == stream and now - DAY_US < at(e) <= now})


def at(event: Envelope) -> int:
    return instant_of(event.time)


def scores(events: Iterable[Event], survey: str) -> list[int]:
    return [e.data.score for e in events if isinstance(e, ResponseEvent) and e.data.survey == survey]


def states(events: Iterable[Event], of: type[ItemEvent] | type[RequestEvent]) -> Counter[str]:
    return Counter(e.data.state for e in events if isinstance(e, of))


@pytest.fixture(scope="module", params=[7, 8])
def told(request: pytest.FixtureRequest) -> Told:
    return Told(request.param)


def test_the_same_seed_and_beginning_tell_the_same_bytes() -> None:
    def lines(seed: int) -> list[bytes]:
        company = Company(seed, BEGIN)
        return [*company.past(days=3), *company.until(BEGIN + MINUTE_US)]

    assert lines(1) == lines(1)
    assert lines(1) != lines(2)


def test_the_present_is_the_same_in_small_steps_as_in_one() -> None:
    leaping, stepping = Company(1, BEGIN), Company(1, BEGIN)
    for company in (leaping, stepping):
        assert len(list(company.past(days=3))) > 1000
    stepped = [line for s in range(180) for line in stepping.until(BEGIN + (s + 1) * SECOND_US)]
    assert stepped == leaping.until(BEGIN + 180 * SECOND_US)


def test_the_present_needs_a_past() -> None:
    with pytest.raises(AssertionError, match="ask for the past first"):
        Company(1, BEGIN).until(BEGIN)


def test_every_day_and_hour_can_be_the_beginning() -> None:
    for hour in range(0, 7 * 24, 5):
        company = Company(1, BEGIN + hour * HOUR_US)
        assert all(DECODER.decode(line) for line in company.past(days=2))
        assert company.slump_at < company.sale_at <= company.slump_at + 5 * MINUTE_US


def test_work_and_requests_are_open_when_the_past_begins_and_what_was_over_is_not_told(told: Told) -> None:
    first = [e for e in told.past if at(e) == BEGIN - DAYS * DAY_US]
    items, requests = states(first, ItemEvent), states(first, RequestEvent)
    assert items.keys() == {"Backlog", "Ready", "In Progress", "In Review"}
    assert requests.keys() == {"Open", "Pending"}
    at_last = {e.data.item: e.data.state for e in told.past if isinstance(e, ItemEvent)}
    assert 0.7 < items.total() / sum(state not in {"Done", "Cancelled"} for state in at_last.values()) < 1.4
    assert requests.total() > 150


def test_no_chance_makes_open_work_older_than_usual_at_any_hour_of_the_week() -> None:
    end = BEGIN - BEGIN % (7 * DAY_US) + 7 * DAY_US - SECOND_US  # the same company as at any hour of the week before
    for stream, spans in work(Company(7, end), DAYS).items():
        for hour in range(0, 7 * 24, 4):
            weeks = [age(spans, end - hour * HOUR_US - week * 7 * DAY_US) for week in range(5)]
            assert weeks[0] < 1.25 * median(weeks[1:]), f"{stream}, {hour} hours before the end of the week"


def test_the_work_of_a_company_is_the_same_at_whatever_hour_it_is_looked_at() -> None:
    here, later = (work(Company(7, BEGIN + hours * HOUR_US), 20) for hours in (0, 50))
    for stream, spans in here.items():
        settled = {span for span in spans if span[0] > BEGIN - 15 * DAY_US and span[1] < BEGIN}
        assert len(settled) > 300
        assert settled <= set(later[stream])


def work(company: Company, days: int) -> dict[str, list[tuple[int, int]]]:
    """By value stream when each of its items was begun, and when it was over; at the end of time if it is open."""
    spans: dict[str, dict[str, tuple[int, int]]] = {}
    for event in map(DECODER.decode, company.past(days)):
        if isinstance(event, ItemEvent) and event.data.state != "Backlog":
            known = spans.setdefault(event.data.value_stream, {})
            begun, over = known.get(event.data.item, (at(event), sys.maxsize))
            ends = event.data.state in {"Done", "Cancelled"}
            known[event.data.item] = (begun, min(over, at(event)) if ends else over)
    return {stream: list(known.values()) for stream, known in spans.items()}


def age(spans: list[tuple[int, int]], now: int) -> float:
    """The age in days of which 85 % of the open work is younger."""
    ages = sorted(now - begun for begun, over in spans if begun <= now < over)
    return ages[len(ages) * 85 // 100] / DAY_US


def test_events_are_in_order_and_within_bounds(told: Told) -> None:
    past, live = [at(e) for e in told.past], [at(e) for e in told.live]
    assert past == sorted(past)
    assert past[0] >= BEGIN - DAYS * DAY_US
    assert past[-1] < BEGIN
    assert live == sorted(live)
    assert live[0] > BEGIN
    assert live[-1] <= BEGIN + LIVE_US
    assert told.company.until(BEGIN + LIVE_US) == []


def test_ids_are_unique_and_types_are_those_of_the_contract(told: Told) -> None:
    assert len({e.id for e in told.events}) == len(told.events)
    kinds = {type(e) for e in told.events}
    assert kinds == {ItemEvent, RequestEvent, ActivityEvent, CustomerEvent, ResponseEvent}
    assert kinds <= set(EVENT_TYPES.values())


def test_there_is_enough_to_see_and_not_too_much(told: Told) -> None:
    assert 60_000 <= len(told.past) <= 120_000
    for slumped in (False, True):
        events = [e for e in told.live if (at(e) >= told.company.slump_at) == slumped]
        assert 18 <= len(events) / told.minutes(slumped=slumped) / 60 <= 40


def test_the_past_holds_every_kind_of_story(told: Told) -> None:
    items = [e.data for e in told.past if isinstance(e, ItemEvent)]
    assert {i.state for i in items} == {"Backlog", "Ready", "In Progress", "In Review", "Done", "Cancelled"}
    assert {i.item_type for i in items} == {"Story", "Bug", "Security", "Chore", None}
    assert {i.blocked for i in items} == {True, False, None}
    requests = [e.data for e in told.past if isinstance(e, RequestEvent)]
    assert {r.state for r in requests} == {"Open", "Pending", "Solved"}
    assert {r.channel for r in requests} == {"web", "email", "phone", "chatbot", None}
    milestones = {e.data.milestone for e in told.past if isinstance(e, CustomerEvent)}
    assert milestones == {"signed_up", "onboarded", "value_reached", None}
    assert {e.data.actor for e in told.past if isinstance(e, ActivityEvent)} == {"human", "bot"}
    assert {e.data.survey for e in told.past if isinstance(e, ResponseEvent)} == {"nps", "csat", "ces", "enps"}
    assert max(Counter(i.item for i in items if i.state == "Done").values()) == 2


def test_nobody_answers_or_acts_before_signing_up(told: Told) -> None:
    joined = {
        e.data.customer: at(e) for e in told.events if isinstance(e, CustomerEvent) and e.data.milestone == "signed_up"
    }
    for event in told.events:
        if isinstance(event, ActivityEvent | ResponseEvent):
            person = event.data.customer if isinstance(event, ActivityEvent) else event.data.respondent
            assert at(event) >= joined.get(person, 0)


def test_what_is_finished_in_the_slump_took_several_times_longer(told: Told) -> None:
    def usually(*streams: str) -> float:
        return median(told.flow_days(e for e in told.past if e.data.value_stream in streams))

    assert median(told.flow_days(told.slumped("checkout"))) > 1.7 * usually("checkout")
    healthy = [e for stream in HEALTHY for e in told.steady(stream) + told.slumped(stream)]
    assert 0.6 < median(told.flow_days(healthy)) / usually(*HEALTHY) < 1.6


def test_velocity_grows_with_the_clock_of_the_demo_but_for_the_slump(told: Told) -> None:
    def each_minute(stream: str, begin: int, end: int) -> float:
        return (told.velocity(stream, end) - told.velocity(stream, begin)) / (end - begin) * MINUTE_US

    slump_at, end = told.company.slump_at, BEGIN + LIVE_US
    assert each_minute("checkout", slump_at, end) < 0.7 * each_minute("checkout", BEGIN, slump_at)
    for stream in HEALTHY:
        assert each_minute(stream, BEGIN, end) > 1.5


def test_more_waits_in_the_slump(told: Told) -> None:
    def each_minute(slumped: bool) -> tuple[float, float]:
        events = told.slumped("checkout") if slumped else told.steady("checkout")
        requests = states(events, RequestEvent)
        blocked = sum(isinstance(e, ItemEvent) and e.data.blocked is True for e in events)
        minutes = told.minutes(slumped=slumped)
        return (requests["Open"] - requests["Solved"]) / minutes, blocked / minutes

    (piled, blocked), (usually_piled, usually_blocked) = each_minute(True), each_minute(False)
    assert piled > usually_piled + 5
    assert blocked > 1.5 * usually_blocked
    for stream in HEALTHY:
        requests = states(told.steady(stream) + told.slumped(stream), RequestEvent)
        assert abs(requests["Open"] - requests["Solved"]) < 20


def test_opinions_of_checkout_turn_sour_and_others_do_not(told: Told) -> None:
    healthy = [e for stream in HEALTHY for e in told.steady(stream) + told.slumped(stream)]
    for survey, fall in (("nps", 1.8), ("csat", 0.9), ("ces", 1.2)):
        usual = mean(scores(told.past, survey))
        assert mean(scores(told.slumped("checkout"), survey)) < usual - fall
        assert mean(scores(healthy, survey)) > usual - fall


def test_checkout_loses_a_third_of_its_active_users_when_the_sale_does_not_open(told: Told) -> None:
    begin, end = told.company.slump_at, BEGIN + LIVE_US
    assert 0.6 < told.active_users("checkout", end) / told.active_users("checkout", begin) < 0.8
    for stream in HEALTHY:
        assert 1.0 <= told.active_users(stream, end) / told.active_users(stream, begin) < 1.35


def test_the_story_says_when_to_look() -> None:
    story = Company(1, BEGIN).story
    assert "At 10:15 UTC checkout slumps" in story
    assert "At 10:20 UTC its daily flash sale does not open" in story
