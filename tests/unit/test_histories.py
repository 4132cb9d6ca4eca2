"""Of the histories only the hot ones are kept in memory, as many as was said."""

from __future__ import annotations

from pathlib import Path

from agents.histories import HotHistories
from agents.kafka.store import Store
from agents.kafka.tracking import StoredHistories


def test_what_was_not_asked_for_in_a_long_time_is_read_from_the_store_and_what_was_is_not(tmp_path: Path) -> None:
    hot = HotHistories(StoredHistories(Store(tmp_path / "store", "origin", lambda: 0)), 100)
    often = "customer:often"
    for number in range(2000):
        keys = [f"customer:{number}", often]
        hot.prefetch(keys)
        assert len([*hot.rows(keys)]) == len(hot) == len(keys), "of a batch only its own are objects"
        hot.age()
    hot.hits = hot.misses = 0
    hot.prefetch([often, *(f"customer:{number}" for number in range(1000))])
    assert (hot.hits, hot.misses) == (1, 1000)
