"""A warm standby: the stores of units that this worker would inherit follow their changelogs, so that a takeover reads
only the last moments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from agents.kafka.connection import Connection, leave
from agents.kafka.store import Store, take
from agents.kafka.topics import Topics

POLL_MS: Final = 1000
ROWS_MAX: Final = 2000
"""Few at a time: what is owned comes first."""


async def follow(connection: Connection, topics: Topics, names: Iterable[str], store: Callable[[str], Store]) -> None:
    """Fill the stores of units from their changelogs until cancelled; then they are let go of. Raises KafkaError."""
    consumer = AIOKafkaConsumer(
        **connection.client("standby"),
        isolation_level="read_committed",
        auto_offset_reset="none",
        enable_auto_commit=False,
        max_partition_fetch_bytes=1024 * 1024,
    )
    with ExitStack() as held:
        stores = {_changelog(topics, name): store(name) for name in names}
        for one in stores.values():
            held.callback(one.close)
        await consumer.start()
        try:
            consumer.assign(list(stores))
            begins = await consumer.beginning_offsets(list(stores))
            for place, one in stores.items():
                consumer.seek(place, max(one.filled, begins[place]))
            while True:
                found = await consumer.getmany(timeout_ms=POLL_MS, max_records=ROWS_MAX)
                for place, records in found.items():
                    take(stores[place], records)
        except OffsetOutOfRangeError as error:
            for place in error.args[0]:
                stores[place].begin_anew()
            raise
        finally:
            await leave(consumer)


def _changelog(topics: Topics, name: str) -> TopicPartition:
    step, _, number = name.partition("-")
    return TopicPartition(topics.changelog(step), int(number))
