"""What brokers answer who make no topic: those of other tests make each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from agents.kafka.topics import Topics, _make, check_partitions, settings_of
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError

TOPICS = Topics("t", 2)
DENIED, TIMED_OUT, EXISTS, TOO_FEW_BROKERS, NOT_CONTROLLER = 29, 7, 36, 38, 41


class Admin:
    """A client of a cluster that makes no topic, for a reason."""

    def __init__(self, reason: int) -> None:
        self._reason = reason

    async def create_topics(self, new: list[Any]) -> Any:
        return SimpleNamespace(topic_errors=[(topic.name, self._reason, "it is so") for topic in new])


async def make(reason: int) -> None:
    await _make(Admin(reason), ["t.events"], settings_of(TOPICS, Configuration(), 3), TOPICS, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", [TIMED_OUT, TOO_FEW_BROKERS, NOT_CONTROLLER])
async def test_a_topic_that_cannot_be_made_yet_is_no_missing_right(reason: int) -> None:
    with pytest.raises(KafkaError, match=r"the topic t\.events: it is so"):
        await make(reason)


async def test_a_topic_that_may_not_be_made_is_told() -> None:
    with pytest.raises(OperationError, match=r"the topic t\.events: it is so; let this user create topics"):
        await make(DENIED)
    await make(EXISTS)


def test_the_topic_of_epochs_with_several_partitions_is_told_by_itself() -> None:
    described = [
        {"topic": name, "error_code": 0, "partitions": [0] * 2} for name in (TOPICS.events, TOPICS.links, TOPICS.epochs)
    ]
    with pytest.raises(OperationError, match=r"the topic t\.epochs has 2 partitions and must have one; where no"):
        check_partitions(described, TOPICS)
    described[-1]["partitions"] = [0]
    check_partitions(described, TOPICS)
