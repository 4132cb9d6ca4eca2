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
from flowmetrics.kpi import Kpi
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

_JOINS: Final = {kind: join for entity in ENTITIES for kind, join in entity.joins.items()}
"""Event type → (key of the entity it tells of, how it is joined); events of other types stay in the log."""
_LINKING: Final = frozenset({CustomerEvent, EraseEvent, RequestEvent})
"""Events that may link entities, or spread over links."""


def key_of(event: Event) -> str:
    """The key of the entity that an event tells of; "" when it tells of none."""
    join = _JOINS.get(type(event))
    return join[0](event) if join else ""


def keyed(batch: Iterable[Timed]) -> list[Keyed]:
    """Events with the keys of their entities; events of none are left out."""
    return [(at, event, key) for at, event in batch if (key := key_of(event))]


def keys_of(batch: Iterable[Keyed]) -> list[str]:
    """The keys of the histories that a batch touches: of entities that are told of, and of those mentioned."""
    keys = []
    for _, event, key in batch:
        keys.append(key)
        if type(event) in _LINKING:
            keys.extend(_mentioned_by(event))
    return keys


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
        measures = list(dict.fromkeys(measure for kpi in kpis for measure in kpi.measures))

        def plans(entity: Entity) -> Memo[_Plan]:
            own = [measure for measure in measures if measure.entity is entity]

            def plan(part: Part) -> _Plan:
                facet, _, stream = part.partition(":")
                measures = [(table.told[m.name], m.places) for m in own if m.facet == facet]
                return _Plan(entity, entity.read, stream, measures)

            return Memo(plan)

        self._plans: dict[type, Memo[_Plan]] = {entity.history: plans(entity) for entity in ENTITIES}

    def __call__(self, batch: Iterable[Keyed], histories: Mapping[str, History]) -> Tracked:
        """Join a batch to the histories, in place, and give what changed."""
        touched: Touched = {}
        counted = self.join(batch, histories, touched)
        return Tracked(self.emit(touched, histories), touched, counted)

    def join(self, batch: Iterable[Keyed], histories: Mapping[str, History], touched: Touched) -> Counted:
        """Join a batch to the histories, in place; what it changed goes to `touched`. Gives what was counted."""
        counted: Counted = Counter()
        configuration, joins = self._configuration, _JOINS
        for at, event, key in batch:
            kind, history = type(event), histories[key]
            parts = joins[kind][1](history, event, at, configuration, counted)
            if parts:
                before = touched.get(key)
                if before is None:
                    touched[key] = parts
                elif before is not parts:
                    touched[key] = _joined(before, parts)
            if kind in _LINKING:
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

    def emit(self, touched: Touched, histories: Mapping[str, History], changes: Changes | None = None) -> Changes:
        """Read what was touched, and who is linked to it, anew: the changes to what it contributed before.

        Whoever is linked is added to `touched`. The result is added to `changes`, where they are given.
        """
        linked: Touched = {}
        for key in [key for key in touched if histories[key].mentioned]:
            if key not in linked:
                group = reach(key, histories)
                parts = {part for one in group for part in histories[one].parts()}
                for one in group:
                    linked[one] = sorted({*parts, *self._books(histories[one])}) if self._owns(one) else ()
        touched.update(linked)
        changes = defaultdict(dict) if changes is None else changes
        self._emit(touched, histories, changes)
        return changes

    def renew(self, keys: Iterable[str], histories: Mapping[str, History]) -> Changes:
        """Emit entities whole, as if nothing of them had been emitted before, whatever the books say."""
        touched: Touched = {}
        for key in keys:
            self._books(histories[key]).clear()
            touched[key] = histories[key].parts()
        return self.emit(touched, histories)

    def contributions(self, key: str, histories: Mapping[str, History]) -> dict[Part, list[Contribution]]:
        """The contributions that the facts of an entity call for now; parts without any are left out."""
        history, plans = histories[key], self._plans[type(histories[key])]
        self._lent.clear()
        parts = self._all_parts(key, histories)
        return {part: found for part in parts if (found := self._read(key, history, plans[part], histories))}

    def _link(self, key: str, at: int, event: Event, histories: Mapping[str, History]) -> None:
        for other in _mentioned_by(event):
            mention(key, other, at, histories)
        if type(event) is not RequestEvent:
            spread_erasure(key, histories, self._configuration)

    def _emit(self, touched: Touched, histories: Mapping[str, History], changes: Changes) -> None:
        plans, books = self._plans, self._books
        self._lent.clear()
        for key, parts in touched.items():
            history = histories[key]
            contributed, plan_of = books(history), plans[type(history)]
            for part in parts:
                plan = plan_of[part]
                if plan.measures:
                    before, found = contributed.get(part, _NOTHING), self._read(key, history, plan, histories)
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

    def _read(self, key: str, history: History, plan: _Plan, histories: Mapping[str, History]) -> list[Contribution]:
        others: Mapping[str, History] | None = _ALONE
        if history.mentioned:
            if key not in self._lent:
                self._lent.update(lent(key, plan.entity, histories, self._configuration))
            others = self._lent[key]
        if others is None:
            return _NOTHING
        story = plan.read(history, self._configuration, plan.value_stream, others)
        if story is None:
            return _NOTHING
        width, found = self._configuration.resolution_us, []
        for numbers, places in plan.measures:
            for labels, at, bin_number, amount in places(story):
                found.append((numbers[labels], -(-at // width) * BINS + bin_number, amount))
        return found


class _Plan(NamedTuple):
    """How a part of a history is read: for each measure the numbers of its series, and its places."""

    entity: Entity
    read: Callable[[Any, Configuration, str, Mapping[str, Any]], Any]
    value_stream: str
    measures: list[tuple[Mapping[tuple[str, ...], int], Callable[[Any], Iterable[Place]]]]


_ALONE: Final[Mapping[str, History]] = {}
_NOTHING: Final[list[Contribution]] = []


def _joined(before: Collection[Part], parts: Collection[Part]) -> Collection[Part]:
    """Both, each once, in the order in which they changed. A dict is one that was made here, and grows."""
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
