"""The engine as a process: a thread that drives the runner, publishes what it reads, and stores panes now and then."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agents.local.intake import Intake, pseudonyms_of
from agents.local.journal import Journal
from agents.local.runner import TALLY_STORE_US, Runner
from agents.lock import DirectoryLock
from agents.published import Published, clock_us, rest_seconds
from flowmetrics.configuration import Configuration
from flowmetrics.engine_metrics import process_families
from flowmetrics.errors import FlowmetricsError, OperationError
from flowmetrics.exposition import Page
from flowmetrics.instants import DAY_US, SECOND_US
from flowmetrics.sources.cloudevents import CloudEvents

log = logging.getLogger(__name__)

PUBLISH_SECONDS_MAX: Final = 1.0
"""At least this often, because ages grow while no event arrives."""
DRAIN_SECONDS_MAX: Final = 6.0
FORGET_FIRST_US: Final = 5 * 60 * SECOND_US
"""How long after the start what is too old is forgotten first, and then once a day."""


def open_runner(configuration: Configuration, journal: Journal, now: int) -> Runner:
    """A runner over what is stored."""
    return Runner(configuration, journal, importlib.metadata.version("tzdata"), now)


def directory_of(broker: str) -> Path:
    """The data directory that `broker: local://…` names."""
    return Path(broker.removeprefix("local://"))


class Engine:
    """Start it, post to its intake, read `published`; `stop` drains. `failure` is why it ended by itself."""

    def __init__(self, configuration: Configuration, clock: Callable[[], int] = clock_us) -> None:
        self._configuration = configuration
        self._clock = clock
        self._started_us = clock()
        self._held = contextlib.ExitStack()
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._page = Page()
        self.published = Published()
        self.failure: FlowmetricsError | None = None

    def start(self) -> None:
        """Take the directory, open the journal, begin to take and to publish. Raises FlowmetricsError."""
        directory = directory_of(self._configuration.broker)
        self._lock = self._held.enter_context(DirectoryLock(directory, "run"))
        try:
            self._journal = Journal(directory)
            self._held.callback(self._journal.close)
            pseudonyms = pseudonyms_of(self._configuration, self._journal)
        except BaseException:
            self._held.close()
            raise
        source = CloudEvents(self._configuration.surveys)
        self.intake = Intake(self._journal, source, self._clock, self._work.set, pseudonyms)
        self.intake.start()
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, take it, store the panes, and let go of the directory."""
        self.intake.stop()
        self._stopping.set()
        self._work.set()
        self._thread.join()
        self._held.close()

    def serves(self, address: str) -> None:
        """Tell the processes that want the directory where this one serves."""
        self._lock.serves(address)

    @property
    def alive(self) -> bool:
        """Whether the engine still works."""
        return self.failure is None and self.intake.failure is None

    def _run(self) -> None:
        try:
            self._drive(open_runner(self._configuration, self._journal, self._clock()))
        except FlowmetricsError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a bug must end the process, not leave a page that stands still
            self._fail(
                OperationError(f"flowmetrics itself failed ({error!r}); the log is safe: report this, and start again")
            )

    def _fail(self, error: FlowmetricsError) -> None:
        self.failure = error
        self.published.ready, self.published.reason = False, str(error)

    def _drive(self, runner: Runner) -> None:
        gc.freeze()
        gc.disable()  # histories and panes hold no cycles, and looking for some costs 40 % of the time
        if runner.progress < 1:
            log.warning("the configuration has changed: the next epoch is built, and epoch %d shown", runner.epoch)
        kpis, stored_us, published, rest = True, self._clock(), 0.0, 0.0
        forgot_us = stored_us - DAY_US + FORGET_FIRST_US
        while not self._stopping.is_set():
            self._work.clear()
            took = runner.step(self._clock())
            building = self._build(runner)
            kpis = kpis or took > 0
            waited = time.monotonic() - published
            if waited >= (rest if kpis else PUBLISH_SECONDS_MAX):
                before = time.monotonic()
                self._publish(runner)
                published, kpis = time.monotonic(), False
                rest = rest_seconds(published - before, PUBLISH_SECONDS_MAX)
            if runner.now - stored_us >= TALLY_STORE_US:
                runner.store_panes()
                gc.collect(0)
                stored_us = runner.now
            if runner.now - forgot_us >= DAY_US:
                runner.forget()
                forgot_us = runner.now
            runner.erase()
            if not took and not building:
                self._work.wait(rest if kpis else PUBLISH_SECONDS_MAX / 2)
        self._drain(runner)

    def _build(self, runner: Runner) -> bool:
        """Go on with the coming epoch, if there is one."""
        before, more = runner.epoch, runner.build()
        if runner.epoch != before:
            log.warning("epoch %d is complete, and is shown from now on", runner.epoch)
        return more

    def _drain(self, runner: Runner) -> None:
        until = time.monotonic() + DRAIN_SECONDS_MAX
        while not runner.caught_up and time.monotonic() < until:
            runner.step(self._clock())
        self._count_refused(runner)
        runner.store_panes()

    def _count_refused(self, runner: Runner) -> None:
        refused = self.intake.refusals()
        for reason, n in refused.items():
            runner.counters.add("events_rejected", reason, by=n)
        if refused:
            runner.store_counters()

    def _publish(self, runner: Runner) -> None:
        shown = self.published
        self._count_refused(runner)
        families = runner.families(self._clock())
        ready = self.alive and (shown.ready or runner.caught_up)
        if not ready:
            families = []  # unknown is not zero: nothing is shown before it is right
        process = process_families(ready, self._started_us)
        shown.page = self._page.render([*families, *runner.engine_families(), *process])
        shown.kpis = runner.read.kpis
        shown.reason = "" if ready else f"catching up: {runner.waiting} events of the log are not counted yet"
        shown.ready = ready  # after the page: who asks for it because of this must find the numbers
        for listener in shown.listeners:
            listener(runner.now // SECOND_US, runner.read.latest if ready else {})
