"""The configurations under which an engine on Kafka reads its histories, in a topic: all workers follow the same ones.

    <prefix>.epochs   offset 0: epoch 1   offset 1: epoch 2 …      one partition, kept for good

A worker that starts with a configuration that was never there appends it, and every worker builds that epoch. One that
was there earlier is somebody's old file: it is refused, unless `flowmetrics adopt` makes it the latest again.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
import yaml
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

from agents.judging import read_pseudonyms
from agents.kafka.changelog import Lost
from agents.kafka.connection import Connection, leave
from agents.kafka.topics import FIXED, Topics
from flowmetrics import __version__
from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError, OperationError
from flowmetrics.settings import effective, fingerprint, read_settings

POLL_MS: Final = 500


class Told(msgspec.Struct, array_like=True, frozen=True):
    """An epoch as it stands in the topic."""

    shape: tuple[str, str, str]
    """Hashes of what histories are read with, and of what shaped them; mark of the key of pseudonyms."""
    text: str
    """The effective configuration."""
    by: str
    """The worker that told it, with its version and that of its time zone database."""


class Epoch(NamedTuple):
    """A number and the configuration under which histories are read."""

    number: int
    configuration: Configuration


class Known(NamedTuple):
    """Epochs that are known, in order; `after(n)` is the one that is built when n is published."""

    epochs: Mapping[int, Epoch]

    @property
    def first(self) -> Epoch:
        """The one under which an engine begins."""
        return self.epochs[min(self.epochs)]

    @property
    def latest(self) -> Epoch:
        """The one that is shown in the end."""
        return self.epochs[max(self.epochs)]

    def epoch(self, number: int) -> Epoch:
        """One of them. Raises Lost where another worker brought it and it was not heard of here yet: begin again."""
        if number not in self.epochs:
            raise Lost(f"epoch {number} was not heard of here yet")
        return self.epochs[number]

    def after(self, number: int) -> Epoch | None:
        """The next one, if there is any."""
        later = [other for other in self.epochs if other > number]
        return self.epochs[min(later)] if later else None


class EpochLog:
    """The topic of epochs as a worker knows it; `known` grows while `follow` runs."""

    def __init__(self, connection: Connection, topics: Topics) -> None:
        self._connection = connection
        self._topics = topics
        self._place = TopicPartition(topics.epochs, 0)
        self.told: dict[int, Told] = {}
        self.known = Known({})
        self.origin = ""
        """What tells these topics from all others, also from those that had their names before: when the first epoch,
        which is kept for good, was told. Known once there is one."""
        self.failure: OperationError | None = None
        """Why an epoch cannot be built here: this worker must be replaced by one that can."""

    async def read(self) -> None:
        """Learn what stands there now. Raises KafkaError."""
        async with self._consumer() as consumer:
            end = (await consumer.end_offsets([self._place]))[self._place]
            while await consumer.position(self._place) < end:
                self._learn((await consumer.getmany(timeout_ms=POLL_MS)).get(self._place, []))

    async def follow(self) -> None:
        """Learn what comes, until cancelled. Raises KafkaError; an epoch that cannot be built here is in `failure`."""
        async with self._consumer() as consumer:
            while True:
                self._learn((await consumer.getmany(timeout_ms=POLL_MS)).get(self._place, []))
                try:
                    self._check()
                except OperationError as error:
                    self.failure = error
                    return

    async def adopt(self, configuration: Configuration, again: bool = False) -> None:
        """Make a configuration the latest, if it is not; `again`: also one that was replaced. Raises OperationError."""
        await self.read()
        self._same_partitions()
        told = Told(shape_of(configuration), effective(configuration), _signature())
        latest = self.told[max(self.told)] if self.told else None
        if latest is not None:
            if latest.shape == told.shape:
                return
            self._compatible(latest, told)
            if not again and any(other.shape == told.shape for other in self.told.values()):
                raise OperationError(
                    f"this configuration was replaced by a later one, which {latest.by} brought; give this worker the "
                    "later one, or run `flowmetrics adopt` with this one to make all workers go back to it"
                )
        producer = AIOKafkaProducer(**self._connection.client("epochs"), acks="all", enable_idempotence=True)
        try:
            await producer.start()
            await producer.send_and_wait(self._place.topic, msgspec.msgpack.encode(told), partition=0)
        finally:
            await producer.stop()
        await self.read()

    async def get(self, number: int) -> Epoch:
        """An epoch that another worker knows already. Raises OperationError."""
        while number not in self.known.epochs:
            if self.failure is not None:
                raise self.failure
            await asyncio.sleep(0.05)
        return self.known.epochs[number]

    def _same_partitions(self) -> None:
        """Raises OperationError where the engine was made with another number of partitions than is said, even though
        its topics may have that number by now: an entity would begin anew where its key leads today."""
        made = _partitions(self.told[min(self.told)]) if self.told else self._topics.partitions
        if made != self._topics.partitions:
            raise OperationError(
                f"the topics {self._topics.prefix}.* were made with {made} partitions and topics.partitions says "
                f"{self._topics.partitions}; {FIXED}"
            )

    def _compatible(self, latest: Told, told: Told) -> None:
        """Raises OperationError where histories were shaped by another configuration."""
        what = {1: "a horizon, grain or survey scale that differs", 2: "another key of pseudonyms, or none"}
        for index, difference in what.items():
            if latest.shape[index] != told.shape[index]:
                raise OperationError(
                    f"the topics {self._place.topic.removesuffix('.epochs')}.* were written under {difference}; "
                    "restore that, or name another topics.prefix and import the events again"
                )

    def _learn(self, records: list[ConsumerRecord[bytes, bytes]]) -> None:
        known = dict(self.known.epochs)
        for record in records:
            self.origin = self.origin or f"{self._place.topic} of {record.timestamp}"
            number, told = record.offset + 1, msgspec.msgpack.decode(record.value or b"", type=Told)
            latest = self.told[max(self.told)] if self.told else None
            if number in self.told or (latest is not None and latest.shape == told.shape):
                continue  # two workers that started at once told the same
            self.told[number] = told
            known[number] = Epoch(number, _read(number, told))
        self.known = Known(known)

    def _check(self) -> None:
        """Raises OperationError where the latest epoch would be read here in another way than was meant."""
        number = max(self.told)
        told = self.told[number]
        if fingerprint(self.known.epochs[number].configuration, _tzdata()) != told.shape[:2]:
            raise OperationError(
                f"epoch {number} was brought by {told.by}, and this is {_signature()}: it would read histories in "
                "another way; bring all workers to one version"
            )

    def _consumer(self) -> _Assigned:
        return _Assigned(self._connection, self._place, max(self.told, default=0))


class _Assigned:
    """A consumer of one partition from an offset on, as a context."""

    def __init__(self, connection: Connection, place: TopicPartition, offset: int) -> None:
        self._consumer = AIOKafkaConsumer(**connection.client("epochs"), enable_auto_commit=False)
        self._place = place
        self._offset = offset

    async def __aenter__(self) -> AIOKafkaConsumer:
        try:
            await self._consumer.start()
        except BaseException:
            await leave(self._consumer)
            raise
        self._consumer.assign([self._place])
        self._consumer.seek(self._place, self._offset)
        return self._consumer

    async def __aexit__(self, *raised: object) -> None:
        await leave(self._consumer)


def _read(number: int, told: Told) -> Configuration:
    """Its configuration; where this version cannot read it, the usual one: it will be replaced, or this worker ends."""
    try:
        return read_settings(told.text, f"epoch {number}")
    except ConfigurationError:
        return Configuration()


def _partitions(told: Told) -> int:
    """The number under which it was told, whether or not this version can read the rest."""
    return int(yaml.safe_load(told.text)["topics"]["partitions"])


def shape_of(configuration: Configuration) -> tuple[str, str, str]:
    """Hashes of what histories are read with and of what shaped them, and the mark of the key of pseudonyms."""
    pseudonyms = read_pseudonyms(configuration)
    return (*fingerprint(configuration, _tzdata()), pseudonyms.mark if pseudonyms else "")


def _tzdata() -> str:
    return importlib.metadata.version("tzdata")


def _signature() -> str:
    return f"flowmetrics {__version__} with tzdata {_tzdata()} on {socket.gethostname()}"
