"""Track: events of entities in, changes to panes out; a pure function of histories, batch and configuration.

For each entity of the batch its events are joined to its history, the contributions are read anew, and the difference
to those emitted last is the change. Late, repeated, reordered and corrected events are not special: the difference is
whatever it is. `now` plays no part; the runner hands over an event when its time has come.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from flowmetrics.configuration import Configuration
from flowmetrics.entities.customer import CUSTOMER
from flowmetrics.entities.request import REQUEST
from flowmetrics.entities.work_item import WORK_ITEM
from flowmetrics.entity import Contribution, Counted, Entity, History, Part
from flowmetrics.events import (
    ActivityEvent,
    CustomerEvent,
    EraseEvent,
    Event,
    ItemEvent,
    RequestEvent,
    ResponseEvent,
)
from flowmetrics.kpi import Kpi, Measure
from flowmetrics.source import Timed
from flowmetrics.steps.links import lent, reach
from flowmetrics.steps.series import SeriesTable
from flowmetrics.windowing.bins import BINS

Changes: TypeAlias = dict[int, dict[int, int]]
"""Series number → cell → signed amount."""

Touched: TypeAlias = dict[str, Collection[Part]]
"""Key of an entity → parts of its history that a batch changed."""

ENTITIES: Final = (WORK_ITEM, REQUEST, CUSTOMER)
_BY_HISTORY: Final[dict[type, Entity]] = {entity.history: entity for entity in ENTITIES}
_BY_PREFIX: Final = {entity.prefix: entity for entity in ENTITIES}

_KEYS: Final[dict[type, Callable[[Any], str]]] = {
    ItemEvent: lambda event: f"item:{event.data.item}",
    RequestEvent: lambda event: f"request:{event.data.request}",
    ActivityEvent: lambda event: f"customer:{event.data.customer}",
    CustomerEvent: lambda event: f"customer:{event.data.customer}",
    ResponseEvent: lambda event: f"customer:{event.data.respondent}",
    EraseEvent: lambda event: f"customer:{event.data.person}",
}
"""The entity that an event tells of; events of other types have no history yet, and stay in the log."""


def key_of(event: Event) -> str | None:
    """The key of the entity whose history an event joins; None for a type that has no history."""
    key = _KEYS.get(type(event))
    return key(event) if key else None


def entity_of(key: str) -> Entity:
    """The kind of entity that a key names."""
    return _BY_PREFIX[key.partition(":")[0]]


@dataclass
class Tracked:
    """What one batch did: changes to panes, histories that changed, and what the engine counts."""

    changes: Changes = field(default_factory=dict)
    dirty: set[str] = field(default_factory=set)
    counted: Counted = field(default_factory=Counter)


class Track:
    """The step; `histories[key]` must give the history of any key, a fresh one for a new entity."""

    def __init__(self, configuration: Configuration, kpis: Iterable[Kpi], table: SeriesTable) -> None:
        self._configuration = configuration
        self._table = table
        self._measures: dict[tuple[str, str], list[Measure]] = defaultdict(list)
        for measure in dict.fromkeys(measure for kpi in kpis for measure in kpi.measures):
            self._measures[measure.entity.prefix, measure.facet].append(measure)

    def __call__(self, batch: Iterable[Timed], histories: Mapping[str, History]) -> Tracked:
        """Join a batch to the histories, in place, and give what changed."""
        tracked = Tracked()
        touched = self._join(batch, histories, tracked)
        for key in [key for key in touched if _is_linked(histories[key])]:
            for other in reach(key, histories):
                touched[other] = _EVERY_PART
        for key, parts in touched.items():
            self._emit(key, parts, histories, tracked.changes)
        tracked.dirty.update(touched)
        return tracked

    def contributions(self, key: str, histories: Mapping[str, History]) -> dict[Part, list[Contribution]]:
        """The contributions that the facts of an entity call for now; parts without any are left out."""
        history = histories[key]
        return {
            part: found
            for part in self._all_parts(key, histories)
            if (found := self._read(key, history, part, histories))
        }

    def _join(self, batch: Iterable[Timed], histories: Mapping[str, History], tracked: Tracked) -> Touched:
        touched: Touched = {}
        configuration, counted = self._configuration, tracked.counted
        for at, event in batch:
            name = _KEYS.get(type(event))
            if name is None:
                continue
            key = name(event)
            parts = histories[key].add(event, at, configuration, counted)
            if parts:
                held = touched.get(key)
                if held is None:
                    touched[key] = parts
                elif held != parts:
                    touched[key] = {*held, *parts}
                for other in _mentioned_by(event):
                    mentioned = histories[other].mentioned
                    if key not in mentioned and other != key:
                        mentioned.append(key)
                        mentioned.sort()
                        touched[other] = _EVERY_PART
        return touched

    def _emit(self, key: str, parts: Collection[Part], histories: Mapping[str, History], changes: Changes) -> None:
        history = histories[key]
        for part in self._all_parts(key, histories) if parts is _EVERY_PART else parts:
            before, after = history.emitted(part), self._read(key, history, part, histories)
            if before != after:
                for series, cell, amount in before:
                    cells = changes.get(series)
                    if cells is None:
                        cells = changes[series] = {}
                    cells[cell] = cells.get(cell, 0) - amount
                for series, cell, amount in after:
                    cells = changes.get(series)
                    if cells is None:
                        cells = changes[series] = {}
                    cells[cell] = cells.get(cell, 0) + amount
                history.emit(part, after)

    def _all_parts(self, key: str, histories: Mapping[str, History]) -> Collection[Part]:
        parts = set(histories[key].parts())
        if _is_linked(histories[key]):
            for other in reach(key, histories):
                parts.update(histories[other].parts())
        return sorted(parts)

    def _read(self, key: str, history: History, part: Part, histories: Mapping[str, History]) -> list[Contribution]:
        entity = _BY_HISTORY[type(history)]
        measures = self._measures.get((entity.prefix, part[0]))
        if not measures:
            return _NOTHING
        others = lent(key, entity, histories) if _is_linked(history) else _ALONE
        if others is None:
            return _NOTHING
        story = entity.read(history, self._configuration, part, others)
        if story is None:
            return _NOTHING
        width, number = self._configuration.resolution_us, self._table.told
        return [
            (number[measure.name, labels], -(-at // width) * BINS + bin_number, amount)
            for measure in measures
            for labels, at, bin_number, amount in measure.places(story)
        ]


_EVERY_PART: Final[Collection[Part]] = frozenset()
_ALONE: Final[Mapping[str, History]] = {}
_NOTHING: Final[list[Contribution]] = []


def _is_linked(history: History) -> bool:
    return bool(history.mentioned or history.mentions())


def _mentioned_by(event: Event) -> Sequence[str]:
    if type(event) is CustomerEvent and event.data.aliases:
        return [CUSTOMER.key(alias) for alias in event.data.aliases]
    if type(event) is RequestEvent and event.data.duplicate_of:
        return [REQUEST.key(event.data.duplicate_of)]
    return ()
