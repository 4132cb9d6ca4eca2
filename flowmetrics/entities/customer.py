"""A customer or employee: when they were active, their milestones and attributes, and their survey answers.

A customer may have millions of events, so the history is reduced: of activity the first and the last slot of each UTC
day and value stream, of each attribute the latest word, of milestones the earliest few, of answers the latest few.
Each of these is a function of the set of facts, so union, order and repetition do not matter.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

import msgspec

from flowmetrics.configuration import CUSTOMER_AHEAD_US, Configuration, Memo
from flowmetrics.entities.slots import insert_slot, slot_begin, slot_of
from flowmetrics.entity import Counted, Entity, Packed, Part
from flowmetrics.events import ActivityEvent, CustomerEvent, EraseEvent, Event, ResponseEvent, sequence_number
from flowmetrics.instants import DAY_US
from flowmetrics.limits import (
    ANSWERS_PER_PERSON_MAX,
    ANSWERS_PER_SURVEY_MAX,
    FEATURES_PER_STREAM_MAX,
    LABEL_CHARACTERS_MAX,
    MILESTONES_PER_CUSTOMER_MAX,
    MILESTONES_PER_NAME_MAX,
    SLOTS_PER_STREAM_MAX,
    STREAMS_PER_CUSTOMER_MAX,
)

RECENCY: Final = "recency"
"""Facet read per value stream: when the person was there last."""
DAYS: Final = "days"
"""Facet read per value stream: the local days on which the person was active."""
MILESTONES: Final = "milestones"
ANSWERS: Final = "answers"

NEVER_AT: Final = 2**62
"""Where the first fact would be when there is none."""

_RECENCY_OF: Final = Memo[Sequence[Part]](lambda stream: (f"{RECENCY}:{stream}",))
_VISITS_OF: Final = Memo[Sequence[Part]](lambda stream: (f"{RECENCY}:{stream}", f"{DAYS}:{stream}"))
_ACTING: Final = "segment:acting"
"""The attribute that holds the segment told by activities: they are erased by day, what is told otherwise is not."""
_OF_ALL_STREAMS: Final[Sequence[Part]] = (MILESTONES, ANSWERS)

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


class Profile(msgspec.Struct, array_like=True, gc=False):
    """What most customers who only act have not: attributes, milestones, answers.

    `heard`: slots of these facts. `attributes`: name → (order, value) of the latest word. `milestones`: name → value
    stream, or "" for all of them → instants, earliest first. `answers`: response id → latest version. `aliases`:
    (order, other ids) as last told.
    """

    heard: list[int] = []
    attributes: dict[str, tuple[Order, str]] = {}
    milestones: dict[str, dict[str, list[int]]] = {}
    answers: dict[str, Answer] = {}
    aliases: tuple[Order, list[str]] | None = None


class CustomerHistory(msgspec.Struct, array_like=True, gc=False):
    """The facts of one person: visits by value stream, and a profile. Facts up to `erased_at` are hidden."""

    visits: dict[str, Visits] = {}
    contributed: dict[Part, Packed] = {}
    first_at: int = NEVER_AT
    latest_at: int = -1
    erased_at: int = -1
    told: Profile | None = None
    mentioned: dict[str, int] = {}
    epoch: int = 0
    coming: dict[Part, Packed] = {}

    @property
    def profile(self) -> Profile:
        """What is known beside visits; made when it is first asked for."""
        if self.told is None:
            self.told = Profile()
        return self.told

    def parts(self) -> Sequence[Part]:
        """Recency and days of each value stream, milestones, answers."""
        return [*(part for stream in self.visits for part in _VISITS_OF[stream]), *_OF_ALL_STREAMS]

    def _visits(self, stream: str) -> Visits:
        visits = self.visits.get(stream)
        if visits is None:
            visits = self.visits[stream] = Visits()
        return visits

    def act(self, event: ActivityEvent, at: int, configuration: Configuration, counted: Counted) -> Sequence[Part]:
        """Join an activity; the resolution gives the grain of activity, the horizon how far back it is kept."""
        told, latest_at, grain_us = event.data, self.latest_at, configuration.grain_us
        if told.actor != "human" or (self.erased_at >= 0 and at < _day_after(self.erased_at)):
            return ()
        anew = False
        if 0 <= latest_at <= at <= latest_at + configuration.silence_us:
            self.latest_at = at
        else:
            anew = self._seen(at, configuration)
        stream = told.value_stream
        visits = self.visits.get(stream)
        if visits is None:
            visits = self.visits[stream] = Visits()
            anew |= len(self.visits) > STREAMS_PER_CUSTOMER_MAX
        slots, slot = visits.slots, at // grain_us - -at // grain_us  # `slot_of`, without a call for each event
        parts: Sequence[Part] = ()
        if not slots:
            slots.append(slot)
            parts = self.parts() if self.told else _VISITS_OF[stream]  # milestones told of no stream may follow it
        elif slot != (newest := slots[-1]) and insert_slot(slots, slot, grain_us):
            same_day = slot > newest and configuration.same_day(newest, slot)
            parts = _RECENCY_OF[stream] if same_day else _VISITS_OF[stream]
            if len(slots) > SLOTS_PER_STREAM_MAX:
                _bound(slots, counted)
        feature = told.feature
        if feature and len(feature) > LABEL_CHARACTERS_MAX:
            feature = feature[:LABEL_CHARACTERS_MAX]
        if feature and slot > visits.uses.get(feature, -1):
            visits.uses[feature] = slot
            parts = parts or _RECENCY_OF[stream]
            if len(visits.uses) > FEATURES_PER_STREAM_MAX:
                counted["histories_cut", "features"] += 1
                del visits.uses[min(visits.uses, key=lambda name: (visits.uses[name], name))]
        if told.segment is not None:
            anew |= self._set(_ACTING, told.segment, event, at)
        return self._every_part(counted) if anew else parts

    def _every_part(self, counted: Counted) -> Sequence[Part]:
        """Every part, also those of a value stream that is one too many, and is left out."""
        if len(self.visits) <= STREAMS_PER_CUSTOMER_MAX:
            return self.parts()
        last = max(self.visits)
        del self.visits[last]
        counted["histories_cut", "streams"] += 1
        return [*self.parts(), *_VISITS_OF[last]]

    def _seen(self, at: int, configuration: Configuration) -> bool:
        """Note that a fact was told of an instant; whether a silence may have begun, ended or moved by it."""
        silence_us = configuration.silence_us
        anew = self.latest_at >= 0 and not -silence_us <= at - self.latest_at <= silence_us
        if at > self.latest_at:
            self.latest_at = at
        if at < self.first_at:
            self.first_at = at
        return anew

    def _hear(self, at: int, configuration: Configuration, counted: Counted) -> bool:
        """Note that something was told; whether that changed what is stored or began a silence anew."""
        heard = self.profile.heard
        changed = insert_slot(heard, slot_of(at, configuration.grain_us), configuration.grain_us)
        _bound(heard, counted)
        return self._seen(at, configuration) or changed

    def learn(self, event: CustomerEvent, at: int, configuration: Configuration, counted: Counted) -> Sequence[Part]:
        """Join what is told about a customer."""
        if at <= self.erased_at:
            return ()
        changed = self._hear(at, configuration, counted)
        told = event.data
        for name in ("segment", "plan", "account", "kind"):
            value = getattr(told, name)
            if value is not None:
                changed |= self._set(name, value, event, at)
        if told.value_stream and at > self._visits(told.value_stream).known_at:
            self._visits(told.value_stream).known_at = at
            changed = True
        if told.milestone:
            changed |= self._reach(told.milestone, told.value_stream or "", at, counted)
        if told.aliases is not None:
            word = (_event_order(event, at), told.aliases)
            profile = self.profile
            if profile.aliases is None or word > profile.aliases:
                profile.aliases = word
                changed = True
        return self._every_part(counted) if changed else ()

    def _reach(self, name: str, stream: str, at: int, counted: Counted) -> bool:
        """Note a milestone; whether that was news."""
        milestones = self.profile.milestones
        instants = milestones.setdefault(name, {}).setdefault(stream, [])
        if at in instants:
            return False
        instants.append(at)
        instants.sort()
        del instants[MILESTONES_PER_NAME_MAX:]
        reached = sorted((t, n, s) for n, streams in milestones.items() for s, times in streams.items() for t in times)
        if len(reached) > MILESTONES_PER_CUSTOMER_MAX:
            counted["histories_cut", "milestones"] += 1
            milestones.clear()
            for t, n, s in reached[:MILESTONES_PER_CUSTOMER_MAX]:
                milestones.setdefault(n, {}).setdefault(s, []).append(t)
        return True

    def answer(self, event: ResponseEvent, at: int, configuration: Configuration, counted: Counted) -> Sequence[Part]:
        """Join an answer to a survey; the latest version of a response replaces it whole."""
        if at <= self.erased_at:
            return ()
        parts = self.parts() if self._hear(at, configuration, counted) else _OF_ALL_STREAMS[1:]
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
        answers = self.profile.answers
        held = answers.get(response)
        if held is not None and answer_order(held) >= answer_order(answer):
            return parts
        answers[response] = answer
        crowd = [r for r, a in answers.items() if _kind(a) == _kind(answer)]
        if len(crowd) > ANSWERS_PER_SURVEY_MAX or len(crowd := [*answers]) > ANSWERS_PER_PERSON_MAX:
            counted["histories_cut", "answers"] += 1
            del answers[min(crowd, key=lambda r: answer_order(answers[r]))]
        return parts

    def _set(self, name: str, value: str, event: ActivityEvent | CustomerEvent, at: int) -> bool:
        word = (_event_order(event, at), value)
        attributes = self.profile.attributes
        held = attributes.get(name)
        if held is not None and held >= word:
            return False
        attributes[name] = word
        return True

    def erase(self, event: EraseEvent, at: int, configuration: Configuration, counted: Counted) -> Sequence[Part]:
        """Hide and delete the facts up to `at`."""
        parts = self.parts()
        return parts if self.erase_until(at, configuration) else ()

    def erase_until(self, at: int, configuration: Configuration) -> bool:
        """Hide and delete the facts up to `at`, of activity the whole UTC day; whether that was news.

        That somebody was erased is itself heard of them: it ends a silence.
        """
        if at <= self.erased_at:
            return False
        self.erased_at = at
        self._seen(at, configuration)
        grain_us = configuration.grain_us
        self.cut(slot_of(_day_after(at), grain_us), at + 1, grain_us)
        heard = self.profile.heard
        del heard[: bisect_left(heard, slot_of(at, grain_us))]
        insert_slot(heard, slot_of(at, grain_us), grain_us)
        return True

    def cut(self, oldest_slot: int, oldest_at: int, grain_us: int) -> None:
        """Drop activity before a slot, and what was told otherwise before an instant."""
        for visits in self.visits.values():
            visits.slots = [slot for slot in visits.slots if slot >= oldest_slot]
            visits.uses = {feature: slot for feature, slot in visits.uses.items() if slot >= oldest_slot}
            visits.known_at = visits.known_at if visits.known_at >= oldest_at else -1
        profile = self.told
        if profile is None:
            return
        acted_at = slot_begin(oldest_slot, grain_us) + oldest_slot % 2
        profile.attributes = {
            name: word
            for name, word in profile.attributes.items()
            if word[0][0] >= (acted_at if name == _ACTING else oldest_at)
        }
        profile.milestones = {
            name: {v: kept for v, instants in streams.items() if (kept := [t for t in instants if t >= oldest_at])}
            for name, streams in profile.milestones.items()
        }
        profile.answers = {r: a for r, a in profile.answers.items() if a.at >= oldest_at}
        if profile.aliases is not None and profile.aliases[0][0] < oldest_at:
            profile.aliases = None

    def since_silence(self, configuration: Configuration) -> CustomerHistory:
        """The facts after the last long silence: somebody silent for longer begins anew."""
        grain_us = configuration.grain_us
        heard = {slot for visits in self.visits.values() for slot in visits.slots}
        slots = sorted(heard.union(self.profile.heard))
        silence = 2 * configuration.silence_us // grain_us
        start = next((after for before, after in reversed([*pairwise(slots)]) if after - before > silence), None)
        if start is None:
            return self
        life = CustomerHistory()
        life.absorb(self, configuration)
        life.cut(start, slot_begin(start, grain_us) + start % 2, grain_us)
        return life

    def absorb(self, other: CustomerHistory, configuration: Configuration) -> None:
        """Join all facts of another id of the same person."""
        grain_us = configuration.grain_us
        for stream, theirs in other.visits.items():
            visits = self._visits(stream)
            for slot in theirs.slots:
                insert_slot(visits.slots, slot, grain_us)
            visits.uses.update({f: slot for f, slot in theirs.uses.items() if slot > visits.uses.get(f, -1)})
            visits.known_at = max(visits.known_at, theirs.known_at)
        self.first_at = min(self.first_at, other.first_at)
        self.latest_at = max(self.latest_at, other.latest_at)
        profile, their_profile = self.profile, other.profile
        for slot in their_profile.heard:
            insert_slot(profile.heard, slot, grain_us)
        for name, word in their_profile.attributes.items():
            profile.attributes[name] = max(word, profile.attributes.get(name, word))
        for name, streams in their_profile.milestones.items():
            for stream, instants in streams.items():
                own = profile.milestones.setdefault(name, {}).setdefault(stream, [])
                own[:] = sorted({*own, *instants})[:MILESTONES_PER_NAME_MAX]
        for response, answer in their_profile.answers.items():
            held = profile.answers.get(response)
            if held is None or answer_order(answer) > answer_order(held):
                profile.answers[response] = answer


def _day_after(at: int) -> int:
    """The first instant of the next UTC day: activity is told apart by day, so erasing hides the whole day."""
    return (at // DAY_US + 1) * DAY_US


def _bound(slots: list[int], counted: Counted) -> None:
    if len(slots) > SLOTS_PER_STREAM_MAX:
        counted["histories_cut", "slots"] += 1
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
    visits: Visits

    def attribute(self, name: str) -> str:
        """The latest word on segment, plan, account or kind; "" when none was said."""
        attributes = self.facts.profile.attributes
        words = [attributes[key] for key in (name, f"{name}:acting") if key in attributes]
        return max(words)[1] if words else ""

    def active_days(self) -> list[int]:
        """The local days of activity in the value stream, in order."""
        day, grain_us = self.configuration.calendar.day, self.configuration.grain_us
        return list(dict.fromkeys([day(slot_begin(slot, grain_us)) for slot in self.visits.slots]))

    def milestone(self, name: str, stream: str) -> int | None:
        """The earliest milestone of a name in a value stream, or told of no stream in particular."""
        streams = self.facts.profile.milestones.get(name, {})
        instants = streams.get(stream, []) + streams.get("", [])
        return min(instants, default=None)


def read_customer(
    history: CustomerHistory, configuration: Configuration, value_stream: str, lent: Mapping[str, CustomerHistory]
) -> CustomerStory:
    """The story of a person in one value stream, or over all of them; `lent` are the histories of their other ids."""
    if lent:
        union = CustomerHistory()
        for facts in (history, *lent.values()):
            union.absorb(facts, configuration)
        history = union
    if history.latest_at - history.first_at > configuration.silence_us - configuration.grain_us:
        history = history.since_silence(configuration)
    return CustomerStory(history, configuration, value_stream, history.visits.get(value_stream) or _NEVER)


def aliases(history: CustomerHistory, configuration: Configuration) -> Sequence[str]:
    """The keys of the other ids of this person, as last told under this id."""
    told = history.told.aliases if history.told else None
    return [CUSTOMER.key(alias) for alias in told[1]] if told else ()


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
    lambda configuration: CUSTOMER_AHEAD_US,
    aliases,
    symmetric=True,
)
