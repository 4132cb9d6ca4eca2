"""The topology: every store has a place in the journal, and what is made anew can be made from what is left."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agents.local.journal import FILE, Journal
from flowmetrics.topology import EVENTS, HISTORIES, STEPS, Change, made_anew


def test_everything_that_a_step_reads_gives_or_keeps_has_a_table(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {store.name for step in STEPS for store in (*step.reads, *step.gives, *step.keeps)} <= tables


def test_what_a_step_reads_is_told_or_given_by_a_step_before_it() -> None:
    there = {EVENTS}
    for step in STEPS:
        assert set(step.reads) <= there
        there.update(step.gives)


@pytest.mark.parametrize(("change", "source"), [(Change.READ, HISTORIES), (Change.WRITE, EVENTS)])
def test_what_everything_is_made_from_again_is_not_emptied(change: Change, source: object) -> None:
    assert source not in made_anew(change)
    assert set(made_anew(Change.READ)) <= set(made_anew(change))
