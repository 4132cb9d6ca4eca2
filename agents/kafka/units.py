"""A unit: a partition of a step that is ours. It recovers, then takes batch after batch, until it is lost.

    open the writer ──▶ read the changelog to its end ──▶ seek ──▶ fetch ──▶ compute ──▶ one transaction ─┐
    (refuses whoever      (state and position together)             ▲                                     │
     had it before)                                                 └─────────────────────────────────────┘

After any error writer and state are thrown away, and it begins again at the left if it is still ours.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from agents.kafka.effort import Effort, Measured
from agents.kafka.epochs import EpochLog
from agents.kafka.log import Commits, Log, Records
from agents.kafka.store import Store, take
from agents.kafka.tallying import Tallying
from agents.kafka.topics import Topics
from agents.kafka.tracking import Tracking
from flowmetrics.instants import DAY_US

BATCH_EVENTS_MAX: Final = 10_000
GATHER_EVENTS_MAX: Final = 150_000
GATHER_WEIGHT_MAX: Final = 25_000
GATHER_SECONDS: Final = 2.0
"""How much a partition that is behind takes at once, and how long it gathers it; see `Tracking.weight`."""
BEAT_SECONDS: Final = 1.0
"""At least this often a unit commits, also when nothing came: it proves that it is still ours."""

Do = Callable[[Coroutine[Any, Any, None]], Coroutine[Any, Any, None]]
"""Has a batch taken, and waits until it is."""


@dataclass(frozen=True)
class Surroundings:
    """What all units of a worker have in common. `clock` gives microseconds since 1970, `ticks` monotonic seconds."""

    topics: Topics
    log: Log
    store: Callable[[str], Store]
    epochs: EpochLog
    clock: Callable[[], int]
    ticks: Callable[[], float]
    hot_histories_max: int
    """How many histories a partition of track keeps in memory."""
    gathering: AbstractAsyncContextManager[object] = field(default_factory=contextlib.nullcontext)
    """Held by the one partition that gathers many events and takes them: their memory is needed only once."""
    efforts: dict[str, Effort] = field(default_factory=lambda: defaultdict(Effort))
    """By the name of the unit."""


class Unit(ABC):
    """One partition of a step; `live` is its life, from taking it over to losing it."""

    step: str

    def __init__(self, surroundings: Surroundings, number: int) -> None:
        self.number = number
        self.caught_up = False
        """Whether it has once taken all there was."""
        self.proven = 0.0
        """Ticks at the beginning of its latest commit: until then nobody else can have had it."""
        self.lag = 0
        self.recovered = False
        self.trouble = ""
        """What ended its last life, until it has caught up again."""
        self._around = surroundings

    @property
    def name(self) -> str:
        """As it is seen in logs and metrics, and as the end of the name of its writer."""
        return f"{self.step}-{self.number}"

    @property
    def effort(self) -> Effort:
        """What it cost so far."""
        return self._around.efforts[self.name]

    @property
    def places(self) -> list[TopicPartition]:
        """What it reads."""
        return [TopicPartition(topic, self.number) for topic in self._reads]

    @property
    @abstractmethod
    def _reads(self) -> Sequence[str]:
        """The topics that it reads."""

    async def live(self, do: Do) -> None:
        """Recover, and take batches until something fails. Raises Lost, KafkaError, OperationError."""
        self.recovered, self.caught_up, self.proven = False, False, 0.0
        self._begun = self._around.ticks()
        async with self._recovery() as (store, writer):
            positions = self._open(store, writer)
            await self._around.log.begin(dict(zip(self.places, positions, strict=True)))
            self.recovered = True
            try:
                while True:
                    await self.turn(do)
                    if not self.caught_up and self.lag == 0:
                        self.caught_up, self.trouble = True, ""
                        self.effort.recovery_seconds = self._around.ticks() - self._begun
            finally:
                self.recovered = False  # before its store is closed: nobody may ask it for anything from then on

    @contextlib.asynccontextmanager
    async def _recovery(self) -> AsyncIterator[tuple[Store, Commits]]:
        around = self._around
        changelog = TopicPartition(around.topics.changelog(self.step), self.number)
        async with contextlib.AsyncExitStack() as stack:
            writer = await around.log.open(f"{around.topics.prefix}-{self.name}", changelog)
            stack.push_async_callback(writer.close)
            store = around.store(self.name)
            stack.callback(store.close)
            try:
                async for records in around.log.rest(changelog.topic, self.number, store.filled):
                    take(store, records)
            except OffsetOutOfRangeError:
                store.begin_anew()
                raise
            yield store, Measured(writer, self.effort, around.ticks)

    @abstractmethod
    def _open(self, store: Store, writer: Commits) -> Sequence[int]:
        """Make the state from a store that is filled; gives the offsets from where on its places are read."""

    @abstractmethod
    async def turn(self, do: Do) -> None:
        """Fetch a batch and have it taken."""


class TrackUnit(Unit):
    """A partition of track."""

    step = "track"

    @property
    def _reads(self) -> Sequence[str]:
        return self._around.topics.events, self._around.topics.links

    def _open(self, store: Store, writer: Commits) -> Sequence[int]:
        around = self._around
        self.state = Tracking(around.topics, self.number, around.epochs.known, store, writer, around.hot_histories_max)
        self._told, self._complete = 0.0, 0
        return self.state.position.events, self.state.position.links

    async def turn(self, do: Do) -> None:
        async with self._around.gathering if self.lag >= BATCH_EVENTS_MAX else contextlib.nullcontext():
            await self._turn(do)

    async def _turn(self, do: Do) -> None:
        came, letters = await self._gathered(do)
        begun, now = self._around.ticks(), self._around.clock()
        if came or letters or begun - self._told >= BEAT_SECONDS:
            self._complete = int(max(0, now - self._around.log.unseen_us(self.places)))
            await do(self.state.take(letters, now, self._complete))
            self.proven = self._told = begun
            histories, effort = self.state.histories, self.effort
            effort.histories_from_memory += histories.hits
            effort.histories_from_store += histories.misses
            histories.hits = histories.misses = 0
            if self.lag == 0 and now // DAY_US > self.state.position.forgot:  # what waits may tell more of them
                await do(self.state.forget(now // DAY_US))
            self.state.build(self._around.epochs.known)
        if self.state.building:
            await do(self.state.sweep(self._complete))

    async def _gathered(self, do: Do) -> tuple[bool, Records]:
        """Have the events of one batch opened: whether there were any, and the letters. A partition that is behind
        waits for more: an entity that several events of a batch tell of is read and written once."""
        log, ticks, places = self._around.log, self._around.ticks, self.places
        events_at, links_at = places
        events, letters = 0, list[Any]()
        until = ticks() + GATHER_SECONDS
        while True:
            found = await log.fetch(places, BATCH_EVENTS_MAX)
            letters += found.get(links_at, ())
            if records := found.get(events_at):
                events += len(records)
                await do(self.state.open(records, self._around.clock()))
            self.lag = await log.behind(places)
            enough = events >= GATHER_EVENTS_MAX or self.state.weight >= GATHER_WEIGHT_MAX
            if enough or self.lag < BATCH_EVENTS_MAX or ticks() > until:
                return events > 0, letters


class TallyUnit(Unit):
    """A partition of tally."""

    step = "tally"

    def __init__(self, surroundings: Surroundings, number: int) -> None:
        super().__init__(surroundings, number)
        self.busy = asyncio.Lock()
        """Whoever reads or changes the panes has it."""

    @property
    def _reads(self) -> Sequence[str]:
        return (self._around.topics.changes,)

    def _open(self, store: Store, writer: Commits) -> Sequence[int]:
        around = self._around
        self.state = Tallying(around.topics, self.number, around.epochs.known, store, writer)
        self._stored = 0.0
        return (self.state.position.changes,)

    async def turn(self, do: Do) -> None:
        found = await self._around.log.fetch(self.places, BATCH_EVENTS_MAX)
        begun = self._around.ticks()
        self.lag = await self._around.log.behind(self.places)
        due = begun - self._stored >= BEAT_SECONDS
        if found or due:
            await do(self._take(found.get(self.places[0], ()), due))
        if due:
            self.proven = self._stored = begun

    async def _take(self, records: Records, due: bool) -> None:
        async with self.busy:
            await self.state.take(records, self._around.epochs)
            checkpoint = await self.state.checkpoint(self._around.clock(), self._around.epochs) if due else None
        if checkpoint is not None:  # Kafka may be long in answering, and the page must say so meanwhile
            await self.state.commit(checkpoint)


def rocks(folder: Path, origin: str, clock: Callable[[], int]) -> Callable[[str], Store]:
    """Stores by the name of their unit, in a folder; see `Store`."""
    return lambda name: Store(folder / name, origin, clock)
