"""A customer's request: the transitions that were told of it, and when it was resolved first and for good."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final

import msgspec

from flowmetrics.configuration import Configuration, FlowState
from flowmetrics.entities.transitions import OPEN, WHOLE, join, since_silence, steps
from flowmetrics.entity import Counted, Entity, Packed, Part
from flowmetrics.events import RequestEvent, sequence_number


class RequestFact(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One event told of a request; `at` in microseconds."""

    at: int
    sequence: int
    id: str
    source: str
    value_stream: str
    state: str
    channel: str | None = None
    customer: str | None = None
    priority: str | int | None = None
    party: str | None = None
    handle_seconds: float | None = None
    duplicate_of: str | None = None


class RequestHistory(msgspec.Struct, array_like=True, gc=False):
    """The facts of one request in stored order."""

    facts: list[RequestFact] = []
    contributed: dict[Part, Packed] = {}
    mentioned: dict[str, int] = {}
    epoch: int = 0
    coming: dict[Part, Packed] = {}

    def join(self, event: RequestEvent, at: int, configuration: Configuration, counted: Counted) -> Sequence[Part]:
        """Join one event; native words are stored, so the configuration only counts those it does not know."""
        told = event.data
        fact = RequestFact(
            at,
            sequence_number(event.sequence),
            event.id,
            event.source,
            told.value_stream,
            told.state,
            told.channel,
            told.customer,
            told.priority,
            told.party,
            told.handle_seconds,
            told.duplicate_of,
        )
        return join(self.facts, fact, configuration, counted)

    def parts(self) -> Sequence[Part]:
        """A request is read as a whole."""
        return WHOLE


class Resolution(msgspec.Struct, gc=False):
    """A request became done: when, how long after it was created, and under which labels."""

    at: int
    elapsed_us: int
    value_stream: str
    channel: str


class RequestStory(msgspec.Struct, gc=False):
    """What the facts of a request say. `first` and `full` are None where there is no such resolution now.

    `beyond_at` is when it leaves the horizon, if it stays open.
    """

    created_at: int
    beyond_at: int
    value_stream: str
    channel: str
    is_open: bool
    first: Resolution | None
    full: Resolution | None


def read_request(
    history: RequestHistory, configuration: Configuration, value_stream: str, lent: Mapping[str, RequestHistory]
) -> RequestStory | None:
    """The story of a request; None for a duplicate. `lent` are its duplicates: the earliest creation counts."""
    if not history.facts:
        return None
    told = _told(history, configuration)
    created_at = told[0].at
    if lent:
        created_at = min(created_at, _first_told((history, *lent.values()), configuration))
    story = RequestStory(created_at, created_at + configuration.horizon_us, "", "", False, None, None)
    duplicate_of, before, was_paused, ignored_us, at = None, FlowState.NEW, False, 0, created_at
    for fact, _, state, paused in steps(told, configuration):
        if was_paused:
            ignored_us += fact.at - at
        story.value_stream = fact.value_stream
        story.channel = story.channel if fact.channel is None else fact.channel
        duplicate_of = fact.duplicate_of if fact.duplicate_of is not None else duplicate_of
        if state is FlowState.DONE and before is not FlowState.DONE:
            elapsed_us = fact.at - created_at - ignored_us
            story.full = Resolution(fact.at, elapsed_us, story.value_stream, story.channel)
            story.first = story.first or story.full
        elif state is not FlowState.DONE:
            story.full = None
        story.is_open = state in OPEN and not paused
        before, was_paused, at = state, paused, fact.at
    if duplicate_of:
        return None
    if before is FlowState.CANCELLED:
        story.first = None
    return story


def duplicates(history: RequestHistory, configuration: Configuration) -> Sequence[str]:
    """The key of the request that this one duplicates, as last told; empty for none."""
    if not history.facts:
        return ()
    told = [fact.duplicate_of for fact, *_ in steps(_told(history, configuration), configuration)]
    latest = next((name for name in reversed(told) if name is not None), "")
    return (REQUEST.key(latest),) if latest else ()


def _told(history: RequestHistory, configuration: Configuration) -> Sequence[RequestFact]:
    return since_silence(history.facts, _silence_us(configuration))


def _first_told(histories: Iterable[RequestHistory], configuration: Configuration) -> int:
    """When the first fact of a group was told, since all of it was silent for long."""
    told = [fact for history in histories if history.facts for fact in _told(history, configuration)]
    return since_silence(sorted(told, key=attrgetter("at")), _silence_us(configuration))[0].at


def _silence_us(configuration: Configuration) -> int:
    return configuration.horizon_us + ahead_us(configuration)


def ahead_us(configuration: Configuration) -> int:
    """An open request is counted as beyond the horizon one horizon after it was created."""
    return configuration.horizon_us


REQUEST: Final = Entity(
    "request",
    RequestHistory,
    {RequestEvent: (lambda event: f"request:{event.data.request}", RequestHistory.join)},
    read_request,
    ahead_us,
    duplicates,
)
