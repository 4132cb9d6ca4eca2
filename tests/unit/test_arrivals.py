"""When an event counts as arrived: a producer may say so in a header, and can only make itself older."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agents.kafka.tracking import ARRIVED, arrived_at

APPENDED_MS = 1_700_000_000_000
APPENDED_US = APPENDED_MS * 1000


def record(*headers: tuple[str, bytes | None]) -> Any:
    """An event as Kafka gives it."""
    return SimpleNamespace(timestamp=APPENDED_MS, headers=headers)


def test_an_event_arrives_when_the_broker_appends_it() -> None:
    assert arrived_at(record()) == arrived_at(record(("trace", b"1"))) == APPENDED_US


@pytest.mark.parametrize("told", [0, 1, APPENDED_US - 1, APPENDED_US])
def test_one_that_was_passed_on_or_moved_arrived_when_it_first_did(told: int) -> None:
    assert arrived_at(record(("trace", b"1"), (ARRIVED, b"%d" % told))) == told


@pytest.mark.parametrize(
    "told",
    [None, b"", b"abc", b"-1", b"+1", b" 1", b"1_0", b"1.0", b"1e3", b"\xff", "٣".encode(), b"9" * 5000],
)
def test_what_is_no_plain_number_is_not_believed(told: bytes | None) -> None:
    assert arrived_at(record((ARRIVED, told))) == APPENDED_US


@pytest.mark.parametrize("told", [APPENDED_US + 1, 2**62, 2**63, 10**18, 10**40])
def test_nothing_arrives_after_the_broker_appended_it(told: int) -> None:
    assert arrived_at(record((ARRIVED, b"%d" % told))) == APPENDED_US
