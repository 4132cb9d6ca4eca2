"""A customer or employee: when they were active, their milestones and attributes, and their survey answers.

A customer may have millions of events, so the history is reduced: of activity the first and the last slot of each UTC
day and value stream, of each attribute the latest word, of milestones the earliest few, of answers the latest few.
Each of these is a function of the set of facts, so union, order and repetition do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from flowmetrics.configuration import Configuration, Memo
from flowmetrics.entities.slots import insert_slot, slot_begin, slot_of
from flowmetrics.entity import Contribution, Counted, Entity, Part
from flowmetrics.events import ActivityEvent, CustomerEvent, EraseEvent, Event, ResponseEvent, sequence_number
from flowmetrics.instants import DAY_US
from flowmetrics.limits import (
    ANSWERS_PER_SURVEY_MAX,
    FEATURES_PER_CUSTOMER_MAX,
    LATENESS_DAYS,
    MILESTONES_PER_NAME_MAX,
)

RECENCY: Final = "recency"
"""Facet read per value stream: when the person was there last."""
DAYS: Final = "days"
"""Facet read per value stream: the local days on which the person was active."""
MILESTONES: Final = "milestones"
ANSWERS: Final = "answers"

_RECENCY_OF: Final = Memo[Sequence[Part]](lambda stream: (f"{RECENCY}:{stream}",))
_VISITS_OF: Final = Memo[Sequence[Part]](lambda stream: (f"{RECENCY}:{stream}", f"{DAYS}:{stream}"))
_OF_ALL_STREAMS: Final[Sequence[Part]] = (MILESTONES, ANSWERS)

AHEAD_US: Final = 40 * DAY_US
"""Retention over days 30 to 36 is known at the end of the 37th day, which may be 25 hours long."""

Order: TypeAlias = tuple[int, int, str, str]
"""time, sequence, id, source: the order of the facts that set an attribute."""


class Answer(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """The latest version of one survey response."""

    at: int
    sequence: int
    id: str
    source: str
    value_stream: str
    survey: str
    touchpoint: str
    segment: str
    score: int


class Visits(msgspec.Struct, array_like=True, gc=False):
    """A person in one value stream: slots of activity, slot of the last use of each feature, and the instant of the
    latest customer event naming the stream."""

    slots: list[int] = []
    uses: dict[str, int] = {}
    known_at: int = -1


class CustomerHistory(msgspec.Struct, array_like=True, gc=False):
    """The facts of one person.

    `visits`: by value stream. `attributes`: name → (order, value) of the latest word. `milestones`: name → value
    stream, or "" for all of them → instants, earliest first. `answers`: response id → latest version. `aliases`:
    (order, other ids) as last told. `erased_at`: facts up to it are hidden.
    """

    visits: dict[str, Visits] = {}
    attributes: dict[str, tuple[Order, str]] = {}
    milestones: dict[str, dict[str, list[int]]] = {}
    answers: dict[str, Answer] = {}
    aliases: tuple[Order, list[str]] | None = None
    erased_at: int = -1
    latest_at: int = -1
    contributed: dict[Part, list[Contribution]] = {}
    mentioned: list[str] = []
    mentions: list[str] = []

    def parts(self) -> Sequence[Part]:
        """Recency and days of each value stream, milestones, answers."""
        return [*(part for stream in self.visits for part in _VISITS_OF[stream]), *_OF_ALL_STREAMS]

    def _visits(self, stream: str) -> Visits:
        visits = self.visits.get(stream)
        if visits is None:
            visits = self.visits[stream] = Visits()
        return visits

    def last_at(self) -> int:
        """The instant of the latest fact; -1 while the person was only mentioned."""
        return self.latest_at

    def act(self, event: ActivityEvent, at: int, configuration: Configuration, counted: Counted) -> Sequence[Part]:
        """Join an activity; the resolution gives the grain of activity, the horizon how far back it is kept."""
        told = event.data
        if told.actor != "human" or at < _day_after(self.erased_at):
            return ()
        if at > self.latest_at:
            self.latest_at = at
        stream = told.value_stream
        visits = self.visits.get(stream)
        if visits is None:
            visits = self.visits[stream] = Visits()
        slots = visits.slots
        grain_us = configuration.grain_us
        slot = slot_of(at, grain_us)
        newest = slots[-1] if slots else -1
        parts: Sequence[Part] = ()
        if slot != newest and insert_slot(slots, slot, grain_us):
            parts = _RECENCY_OF[stream]
            if newest < 0 or slot < newest or not configuration.same_day(newest, slot):
                parts = _VISITS_OF[stream]
                _drop_old(slots, slots[-1] - 2 * kept_us(configuration) // grain_us)
        if told.feature and slot > visits.uses.get(told.feature, -1):
            self._use(told.feature, visits.uses, slot, counted)
            parts = parts or _RECENCY_OF[stream]
        if told.segment is not None and self._set("segment", told.segment, event, at):
            parts = self.parts()
        return parts

    def _use(self, feature: str, uses: dict[str, int], slot: int, counted: Counted) -> None:
        uses[feature] = slot
        if len(uses) > FEATURES_PER_CUSTOMER_MAX:
            counted["histories_cut", "features"] += 1
            del uses[min(uses, key=lambda name: (uses[name], name))]

    def learn(self, event: CustomerEvent, at: int, configuration: Configuration, counted: Counted) -> Sequence[Part]:
        """Join what is told about a customer."""
        if at <= self.erased_at:
            return ()
        self.latest_at = max(self.latest_at, at)
        told = event.data
        changed = False
        for name in ("segment", "plan", "account", "kind"):
            value = getattr(told, name)
            if value is not None:
                changed |= self._set(name, value, event, at)
        if told.value_stream and at > self._visits(told.value_stream).known_at:
            self._visits(told.value_stream).known_at = at
            changed = True
        if told.milestone:
            instants = self.milestones.setdefault(told.milestone, {}).setdefault(told.value_stream or "", [])
            if at not in instants:
                instants.append(at)
                instants.sort()
                del instants[MILESTONES_PER_NAME_MAX:]
                changed = True
        if told.aliases is not None:
            word = (_event_order(event, at), told.aliases)
            if self.aliases is None or word > self.aliases:
                self.aliases = word
                self.mentions = sorted(f"customer:{alias}" for alias in told.aliases)
                changed = True
        return self.parts() if changed else ()

    def answer(self, event: ResponseEvent, at: int, configuration: Configuration, counted: Counted) -> Sequence[Part]:
        """Join an answer to a survey; the latest version of a response replaces it whole."""
        if at <= self.erased_at:
            return ()
        self.latest_at = max(self.latest_at, at)
        told = event.data
        answer = Answer(
            *_event_order(event, at),
            told.value_stream,
            told.survey,
            told.touchpoint or "",
            told.segment or "",
            told.score,
        )
        response = told.response or event.id
        held = self.answers.get(response)
        if held is not None and answer_order(held) >= answer_order(answer):
            return ()
        self.answers[response] = answer
        kin = [r for r, a in self.answers.items() if _kind(a) == _kind(answer)]
        if len(kin) > ANSWERS_PER_SURVEY_MAX:
            counted["histories_cut", "answers"] += 1
            del self.answers[min(kin, key=lambda r: answer_order(self.answers[r]))]
        return _OF_ALL_STREAMS[1:]

    def _set(self, name: str, value: str, event: ActivityEvent | CustomerEvent, at: int) -> bool:
        word = (_event_order(event, at), value)
        held = self.attributes.get(name)
        if held is not None and held >= word:
            return False
        self.attributes[name] = word
        return True

    def erase(self, event: EraseEvent, at: int, configuration: Configuration, counted: Counted) -> Sequence[Part]:
        """Hide and delete the facts up to `at`."""
        if at <= self.erased_at:
            return ()
        self.latest_at = max(self.latest_at, at)
        parts = self.parts()
        self.erased_at = at
        oldest = 2 * _day_after(at) // configuration.grain_us
        for visits in self.visits.values():
            visits.slots = [slot for slot in visits.slots if slot >= oldest]
            visits.uses = {feature: slot for feature, slot in visits.uses.items() if slot >= oldest}
            visits.known_at = visits.known_at if visits.known_at > at else -1
        self.attributes = {n: word for n, word in self.attributes.items() if word[0][0] > at}
        self.milestones = {
            name: {v: kept for v, instants in streams.items() if (kept := [t for t in instants if t > at])}
            for name, streams in self.milestones.items()
        }
        self.answers = {r: a for r, a in self.answers.items() if a.at > at}
        return parts

    def absorb(self, other: CustomerHistory, configuration: Configuration) -> None:
        """Join all facts of another id of the same person."""
        grain_us = configuration.grain_us
        for stream, theirs in other.visits.items():
            visits = self._visits(stream)
            for slot in theirs.slots:
                insert_slot(visits.slots, slot, grain_us)
            visits.uses.update({f: slot for f, slot in theirs.uses.items() if slot > visits.uses.get(f, -1)})
            visits.known_at = max(visits.known_at, theirs.known_at)
        for name, word in other.attributes.items():
            self.attributes[name] = max(word, self.attributes.get(name, word))
        for name, streams in other.milestones.items():
            for stream, instants in streams.items():
                own_instants = self.milestones.setdefault(name, {}).setdefault(stream, [])
                own_instants[:] = sorted({*own_instants, *instants})[:MILESTONES_PER_NAME_MAX]
        for response, answer in other.answers.items():
            held = self.answers.get(response)
            if held is None or answer_order(answer) > answer_order(held):
                self.answers[response] = answer


def _day_after(at: int) -> int:
    """The first instant of the next UTC day: activity is told apart by day, so erasing hides the whole day."""
    return (at // DAY_US + 1) * DAY_US


def kept_us(configuration: Configuration) -> int:
    """How far before the latest fact activity is kept; what is older lies outside every reading."""
    return configuration.horizon_us + AHEAD_US + LATENESS_DAYS * DAY_US


def _drop_old(slots: list[int], oldest: int) -> None:
    while slots[0] < oldest:
        del slots[0]


def answer_order(answer: Answer) -> tuple[int, int, str, str, bytes]:
    """The total order of versions and answers: the greatest is the latest."""
    return (answer.at, answer.sequence, answer.id, answer.source, msgspec.json.encode(answer))


def _event_order(event: Event, at: int) -> Order:
    return (at, sequence_number(event.sequence), event.id, event.source)


def _kind(answer: Answer) -> tuple[str, str, str]:
    return (answer.value_stream, answer.survey, answer.touchpoint)


_NEVER: Final = Visits()


class CustomerStory(msgspec.Struct, gc=False):
    """The facts of a person under all their ids, the configuration that reads them, and the value stream in question.

    `stream` is "" for the facets that are read over all value streams at once.
    """

    facts: CustomerHistory
    configuration: Configuration
    stream: str

    def attribute(self, name: str) -> str:
        """The latest word on segment, plan, account or kind; "" when none was said."""
        word = self.facts.attributes.get(name)
        return word[1] if word else ""

    @property
    def visits(self) -> Visits:
        """The person in the value stream in question."""
        return self.facts.visits.get(self.stream) or _NEVER

    def active_days(self) -> list[int]:
        """The local days of activity in the value stream since the last long silence, in order."""
        day, grain_us = self.configuration.calendar.day, self.configuration.grain_us
        return list(dict.fromkeys([day(slot_begin(slot, grain_us)) for slot in self._since_silence()]))

    def _since_silence(self) -> list[int]:
        slots = self.visits.slots
        silence = 2 * (self.configuration.horizon_us + AHEAD_US) // self.configuration.grain_us
        if not slots or slots[-1] - slots[0] <= silence:
            return slots
        gaps = (i for i in range(len(slots) - 1, 0, -1) if slots[i] - slots[i - 1] > silence)
        return slots[next(gaps, 0) :]

    def milestone(self, name: str, stream: str) -> int | None:
        """The earliest milestone of a name in a value stream, or told of no stream in particular."""
        streams = self.facts.milestones.get(name, {})
        instants = streams.get(stream, []) + streams.get("", [])
        return min(instants, default=None)


def read_customer(
    history: CustomerHistory, configuration: Configuration, part: Part, lent: Mapping[str, CustomerHistory]
) -> CustomerStory:
    """The story of one part of a person; `lent` are the histories of their other ids."""
    if lent:
        union = CustomerHistory()
        for facts in (history, *lent.values()):
            union.absorb(facts, configuration)
        history = union
    return CustomerStory(history, configuration, part.partition(":")[2])


CUSTOMER: Final = Entity(
    "customer",
    CustomerHistory,
    {
        ActivityEvent: (lambda event: f"customer:{event.data.customer}", CustomerHistory.act),
        CustomerEvent: (lambda event: f"customer:{event.data.customer}", CustomerHistory.learn),
        ResponseEvent: (lambda event: f"customer:{event.data.respondent}", CustomerHistory.answer),
        EraseEvent: (lambda event: f"customer:{event.data.person}", CustomerHistory.erase),
    },
    read_customer,
    lambda configuration: AHEAD_US,
    symmetric=True,
)
