"""The pictures of a value stream's work, item by item: cumulative flow, scatter of flow times, ageing work in progress.

    cumulative flow   how many items were in each flow state at equal distances of time; done counts from the begin on
    scatter           a dot for each item done: when, and after how long; with the percentiles of all of them
    ageing            a dot for each item in progress: its state, and how old it is

An item that moved to another value stream is drawn where it is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from flowmetrics.configuration import Configuration, FlowState
from flowmetrics.entities.transitions import steps
from flowmetrics.entities.work_item import ItemHistory, ItemStory, read_item

STATES: Final = (FlowState.NEW, FlowState.WAITING, FlowState.ACTIVE, FlowState.DONE)
INSTANTS: Final = 61
"""So many instants a cumulative flow has, the begin and the end of the window among them."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An item done in the window: when, and its flow time in microseconds."""

    name: str
    item_type: str
    at: int
    flow_us: int


@dataclass(frozen=True, slots=True)
class Ageing:
    """An item in progress: its flow state, and how long its clock has run in microseconds."""

    name: str
    item_type: str
    state: str
    age_us: int
    title: str | None


@dataclass(frozen=True)
class Diagrams:
    """The pictures of one value stream over a window that ends at `now`. Instants and durations are microseconds.

    `counts` are by state at each of `instants`. `finished` are in order of time, `ageing` the oldest first.
    """

    instants: list[int]
    counts: dict[str, list[int]]
    finished: list[Finished] = field(default_factory=list)
    ageing: list[Ageing] = field(default_factory=list)
    percentiles: dict[str, int] = field(default_factory=dict)


def diagrams(
    histories: Iterable[tuple[str, ItemHistory]], value_stream: str, configuration: Configuration, now: int,
    window_us: int,
) -> Diagrams:  # fmt: skip
    """The pictures of the items of a value stream, from their keys and histories."""
    begin = now - window_us
    drawn = Diagrams([begin + window_us * n // (INSTANTS - 1) for n in range(INSTANTS)], {})
    turns = {state: [0] * (INSTANTS + 1) for state in STATES}
    for key, history in histories:
        story = read_item(history, configuration, "", {})
        if story is None or story.value_stream != value_stream:
            continue
        name = key.partition(":")[2]
        _draw(drawn, name, history, story, begin, now)
        for state, first, last in _stays(history, configuration):
            turns[state][_index(first, begin, window_us)] += 1
            turns[state][INSTANTS if last is None else _index(last, begin, window_us)] -= 1
    for state, changes in turns.items():
        drawn.counts[state.name.lower()] = _cumulated(changes, from_zero=state is FlowState.DONE)
    drawn.finished.sort(key=lambda one: (one.at, one.name))
    drawn.ageing.sort(key=lambda one: (-one.age_us, one.name))
    times = sorted(one.flow_us for one in drawn.finished)
    for percentile in configuration.percentiles if times else ():
        drawn.percentiles[f"p{percentile}"] = times[(percentile * len(times) + 99) // 100 - 1]
    return drawn


def _draw(drawn: Diagrams, name: str, history: ItemHistory, story: ItemStory, begin: int, now: int) -> None:
    done = story.done
    if done is not None and done.measured and begin < done.at <= now:
        drawn.finished.append(Finished(name, done.labels[1], done.at, done.flow_us))
    if story.load_since is not None:
        title = next((fact.title for fact in reversed(history.facts) if fact.title), None)
        age_us = max(0, now - story.load_since)
        drawn.ageing.append(Ageing(name, story.item_type, story.state.name.lower(), age_us, title))


def _stays(history: ItemHistory, configuration: Configuration) -> Iterator[tuple[FlowState, int, int | None]]:
    """(state, from, until) of an item, until None where it still is; times that are left out are no stay."""
    stayed: FlowState | None = None
    since, blocked = 0, False
    for fact, _, told, paused in steps(history.facts, configuration):
        if fact.blocked is not None:
            blocked = fact.blocked
        state = None if paused else FlowState.WAITING if told is FlowState.ACTIVE and blocked else told
        if state is not stayed:
            if stayed in STATES:
                yield stayed, since, fact.at
            stayed, since = state, fact.at
    if stayed in STATES:
        yield stayed, since, None


def _index(at: int, begin: int, window_us: int) -> int:
    """The first instant of the picture that is not before `at`."""
    return min(max(-((begin - at) * (INSTANTS - 1) // window_us), 0), INSTANTS)


def _cumulated(changes: list[int], from_zero: bool) -> list[int]:
    counts, count = [], 0
    for change in changes[:INSTANTS]:
        count += change
        counts.append(count)
    return [max(0, count - counts[0]) for count in counts] if from_zero else counts
