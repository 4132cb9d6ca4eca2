"""Questions about entities, answered from the file of a data directory beside an engine that goes on writing it.

Each question reads one snapshot: histories, series and epoch of the same commit. It takes as long as there are
histories of that kind, so it belongs into a thread of its own; what takes too long ends early and says so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from agents.histories import HotHistories
from agents.local.engine import directory_of
from agents.local.epochs import Epochs
from agents.local.journal import Snapshot
from flowmetrics.behind import Behind, Question, searched
from flowmetrics.configuration import Configuration
from flowmetrics.diagrams import diagrams
from flowmetrics.entities.request import RequestHistory
from flowmetrics.entities.work_item import WORK_ITEM, ItemHistory
from flowmetrics.entity import Entity, History
from flowmetrics.errors import OperationError
from flowmetrics.explain import explanation
from flowmetrics.instants import SECOND_US
from flowmetrics.kpis import selected
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.stored import decode_history
from flowmetrics.steps.tally import DROPPED
from flowmetrics.steps.track import Track

ROWS_MAX: Final = 200
"""Entities told of one number: nobody reads more, and each leads to its history."""
DOTS_MAX: Final = 2000
"""Dots of a picture; more are a cloud, in which nobody finds one."""
SEARCH_SECONDS_MAX: Final = 10.0
"""How long histories are searched; some half a million. What was not reached is said to be missing."""


def explained(key: str, configuration: Configuration, journal: Snapshot) -> Iterator[str]:
    """The facts of one entity and what they contribute, in words, as the configuration reads them that is given.

    Raises OperationError for an unknown key.
    """
    if not any(True for _ in journal.histories([key])):
        raise OperationError(f"nothing is known of {key}; keys are case-sensitive, and ids are those that were sent")
    kpis, table = selected(configuration), SeriesTable(journal.series())
    histories = HotHistories(journal, configuration.hot_entities_max, _epoch(journal))
    contributed = Track(configuration, kpis, table).contributions(key, histories)
    yield from explanation(key, histories[key], contributed, table, kpis, configuration)


def behind(question: Question) -> dict[str, Any]:
    """Who is behind a number: how many, the sums of what they contribute by measure, and those that tell most."""
    configuration = question.configuration
    with Snapshot(directory_of(configuration.broker)) as journal:
        search = _Search(journal)
        series = question.series(_shown(journal, search.epoch))
        amounts: Counter[str] = Counter()
        total = 0

        def counted() -> Iterator[Behind]:
            nonlocal total
            for entity in question.entities if series else ():
                for one in searched(question, search.histories(entity), series):
                    total += 1
                    amounts.update({said.measure: said.amount for said in one.said})
                    yield one

        rows = question.telling(counted(), ROWS_MAX)
        known = dict(journal.histories([one.key for one in rows]))
        told = [_told(one, decode_history(one.key, known[one.key], search.epoch)) for one in rows]
    return {"total": total, "amounts": amounts, "complete": search.complete, "rows": told, "rows_max": ROWS_MAX}


def work(value_stream: str, configuration: Configuration, now: int, window_us: int) -> dict[str, Any]:
    """The pictures of the items of a value stream: the latest that were done, and the oldest in progress."""
    with Snapshot(directory_of(configuration.broker)) as journal:
        search = _Search(journal)
        items = ((key, history) for key, history in search.histories(WORK_ITEM) if isinstance(history, ItemHistory))
        drawn = diagrams(items, value_stream, configuration, now, window_us)
    return {
        "instants": [at / SECOND_US for at in drawn.instants],
        "counts": drawn.counts,
        "percentiles": {name: us / SECOND_US for name, us in drawn.percentiles.items()},
        "finished": [
            (f.name, f.item_type, f.at / SECOND_US, f.flow_us / SECOND_US) for f in drawn.finished[-DOTS_MAX:]
        ],
        "finished_total": len(drawn.finished),
        "ageing": [(a.name, a.item_type, a.state, a.age_us / SECOND_US, a.title) for a in drawn.ageing[:DOTS_MAX]],
        "ageing_total": len(drawn.ageing),
        "complete": search.complete,
    }


class _Search:
    """A reading of all histories of a kind that ends when it takes too long; `complete` is false then."""

    def __init__(self, journal: Snapshot) -> None:
        self._journal = journal
        self._until = time.monotonic() + SEARCH_SECONDS_MAX
        self.epoch = _epoch(journal)
        self.complete = True

    def histories(self, entity: Entity) -> Iterator[tuple[str, History]]:
        """(key, history), in the order of keys."""
        for key, body in self._journal.stored_histories(entity.prefix):
            if time.monotonic() > self._until:
                self.complete = False
                return
            with self._journal.told():
                yield key, decode_history(key, body, self.epoch)


def _epoch(journal: Snapshot) -> int:
    """The published one."""
    stored = journal.meta("epochs")
    with journal.told():
        return msgspec.msgpack.decode(stored, type=Epochs).published if stored else 0


def _shown(journal: Snapshot, epoch: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The number of every series, and what it is shown as."""
    series = dict(journal.series())
    shown: Mapping[int, int] = dict(journal.shown(epoch))
    for number in series:
        place = shown.get(number, number)
        if place != DROPPED:
            yield number, series[place]


def _told(one: Behind, history: History) -> dict[str, Any]:
    kind, _, name = one.key.partition(":")
    said = [
        {
            "measure": said.measure,
            "at": said.at / SECOND_US,
            "amount": said.amount,
            "value": said.value,
            "unit": said.unit and said.unit.value,
        }
        for said in one.said
    ]
    return {"kind": kind, "name": name, "at": one.at / SECOND_US, "said": said, **_words(history)}


def _words(history: History) -> dict[str, str | None]:
    """What people know an item or a request by: the latest title and the state as the tool names it."""
    if isinstance(history, ItemHistory):
        titles = [fact.title for fact in history.facts if fact.title]
        return {"title": titles[-1] if titles else None, "state": history.facts[-1].state}
    return {"title": None, "state": history.facts[-1].state if isinstance(history, RequestHistory) else None}
