"""The engine of one worker process, as its server sees it: intake, page, readiness; nothing shown is ever wrong."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final

from aiokafka.errors import KafkaError

from agents.heap import give_large_buffers_back
from agents.judging import read_pseudonyms
from agents.kafka.connection import Connection, own_cancels
from agents.kafka.epochs import EpochLog
from agents.kafka.families import unit_families
from agents.kafka.former import name_of
from agents.kafka.intake import KafkaIntake
from agents.kafka.tallying import Reading
from agents.kafka.topics import prepare, topics_of
from agents.kafka.units import TallyUnit, TrackUnit, Unit
from agents.kafka.worker import Worker
from agents.lock import DirectoryLock
from agents.published import Published, clock_us, rest_seconds
from flowmetrics.configuration import Configuration
from flowmetrics.engine_metrics import EngineCounters, epoch_families, process_families
from flowmetrics.errors import FlowmetricsError, OperationError
from flowmetrics.exposition import Page, render
from flowmetrics.families import Family
from flowmetrics.instants import SECOND_US

log = logging.getLogger(__name__)

PUBLISH_SECONDS_MAX: Final = 0.25
"""At least this often is the page made, which is good for half a session at the most."""
RETRY_SECONDS: Final = 1.0
COLLECT_SECONDS: Final = 5.0
BEHIND_US_MAX: Final = 60 * SECOND_US
"""A number is shown while every event that arrived up to so long ago is in it."""
HELD_BACK: Final = (
    "no number is shown while a partition, perhaps of another worker, is not read to its end; "
    "if that lasts, see the runbook of FlowmetricsEventsHeldBack"
)
"""What the page, `top` and `/api/now` say then of a worker that is ready."""


class KafkaEngine:
    """Start it inside a running loop; `stop` leaves the group. `failure` is why it ended by itself."""

    def __init__(self, configuration: Configuration, clock: Callable[[], int] = clock_us) -> None:
        self._configuration = configuration
        self._connection = Connection(configuration)
        self._topics = topics_of(configuration)
        self._clock = clock
        self._started_us = clock()
        self._folder = Path(configuration.kafka_store).resolve()
        self._page, self._bare = Page(), Page()
        self._tasks: list[asyncio.Task[None]] = []
        self.published = Published(reason="starting: waiting for Kafka")
        self.failure: FlowmetricsError | None = None
        pseudonyms = read_pseudonyms(configuration)
        self.intake = KafkaIntake(self._connection, self._topics, configuration, pseudonyms, clock)
        self._epochs = EpochLog(self._connection, self._topics)
        self._worker: Worker | None = None

    @property
    def alive(self) -> bool:
        """Whether the engine still works."""
        return self.failure is None

    def serves(self, address: str) -> None:
        """Nobody needs the address: commands reach Kafka themselves."""

    def holding(self) -> DirectoryLock:
        """The folder of the store, held against other workers. Raises OperationError."""
        return DirectoryLock(self._folder, "run")

    async def start(self) -> None:
        """Begin; Kafka may still be away, and until it is there the page says no more than that nothing is ready."""
        self.published.page = self.published.bare = render(process_families(False, self._started_us))
        give_large_buffers_back()
        asyncio.get_running_loop().set_exception_handler(_unheard)
        self._tasks.append(asyncio.create_task(self._run()))

    async def stop(self) -> None:
        """Leave the group, and let go of everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await self._insist(self._prepare)
            self._tasks.append(self.intake.start())
            self._tasks.append(asyncio.create_task(self._follow_epochs()))
            await self._insist(self._work)
        except FlowmetricsError as error:
            self.failure = error
        except Exception as error:  # a bug must end the process, not leave a page that stands still
            log.exception("the worker failed")
            self.failure = OperationError(f"flowmetrics itself failed ({error!r}); nothing is lost: report it, restart")

    async def _follow_epochs(self) -> None:
        while self._epochs.failure is None:
            try:
                with own_cancels():
                    await self._epochs.follow()
            except (KafkaError, OSError) as error:
                log.warning("epochs are not followed for a moment: %r", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _insist(self, do: Callable[[], Awaitable[None]]) -> None:
        """Do something, and begin it again as often as Kafka is away. Raises OperationError where it refuses."""
        told = ""
        while True:
            try:
                with own_cancels():
                    return await do()
            except (KafkaError, OSError) as error:
                refusal = self._connection.refusal(error)
                if refusal is not None:
                    raise refusal from None
                reason = f"waiting for Kafka at {self._connection.brokers}: {error}"
                if reason != told:
                    log.warning("%s", reason)
                told = self.published.reason = reason
            await asyncio.sleep(RETRY_SECONDS)

    async def _prepare(self) -> None:
        await prepare(self._connection, self._configuration)
        await self._epochs.adopt(self._configuration)

    async def _work(self) -> None:
        """Join the group and show what is ours, until the group gives us up or somebody must act."""
        await self._connection.knock()
        self.published.reason = "joining the group of the workers"
        name = name_of(self._folder)
        worker = self._worker = Worker(
            self._configuration, self._connection, self._topics, self._folder, name, self._epochs, self._clock
        )
        worker.withdraw = self._withdraw
        try:
            await worker.app.start()
            await self._show(worker)
        finally:
            await worker.app.stop()

    async def _show(self, worker: Worker) -> None:
        gc.freeze()
        gc.disable()  # histories and panes hold no cycles, and looking for some costs 40 % of the time
        collected = time.monotonic()
        while True:
            failure = worker.failure or self._epochs.failure
            if failure is not None:
                raise failure
            begun = time.monotonic()
            await self._publish(worker)
            rest = rest_seconds(time.monotonic() - begun, PUBLISH_SECONDS_MAX)
            if time.monotonic() - collected > COLLECT_SECONDS:
                gc.collect(0)
                collected = time.monotonic()
            await asyncio.sleep(rest)

    async def _publish(self, worker: Worker) -> None:
        now, shown = self._clock(), self.published
        units = list(worker.units.values())
        progress = _progress(units)  # before tally is read: nothing is built while the page shows former numbers
        ours = [unit for unit in units if isinstance(unit, TallyUnit) and self._is_ours(unit)]
        whole = [unit for unit in ours if unit.state.complete_until() > now - BEHIND_US_MAX]
        held_back = HELD_BACK if len(whole) < len(ours) else ""
        readings = await asyncio.gather(*[_read(unit, now) for unit in whole])
        good_until = min(map(self._good_until, whole), default=math.inf)
        reason = self._reason(units)
        ready = not reason
        if shown.ready and not ready:
            log.warning("not ready: %s", reason)
        if not ready:
            shown.ready, shown.reason = False, reason
        epochs = epoch_families(min((each.epoch for each in readings), default=None), progress)
        bare = self._bare.render([*self._engine_families(units, ready=False), *epochs])
        engine = [*self._engine_families(units, ready), *epochs]
        page = await asyncio.to_thread(self._page.render, [*_merged(each.families for each in readings), *engine])
        if list(worker.units.values()) == units:
            shown.page, shown.bare, shown.good_until = page, bare, good_until
            shown.kpis = readings[-1].kpis if readings else shown.kpis
            if ready and not shown.ready:
                log.info("ready")
            # after the page: who asks for it because of this must find the numbers
            shown.ready, shown.reason = ready, reason or held_back
        points = {key: held for each in readings for key, held in each.points.items()}
        for listener in shown.listeners:
            listener(now // SECOND_US, points)

    def _withdraw(self) -> None:
        """Take everything off the page that somebody else may show from now on."""
        self.published.good_until = -math.inf
        self.published.ready = False

    def _is_ours(self, unit: TallyUnit) -> bool:
        """Whether nobody else can have the series of a unit, and it has caught up with them."""
        return unit.recovered and unit.caught_up and time.monotonic() < self._good_until(unit)

    def _good_until(self, unit: Unit) -> float:
        """Until when nobody else can have proven that a unit is theirs."""
        return unit.proven + self._configuration.kafka_session_us / SECOND_US / 2

    def _reason(self, units: Iterable[Unit]) -> str:
        """Why the worker is not ready; nothing when it is."""
        units = list(units)
        if not units:
            return "no partitions are assigned yet"
        behind = [unit for unit in units if not unit.caught_up]
        if behind:
            lag = sum(unit.lag for unit in behind)
            recovering = [unit.name for unit in behind if not unit.recovered]
            said = (
                f"recovering {', '.join(recovering)}" if recovering else f"catching up: {lag} records are not counted"
            )
            return "; ".join([said, *sorted({unit.trouble for unit in behind if unit.trouble})])
        silent = [u.name for u in units if isinstance(u, TallyUnit) and time.monotonic() >= self._good_until(u)]
        if silent:
            return f"Kafka at {self._connection.brokers} does not answer: {', '.join(silent)} cannot commit"
        return ""

    def _engine_families(self, units: list[Unit], ready: bool) -> list[Family]:
        worker = self._worker
        assert worker is not None
        counters = [unit.state.counters for unit in units if isinstance(unit, TrackUnit | TallyUnit) and unit.recovered]
        waiting = sum(unit.lag for unit in units if unit.step == "track")
        return [
            *process_families(ready, self._started_us),
            *unit_families(units, worker.efforts, worker.stable_age_seconds),
            *EngineCounters.together(counters).families(waiting),
        ]


def _unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Kafka's client fails futures that nobody can wait for, beside those that the engine waits for."""
    if not isinstance(context.get("exception"), KafkaError):
        loop.default_exception_handler(context)


async def _read(unit: TallyUnit, now: int) -> Reading:
    """The numbers of a partition, which nobody changes meanwhile."""
    async with unit.busy:
        return await asyncio.to_thread(unit.state.reading, now)


def _progress(units: Iterable[Unit]) -> float | None:
    """How much of the next epoch is built in all of these."""
    return min((unit.state.progress for unit in units if isinstance(unit, TrackUnit) and unit.recovered), default=None)


def _merged(pages: Iterable[list[Family]]) -> list[Family]:
    """Families of several partitions as one page: samples of one name together."""
    merged: dict[str, Family] = {}
    for page in pages:
        for family in page:
            held = merged.get(family.name)
            samples = family.samples if held is None else (*held.samples, *family.samples)
            merged[family.name] = Family(family.name, family.help, family.type, samples)
    return list(merged.values())
