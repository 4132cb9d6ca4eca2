"""A worker: a Faust app whose agents take whole batches of the partitions that it owns.

    group consumer ──▶ one task a unit ──▶ channel ──▶ agent: compute, one transaction ──▶ next batch
    (events, links)       recover, seek                track-0, track-3
    (changes)             fetch                        tally-1

A unit is a partition of a step. On a rebalance every unit ends, its series leave the page first, and those that are
ours afterwards begin again: open the writer, read the changelog to its end, seek, process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import faust
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord
from mode import Service

from agents.kafka.assignor import assignor_of
from agents.kafka.changelog import Lost, Writer, read_to_end
from agents.kafka.connection import Connection
from agents.kafka.store import Store
from agents.kafka.tallying import Tallying
from agents.kafka.topics import Topics
from agents.kafka.tracking import Tracking
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError

log = logging.getLogger(__name__)

BATCH_EVENTS_MAX: Final = 10_000
GATHER_EVENTS_MAX: Final = 50_000
GATHER_SECONDS: Final = 2.0
"""How much a partition that is behind takes at once, and how long it gathers it."""
FETCH_MS: Final = 100
BEAT_SECONDS: Final = 1.0
"""At least this often a unit commits, also when nothing came: it proves that it is still ours."""
RETRY_SECONDS: Final = 0.5

Records = Sequence[ConsumerRecord[bytes, bytes]]


@dataclass
class Unit:
    """A partition of a step that is ours."""

    step: str
    number: int
    state: Tracking | Tallying | None = None
    """None until its changelog is read."""
    caught_up: bool = False
    proven: float = 0.0
    """Monotonic time of the beginning of its latest commit: until then nobody else can have had it."""
    lag: int = 0
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        return f"{self.step}-{self.number}"


class Worker(ConsumerRebalanceListener):  # type: ignore[misc] # the library has no types
    """The units of one process, and the Faust app in which they run. `name` stays the same over restarts."""

    def __init__(
        self,
        configuration: Configuration,
        connection: Connection,
        topics: Topics,
        folder: Path,
        name: str,
        shape: str,
        clock: Callable[[], int],
    ) -> None:
        self._configuration = configuration
        self._connection = connection
        self._topics = topics
        self._folder = folder
        self._name = name
        self._shape = shape
        self._clock = clock
        self.failure: OperationError | None = None
        """Why no unit can go on, and somebody must act."""
        self.units: dict[tuple[str, int], Unit] = {}
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self.app, self._channels = _app(configuration, connection, self)

    # --- membership -----------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Join the group."""
        session_ms = self._configuration.kafka_session_us // 1000
        self._consumer = AIOKafkaConsumer(
            **self._connection.client(self._name),
            group_id=f"{self._topics.prefix}.workers",
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(assignor_of(self._name),),
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=max(200, session_ms // 5),
            rebalance_timeout_ms=session_ms,
            max_poll_interval_ms=300_000,
            fetch_max_wait_ms=FETCH_MS,
            max_partition_fetch_bytes=4 * 1024 * 1024,
            metadata_max_age_ms=30_000,
        )
        self._consumer.subscribe([self._topics.events, self._topics.links, self._topics.changes], listener=self)
        await self._consumer.start()

    async def stop(self) -> None:
        """Leave the group; every unit ends."""
        await self.on_partitions_revoked([])
        await self._consumer.stop()

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Everything is taken away: series leave the page, then the work ends."""
        self.units.clear()
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Begin with what is ours now."""
        ours = sorted({(self._step_of(place.topic), place.partition) for place in assigned})
        log.info("owns %s", ", ".join(f"{step}-{number}" for step, number in ours) or "nothing")
        for step, number in ours:
            unit = self.units[step, number] = Unit(step, number)
            self._tasks[step, number] = asyncio.create_task(self._own(unit))

    def _step_of(self, topic: str) -> str:
        return "tally" if topic == self._topics.changes else "track"

    # --- one unit -------------------------------------------------------------------------------------------------
    async def _own(self, unit: Unit) -> None:
        """Recover and work, again after every loss, until cancelled."""
        while True:
            try:
                await self._live(unit)
            except (Lost, KafkaError, OSError) as error:
                log.warning("%s begins again: %r", unit.name, error)
            except OperationError as error:
                self.failure = error
                return
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("%s failed, and begins again", unit.name)
            unit.state, unit.caught_up, unit.proven = None, False, 0.0
            await asyncio.sleep(RETRY_SECONDS)

    async def _live(self, unit: Unit) -> None:
        topic = self._topics.tally if unit.step == "tally" else self._topics.track
        async with contextlib.AsyncExitStack() as stack:
            writer = await Writer.open(self._connection, f"{self._topics.prefix}-{unit.name}")
            stack.push_async_callback(writer.close)
            store = Store(self._folder / unit.name)
            stack.callback(store.close)
            async for records in read_to_end(self._connection, topic, unit.number, store.filled):
                store.fill([(record.key, record.value) for record in records], records[-1].offset + 1)
            if unit.step == "tally":
                await self._tally(
                    unit, Tallying(self._configuration, self._topics, unit.number, self._shape, store, writer)
                )
            else:
                await self._track(
                    unit, Tracking(self._configuration, self._topics, unit.number, self._shape, store, writer)
                )

    async def _track(self, unit: Unit, tracking: Tracking) -> None:
        events = TopicPartition(self._topics.events, unit.number)
        links = TopicPartition(self._topics.links, unit.number)
        ends = await self._begin({events: tracking.position.events, links: tracking.position.links})
        unit.state, told = tracking, 0.0
        while True:
            arrived, letters = await self._fetched(unit, ends, events, links)
            begun, now = time.monotonic(), self._clock()
            if arrived or letters or begun - told >= BEAT_SECONDS:
                complete = now if unit.lag == 0 or not arrived else int(arrived[-1].timestamp) * 1000
                await self._do(unit, tracking.take(arrived, letters, now, complete))
                unit.proven = told = begun
            unit.caught_up = unit.caught_up or unit.lag == 0

    async def _fetched(
        self, unit: Unit, ends: dict[TopicPartition, int], events: TopicPartition, links: TopicPartition
    ) -> tuple[list[ConsumerRecord[bytes, bytes]], list[ConsumerRecord[bytes, bytes]]]:
        """Events and links of one batch. A partition that is behind waits for more: an entity that several events of
        a batch tell of is read and written once."""
        arrived: list[ConsumerRecord[bytes, bytes]] = []
        letters: list[ConsumerRecord[bytes, bytes]] = []
        until = time.monotonic() + GATHER_SECONDS
        while True:
            found = await self._consumer.getmany(events, links, timeout_ms=FETCH_MS, max_records=BATCH_EVENTS_MAX)
            arrived += found.get(events, [])
            letters += found.get(links, [])
            unit.lag = await self._behind(ends)
            if (
                not found
                or unit.lag < BATCH_EVENTS_MAX
                or len(arrived) >= GATHER_EVENTS_MAX
                or time.monotonic() > until
            ):
                return arrived, letters

    async def _tally(self, unit: Unit, tallying: Tallying) -> None:
        changes = TopicPartition(self._topics.changes, unit.number)
        ends = await self._begin({changes: tallying.position.changes})
        unit.state, stored = tallying, 0.0
        while True:
            found = await self._consumer.getmany(changes, timeout_ms=FETCH_MS, max_records=BATCH_EVENTS_MAX)
            begun = time.monotonic()
            unit.lag = await self._behind(ends)
            due = begun - stored >= BEAT_SECONDS
            if found or due:
                await self._do(unit, self._add(unit, tallying, found.get(changes, []), due))
            if due:
                unit.proven = stored = begun
            unit.caught_up = unit.caught_up or unit.lag == 0

    async def _add(self, unit: Unit, tallying: Tallying, records: Records, store: bool) -> None:
        async with unit.busy:
            tallying.take(records)
            if store:
                await tallying.store(self._clock())

    async def _begin(self, positions: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Seek to where the state is; gives the present ends."""
        for place, position in positions.items():
            self._consumer.seek(place, position)
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(list(positions))
        return ends

    async def _behind(self, ends: dict[TopicPartition, int]) -> int:
        """How many records are left; `ends` are raised to where they are known to be."""
        lag = 0
        for place in ends:
            ends[place] = max(ends[place], self._consumer.last_stable_offset(place) or 0)
            lag += max(0, ends[place] - await self._consumer.position(place))
        return lag

    async def _do(self, unit: Unit, work: Coroutine[Any, Any, None]) -> None:
        """Hand a batch to the agent of the unit, and wait until it is done; it ends with whoever waits for it."""
        batch = Batch(work)
        await self._channels[unit.name].put(batch)
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


def _app(configuration: Configuration, connection: Connection, worker: Worker) -> tuple[Any, dict[str, Any]]:
    """The Faust app, and by unit the channels in memory from which its agents take batches."""
    app: Any = _App(
        f"{configuration.topics_prefix}-faust",
        broker=[f"kafka://{broker}" for broker in connection.brokers.split(",")],
        store="memory://",
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
