"""The topics that an engine makes, as a real broker describes them afterwards."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from broker import Broker

from agents.kafka.connection import Connection
from agents.kafka.topics import prepare
from flowmetrics.settings import read_settings

DAY_MS: Final = 86_400_000
MEBIBYTE: Final = 1024 * 1024
KEYS: Final = ("cleanup.policy", "retention.ms", "message.timestamp.type", "max.message.bytes")


async def test_topics_are_made_as_each_is_used(broker: Broker, prefix: str) -> None:
    configuration = read_settings(
        f"broker: kafka://{broker.address}\ntopics: {{prefix: {prefix}, partitions: 3, replication: 1}}\n"
        "log: {retention: 500d}\n",
        "flowmetrics.yaml",
    )
    connection = Connection(configuration)
    await prepare(connection, configuration)
    await prepare(connection, configuration)  # whoever comes second finds them right
    async with asyncio.timeout(60):
        while len(told := await described(connection, prefix)) < 7:  # a broker may be a moment late to list them
            await asyncio.sleep(0.1)
    assert {name: (partitions, copies) for name, (partitions, copies, _) in told.items()} == {
        **dict.fromkeys(("events", "links", "changes", "rejected", "track", "tally"), (3, 1)),
        "epochs": (1, 1),
    }
    settings = {name: tuple(said[key] for key in KEYS) for name, (*_, said) in told.items()}
    large, event = str(32 * MEBIBYTE), str(MEBIBYTE)
    assert settings["events"] == ("delete", str(500 * DAY_MS), "LogAppendTime", event)
    assert settings["rejected"] == ("delete", str(500 * DAY_MS), "CreateTime", event)
    assert settings["links"] == settings["changes"] == ("delete", str(30 * DAY_MS), "CreateTime", large)
    assert settings["epochs"][:3] == ("delete", "-1", "CreateTime")
    for name in ("track", "tally"):
        policy, _, _, size = settings[name]
        assert (policy, size) == ("compact", large)
        assert told[name][2]["segment.ms"] == "3600000", "else nothing would be compacted for a week"


async def test_topics_that_were_made_while_brokers_were_missing_are_named(
    broker: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"broker: kafka://{broker.address}\ntopics: {{prefix: {prefix}, partitions: 1}}\n"
    configuration = read_settings(text, "flowmetrics.yaml")
    connection = Connection(configuration)

    async def errors() -> list[str]:
        caplog.clear()
        await prepare(connection, configuration)
        return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]

    assert [await errors(), await errors()] == [[], []]

    async def with_four_brokers(admin: AIOKafkaAdminClient) -> dict[str, Any]:
        return {"brokers": [*range(4)]}

    monkeypatch.setattr(AIOKafkaAdminClient, "describe_cluster", with_four_brokers)
    async with asyncio.timeout(60):
        while not (said := await errors()):  # a broker may be a moment late to list what it made
            await asyncio.sleep(0.1)
    assert said[0].startswith(f"{prefix}.changes, {prefix}.epochs, {prefix}.events, ")
    assert "fewer than 3 copies" in said[0]
    assert "min.insync.replicas=2" in said[0]


async def described(connection: Connection, prefix: str) -> dict[str, tuple[int, int, dict[str, Any]]]:
    """Partitions, copies and settings of the topics of an engine, by the end of their names."""
    admin = AIOKafkaAdminClient(**connection.client("tests"))
    await admin.start()
    try:
        ours = sorted(name for name in await admin.list_topics() if name.startswith(f"{prefix}."))
        topics = await admin.describe_topics(ours)
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in ours])
    finally:
        await admin.close()
    settings = {
        name: {entry[0]: entry[1] for entry in entries} for answer in answers for *_, name, entries in answer.resources
    }
    return {
        topic["topic"].removeprefix(f"{prefix}."): (
            len(topic["partitions"]),
            len(topic["partitions"][0]["replicas"]),
            settings[topic["topic"]],
        )
        for topic in topics
    }
