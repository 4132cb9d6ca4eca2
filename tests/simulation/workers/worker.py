"""A worker: a machine with a clock and stores, and on it a process that runs the units that it believes to own.

The units are the real ones. They are coroutines that are stepped by hand, so a process can be stopped, resumed, told
that units are no longer its own, or killed, between any two of their steps.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeAlias

from aiokafka.errors import KafkaError

from agents.kafka.changelog import Lost
from agents.kafka.epochs import Epoch, Known
from agents.kafka.topics import Topics
from agents.kafka.units import Surroundings, TallyUnit, TrackUnit, Unit
from flowmetrics.configuration import Configuration
from workers.broker import Broker
from workers.log import SimulatedLog, Troubles, pause
from workers.store import SimulatedStore, Table

RETRY_PAUSES: Final = 3

_UNITS: Final[Mapping[str, type[Unit]]] = {unit.step: unit for unit in (TrackUnit, TallyUnit)}

Place: TypeAlias = tuple[str, int]
"""A step and the number of a partition."""


@dataclass(frozen=True)
class Parts:
    """What the world is made of; a negative control puts in a broken part."""

    log: type[SimulatedLog] = SimulatedLog
    store: type[SimulatedStore] = SimulatedStore
    fencing: bool = True


@dataclass
class Machine:
    """What outlives a process: stores by the name of their unit, and how far the clock is off."""

    offset_us: int = 0
    tables: dict[str, Table] = field(default_factory=lambda: defaultdict(Table))


class Running:
    """A coroutine that is stepped by hand. `at` is the name of the pause in which it waits."""

    def __init__(self, life: Coroutine[Any, Any, None]) -> None:
        self._life = life
        self._cancelled = False
        self.at = "begin of life"
        self.over = False

    def step(self) -> None:
        """Go on to the next pause."""
        try:
            if self._cancelled:
                self._cancelled = False
                self.at = self._life.throw(asyncio.CancelledError()) or "sleep"
            else:
                self.at = self._life.send(None) or "sleep"
        except (StopIteration, asyncio.CancelledError):
            self.over = True

    def cancel(self) -> None:
        """Have it end at its next step, in order."""
        self._cancelled = True

    def kill(self) -> None:
        """It is no more."""
        self._life.close()
        self.over = True


class Process:
    """One life of a worker process: `wanted` are the units that the group gave it, as far as it knows."""

    def __init__(self, surroundings: Surroundings, log: SimulatedLog) -> None:
        self.surroundings = surroundings
        self.log = log
        self._wanted: list[Place] = []
        self._ending = False
        self.units: dict[Place, Unit] = {}
        self.running: list[Running] = []

    def told(self, wanted: Iterable[Place]) -> None:
        """The group says which units are its own from now on: all others end first, and these begin again."""
        self._wanted = sorted(wanted)
        self._ending = True
        self.units = {}
        for one in self.running:
            one.cancel()
        self.tidy()

    def tidy(self) -> None:
        """Forget what has ended; begin what is wanted when all has."""
        self.running = [one for one in self.running if not one.over]
        if self._ending and not self.running:
            self._ending = False
            self.units = {(step, number): _UNITS[step](self.surroundings, number) for step, number in self._wanted}
            self.running = [Running(_own(unit)) for unit in self.units.values()]

    def kill(self) -> None:
        """It is no more; what it had asked the broker for may still happen."""
        self.log.alive = False
        for writer in [*self.log.writers]:
            writer.let_go()
        for one in self.running:
            one.kill()
        self.running, self.units = [], {}


@dataclass
class Worker:
    """A machine, and the process on it, if one runs. `wakes_at` is until when it stands still as a whole."""

    machine: Machine
    process: Process | None = None
    wakes_at: int = 0

    @property
    def units(self) -> Mapping[Place, Unit]:
        """The units that it believes to own."""
        return {} if self.process is None else self.process.units

    def learn(self) -> None:
        """The process hears of the latest configuration."""
        if self.process is not None:
            self.process.surroundings.epochs.learn()  # type: ignore[attr-defined]


class Turnstile:
    """A lock whose waiters are stepped by hand."""

    def __init__(self) -> None:
        self._held = False

    async def __aenter__(self) -> None:
        while self._held:
            await pause("turnstile")
        self._held = True

    async def __aexit__(self, *raised: object) -> None:
        self._held = False


class SimulatedEpochs:
    """What one process knows of the configurations that all follow; it learns of new ones late."""

    def __init__(self, told: Sequence[Configuration]) -> None:
        self._told = told
        self.known = Known({})
        self.learn()

    def learn(self) -> None:
        """Read what there is by now."""
        self.known = Known({number: Epoch(number, one) for number, one in enumerate(self._told, 1)})

    async def get(self, number: int) -> Epoch:
        """See `EpochLog`."""
        while number not in self.known.epochs:
            await pause("epoch")
            self.learn()
        return self.known.epochs[number]


class Yard:
    """Makes processes: what all workers have in common."""

    def __init__(
        self,
        topics: Topics,
        told: Sequence[Configuration],
        broker: Broker,
        rng: Random,
        troubles: Troubles,
        parts: Parts,
    ) -> None:
        self._topics = topics
        self._told = told
        self._broker = broker
        self._rng = rng
        self._troubles = troubles
        self._parts = parts

    def process(self, machine: Machine, clock: Callable[[], int], ticks: Callable[[], float]) -> Process:
        """A process on a machine, with no units yet."""
        log = self._parts.log(self._broker, self._rng, self._troubles, clock)
        surroundings = Surroundings(
            topics=self._topics,
            log=log,
            store=lambda name: self._parts.store(machine.tables[name], clock),  # type: ignore[arg-type,return-value]
            epochs=SimulatedEpochs(self._told),  # type: ignore[arg-type]
            clock=clock,
            ticks=ticks,
            hot_histories_max=self._told[0].hot_entities_max,
            gathering=Turnstile(),
        )
        return Process(surroundings, log)


async def _own(unit: Unit) -> None:
    """As `agents.kafka.worker.Worker` has a unit live: again after every loss. What it would log as a failure ends the
    world."""
    while True:
        with contextlib.suppress(Lost, KafkaError, OSError):
            await unit.live(_do)
        for _ in range(RETRY_PAUSES):
            await pause("retry")


async def _do(work: Coroutine[Any, Any, None]) -> None:
    """Hand a batch to the agent of a unit."""
    try:
        await pause("hand over")
    except BaseException:
        work.close()
        raise
    await work
