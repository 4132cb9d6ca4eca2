"""The topics of an engine: their names and settings; they are made when they are missing, and checked when not.

events    keyed by entity, appended by producers and collectors          read by track
links     histories for other partitions, and what intakes refused         track, intake → track
changes   keyed by value stream                                          track → tally
epochs    configurations, one after the other; one partition             read by every worker
track, tally   changelogs: state and position of each partition, compacted
rejected  what was refused, and why
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidReplicationFactorError, TopicAlreadyExistsError, for_code

from agents.kafka.connection import Connection
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError
from flowmetrics.instants import DAY_US

log = logging.getLogger(__name__)

PASSING_DAYS: Final = 30
"""How long what one step tells another is kept: a step that rested for longer must be built anew."""
TOMBSTONE_DAYS: Final = 1
"""How long a changelog keeps a tombstone after a cleaning: as Kafka does anyway, so topics that are there fit too."""

BATCH_BYTES: Final = 900_000
"""A batch of records; one that is larger has a single record."""
EVENTS_BYTES_MAX: Final = 1024 * 1024
"""A batch of events with what Kafka adds to it, also of producers that are not ours."""
RECORD_BYTES_MAX: Final = 32 * 1024 * 1024
"""A history, or what a checkpoint tells a partition of tally. Seen: 3.5 MB for the most that is gathered, twice that
while another epoch is built."""
FIXED: Final = (
    "an engine keeps the number that it was made with, because its histories lie by it: "
    "name another topics.prefix and import the events again"
)
"""The end of a sentence about partitions that were added."""
_LARGE: Final = {"max.message.bytes": str(RECORD_BYTES_MAX)}
_COMPACTED: Final = {
    "cleanup.policy": "compact",
    "delete.retention.ms": str(TOMBSTONE_DAYS * DAY_US // 1000),
    "min.cleanable.dirty.ratio": "0.3",
    "segment.ms": str(3600 * 1000),
    "segment.bytes": str(64 * 1024 * 1024),
    **_LARGE,
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


def settings_of(topics: Topics, configuration: Configuration, copies: int) -> Mapping[str, Mapping[str, str]]:
    """Topic → its settings. Of three copies two must be written, or `acks=all` might mean one."""
    passing = {"cleanup.policy": "delete", "retention.ms": str(PASSING_DAYS * DAY_US // 1000)}
    kept = {
        "cleanup.policy": "delete",
        "retention.ms": str(configuration.log_retention_us // 1000),
        "max.message.bytes": str(EVENTS_BYTES_MAX),
    }
    settings = {
        topics.events: {**kept, "message.timestamp.type": "LogAppendTime"},
        topics.links: {**passing, **_LARGE},
        topics.changes: {**passing, **_LARGE},
        topics.epochs: {"cleanup.policy": "delete", "retention.ms": "-1"},
        topics.rejected: kept,
        topics.track: _COMPACTED,
        topics.tally: _COMPACTED,
    }
    written = {"min.insync.replicas": str(_written(copies))}
    return {name: {**some, **written} for name, some in settings.items()}


def _written(copies: int) -> int:
    """How many of the copies must be written before an event is accepted."""
    return min(2, max(1, copies - 1))


_EXACTLY: Final = ("cleanup.policy", "message.timestamp.type")
_AT_LEAST: Final = ("delete.retention.ms", "max.message.bytes", "retention.ms")
"""Settings without which numbers would be wrong or a partition would stall; the others may be the operator's own.
Events are kept for exactly as long as `log.retention` says."""


async def prepare(connection: Connection, configuration: Configuration) -> None:
    """Make the topics that are missing, check the others. Raises OperationError, and KafkaError where Kafka is away."""
    topics = topics_of(configuration)
    await connection.knock()
    admin = AIOKafkaAdminClient(**connection.client("admin"))
    await admin.start()
    try:
        there = set(await admin.list_topics())
        copies = configuration.topics_replication or min(3, len((await admin.describe_cluster())["brokers"]))
        wanted = settings_of(topics, configuration, copies)
        present = [name for name in wanted if name in there]
        if present:
            await _check_partitions(admin, present, configuration)
            await _check_settings(admin, present, wanted, topics)
            await _tell_of_few_copies(admin, present, copies)
        missing = [name for name in wanted if name not in there]
        if missing:
            await _make(admin, missing, wanted, topics, copies)
    finally:
        await admin.close()


async def _make(
    admin: AIOKafkaAdminClient,
    missing: list[str],
    wanted: Mapping[str, Mapping[str, str]],
    topics: Topics,
    copies: int,
) -> None:
    new = [NewTopic(name, topics.count(name), copies, topic_configs=dict(wanted[name])) for name in missing]
    answer = await admin.create_topics(new)
    for name, code, *text in answer.topic_errors:
        error = for_code(code)
        said = f"the topic {name}: {text[0] if text and text[0] else error.__name__}"
        if error.retriable or error is InvalidReplicationFactorError:  # too few brokers are up, perhaps only yet
            raise error(said)
        if code and error is not TopicAlreadyExistsError:
            raise OperationError(f"Kafka does not make {said}; let this user create topics, or create it")


async def _check_partitions(admin: AIOKafkaAdminClient, present: list[str], configuration: Configuration) -> None:
    described = await admin.describe_topics(present)
    check_partitions(described, topics_of(configuration))
    for topic in described:
        name = topic["topic"]
        copies = min(len(partition["replicas"]) for partition in topic["partitions"])
        if copies < configuration.topics_replication:
            raise OperationError(
                f"the topic {name} has {copies} copies and topics.replication says {configuration.topics_replication}; "
                f"add copies with kafka-reassign-partitions.sh, or say topics: {{replication: {copies}}}"
            )


def check_partitions(described: Sequence[Mapping[str, Any]], topics: Topics) -> None:
    """Raises OperationError where topics have other partitions than is said, KafkaError where Kafka cannot tell now."""
    for topic in described:
        if topic["error_code"]:
            raise for_code(topic["error_code"])(topic["topic"])
    found = {topic["topic"]: len(topic["partitions"]) for topic in described}
    if (count := found.pop(topics.epochs, 1)) != 1:
        raise OperationError(
            f"the topic {topics.epochs} has {count} partitions and must have one; where no worker ever ran delete it, "
            "and it is made again; otherwise name another topics.prefix and import the events again"
        )
    if all(count == topics.partitions for count in found.values()):
        return
    names: dict[int, list[str]] = defaultdict(list)
    for name, count in sorted(found.items()):
        names[count].append(name)
    if len(names) > 1:
        told = "; ".join(f"{count} in {', '.join(some)}" for count, some in sorted(names.items()))
        raise OperationError(f"the topics of one engine have different numbers of partitions: {told}; {FIXED}")
    (count,) = names
    raise OperationError(
        f"the topics {topics.prefix}.* have {count} partitions and topics.partitions says {topics.partitions}; "
        f"say topics: {{partitions: {count}}}, or name another topics.prefix and import the events again"
    )


async def _tell_of_few_copies(admin: AIOKafkaAdminClient, present: list[str], wanted: int) -> None:
    """Say which topics were made when fewer brokers were up: what was accepted is lost with the disks that have it."""
    described = await admin.describe_topics(present)
    few = {topic["topic"] for topic in described for one in topic["partitions"] if len(one["replicas"]) < wanted}
    if few:
        log.error(
            "%s: fewer than %d copies, though there are brokers for as many; add copies with "
            "kafka-reassign-partitions.sh, and set min.insync.replicas=%d, or say how many you want in "
            "topics.replication",
            ", ".join(sorted(few)),
            wanted,
            _written(wanted),
        )


async def _check_settings(
    admin: AIOKafkaAdminClient, present: list[str], wanted: Mapping[str, Mapping[str, str]], topics: Topics
) -> None:
    async for name, found in _described(admin, present):
        for key, must in wanted[name].items():
            kept = key == "retention.ms" and name in (topics.events, topics.rejected)
            suits = found[key] == must if kept else _suits(key, found[key], must)
            if not suits:
                said = " as log.retention says" if kept else ""
                raise OperationError(
                    f"the topic {name} has {key}={found[key]} and must have {key}={must}{said}; "
                    f"change it with kafka-configs.sh --alter --topic {name} --add-config {key}={must}"
                )


async def _described(admin: AIOKafkaAdminClient, names: list[str]) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """Topics and their settings."""
    for answer in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names]):
        for code, _, _, name, entries in answer.resources:
            if code:
                raise OperationError(
                    f"Kafka does not say the settings of the topic {name}: {for_code(code).__name__}; "
                    "let this user describe the configuration of topics"
                )
            yield name, {entry[0]: entry[1] for entry in entries}


def _suits(key: str, found: str, must: str) -> bool:
    """Whether a setting does as well as the one that is wanted."""
    if key in _EXACTLY:
        return found == must
    return key not in _AT_LEAST or _for_ever(int(found)) >= _for_ever(int(must))


def _for_ever(number: int) -> float:
    return math.inf if number < 0 else number
