"""Three brokers, as an installation has them: one that dies takes nothing with it, whatever it led."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from broker import Cluster, can_run
from engine import done, until
from fleet import Fleet, fleet
from test_topic_settings import described

from agents.kafka.connection import Connection
from flowmetrics.settings import read_settings

pytestmark = pytest.mark.long

SECONDS: Final = 180.0
"""How long anything may take on a busy machine; none takes that long on an idle one."""
PARTITIONS: Final = 6
PORTION: Final = 200


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not can_run():
        pytest.skip("three brokers need java and mvn")
    three = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        three.start()
        yield three
    finally:
        three.stop()


@pytest.fixture
def workers(tmp_path: Path, cluster: Cluster, prefix: str) -> Iterator[Fleet]:
    """Two of them, which say nothing of copies."""
    settings = f"windows: [1d]\ntopics: {{prefix: {prefix}, partitions: {PARTITIONS}}}\n"
    with fleet(tmp_path, cluster.address, settings, 2) as two:
        yield two


async def test_each_topic_is_kept_by_three_brokers_and_written_to_two(
    workers: Fleet, cluster: Cluster, prefix: str
) -> None:
    configuration = read_settings(f"broker: kafka://{cluster.address}", "flowmetrics.yaml")
    told = await described(Connection(configuration), prefix)
    assert len(told) == 7
    assert {(copies, said["min.insync.replicas"]) for _, copies, said in told.values()} == {(3, "2")}


def test_a_broker_that_dies_takes_nothing_with_it(workers: Fleet, cluster: Cluster) -> None:
    told = 0
    for number, broker in enumerate(cluster.brokers):
        told += count(workers, f"A{number}")
        broker.stop(signal.SIGKILL)
        told += count(workers, f"B{number}")
        until(lambda told=told: workers.velocity() == told, f"all is counted without broker {number + 1}", SECONDS)
        broker.start()
        told += count(workers, f"C{number}")
        until(lambda told=told: workers.velocity() == told, f"all is counted with broker {number + 1}", SECONDS)


def test_one_broker_alone_takes_nothing_and_nothing_is_lost(workers: Fleet, cluster: Cluster) -> None:
    told = count(workers, "A")
    until(lambda: workers.velocity() == told, "all is counted", SECONDS)
    for broker in cluster.brokers[:2]:
        broker.stop(signal.SIGKILL)
    try:
        until(lambda: not workers.velocity(), "no number is shown that nobody keeps up", SECONDS)
        assert workers.workers[0].answers([done("B-0")]) in (0, 503)
    finally:
        for broker in cluster.brokers[:2]:
            broker.spawn()
    for broker in cluster.brokers[:2]:
        broker.listening()
    told += count(workers, "B")
    until(lambda: workers.velocity() == told, "all is counted again", SECONDS)


def count(workers: Fleet, name: str) -> int:
    """Have new items counted, sent again and again until they are taken; gives their number."""
    events = [done(f"{name}-{number}") for number in range(PORTION)]
    until(lambda: workers.workers[0].answers(events) == 202, "events are taken", SECONDS)
    return PORTION
