"""What the chart asks Strimzi for, given to a real Kafka: topics, user and rights are enough for everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from broker import Broker
from engine import done, event, lines, until
from fleet import SESSION_SECONDS, Worker
from parts import DEPLOY, of_kind, only, rendered

pytestmark = pytest.mark.long

PASSWORD: Final = "the right one"
SECONDS: Final = 120.0
RESOURCES: Final = {"topic": "--topic", "group": "--group", "transactionalId": "--transactional-id"}


class Guest(Worker):
    """A worker that is let in as the user of the chart."""

    def configure(self, settings: str, listen: str = "127.0.0.1:0") -> None:
        """Write the configuration; it counts from the next start."""
        password = self.directory / "password"
        password.write_text(PASSWORD)
        kafka = {
            "security": "sasl", "mechanism": "SCRAM-SHA-512", "user": "fm-flowmetrics", "password_file": password,
            "session": f"{SESSION_SECONDS}s", "store": self.directory / "store",
        }  # fmt: skip
        rows = "".join(f"  {name}: {value}\n" for name, value in kafka.items())
        self.config.write_text(f'broker: kafka://{self.broker}\nhttp: {{listen: "{listen}"}}\n{settings}kafka:\n{rows}')


@pytest.fixture(scope="module")
def guarded(brokers: Callable[..., Broker]) -> Broker:
    """A broker that lets nobody do anything but what is granted, and knows the user of the chart."""
    return brokers(
        settings={
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "listener.name.named.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
        },
        listeners={"NAMED": "SASL_PLAINTEXT"},
        scram={"SCRAM-SHA-512": f'name=fm-flowmetrics,password="{PASSWORD}"'},
    )


def as_strimzi_does(broker: Broker, resources: list[dict[str, Any]]) -> None:
    """Make the topics, and grant what the user is to be granted."""
    asyncio.run(_make([one["spec"] for one in of_kind(resources, "KafkaTopic")], broker.address))
    user = only(resources, "KafkaUser")
    for rule in user["spec"]["authorization"]["acls"]:
        resource = rule["resource"]
        broker.java(
            "org.apache.kafka.tools.AclCommand", "--bootstrap-server", broker.address, "--add",
            "--allow-principal", f"User:{user['metadata']['name']}",
            *(word for operation in rule["operations"] for word in ("--operation", operation)),
            RESOURCES[resource["type"]], resource["name"], "--resource-pattern-type", f"{resource['patternType']}ed",
        )  # fmt: skip


async def _make(topics: list[dict[str, Any]], address: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        new = [NewTopic(one["topicName"], one["partitions"], 1, topic_configs=one["config"]) for one in topics]
        answer = await admin.create_topics(new)
        assert [code for _, code, *_ in answer.topic_errors if code] == []
    finally:
        await admin.close()


@pytest.mark.parametrize("topics", ["true", "false"], ids=["topics by Strimzi", "topics by the engine"])
def test_the_topics_and_rights_of_the_chart_are_enough(
    guarded: Broker, prefix: str, tmp_path: Path, topics: str
) -> None:
    resources = rendered(
        "--values", DEPLOY / "chart" / "examples" / "kafka.yaml", "--set", f"strimzi.topics.enabled={topics}",
        "--set", f"config.topics.prefix={prefix}", "--set", "config.topics.partitions=2", "--set", "autoscaling.max=2",
    )  # fmt: skip
    as_strimzi_does(guarded, resources)
    settings = f"topics: {{prefix: {prefix}, partitions: 2}}\n"
    with Guest(tmp_path / "worker", guarded.addresses["NAMED"], settings) as worker:
        worker.start()
        until(lambda: worker.get("/readyz").status == 200, "the worker is ready", SECONDS)
        worker.post(*(done(f"A-{n}") for n in range(5)), event("activity", customer="c", value_stream="shop"))
        worker.send(b"nonsense")
        worker.shows(lambda page: page.velocity(), 5, SECONDS)
        more = tmp_path / "more.jsonl"
        more.write_bytes(lines([done("B-1")]))
        worker.run("import", more).well()
        worker.shows(lambda page: page.velocity(), 6, SECONDS)
        assert "A-1" in worker.run("explain", "item", "A-1").well().out
        assert len(worker.run("rejected").well().rows) == 1
        worker.run("rejected", "--replay").well()
        worker.stop()
        worker.run("audit").well()
