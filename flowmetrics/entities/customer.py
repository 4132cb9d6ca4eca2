"""A customer or employee: when they were active, their milestones and attributes, and their survey answers.

A customer may have millions of events, so the history is reduced: of activity the first and the last slot of each UTC
day and value stream, of each attribute the latest word, of milestones the earliest few, of answers the latest few.
Each of these is a function of the set of facts, so union, order and repetition do not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from flowmetrics.configuration import Configuration
from flowmetrics.entities.slots import insert_slot, slot_begin, slot_of
from flowmetrics.entity import NOTHING, Contribution, Entity
from flowmetrics.events import ActivityEvent, CustomerEvent, EraseEvent, Event, ResponseEvent, sequence_number
from flowmetrics.instants import DAY_US, MINUTE_US
from flowmetrics.limits import (
    ANSWERS_PER_SURVEY_MAX,
    FEATURES_PER_CUSTOMER_MAX,
    LATENESS_DAYS,
    MILESTONES_PER_NAME_MAX,
)

RECENCY: Final = 1
DAYS: Final = 2
MILESTONES: Final = 4
ANSWERS: Final = 8
EVERYTHING: Final = RECENCY | DAYS | MILESTONES | ANSWERS

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


class CustomerHistory(msgspec.Struct, array_like=True):
    """The facts of one person.

    `activity`: value stream → slots. `features`: value stream → feature → slot of the last use. `known`: value stream →
    instant of the latest customer event naming it. `attributes`: name → (order, value) of the latest word.
    `milestones`: name → value stream, or "" for all of them → instants, earliest first. `answers`: response id →
    latest version. `aliases`: (order, other ids) as last told. `erased_at`: facts up to it are hidden.
    """

    activity: dict[str, list[int]] = {}
    features: dict[str, dict[str, int]] = {}
    known: dict[str, int] = {}
    attributes: dict[str, tuple[Order, str]] = {}
    milestones: dict[str, dict[str, list[int]]] = {}
    answers: dict[str, Answer] = {}
    aliases: tuple[Order, list[str]] | None = None
    erased_at: int = -1
    latest_at: int = -1
    emitted: list[list[Contribution]] = []
    cut: bool = False
    mentioned: list[str] = []

    def add(self, event: Event, at: int, configuration: Configuration) -> int:
        """Join one event; the resolution gives the grain of activity, the horizon how far back it is kept."""
        if at <= self.erased_at:
            return NOTHING
        if at > self.latest_at:
            self.latest_at = at
        if type(event) is ActivityEvent:
            return self._act(event, at, configuration) if at >= _day_after(self.erased_at) else NOTHING
        if type(event) is ResponseEvent:
            return self._answer(event, at, configuration)
        if type(event) is CustomerEvent:
            return self._learn(event, at)
        assert type(event) is EraseEvent
        return self._erase(at, configuration)

    def last_at(self) -> int:
        """The instant of the latest fact; -1 while the person was only mentioned."""
        return self.latest_at

    def _act(self, event: ActivityEvent, at: int, configuration: Configuration) -> int:
        told = event.data
        if told.actor != "human":
            return NOTHING
        changed = NOTHING
        if told.segment is not None:
            changed = self._set("segment", told.segment, event, at)
        grain_us = grain(configuration)
        slot = slot_of(at, grain_us)
        slots = self.activity.get(told.value_stream)
        if slots is None:
            slots = self.activity[told.value_stream] = []
        newest = slots[-1] if slots else -1
        if slot != newest and insert_slot(slots, slot, grain_us):
            changed |= RECENCY | DAYS
            if slot > newest >= 0:
                day = configuration.calendar.day
                if day(slot_begin(slot, grain_us)) == day(slot_begin(newest, grain_us)):
                    changed &= ~DAYS
                _drop_old(slots, slot_of(at - kept_us(configuration), grain_us))
        if told.feature:
            uses = self.features.setdefault(told.value_stream, {})
            if slot > uses.get(told.feature, -1):
                uses[told.feature] = slot
                changed |= RECENCY
                if len(uses) > FEATURES_PER_CUSTOMER_MAX:
                    self.cut = True
                    del uses[min(uses, key=lambda name: (uses[name], name))]
        return changed

    def _learn(self, event: CustomerEvent, at: int) -> int:
        told = event.data
        changed = NOTHING
        for name in ("segment", "plan", "account", "kind"):
            value = getattr(told, name)
            if value is not None:
                changed |= self._set(name, value, event, at)
        if told.value_stream and at > self.known.get(told.value_stream, -1):
            self.known[told.value_stream] = at
            changed |= RECENCY
        if told.milestone:
            instants = self.milestones.setdefault(told.milestone, {}).setdefault(told.value_stream or "", [])
            if at not in instants:
                instants.append(at)
                instants.sort()
                del instants[MILESTONES_PER_NAME_MAX:]
                changed |= MILESTONES
        if told.aliases is not None:
            order = (at, sequence_number(event.sequence), event.id, event.source)
            if self.aliases is None or (order, told.aliases) > self.aliases:
                self.aliases = (order, told.aliases)
                changed |= EVERYTHING
        return changed

    def _answer(self, event: ResponseEvent, at: int, configuration: Configuration) -> int:
        told = event.data
        answer = Answer(
            at,
            sequence_number(event.sequence),
            event.id,
            event.source,
            told.value_stream,
            told.survey,
            told.touchpoint or "",
            told.segment or "",
            told.score,
        )
        response = told.response or event.id
        held = self.answers.get(response)
        if held is not None and answer_order(held) >= answer_order(answer):
            return NOTHING
        self.answers[response] = answer
        kin = [r for r, a in self.answers.items() if _kind(a) == _kind(answer)]
        if len(kin) > ANSWERS_PER_SURVEY_MAX:
            self.cut = True
            del self.answers[min(kin, key=lambda r: answer_order(self.answers[r]))]
        return ANSWERS

    def _set(self, name: str, value: str, event: ActivityEvent | CustomerEvent, at: int) -> int:
        word = ((at, sequence_number(event.sequence), event.id, event.source), value)
        held = self.attributes.get(name)
        if held is not None and held >= word:
            return NOTHING
        self.attributes[name] = word
        return NOTHING if held is not None and held[1] == value else RECENCY | MILESTONES

    def _erase(self, at: int, configuration: Configuration) -> int:
        """Hide and delete the facts up to `at`."""
        self.erased_at = at
        grain_us = grain(configuration)
        oldest = 2 * _day_after(at) // grain_us
        self.activity = {v: kept for v, slots in self.activity.items() if (kept := [s for s in slots if s >= oldest])}
        self.features = {v: {f: s for f, s in uses.items() if s >= oldest} for v, uses in self.features.items()}
        self.known = {v: t for v, t in self.known.items() if t > at}
        self.attributes = {n: word for n, word in self.attributes.items() if word[0][0] > at}
        self.milestones = {
            name: {v: kept for v, instants in streams.items() if (kept := [t for t in instants if t > at])}
            for name, streams in self.milestones.items()
        }
        self.answers = {r: a for r, a in self.answers.items() if a.at > at}
        return EVERYTHING

    def absorb(self, other: CustomerHistory, configuration: Configuration) -> None:
        """Join all facts of another id of the same person."""
        grain_us = grain(configuration)
        for stream, slots in other.activity.items():
            for slot in slots:
                insert_slot(self.activity.setdefault(stream, []), slot, grain_us)
        for stream, uses in other.features.items():
            own = self.features.setdefault(stream, {})
            own.update({f: s for f, s in uses.items() if s > own.get(f, -1)})
        for stream, at in other.known.items():
            self.known[stream] = max(at, self.known.get(stream, -1))
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


def grain(configuration: Configuration) -> int:
    """The grain of stored activity in microseconds: 5 minutes, or the resolution where that is finer or odd to it."""
    five = 5 * MINUTE_US
    return five if configuration.resolution_us % five == 0 else configuration.resolution_us


def kept_us(configuration: Configuration) -> int:
    """How far before the latest fact activity is kept; what is older lies outside every reading."""
    return configuration.horizon_us + AHEAD_US + LATENESS_DAYS * DAY_US


def _drop_old(slots: list[int], oldest: int) -> None:
    while slots[0] < oldest:
        del slots[0]


def answer_order(answer: Answer) -> tuple[int, int, str, str, bytes]:
    """The total order of versions and answers: the greatest is the latest."""
    return (answer.at, answer.sequence, answer.id, answer.source, msgspec.json.encode(answer))


def _kind(answer: Answer) -> tuple[str, str, str]:
    return (answer.value_stream, answer.survey, answer.touchpoint)


@dataclass(slots=True)
class CustomerStory:
    """The facts of a person under all their ids, and the configuration that reads them."""

    facts: CustomerHistory
    configuration: Configuration

    @property
    def grain_us(self) -> int:
        """The grain of the slots of activity."""
        return grain(self.configuration)

    def attribute(self, name: str) -> str:
        """The latest word on segment, plan, account or kind; "" when none was said."""
        word = self.facts.attributes.get(name)
        return word[1] if word else ""

    def visits(self, stream: str) -> list[int]:
        """The slots since the last long silence: somebody silent for longer begins anew."""
        slots = self.facts.activity[stream]
        silence = 2 * (self.configuration.horizon_us + AHEAD_US) // self.grain_us
        if slots[-1] - slots[0] <= silence:
            return slots
        gaps = (i for i in range(len(slots) - 1, 0, -1) if slots[i] - slots[i - 1] > silence)
        return slots[next(gaps, 0) :]

    def milestone(self, name: str, stream: str) -> int | None:
        """The earliest milestone of a name in a value stream, or told of no stream in particular."""
        streams = self.facts.milestones.get(name, {})
        instants = streams.get(stream, []) + streams.get("", [])
        return min(instants, default=None)


def read_customer(
    history: CustomerHistory, configuration: Configuration, lent: Mapping[str, CustomerHistory]
) -> CustomerStory:
    """The story of a person; `lent` are the histories of their other ids."""
    if lent:
        union = CustomerHistory()
        for facts in (history, *lent.values()):
            union.absorb(facts, configuration)
        history = union
    return CustomerStory(history, configuration)


def aliases(history: CustomerHistory) -> Iterable[str]:
    """The keys of the other ids of this person, as last told under this id."""
    return (CUSTOMER.key(alias) for alias in history.aliases[1]) if history.aliases else ()


CUSTOMER: Final = Entity(
    "customer",
    CustomerHistory,
    CustomerHistory,
    4,
    read_customer,
    lambda configuration: AHEAD_US,
    aliases,
    symmetric=True,
)
