"""A worker: a Faust app whose agents take whole batches of the units that it owns.

    group consumer ──▶ one task a unit ──▶ channel ──▶ agent: compute, one transaction ──▶ next batch
    (events, links)       recover, seek                track-0, track-3
    (changes)             fetch                        tally-1

On a rebalance every unit ends, its series leave the page first, and those that are ours afterwards begin again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import faust
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from agents.kafka.assignor import assignor_of
from agents.kafka.changelog import Lost
from agents.kafka.connection import Connection, leave, own_cancels
from agents.kafka.effort import Effort
from agents.kafka.epochs import EpochLog
from agents.kafka.former import leave_for_former
from agents.kafka.log import FETCH_MS, KafkaLog
from agents.kafka.standby import follow
from agents.kafka.topics import FIXED, Topics
from agents.kafka.units import Surroundings, TallyUnit, TrackUnit, Unit, rocks
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.5
HEED_SECONDS: Final = 1.0
IDLE_MS: Final = 300_000
"""When nobody asks the client for anything for so long, it leaves the group and does not come back."""

_UNITS: Final[dict[str, type[Unit]]] = {unit.step: unit for unit in (TrackUnit, TallyUnit)}


class Worker(ConsumerRebalanceListener):  # type: ignore[misc] # the library has no types
    """The units of one process, and the Faust app in which they run. `name` stays the same over restarts."""

    def __init__(
        self,
        configuration: Configuration,
        connection: Connection,
        topics: Topics,
        folder: Path,
        name: str,
        epochs: EpochLog,
        clock: Callable[[], int],
    ) -> None:
        self._configuration = configuration
        self._connection = connection
        self._topics = topics
        self._name = name
        self._store = rocks(folder, epochs.origin, clock)
        self.epochs = epochs
        self._clock = clock
        self.failure: OperationError | KafkaError | None = None
        """Why no unit can go on: somebody must act, or the group gave us up."""
        self.withdraw: Callable[[], None] = lambda: None
        """Called before anything is given up: its series must leave the page first."""
        self.inherits: list[str] = []
        """The units whose stores are kept warm, for when their owner is gone."""
        self.efforts: dict[str, Effort] = defaultdict(Effort)
        self.units: dict[tuple[str, int], Unit] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._heeding: asyncio.Task[None] | None = None
        self.app, self._channels = _app(configuration, connection, folder / "faust", self)

    # --- membership -----------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Join the group. Raises KafkaError; `stop` is due also then."""
        session_ms, group = self._configuration.kafka_session_us // 1000, f"{self._topics.prefix}.workers"
        self._consumer = AIOKafkaConsumer(
            **self._connection.client(self._name),
            group_id=group,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(assignor_of(self._name, self._inherits),),
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=max(200, session_ms // 5),
            rebalance_timeout_ms=session_ms,
            max_poll_interval_ms=IDLE_MS,
            fetch_max_wait_ms=FETCH_MS,
            max_partition_fetch_bytes=1024 * 1024,
            metadata_max_age_ms=30_000,
        )
        self._log = KafkaLog(self._connection, self._consumer)
        self._surroundings = Surroundings(
            self._topics,
            self._log,
            self._store,
            self.epochs,
            self._clock,
            time.monotonic,
            self._configuration.hot_entities_max,
            asyncio.Lock(),
            self.efforts,
        )
        self._consumer.subscribe([self._topics.events, self._topics.links, self._topics.changes], listener=self)
        await leave_for_former(self._connection, group, self._name)
        await self._consumer.start()
        self._heeding = asyncio.create_task(self._heed())

    async def stop(self) -> None:
        """Leave the group; every unit ends."""
        if self._heeding is not None:
            self._heeding.cancel()
        await self.on_partitions_revoked([])
        await leave(self._consumer)

    async def _heed(self) -> None:
        """Ask the client for records of a place that is not read, again and again: what the group refuses it tells only
        to who asks, and it leaves the group when nobody does. Units may be recovering, or there are none."""
        nowhere = TopicPartition(self._topics.epochs, 0)
        try:
            while True:
                await self._consumer.getmany(nowhere, timeout_ms=0)
                await asyncio.sleep(HEED_SECONDS)
        except KafkaError as error:
            self.failure = error

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Everything is taken away: series leave the page, then the work ends, and stores are let go of."""
        self.withdraw()
        self.units = {}
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _inherits(self, names: list[str]) -> None:
        self.inherits = names

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Begin with what is ours now."""
        ours = sorted({(self._step_of(place.topic), place.partition) for place in assigned})
        if any(number >= self._topics.partitions for _, number in ours):
            self.failure = OperationError(
                f"partitions were added to {self._topics.prefix}.*, and topics.partitions says "
                f"{self._topics.partitions}; {FIXED}"
            )
            return
        owned = max(1, sum(step == "track" for step, _ in ours))
        around = replace(self._surroundings, hot_histories_max=self._configuration.hot_entities_max // owned)
        self.units = {(step, number): _UNITS[step](around, number) for step, number in ours}
        log.info("owns %s", ", ".join(unit.name for unit in self.units.values()) or "nothing")
        self._tasks = [asyncio.create_task(self._own(unit)) for unit in self.units.values()]
        if self.inherits:
            self._tasks.append(asyncio.create_task(self._stand_by(self.inherits)))

    def _step_of(self, topic: str) -> str:
        return "tally" if topic == self._topics.changes else "track"

    async def _own(self, unit: Unit) -> None:
        """Let a unit live, again after every loss, until cancelled."""
        while True:
            try:
                with own_cancels():
                    await unit.live(partial(self._do, unit.name))
            except (Lost, KafkaError, OSError) as error:
                log.warning("%s begins again: %r", unit.name, error)
                unit.trouble = str(error)
            except OperationError as error:
                self.failure = error
                return
            except Exception as error:
                log.exception("%s failed, and begins again", unit.name)
                unit.trouble = repr(error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _stand_by(self, names: list[str]) -> None:
        while True:
            try:
                with own_cancels():
                    await follow(self._connection, self._topics, names, self._store)
            except (KafkaError, OSError, OperationError) as error:
                log.warning("standing by for %s begins again: %r", ", ".join(names), error)
            await asyncio.sleep(RETRY_SECONDS)

    def stable_age_seconds(self, unit: Unit) -> float:
        """For how long an open transaction, or a broker that says nothing, has held back what a unit reads."""
        return self._log.stable_age_seconds(unit.places)

    async def _do(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Hand a batch to the agent of a unit, and wait until it is done; it ends with whoever waits for it."""
        batch = Batch(work)
        await self._channels[name].put(batch)
        await batch.wait()


class Batch:
    """Work for an agent. It is over when the one who waits for it goes on, also when that one is cancelled."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = work
        self._begun: asyncio.Task[None] | None = None
        self._dropped = False
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Do it; what goes wrong is told to the one who waits."""
        if self._dropped:
            return
        self._begun = asyncio.create_task(self._work)
        await asyncio.wait([self._begun])
        self._over.set()

    async def wait(self) -> None:
        """Wait for the end of the work. Raises what went wrong."""
        try:
            await self._over.wait()
        except asyncio.CancelledError:
            self._dropped = True
            if self._begun is None:
                self._work.close()
            else:
                self._begun.cancel()
                await asyncio.wait([self._begun])
            raise
        assert self._begun is not None
        self._begun.result()


class _App(faust.App):
    """A Faust app without Kafka clients of its own: consumers, positions and transactions are ours."""

    class BootStrategy(faust.App.BootStrategy):  # type: ignore[misc, valid-type] # the library has no types
        enable_kafka = False


def _app(
    configuration: Configuration, connection: Connection, folder: Path, worker: Worker
) -> tuple[Any, dict[str, Any]]:
    """The Faust app, and by unit the channels in memory from which its agents take batches."""
    folder.mkdir(parents=True, exist_ok=True)
    app: Any = _App(
        f"{configuration.topics_prefix}-faust",
        broker=[f"kafka://{broker}" for broker in connection.brokers.split(",")],
        store="memory://",
        datadir=str(folder),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        autodiscover=False,
    )
    channels = {}

    async def work(batches: Any) -> None:
        async for batch in batches:
            await batch.run()

    for number in range(configuration.topics_partitions):
        for step in ("track", "tally"):
            name = f"{step}-{number}"
            channels[name] = app.channel()
            app.agent(channels[name], name=name)(work)

    @app.service
    class Membership(Service):
        """Joins and leaves the group with the app."""

        async def on_started(self) -> None:
            app.flow_control.resume()  # which Faust's own consumer would have done
            await worker.start()

        async def on_stop(self) -> None:
            await worker.stop()

    return app, channels
