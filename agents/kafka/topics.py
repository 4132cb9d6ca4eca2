"""The topics of an engine: their names and settings; they are made when they are missing, and checked when not.

events    keyed by entity, appended by producers and collectors          read by track
links     histories for other partitions                                 track → track
changes   keyed by value stream                                          track → tally
epochs    configurations, one after the other; one partition             read by every worker
track, tally   changelogs: state and position of each partition, compacted
rejected  what was refused, and why
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from agents.kafka.connection import Connection
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError
from flowmetrics.instants import DAY_US

PASSING_DAYS: Final = 30
"""How long what one step tells another is kept: a step that rested for longer must be built anew."""

EVENT_BYTES: Final = 1024 * 1024
_COMPACTED: Final = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.3",
    "segment.ms": str(3600 * 1000),
    "segment.bytes": str(64 * 1024 * 1024),
    "max.message.bytes": str(8 * EVENT_BYTES),
}


@dataclass(frozen=True)
class Topics:
    """The names of the topics of one engine, and the number of partitions of each."""

    prefix: str
    partitions: int

    @property
    def events(self) -> str:
        return f"{self.prefix}.events"

    @property
    def links(self) -> str:
        return f"{self.prefix}.links"

    @property
    def changes(self) -> str:
        return f"{self.prefix}.changes"

    @property
    def epochs(self) -> str:
        return f"{self.prefix}.epochs"

    @property
    def rejected(self) -> str:
        return f"{self.prefix}.rejected"

    @property
    def track(self) -> str:
        return f"{self.prefix}.track"

    @property
    def tally(self) -> str:
        return f"{self.prefix}.tally"

    def count(self, topic: str) -> int:
        """How many partitions one of the topics has."""
        return 1 if topic == self.epochs else self.partitions

    def changelog(self, step: str) -> str:
        """The changelog of a step."""
        return f"{self.prefix}.{step}"


def topics_of(configuration: Configuration) -> Topics:
    """The topics that a configuration names."""
    return Topics(configuration.topics_prefix, configuration.topics_partitions)


def _settings(topics: Topics, configuration: Configuration) -> Mapping[str, Mapping[str, str]]:
    passing = {"cleanup.policy": "delete", "retention.ms": str(PASSING_DAYS * DAY_US // 1000)}
    kept = {"cleanup.policy": "delete", "retention.ms": str(configuration.log_retention_us // 1000)}
    return {
        topics.events: {**kept, "message.timestamp.type": "LogAppendTime"},
        topics.links: {**passing, "max.message.bytes": str(8 * EVENT_BYTES)},
        topics.changes: {**passing, "max.message.bytes": str(8 * EVENT_BYTES)},
        topics.epochs: {"cleanup.policy": "delete", "retention.ms": "-1"},
        topics.rejected: kept,
        topics.track: _COMPACTED,
        topics.tally: _COMPACTED,
    }


_CHECKED: Final = ("cleanup.policy", "message.timestamp.type")
"""Settings without which numbers would be wrong; the others may be the operator's own."""


async def prepare(connection: Connection, configuration: Configuration) -> None:
    """Make the topics that are missing, check the others. Raises OperationError, and KafkaError where Kafka is away."""
    topics = topics_of(configuration)
    wanted = _settings(topics, configuration)
    await connection.knock()
    admin = AIOKafkaAdminClient(**connection.client("admin"))
    await admin.start()
    try:
        there = set(await admin.list_topics())
        missing = [name for name in wanted if name not in there]
        if missing:
            await _make(admin, missing, wanted, configuration)
        present = [name for name in wanted if name not in missing]
        if present:
            await _check(admin, present, wanted, topics)
    finally:
        await admin.close()


async def _make(
    admin: AIOKafkaAdminClient,
    missing: list[str],
    wanted: Mapping[str, Mapping[str, str]],
    configuration: Configuration,
) -> None:
    brokers = len((await admin.describe_cluster())["brokers"])
    copies = configuration.topics_replication or min(3, brokers)
    topics = topics_of(configuration)
    new = [NewTopic(name, topics.count(name), copies, topic_configs=dict(wanted[name])) for name in missing]
    answer = await admin.create_topics(new)
    for name, code, *text in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise OperationError(
                f"Kafka does not make the topic {name}: {text[0] if text and text[0] else error.__name__}; "
                "let this user create topics, or create it"
            )


async def _check(
    admin: AIOKafkaAdminClient, present: list[str], wanted: Mapping[str, Mapping[str, str]], topics: Topics
) -> None:
    for topic in await admin.describe_topics(present):
        found = len(topic["partitions"])
        if found != topics.count(topic["topic"]):
            raise OperationError(
                f"the topic {topic['topic']} has {found} partitions and topics.partitions says {topics.partitions}; "
                f"say topics: {{partitions: {found}}}, or name another topics.prefix and import the events again"
            )
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in present]
    for answer in await admin.describe_configs(resources):
        for _, _, _, name, entries in answer.resources:
            found_settings = {entry[0]: entry[1] for entry in entries}
            for key in _CHECKED:
                must, is_set = wanted[name].get(key), found_settings.get(key)
                if must is not None and is_set != must:
                    raise OperationError(
                        f"the topic {name} has {key}={is_set} and must have {key}={must}; "
                        f"change it with kafka-configs.sh --alter --topic {name} --add-config {key}={must}"
                    )


__all__ = ["KafkaError", "Topics", "prepare", "topics_of"]
