"""Track: events of entities in, changes to panes out; a pure function of histories, batch and configuration.

For each entity of the batch its events are joined to its history, the contributions are read anew, and the difference
to those emitted last is the change. Late, repeated, reordered and corrected events are not special: the difference is
whatever it is. `now` plays no part; the runner hands over an event when its time has come.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from flowmetrics.configuration import Configuration, Memo
from flowmetrics.entities.customer import CUSTOMER, CustomerHistory
from flowmetrics.entities.request import REQUEST
from flowmetrics.entities.work_item import WORK_ITEM
from flowmetrics.entity import PACKED_FROM, Contribution, Counted, Entity, History, Packed, Part, Place, pack, unpack
from flowmetrics.events import CustomerEvent, EraseEvent, Event, RequestEvent
from flowmetrics.kpi import Kpi, measures
from flowmetrics.source import Timed
from flowmetrics.steps.links import lent, mention, reach, spread_erasure
from flowmetrics.steps.series import SeriesTable
from flowmetrics.windowing.bins import BINS

Changes: TypeAlias = dict[int, dict[int, int]]
"""Series number → cell → signed amount."""

Keyed: TypeAlias = tuple[int, Event, str]
"""An accepted event, its instant, and the key of the entity that it tells of."""

Touched: TypeAlias = dict[str, Collection[Part]]
"""Key of an entity → the parts of it that changed."""

Books: TypeAlias = Literal["contributed", "coming"]
"""Where a history keeps what it contributed: under the published epoch, and under the coming one."""

ENTITIES: Final = (WORK_ITEM, REQUEST, CUSTOMER)
_BY_PREFIX: Final = {entity.prefix: entity for entity in ENTITIES}

_KEY_OF: Final = {kind: key for entity in ENTITIES for kind, (key, _) in entity.joins.items()}
"""Event type → the key of the entity that it tells of; events of other types stay in the log."""
_JOIN_OF: Final = {kind: join for entity in ENTITIES for kind, (_, join) in entity.joins.items()}
"""Event type → how it is joined to the history of its entity."""
_LINKING: Final = frozenset({CustomerEvent, EraseEvent, RequestEvent})
"""Events that may link entities, or spread over links."""


def key_of(event: Event) -> str:
    """The key of the entity that an event tells of; "" when it tells of none."""
    key = _KEY_OF.get(type(event))
    return key(event) if key else ""


def keyed(batch: Iterable[Timed]) -> list[Keyed]:
    """Events with the keys of their entities; events of none are left out."""
    return [(at, event, key) for at, event in batch if (key := key_of(event))]


def keys_of(batch: Iterable[Keyed]) -> list[str]:
    """The keys of the entities that a batch tells of; a few others may be mentioned."""
    return [key for _, _, key in batch]


def entity_of(key: str) -> Entity:
    """The kind of entity that a key names."""
    return _BY_PREFIX[key.partition(":")[0]]


class Tracked(NamedTuple):
    """What one batch did: changes to panes, histories that changed, and what the engine counts."""

    changes: Changes
    touched: Touched
    counted: Counted


class Track:
    """The step; `histories[key]` must give the history of any key, a fresh one for a new entity.

    Histories for which `owns` is false are copies of what lives in another partition: they are read like others, and
    contribute nothing here. `books` names the field of histories in which it keeps what they contributed.
    """

    def __init__(
        self,
        configuration: Configuration,
        kpis: Iterable[Kpi],
        table: SeriesTable,
        owns: Callable[[str], bool] = lambda key: True,
        books: Books = "contributed",
    ) -> None:
        self._configuration = configuration
        self._owns = owns
        self._books: Callable[[History], dict[Part, Packed]] = attrgetter(books)
        self._lent: dict[str, Mapping[str, History] | None] = {}
        all_measures = measures(kpis)

        def readings(entity: Entity) -> Memo[_Reading | None]:
            own = [measure for measure in all_measures if measure.entity is entity]

            def reading(part: Part) -> _Reading | None:
                facet, _, stream = part.partition(":")
                places = [(table.told[m.name], m.places) for m in own if m.facet == facet]
                return _reading(entity, configuration, stream, places) if places else None

            return Memo(reading)

        self._readings: dict[type, Memo[_Reading | None]] = {e.history: readings(e) for e in ENTITIES}

    def __call__(self, batch: Iterable[Keyed], histories: Mapping[str, History]) -> Tracked:
        """Join a batch to the histories, in place, and give what changed."""
        touched: Touched = {}
        counted = self.join(batch, histories, touched)
        return Tracked(self.emit(touched, histories), touched, counted)

    def join(self, batch: Iterable[Keyed], histories: Mapping[str, History], touched: Touched) -> Counted:
        """Join a batch to the histories, in place; what it changed goes to `touched`. Gives what was counted."""
        counted: Counted = Counter()
        configuration, join_of, linking = self._configuration, _JOIN_OF, _LINKING
        for at, event, key in batch:
            kind, history = type(event), histories[key]
            parts = join_of[kind](history, event, at, configuration, counted)
            if parts:
                before = touched.setdefault(key, parts)
                if before is not parts:
                    joined = _joined(before, parts)
                    if joined is not before:
                        touched[key] = joined
            if kind in linking:
                self._link(key, at, event, histories)
                if history.mentioned:
                    touched.setdefault(key, ())
        return counted

    def hear(self, key: str, copy: History, histories: MutableMapping[str, History], touched: Touched) -> None:
        """Take the copy of a history that lives in another partition, and what follows from it for those here."""
        for mate, at in histories[key].mentioned.items():
            copy.mentioned[mate] = min(at, copy.mentioned.get(mate, at))
        histories[key] = copy
        for mate, at in copy.mentioned.items():
            mention(key, mate, at, histories)
        if isinstance(copy, CustomerHistory):
            spread_erasure(key, histories, self._configuration)
        touched.setdefault(key, ())

    def emit(self, touched: Touched, histories: Mapping[str, History]) -> Changes:
        """Read what was touched, and who is linked to it, anew: the changes to what it contributed before.

        Whoever is linked is added to `touched`.
        """
        changes: Changes = defaultdict(dict)
        self.add(touched, histories, changes)
        return changes

    def add(self, touched: Touched, histories: Mapping[str, History], changes: Changes) -> Collection[str]:
        """Add to `changes` what `emit` gives; the keys of those that are linked, and of whoever they are linked to."""
        self._lent.clear()
        linked: Touched = {}
        for key, parts in touched.items():
            history = histories[key]
            if history.mentioned:
                linked[key] = ()
            else:
                self._emit(history, parts, _ALONE, changes)
        if linked:
            linked = self._groups(linked, histories)
            touched.update(linked)
            for key, parts in linked.items():
                self._emit(histories[key], parts, self._others(key, histories), changes)
        return linked.keys()

    def _groups(self, keys: Iterable[str], histories: Mapping[str, History]) -> Touched:
        """Everybody who is linked to one of these, and all that may have to be read of them."""
        linked: Touched = {}
        for key in keys:
            if key not in linked:
                group = sorted(reach(key, histories))
                parts = {part for one in group for part in histories[one].parts()}
                for one in group:
                    linked[one] = sorted({*parts, *self._books(histories[one])}) if self._owns(one) else ()
        return linked

    def renew(self, keys: Iterable[str], histories: Mapping[str, History]) -> Changes:
        """Emit entities whole, as if nothing of them had been emitted before, whatever the books say."""
        touched: Touched = {}
        for key in keys:
            self._books(histories[key]).clear()
            touched[key] = histories[key].parts()
        return self.emit(touched, histories)

    def contributions(self, key: str, histories: Mapping[str, History]) -> dict[Part, list[Contribution]]:
        """The contributions that the facts of an entity call for now; parts without any are left out."""
        self._lent.clear()
        history, reading_of = histories[key], self._readings[type(histories[key])]
        others = self._others(key, histories) if history.mentioned else _ALONE
        readings = {part: reading_of[part] for part in self._all_parts(key, histories)}
        return {part: found for part, read in readings.items() if read and (found := read(history, others))}

    def _link(self, key: str, at: int, event: Event, histories: Mapping[str, History]) -> None:
        for other in _mentioned_by(event):
            mention(key, other, at, histories)
        if type(event) is not RequestEvent:
            spread_erasure(key, histories, self._configuration)

    def _emit(
        self, history: History, parts: Collection[Part], others: Mapping[str, History] | None, changes: Changes
    ) -> None:
        contributed, reading_of = self._books(history), self._readings[type(history)]
        for part in parts:
            read = reading_of[part]
            if read is not None:
                before, found = contributed.get(part, _NOTHING), read(history, others)
                after = found if len(found) < PACKED_FROM else pack(found)
                if before != after:
                    contributed[part] = after
                    for series, cell, amount in before if type(before) is list else unpack(before):
                        cells = changes[series]
                        cells[cell] = cells.get(cell, 0) - amount
                    for series, cell, amount in found:
                        cells = changes[series]
                        cells[cell] = cells.get(cell, 0) + amount

    def _all_parts(self, key: str, histories: Mapping[str, History]) -> Collection[Part]:
        parts = {*histories[key].parts(), *self._books(histories[key])}
        if histories[key].mentioned:
            for other in reach(key, histories):
                parts.update(histories[other].parts())
        return sorted(parts)

    def _others(self, key: str, histories: Mapping[str, History]) -> Mapping[str, History] | None:
        """The histories lent to one that is linked; None where another one reads it."""
        if key not in self._lent:
            self._lent.update(lent(key, entity_of(key), histories, self._configuration))
        return self._lent[key]


_Reading: TypeAlias = Callable[[History, Mapping[str, History] | None], list[Contribution]]
"""(history, those lent to it, or None where another one reads it) → what a part of it contributes."""


def _reading(
    entity: Entity,
    configuration: Configuration,
    value_stream: str,
    measures: Sequence[tuple[Mapping[tuple[str, ...], int], Callable[[Any], Iterable[Place]]]],
) -> _Reading:
    """How a part is read: `measures` are the numbers of their series by labels, and their places."""
    story_of, width_us = entity.read, configuration.resolution_us

    def read(history: History, others: Mapping[str, History] | None) -> list[Contribution]:
        story = None if others is None else story_of(history, configuration, value_stream, others)
        if story is None:
            return _NOTHING
        return [
            (numbers[labels], -(-at // width_us) * BINS + bin_number, amount)
            for numbers, places in measures
            for labels, at, bin_number, amount in places(story)
        ]

    return read


_ALONE: Final[Mapping[str, History]] = {}
_NOTHING: Final[list[Contribution]] = []


def _joined(before: Collection[Part], parts: Collection[Part]) -> Collection[Part]:
    """Both, each once, in the order in which they changed. A dict is one that was made here, and grows."""
    for part in parts:
        if part not in before:
            break
    else:
        return before
    if type(before) is not dict:
        before = dict.fromkeys(before)
    before.update(dict.fromkeys(parts))
    return before


def _mentioned_by(event: Event) -> Sequence[str]:
    if type(event) is CustomerEvent and event.data.aliases:
        return [CUSTOMER.key(alias) for alias in event.data.aliases]
    if type(event) is RequestEvent and event.data.duplicate_of:
        return [REQUEST.key(event.data.duplicate_of)]
    return ()
