"""Bound law: the largest history that the limits allow is one record on Kafka, so that no entity stalls a partition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from agents.kafka.topics import RECORD_BYTES_MAX
from flowmetrics.configuration import Configuration
from flowmetrics.driver import Driver
from flowmetrics.entities.customer import CustomerHistory
from flowmetrics.instants import DAY_US, instant_text, parse_instant
from flowmetrics.limits import (
    ANSWERS_PER_PERSON_MAX,
    FACTS_PER_HISTORY_MAX,
    FEATURES_PER_STREAM_MAX,
    LABEL_CHARACTERS_MAX,
    MILESTONES_PER_CUSTOMER_MAX,
    SLOTS_PER_STREAM_MAX,
    STREAMS_PER_CUSTOMER_MAX,
    TEXT_CHARACTERS_MAX,
)
from flowmetrics.steps.stored import encode_history

T = parse_instant("2025-03-02T00:00:00Z")
LETTER = "\U0001f600"
"""Four bytes, as the longest are."""
PAST = 10


def text(name: object, characters: int = TEXT_CHARACTERS_MAX + PAST) -> str:
    """A text of its own that is longer than any that is kept."""
    return str(name).ljust(characters, LETTER)


def event(kind: str, number: int, **told: Any) -> bytes:
    """An event whose id and source are as long as they are kept, at a second of its own."""
    envelope = {"specversion": "1.0", "type": f"flowmetrics.{kind}.v1", "time": instant_text(T + number * 1_000_000)}
    return msgspec.json.encode({**envelope, "id": text(number), "source": text("s"), "data": told})


def of_an_item() -> Iterator[bytes]:
    for n in range(FACTS_PER_HISTORY_MAX + PAST):
        long = {name: text(n) for name in ("state", "item_type", "team", "parent", "title")}
        yield event("item", n, item="A", value_stream=text(n), **long)


def of_a_request() -> Iterator[bytes]:
    for n in range(FACTS_PER_HISTORY_MAX + PAST):
        long = {name: text(n) for name in ("value_stream", "state", "channel", "customer", "priority")}
        more = {"party": "third_party", "handle_seconds": n / 7, "duplicate_of": text("B")}
        yield event("request", n, request="A", **long, **more)


def of_a_customer() -> Iterator[bytes]:
    for n in range(STREAMS_PER_CUSTOMER_MAX + PAST):
        for feature in range(FEATURES_PER_STREAM_MAX + PAST if n % PAST == 0 else 1):
            yield event("activity", n, customer="ann", value_stream=text(f"{n:03}"), feature=text(feature))
    for n in range(ANSWERS_PER_PERSON_MAX + PAST):
        long = {name: text(n) for name in ("touchpoint", "segment", "response")}
        yield event("response", n, respondent="ann", value_stream=text(n), survey="nps", score=9, **long)
    for n in range(MILESTONES_PER_CUSTOMER_MAX + PAST):
        yield event("customer", n, customer="ann", milestone=text(n), **{w: text(n) for w in ("plan", "segment")})


@pytest.mark.parametrize("told", [of_an_item, of_a_request, of_a_customer])
def test_the_largest_history_is_one_record_on_kafka(told: Callable[[], Iterator[bytes]]) -> None:
    driver = Driver(Configuration(), T + DAY_US)
    driver.deliver([*told()])
    assert not driver.rejected
    history = next(iter(driver.histories.values()))
    if isinstance(history, CustomerHistory):
        assert len(history.visits) == STREAMS_PER_CUSTOMER_MAX
        full = next(iter(history.visits.values()))
        assert len(full.uses) == FEATURES_PER_STREAM_MAX
        assert {len(feature) for feature in full.uses} == {LABEL_CHARACTERS_MAX}
        for visits in history.visits.values():  # what would be five years of every day
            visits.uses, visits.slots = full.uses, [2**31 + n for n in range(SLOTS_PER_STREAM_MAX)]
    history.coming = history.contributed
    size = len(encode_history(history, 1))
    assert RECORD_BYTES_MAX // 4 < size < RECORD_BYTES_MAX - 1024, "neither too large nor a test of nothing"
