"""Workers over a store that is not of the topics that are there: it was filled from others, which had their names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from operator import gt
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from broker import Broker
from engine import done, until
from fleet import Worker

from agents.kafka.connection import Connection
from agents.kafka.reading import ends
from agents.kafka.standby import follow
from agents.kafka.store import Store
from agents.kafka.topics import Topics, prepare
from agents.published import clock_us
from flowmetrics.settings import read_settings

Make = Callable[..., Worker]

OF_AN_ENGINE = ("events", "links", "changes", "epochs", "track", "tally", "rejected")


@pytest.fixture
def make(tmp_path: Path, broker: Broker, prefix: str) -> Iterator[Make]:
    """A worker, which is ended; `name` is the beginning of the names of its topics."""
    with ExitStack() as held:
        made = Worker(tmp_path / "worker", broker.address, "")

        def one(name: str = prefix) -> Worker:
            made.configure(f"topics: {{prefix: {name}, partitions: 2}}\n")
            return made

        held.enter_context(made)
        yield one


async def delete(address: str, topics: set[str]) -> None:
    """Delete topics, and wait until they are gone."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.delete_topics(sorted(topics))
        while topics & {*await admin.list_topics()}:
            await asyncio.sleep(0.05)
    finally:
        await admin.close()


def counted(worker: Worker, events: range, sum_of: int) -> None:
    """Post items that are done, and wait until so many are shown."""
    worker.start().ready()
    worker.post(*(done(f"A-{n}") for n in events))
    worker.shows(lambda page: page.velocity(), sum_of, seconds=60)
    worker.stop()


def reached(worker: Worker, prefix: str) -> list[int]:
    """How far each changelog goes, in the order of their names."""
    connection, topics = Connection(read_settings(f"broker: kafka://{worker.broker}\n", "-")), Topics(prefix, 2)
    return [end for _, end in sorted(asyncio.run(ends(connection, topics, [topics.track, topics.tally])).items())]


@pytest.mark.parametrize("then", ["", "-next"])
def test_topics_that_are_not_those_of_the_store_count_nothing_of_before_however_much_is_in_them(
    make: Make, prefix: str, then: str
) -> None:
    worker = make()
    counted(worker, range(300), 300)
    before = reached(worker, prefix)
    if not then:
        asyncio.run(delete(worker.broker, {f"{prefix}.{name}" for name in OF_AN_ENGINE}))
    make(prefix + then)
    store = worker.directory / "store"
    store.rename(worker.directory / "former")
    worker.start().ready()
    worker.post(*(done(f"B-{n}") for n in range(500)))
    until(
        lambda: all(map(gt, reached(worker, prefix + then), before)),
        "each new changelog goes further than the former one",
        120,
    )
    worker.stop()
    store.rename(worker.directory / "another")
    (worker.directory / "former").rename(store)
    counted(worker, range(200, 400), 700)


def test_changelogs_that_were_deleted_are_made_again_from_the_events(make: Make, prefix: str) -> None:
    worker = make()
    counted(worker, range(300), 300)
    asyncio.run(delete(worker.broker, {f"{prefix}.{name}" for name in ("links", "changes", "track", "tally")}))
    counted(worker, range(200, 400), 400)


def test_a_standby_whose_store_is_filled_further_than_the_changelog_begins_anew(
    tmp_path: Path, broker: Broker, prefix: str
) -> None:
    text = f"broker: kafka://{broker.address}\ntopics: {{prefix: {prefix}, partitions: 1, replication: 1}}\n"
    configuration = read_settings(text, "flowmetrics.yaml")
    connection = Connection(configuration)
    store = Store(tmp_path / "track-0", "ours", clock_us)
    store.fill([(b"k", b"v")], 12)

    async def stand_by() -> None:
        await prepare(connection, configuration)
        with suppress(KafkaError):
            await asyncio.wait_for(follow(connection, Topics(prefix, 1), ["track-0"], lambda name: store), 60)

    asyncio.run(stand_by())
    store = Store(tmp_path / "track-0", "ours", clock_us)
    assert (store.filled, store.get([b"k"])) == (0, [None])
    store.close()


def test_a_store_that_cannot_be_used_ends_the_worker_and_says_what_to_do(make: Make, tmp_path: Path) -> None:
    worker = make()
    folder = tmp_path / "worker" / "store" / "track-1"
    folder.parent.mkdir(parents=True)
    folder.write_text("")
    worker.spawn()
    until(lambda: not worker.runs, "it ends", 60)
    assert f"{folder} cannot be used as a store" in worker.said
    assert "it is no folder: remove it" in worker.said
