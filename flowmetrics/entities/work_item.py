"""A work item: the transitions that were told of it, and its flow through its value stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from flowmetrics.configuration import UNMAPPED, Configuration, FlowState
from flowmetrics.entities.transitions import OPEN, WHOLE, join, since_silence, steps
from flowmetrics.entity import Counted, Entity, Packed, Part
from flowmetrics.events import ItemEvent, sequence_number
from flowmetrics.limits import TITLE_CHARACTERS_MAX


class ItemFact(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One event told of an item; `at` in microseconds."""

    at: int
    sequence: int
    id: str
    source: str
    value_stream: str
    state: str
    item_type: str | None = None
    team: str | None = None
    parent: str | None = None
    title: str | None = None
    blocked: bool | None = None
    deleted: bool | None = None


class ItemHistory(msgspec.Struct, array_like=True, gc=False):
    """The facts of one item in stored order."""

    facts: list[ItemFact] = []
    contributed: dict[Part, Packed] = {}
    mentioned: dict[str, int] = {}
    epoch: int = 0
    coming: dict[Part, Packed] = {}

    def join(self, event: ItemEvent, at: int, configuration: Configuration, counted: Counted) -> Sequence[Part]:
        """Join one event; native words are stored, so the configuration only counts those it does not know."""
        told = event.data
        title = told.title and told.title[:TITLE_CHARACTERS_MAX]
        fact = ItemFact(
            at,
            sequence_number(event.sequence),
            event.id,
            event.source,
            told.value_stream,
            told.state,
            told.item_type,
            told.team,
            told.parent,
            title,
            told.blocked,
            told.deleted,
        )
        parts = join(self.facts, fact, configuration, counted)
        kind = told.item_type
        if parts and kind and configuration.stream(told.value_stream).item_type(kind) == UNMAPPED:
            counted["unmapped", event.source, "item_type"] += 1
        return parts

    def parts(self) -> Sequence[Part]:
        """An item is read as a whole."""
        return WHOLE


class Reopen(msgspec.Struct, gc=False):
    """An item left done for a state that is open, in this value stream, as this item type."""

    at: int
    value_stream: str
    item_type: str


class Completion(msgspec.Struct, gc=False):
    """The entry into the current run of done: when, under which value stream and item type, after which times.

    `flow_us` and `active_us` are the time on the clock and in active before it; `measured` is false where no start is
    known.
    """

    at: int
    labels: tuple[str, str]
    measured: bool
    flow_us: int
    active_us: int


class ItemStory(msgspec.Struct, gc=False):
    """What the facts of an item say, as of its latest fact. Durations and instants are microseconds.

    `load_since` is the virtual start of an item in progress: when it would have started, had its clock never stopped;
    `beyond_at` is when it leaves the horizon, if it stays in progress.
    """

    value_stream: str = ""
    item_type: str = ""
    state: FlowState = FlowState.NEW
    done: Completion | None = None
    load_since: int | None = None
    beyond_at: int = 0
    reopens: list[Reopen] = []


def read_item(
    history: ItemHistory, configuration: Configuration, value_stream: str, lent: Mapping[str, object]
) -> ItemStory | None:
    """The story of an item; None when the latest word is that it was deleted.

    One loop over the facts with the clock in local names: this is the hottest function of the engine.
    """
    story = ItemStory()
    kind, at, clock_us, active_us = "", 0, 0, 0
    blocked = deleted = started = ticking = active = False
    before = FlowState.NEW
    facts = since_silence(history.facts, configuration.horizon_us + ahead_us(configuration))
    for fact, stream, state, paused in steps(facts, configuration):
        if ticking:
            clock_us += fact.at - at
            if active:
                active_us += fact.at - at
        at = fact.at
        if fact.item_type is not None:
            kind = fact.item_type
        if fact.blocked is not None:
            blocked = fact.blocked
        if fact.deleted is not None:
            deleted = fact.deleted
        started = started or state is _WAITING or state is _ACTIVE or stream.start == "created"
        if state is not before:
            if before is _DONE and state in OPEN:
                story.reopens.append(Reopen(at, fact.value_stream, stream.item_type(kind)))
            story.done = None
            if state is _DONE:
                story.done = Completion(at, (fact.value_stream, stream.item_type(kind)), started, clock_us, active_us)
            before = state
        active = state is _ACTIVE and not blocked
        story.state = _WAITING if state is _ACTIVE and blocked else state
        ticking = started and not paused and story.state in stream.clock
        story.load_since = at - clock_us if not paused and story.state in stream.load else None
    if deleted:
        return None
    story.value_stream, story.item_type = fact.value_stream, stream.item_type(kind)
    story.beyond_at = (story.load_since or 0) + configuration.horizon_us
    return story


_WAITING: Final = FlowState.WAITING
_ACTIVE: Final = FlowState.ACTIVE
_DONE: Final = FlowState.DONE


def ahead_us(configuration: Configuration) -> int:
    """An open item is counted as beyond the horizon one horizon after its start."""
    return configuration.horizon_us


WORK_ITEM: Final = Entity(
    "item",
    ItemHistory,
    {ItemEvent: (lambda event: f"item:{event.data.item}", ItemHistory.join)},
    read_item,
    ahead_us,
    lambda history, configuration: (),
)
