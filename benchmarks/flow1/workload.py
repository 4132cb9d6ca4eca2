"""The events of flow-1 where engines read them: in a file, in a topic for the peers, and in ours as native events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.partitioner import murmur2

from benchmarks.flow1.installed import HERE, Venv
from benchmarks.flow1.oracle import rows_of
from benchmarks.native import native
from flowmetrics.routing import partition_of

PARTITIONS: Final = 4
BATCH_BYTES: Final = 900_000
GENERATOR: Final = Venv(("numpy==2.4.6",))

Keyed = tuple[bytes, bytes]
"""The key and the body of a record."""


def rows(folder: Path, events: int) -> Path:
    """The file of so many events, written when it is not there yet. Raises NotInstalledError."""
    path = folder / f"flow1-{events}.jsonl"
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        GENERATOR.install(folder / "workload")
        GENERATOR.run(folder / "workload", HERE / "flow1" / "generate.py", unfinished, events)
        unfinished.rename(path)
    return path


def as_they_are(path: Path) -> Iterator[Keyed]:
    """The rows under the id of their item or customer, as the peers read them."""
    with path.open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            yield (row.get("item_id") or row["user_id"]).encode(), line.rstrip()


def as_native(path: Path) -> Iterator[Keyed]:
    """The rows as CloudEvents under the key of their entity, as the contract says."""
    for row in rows_of(path):
        event = native(row)
        told: Any = event["data"]
        key = f"item:{told['item']}" if "item" in told else f"customer:{told['customer']}"
        yield key.encode(), orjson.dumps(event)


def as_java_does(key: bytes, partitions: int) -> int:
    """The partition that the producers of most peers would choose."""
    number: int = murmur2(key) & 0x7FFFFFFF
    return number % partitions


def as_ours_does(key: bytes, partitions: int) -> int:
    """The partition that the contract names."""
    return partition_of(key, partitions)


async def make(broker: str, topic: str) -> None:
    """A topic that keeps everything."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs={"retention.ms": "-1"})])
    finally:
        await admin.close()


async def remove(broker: str, run: str) -> None:
    """Drop the topics in whose names a run is, with what an engine kept in them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if run in name]
        if names:
            await admin.delete_topics(names)
    finally:
        await admin.close()


async def load(broker: str, topic: str, records: Iterable[Keyed], place: Callable[[bytes, int], int]) -> None:
    """Append records to a topic, each to its partition, in their order."""
    producer = AIOKafkaProducer(
        bootstrap_servers=broker, enable_idempotence=True, max_batch_size=BATCH_BYTES, max_request_size=8 * BATCH_BYTES
    )
    await producer.start()
    try:
        batches = [producer.create_batch() for _ in range(PARTITIONS)]
        sent = []
        for key, body in records:
            number = place(key, PARTITIONS)
            if batches[number].append(key=key, value=body, timestamp=None) is None:
                sent.append(await producer.send_batch(batches[number], topic, partition=number))
                batches[number] = producer.create_batch()
                batches[number].append(key=key, value=body, timestamp=None)
        sent += [await producer.send_batch(last, topic, partition=n) for n, last in enumerate(batches)]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
