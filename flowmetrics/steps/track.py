"""Track: events of entities in, changes to panes out; a pure function of histories, batch and configuration.

For each entity of the batch its events are joined to its history, the contributions are read anew, and the difference
to those emitted last is the change. Late, repeated, reordered and corrected events are not special: the difference is
whatever it is. `now` plays no part; the runner hands over an event when its time has come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from flowmetrics.configuration import UNMAPPED, Configuration, FlowState
from flowmetrics.entities.customer import CUSTOMER
from flowmetrics.entities.request import REQUEST
from flowmetrics.entities.work_item import WORK_ITEM
from flowmetrics.entity import CONFLICT, Contribution, Entity, History
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
from flowmetrics.steps.links import lent, reach
from flowmetrics.steps.series import SeriesTable
from flowmetrics.windowing.bins import BINS

Timed: TypeAlias = tuple[int, Event]
"""An accepted event and its instant."""

Changes: TypeAlias = dict[int, dict[int, int]]
"""Series number → cell → signed amount."""

ENTITIES: Final = (WORK_ITEM, REQUEST, CUSTOMER)
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
    counted: Counter[tuple[str, ...]] = field(default_factory=Counter)


class Track:
    """The step; `histories[key]` must give the history of any key, a fresh one for a new entity."""

    def __init__(self, configuration: Configuration, kpis: Iterable[Kpi], table: SeriesTable) -> None:
        self._configuration = configuration
        self._table = table
        measures = dict.fromkeys(measure for kpi in kpis for measure in kpi.measures)
        self._measures: dict[str, list[list[Measure]]] = {
            entity.prefix: [
                [m for m in measures if m.entity is entity and m.facet == 1 << facet] for facet in range(entity.facets)
            ]
            for entity in ENTITIES
        }

    def __call__(self, batch: Iterable[Timed], histories: Mapping[str, History]) -> Tracked:
        """Join a batch to the histories, in place, and give what changed."""
        tracked = Tracked()
        touched = self._join(batch, histories, tracked)
        linked = {key for key in touched if histories[key].mentioned or self._mentions(key, histories)}
        for key in linked:
            for other in reach([key], entity_of(key), histories):
                touched[other] = -1
        for key, facets in touched.items():
            self._emit(key, facets, histories, tracked)
        tracked.dirty.update(touched)
        return tracked

    def contributions(self, key: str, histories: Mapping[str, History]) -> list[list[Contribution]]:
        """The contributions that the facts of an entity call for now, a list for each facet."""
        entity = entity_of(key)
        return [self._read(key, entity, facet, histories) for facet in range(entity.facets)]

    def _join(self, batch: Iterable[Timed], histories: Mapping[str, History], tracked: Tracked) -> dict[str, int]:
        touched: dict[str, int] = {}
        configuration = self._configuration
        for at, event in batch:
            name = _KEYS.get(type(event))
            if name is None:
                continue
            key = name(event)
            facets = histories[key].add(event, at, configuration)
            if facets:
                touched[key] = touched.get(key, 0) | facets
                self._count(event, facets, tracked)
                for other in _mentioned_by(event):
                    mentioned = histories[other].mentioned
                    if key not in mentioned and other != key:
                        mentioned.append(key)
                        mentioned.sort()
                        touched[other] = -1
        return touched

    def _count(self, event: Event, facets: int, tracked: Tracked) -> None:
        if facets & CONFLICT:
            tracked.counted["conflicting_ids", event.source] += 1
        if type(event) is ItemEvent or type(event) is RequestEvent:
            stream = self._configuration.stream(event.data.value_stream)
            if stream.state(event.data.state) is FlowState.UNMAPPED:
                tracked.counted["unmapped", event.source, "state"] += 1
            if type(event) is ItemEvent and event.data.item_type and stream.item_type(event.data.item_type) == UNMAPPED:
                tracked.counted["unmapped", event.source, "item_type"] += 1

    def _mentions(self, key: str, histories: Mapping[str, History]) -> bool:
        return any(True for _ in entity_of(key).mentions(histories[key]))

    def _emit(self, key: str, facets: int, histories: Mapping[str, History], tracked: Tracked) -> None:
        entity, history, changes = entity_of(key), histories[key], tracked.changes
        emitted = history.emitted
        if len(emitted) < entity.facets:
            emitted.extend([] for _ in range(entity.facets - len(emitted)))
        for facet in range(entity.facets):
            if facets & 1 << facet:
                before, after = emitted[facet], self._read(key, entity, facet, histories)
                if before != after:
                    for series, cell, amount in before:
                        cells = changes.setdefault(series, {})
                        cells[cell] = cells.get(cell, 0) - amount
                    for series, cell, amount in after:
                        cells = changes.setdefault(series, {})
                        cells[cell] = cells.get(cell, 0) + amount
                    emitted[facet] = after

    def _read(self, key: str, entity: Entity, facet: int, histories: Mapping[str, History]) -> list[Contribution]:
        measures = self._measures[entity.prefix][facet]
        if not measures:
            return []
        history = histories[key]
        others: Mapping[str, History] = {}
        if history.mentioned or any(True for _ in entity.mentions(history)):
            borrowed = lent(key, entity, histories)
            if borrowed is None:
                return []
            others = borrowed
        story = entity.read(history, self._configuration, others)
        if story is None:
            return []
        width, number = self._configuration.resolution_us, self._table.number
        return [
            (number((measure.name, *labels)), -(-at // width) * BINS + bin_number, amount)
            for measure in measures
            for labels, at, bin_number, amount in measure.places(story)
        ]


def _mentioned_by(event: Event) -> Sequence[str]:
    if type(event) is CustomerEvent and event.data.aliases:
        return [CUSTOMER.key(alias) for alias in event.data.aliases]
    if type(event) is RequestEvent and event.data.duplicate_of:
        return [REQUEST.key(event.data.duplicate_of)]
    return ()
