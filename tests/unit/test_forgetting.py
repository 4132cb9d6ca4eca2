"""Histories that are forgotten on Kafka: in transactions that are soon over, and the day only when all are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from workers.log import Nowhere
from workers.store import SimulatedStore, Table

from agents.kafka.changelog import Lost, Record, Rows
from agents.kafka.epochs import Epoch, Known
from agents.kafka.topics import Topics
from agents.kafka.tracking import HISTORY, Tracking
from flowmetrics.configuration import Configuration
from flowmetrics.entities.work_item import ItemHistory
from flowmetrics.instants import DAY_US, parse_instant
from flowmetrics.steps.stored import encode_history

NOW = parse_instant("2025-03-01T12:00:00Z")
TODAY = NOW // DAY_US
OLD, RECENT = 2500, 700
ROWS_MAX = 1000 + 1  # a slice may begin when one less is full


class Writer(Nowhere):
    """Counts the rows of its transactions; one of them is lost, if that is said."""

    def __init__(self, lost: int = -1) -> None:
        self.sizes: list[int] = []
        self._lost = lost

    async def commit(self, told: Sequence[Record], rows: Rows) -> int:
        if len(self.sizes) == self._lost:
            raise Lost
        self.sizes.append(len(rows))
        return await super().commit(told, rows)


def tracking(store: SimulatedStore, writer: Writer) -> Tracking:
    """A partition whose clock is at NOW."""
    made = Tracking(Topics("f", 1), 0, Known({1: Epoch(1, Configuration())}), store, writer, 1000)  # type: ignore[arg-type]
    made.now = NOW
    return made


async def test_many_histories_are_forgotten_in_several_transactions_also_when_one_of_them_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agents.kafka.tracking.FORGOTTEN_MAX", 1000)
    body, store = encode_history(ItemHistory()), SimulatedStore(Table())
    days = {f"item:{n:05}".encode(): 0 if n < OLD else NOW for n in range(OLD + RECENT)}
    store.fill([(HISTORY + key, told_at.to_bytes(8) + body) for key, told_at in days.items()], 1)
    with pytest.raises(Lost):
        await tracking(store, Writer(lost=1)).forget(TODAY)
    assert tracking(store, Writer()).position.forgot == 0, "it is not through"
    writer = Writer()
    await tracking(store, writer).forget(TODAY)
    assert len(writer.sizes) == 2
    assert max(writer.sizes) <= ROWS_MAX
    assert tracking(store, Writer()).position.forgot == TODAY
    assert [key for key, _ in store.beginning(HISTORY)] == [key for key, told_at in days.items() if told_at]
