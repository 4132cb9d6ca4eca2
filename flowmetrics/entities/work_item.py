"""A work item: the transitions that were told of it, and its flow through its value stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from flowmetrics.configuration import UNMAPPED, Configuration, FlowState, ValueStream
from flowmetrics.entities.transitions import OPEN, WHOLE, join, since_silence, steps
from flowmetrics.entity import Contribution, Counted, Entity, Part
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


class ItemHistory(msgspec.Struct, array_like=True):
    """The facts of one item in stored order."""

    facts: list[ItemFact] = []
    emitted: dict[Part, list[Contribution]] = {}
    mentioned: list[str] = []

    def add(self, event: ItemEvent, at: int, configuration: Configuration, counted: Counted) -> Sequence[Part]:
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

    def mentions(self) -> Sequence[str]:
        """Items say nothing about each other that is read."""
        return ()

    def last_at(self) -> int:
        """The instant of the latest fact."""
        return self.facts[-1].at


@dataclass(slots=True)
class Reopen:
    """An item left done for a state that is open, in this value stream, as this item type."""

    at: int
    value_stream: str
    item_type: str


@dataclass(slots=True)
class ItemStory:
    """What the facts of an item say, as of its latest fact. Durations and instants are microseconds.

    `done_at`, `done_stream` and `done_type` are those of the entry into the current run of done, or None; `flow_us`
    and `active_us` are the time on the clock and in active before it; `measured` is false where no start is known.
    `load_since` is the virtual start of an item in progress: when it would have started, had its clock never stopped.
    """

    value_stream: str = ""
    item_type: str = ""
    state: FlowState = FlowState.NEW
    done_at: int | None = None
    done_stream: str = ""
    done_type: str = ""
    measured: bool = False
    flow_us: int = 0
    active_us: int = 0
    load_since: int | None = None
    reopens: list[Reopen] = field(default_factory=list)


def read_item(
    history: ItemHistory, configuration: Configuration, part: Part, lent: Mapping[str, object]
) -> ItemStory | None:
    """The story of an item; None when the latest word is that it was deleted."""
    silence_us = configuration.horizon_us + ahead_us(configuration)
    reader = _Reader()
    for fact, stream, state, paused in steps(since_silence(history.facts, silence_us), configuration):
        reader.take(fact, stream, state, paused)
    return None if reader.deleted else reader.end()


class _Reader:
    """Folds transitions into a story; `clock_us` and `active_us` are as of the fact taken last."""

    __slots__ = (
        "active_us",
        "at",
        "blocked",
        "clock_us",
        "deleted",
        "loaded",
        "native_type",
        "started",
        "state",
        "story",
        "stream",
        "ticking",
    )

    def __init__(self) -> None:
        self.story = ItemStory()
        self.stream: ValueStream | None = None
        self.native_type: str | None = None
        self.blocked = self.deleted = self.started = self.ticking = self.loaded = False
        self.state = self.story.state
        self.at = self.clock_us = self.active_us = 0

    def take(self, fact: ItemFact, stream: ValueStream, state: FlowState, paused: bool) -> None:
        if self.ticking:
            self.clock_us += fact.at - self.at
            if self.story.state is FlowState.ACTIVE:
                self.active_us += fact.at - self.at
        self.at, self.stream = fact.at, stream
        if fact.item_type is not None:
            self.native_type = fact.item_type
        if fact.blocked is not None:
            self.blocked = fact.blocked
        if fact.deleted is not None:
            self.deleted = fact.deleted
        story = self.story
        story.value_stream = fact.value_stream
        if state is not self.state:
            self._enter(state)
        story.state = FlowState.WAITING if state is FlowState.ACTIVE and self.blocked else state
        self.started = self.started or stream.start == "created" or state in (FlowState.WAITING, FlowState.ACTIVE)
        if state is FlowState.DONE and story.done_at == fact.at:
            story.measured = self.started
        self.ticking = self.started and not paused and story.state in stream.clock
        self.loaded = not paused and story.state in stream.load

    def _enter(self, state: FlowState) -> None:
        story, stream = self.story, self.stream
        assert stream is not None
        item_type = stream.item_type(self.native_type)
        if self.state is FlowState.DONE and state in OPEN:
            story.reopens.append(Reopen(self.at, story.value_stream, item_type))
        if state is FlowState.DONE:
            story.done_at, story.done_stream, story.done_type = self.at, story.value_stream, item_type
            story.flow_us, story.active_us = self.clock_us, self.active_us
        else:
            story.done_at = None
        self.state = state

    def end(self) -> ItemStory:
        assert self.stream is not None
        self.story.item_type = self.stream.item_type(self.native_type)
        if self.loaded:
            self.story.load_since = self.at - self.clock_us
        return self.story


def ahead_us(configuration: Configuration) -> int:
    """An open item is counted as beyond the horizon one horizon after its start."""
    return configuration.horizon_us


WORK_ITEM: Final = Entity("item", ItemHistory, read_item, ahead_us)
