"""Track: events of entities in, changes to panes out; a pure function of histories, batch and configuration.

For each entity of the batch its events are joined to its history, the contributions are read anew, and the difference
to those emitted last is the change. Late, repeated, reordered and corrected events are not special: the difference is
whatever it is. `now` plays no part; the runner hands over an event when its time has come.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from flowmetrics.configuration import Configuration, Memo
from flowmetrics.entities.customer import CUSTOMER
from flowmetrics.entities.request import REQUEST
from flowmetrics.entities.work_item import WORK_ITEM
from flowmetrics.entity import Contribution, Counted, Entity, History, Part
from flowmetrics.events import CustomerEvent, Event, RequestEvent
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

_JOINS: Final = {kind: join for entity in ENTITIES for kind, join in entity.joins.items()}
"""Event type → (key of the entity it tells of, how it is joined); events of other types stay in the log."""

_SLICE: Final = 256
"""Events joined before their entities are read: few enough that the histories are still in the processor's cache."""


def keys_of(event: Event) -> Sequence[str]:
    """The keys of the histories that an event touches: its own entity, and those it mentions."""
    join = _JOINS.get(type(event))
    return (join[0](event), *_mentioned_by(event)) if join else ()


def entity_of(key: str) -> Entity:
    """The kind of entity that a key names."""
    return _BY_PREFIX[key.partition(":")[0]]


@dataclass
class Tracked:
    """What one batch did: changes to panes, histories that changed, and what the engine counts."""

    changes: Changes = field(default_factory=lambda: defaultdict(dict))
    dirty: set[str] = field(default_factory=set)
    counted: Counted = field(default_factory=Counter)


class Track:
    """The step; `histories[key]` must give the history of any key, a fresh one for a new entity."""

    def __init__(self, configuration: Configuration, kpis: Iterable[Kpi], table: SeriesTable) -> None:
        self._configuration = configuration
        self._table = table
        measures = list(dict.fromkeys(measure for kpi in kpis for measure in kpi.measures))

        def reading(entity: Entity) -> Memo[list[Measure]]:
            own = [measure for measure in measures if measure.entity is entity]
            return Memo(lambda part: [measure for measure in own if measure.facet == part.partition(":")[0]])

        self._measures = {entity.prefix: reading(entity) for entity in ENTITIES}

    def __call__(self, batch: Sequence[Timed], histories: Mapping[str, History]) -> Tracked:
        """Join a batch to the histories, in place, and give what changed."""
        tracked = Tracked()
        for start in range(0, len(batch), _SLICE):
            touched = self._join(batch[start : start + _SLICE], histories, tracked.counted)
            for key in [key for key in touched if histories[key].mentioned or histories[key].mentions]:
                touched.update(dict.fromkeys(reach(key, histories), _EVERY_PART))
            for key, parts in touched.items():
                self._emit(key, parts, histories, tracked.changes)
            tracked.dirty.update(touched)
        return tracked

    def renew(self, keys: Iterable[str], histories: Mapping[str, History]) -> Tracked:
        """Emit entities whole, as if nothing had been emitted before: a new reading of the same facts."""
        tracked = Tracked()
        for key in keys:
            histories[key].contributed = {}
            self._emit(key, _EVERY_PART, histories, tracked.changes)
            tracked.dirty.add(key)
        return tracked

    def contributions(self, key: str, histories: Mapping[str, History]) -> dict[Part, list[Contribution]]:
        """The contributions that the facts of an entity call for now; parts without any are left out."""
        parts = self._all_parts(key, histories)
        return {part: found for part in parts if (found := self._read(key, histories[key], part, histories))}

    def _join(self, batch: Sequence[Timed], histories: Mapping[str, History], counted: Counted) -> Touched:
        touched: Touched = {}
        configuration = self._configuration
        for at, event in batch:
            join = _JOINS.get(type(event))
            if join is None:
                continue
            key = join[0](event)
            parts = join[1](histories[key], event, at, configuration, counted)
            if parts:
                held = touched.get(key)
                touched[key] = parts if held is None or held is parts else {*held, *parts}
                for other in _mentioned_by(event):
                    mentioned = histories[other].mentioned
                    if key not in mentioned and other != key:
                        mentioned.append(key)
                        mentioned.sort()
                        touched[other] = _EVERY_PART
        return touched

    def _emit(self, key: str, parts: Collection[Part], histories: Mapping[str, History], changes: Changes) -> None:
        history = histories[key]
        contributed = history.contributed
        for part in self._all_parts(key, histories) if parts is _EVERY_PART else parts:
            before, after = contributed.get(part, _NOTHING), self._read(key, history, part, histories)
            if before == after:
                continue
            for series, cell, amount in before:
                cells = changes[series]
                cells[cell] = cells.get(cell, 0) - amount
            for series, cell, amount in after:
                cells = changes[series]
                cells[cell] = cells.get(cell, 0) + amount
            if after:
                contributed[part] = after
            else:
                del contributed[part]

    def _all_parts(self, key: str, histories: Mapping[str, History]) -> Collection[Part]:
        parts = {*histories[key].parts(), *histories[key].contributed}
        for other in reach(key, histories):
            parts.update(histories[other].parts())
        return sorted(parts)

    def _read(self, key: str, history: History, part: Part, histories: Mapping[str, History]) -> list[Contribution]:
        entity = _BY_HISTORY[type(history)]
        measures = self._measures[entity.prefix][part]
        if not measures:
            return _NOTHING
        others = lent(key, entity, histories) if history.mentioned or history.mentions else _ALONE
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


def _mentioned_by(event: Event) -> Sequence[str]:
    if type(event) is CustomerEvent and event.data.aliases:
        return [CUSTOMER.key(alias) for alias in event.data.aliases]
    if type(event) is RequestEvent and event.data.duplicate_of:
        return [REQUEST.key(event.data.duplicate_of)]
    return ()
