"""Positions are rows of a changelog, so nobody asks Kafka to keep offsets; and no producer is content with less than
all copies. The text of the runtime is read, as import contracts do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import agents

HERE: Final = Path(agents.__file__).parent
CALLS: Final = [
    (path.relative_to(HERE), node)
    for path in sorted(HERE.rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Call)
]
FORBIDDEN: Final = ("send_offsets_to_transaction", "send_offsets", "in_transaction", "app.Table", "app.GlobalTable")
"""Offsets sent beside records make the broker ask again, and Faust's own transactions and tables keep stale state."""


def called(node: ast.Call) -> str:
    """The last name of what is called."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def made(kind: str) -> Iterator[tuple[str, dict[str | None, str]]]:
    """Where clients of a kind are made, and the arguments that are written there."""
    for path, node in CALLS:
        if called(node) == kind:
            yield f"{path}:{node.lineno}", {one.arg: ast.unparse(one.value) for one in node.keywords}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_nobody_calls(name: str) -> None:
    calls = [(f"{path}:{node.lineno}", f".{ast.unparse(node.func)}") for path, node in CALLS]
    assert [place for place, text in calls if text.endswith(f".{name}")] == []


def test_no_consumer_is_asked_to_commit_offsets() -> None:
    receivers = [(f"{path}:{node.lineno}", ast.unparse(node.func)) for path, node in CALLS if called(node) == "commit"]
    assert receivers, "writers do commit"
    assert [place for place, receiver in receivers if "consumer" in receiver] == []


def test_no_consumer_commits_offsets_by_itself() -> None:
    consumers = dict(made("AIOKafkaConsumer"))
    assert len(consumers) > 3
    assert {place for place, said in consumers.items() if said.get("enable_auto_commit") != "False"} == set()


def test_every_producer_waits_for_all_copies_and_numbers_its_records() -> None:
    producers = dict(made("AIOKafkaProducer"))
    assert len(producers) > 2
    assert {place for place, said in producers.items() if said.get("acks") != "'all'"} == set()
    numbered = {"enable_idempotence", "transactional_id"}
    assert {place for place, said in producers.items() if not numbered & said.keys()} == set()
