"""How the facts of a work item or a request are put in order and read as flow states.

The facts of one entity are in one total order that is never that of arrival:

    time, sequence (absent = -1), flow state, id, source, body

The flow state is part of the order because trackers stamp several transitions with one second; it depends on the
configuration, so histories are stored without it and ties are settled here.

    native   Backlog   Doing    Later(ignore)   Doing    Done     Label(note)   Doing
    state    NEW       ACTIVE   ACTIVE paused   ACTIVE   DONE     DONE          ACTIVE (a reopen)
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from flowmetrics.configuration import Configuration, FlowState, ValueStream
from flowmetrics.entity import Counted, Part
from flowmetrics.limits import FACTS_PER_HISTORY_MAX


class Transition(Protocol):
    """A fact that names a state; histories keep them in order of time, sequence, id, source and body."""

    @property
    def at(self) -> int: ...
    @property
    def sequence(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def value_stream(self) -> str: ...
    @property
    def state(self) -> str: ...


T = TypeVar("T", bound=Transition)

WHOLE: Final[Sequence[Part]] = ("",)
"""The one part of an entity that is read as a whole."""

OPEN: Final = frozenset({FlowState.NEW, FlowState.WAITING, FlowState.ACTIVE})
_IGNORE: Final = FlowState.IGNORE
_KEEPS_STATE: Final = frozenset({FlowState.UNMAPPED, FlowState.NOTE})


def join(facts: list[T], fact: T, configuration: Configuration, counted: Counted) -> Sequence[Part]:
    """Put a fact in its place among `facts`, once. Two bodies under one id are two facts.

    A history too long keeps its first and its last half, which is the same set in any order of arrival.
    """
    name, source, conflicts = fact.id, fact.source, False
    for other in facts:
        if other.id == name and other.source == source:
            if other == fact:
                return ()
            conflicts = True
    if conflicts:
        counted["conflicting_ids", source] += 1
    if not facts or fact.at > facts[-1].at:
        facts.append(fact)
    else:
        insort(facts, fact, key=_stored_order)
    if len(facts) > FACTS_PER_HISTORY_MAX:
        counted["histories_cut", "facts"] += 1
        del facts[FACTS_PER_HISTORY_MAX // 2]
    if configuration.stream(fact.value_stream).state(fact.state) is FlowState.UNMAPPED:
        counted["unmapped", fact.source, "state"] += 1
    return WHOLE


def steps(facts: Sequence[T], configuration: Configuration) -> Iterator[tuple[T, ValueStream, FlowState, bool]]:
    """Each fact in order, with how its value stream is read, the flow state from then on, and whether time is left out.

    An entity begins as NEW, whatever its first fact says; `ignore` pauses and undoes nothing; an unmapped state and a
    note change nothing.
    """
    state, paused = FlowState.NEW, False
    stream_of = configuration.stream
    for fact in _ordered(facts, configuration):
        stream = stream_of(fact.value_stream)
        told = stream.state(fact.state)
        if told is _IGNORE:
            paused = True
        elif told not in _KEEPS_STATE:
            state, paused = told, False
        yield fact, stream, state, paused


def since_silence(facts: Sequence[T], silence_us: int) -> Sequence[T]:
    """The facts after the last silence longer than `silence_us`: an entity silent for longer begins anew."""
    if facts[-1].at - facts[0].at <= silence_us:
        return facts
    for index in range(len(facts) - 1, 0, -1):
        if facts[index].at - facts[index - 1].at > silence_us:
            return facts[index:]
    return facts


def _ordered(facts: Sequence[T], configuration: Configuration) -> Sequence[T]:
    previous = None
    for fact in facts:
        if previous is not None and previous.at == fact.at and previous.sequence == fact.sequence:
            break
        previous = fact
    else:
        return facts

    def order(fact: T) -> tuple[int, int, int, str, str, bytes]:
        rank = configuration.stream(fact.value_stream).state(fact.state)
        return (fact.at, fact.sequence, rank, fact.id, fact.source, msgspec.json.encode(fact))

    return sorted(facts, key=order)


def _stored_order(fact: Transition) -> tuple[int, int, str, str, bytes]:
    return (fact.at, fact.sequence, fact.id, fact.source, msgspec.json.encode(fact))
