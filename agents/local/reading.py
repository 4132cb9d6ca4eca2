"""The past of a data directory: what a reading of its log from the beginning finds.

Where persons were erased their events are gone, and with them whom they linked; what is still known of that is told as
events, so that whoever reads the past knows no less than the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import orjson

from agents.local.journal import Journal
from flowmetrics.entities.customer import CUSTOMER, CustomerHistory
from flowmetrics.events import CustomerEvent, EraseEvent
from flowmetrics.instants import instant_text
from flowmetrics.steps.stored import decode_history

EVENTS_AT_ONCE: Final = 10_000
SOURCE: Final = "flowmetrics/move"
"""Of the events that tell of an erased person what the log no longer does."""


def whole_log(journal: Journal) -> Iterator[tuple[int, bytes]]:
    """Arrival stamp and line of every event; the line is empty where a person was erased."""
    position = journal.first()
    while position < journal.end:
        for arrived_at, lines in journal.read(position, EVENTS_AT_ONCE):
            position += len(lines)
            for line in lines:
                yield arrived_at, line


def erasures(journal: Journal) -> Iterator[tuple[int, bytes]]:
    """What is known of erased persons, as events: that they are erased, and whom the deleted events linked them to.

    They are the same in every reading; as arrival stamp they have the instant that they tell of.
    """
    for key, body in journal.histories([key for key, _, _ in journal.erased()]):
        history = decode_history(key, body)
        assert isinstance(history, CustomerHistory)
        person = key.removeprefix(CUSTOMER.key(""))
        for mate, told_at in sorted(history.mentioned.items()):
            if told_at <= history.erased_at:
                other = mate.removeprefix(CUSTOMER.key(""))
                yield _told(CustomerEvent, told_at, f"{person} {other}", {"customer": person, "aliases": [other]})
        yield _told(EraseEvent, history.erased_at, person, {"person": person})


def _told(kind: type[msgspec.Struct], at: int, name: str, data: dict[str, object]) -> tuple[int, bytes]:
    event = {"specversion": "1.0", "id": name, "source": SOURCE, "type": kind.__struct_config__.tag}
    return at, orjson.dumps({**event, "time": instant_text(at), "data": data})
