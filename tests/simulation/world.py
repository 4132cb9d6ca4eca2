"""One seed, one world: it draws a workload and a schedule, runs the real engine in virtual time while it dies again and
again, heals it, and holds what it publishes against the truth.

    seed ──▶ plan ──▶ actions, each of which a death may cut short ──▶ heal ──▶ judge

Same seed, same trace: everything is drawn from one `Random`, and the clock is a number.
"""

from __future__ import annotations

import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from random import Random
from typing import Final
from unittest.mock import patch

from judge import Values, Wrong, check_books, check_figures, check_log, check_refused
from plan import Plan, draw_plan, read_otherwise, store_otherwise
from process import Died, Faults, Parts, Process
from workload import T0, Body, Workload

from agents.local import runner as runner_module
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError
from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US, SECOND_US, instant_text

REFUSED_BYTES_MAX: Final = 256 * 1024
_SHM: Final = Path("/dev/shm")
"""Where it exists, writing there costs no disk."""


class World:
    """The world of one seed. `run` raises Wrong when a law is broken; `trace` tells what happened."""

    def __init__(self, seed: int, without: Collection[str] = (), parts: Parts | None = None) -> None:
        self.rng = Random(seed)
        self.plan: Plan = draw_plan(self.rng, without)
        self.configuration = self.plan.configuration
        self.clock = T0 + self.rng.choice((0, 1, SECOND_US, HOUR_US))
        self.workload = Workload(self.rng, self.plan.on, self.configuration)
        self.written: list[tuple[Body, int]] = []
        """What must be in the log: body and arrival stamp."""
        self.refused: list[tuple[str, bytes]] = []
        """What must be kept as refused: reason and body."""
        self.unacknowledged: list[list[Body]] = []
        self.marks: Counter[str] = Counter()
        self.trace: list[str] = []
        self.faults = Faults()
        self._parts = parts or Parts()
        self._actions: Mapping[str, Callable[[], None]] = {
            "deliver": self._deliver,
            "step": self._step,
            "store": self._store,
            "glance": self._glance,
            "read": self._read,
            "forget": self._forget,
            "trim": self._trim,
            "pardon": self._pardon,
            "advance": self._advance,
            "midnight": self._midnight,
            "turn_back": self._turn_back,
            "restart": self._restart,
            "rebuild": lambda: self._reconfigure(read_otherwise),
            "rewrite": lambda: self._reconfigure(store_otherwise),
        }

    def run(self) -> None:
        """Live through it. Raises Wrong."""
        directory = _SHM if _SHM.is_dir() else None
        with (
            tempfile.TemporaryDirectory(dir=directory, prefix="flowmetrics-") as root,
            patch.object(runner_module, "BATCH_EVENTS_MAX", self.plan.batch_max),
        ):
            self.process = Process(Path(root), self._parts, self.faults, "power_cuts" in self.plan.on)
            try:
                self._live()
                self._heal()
            finally:
                if self.process.alive:
                    self.process.close()

    # --- faults ---------------------------------------------------------------------------------------------------
    def _live(self) -> None:
        if "imports" in self.plan.on:
            self.unacknowledged = self.workload.imported(self.clock)
        names, weights = list(self.plan.weights), list(self.plan.weights.values())
        for _ in range(self.plan.actions):
            self._act(self.rng.choices(names, weights)[0])

    def _act(self, name: str) -> None:
        crash = self.rng.random() < self.plan.crash
        if crash:
            self.faults.aim(self.rng.choice((1, 1, 2, 3, 4, 5, 6, 7, 9, 12)))
        try:
            self._revive()
            self._actions[name]()
            if crash and self.rng.random() < 0.3:
                raise Died("between")
        except Died as death:
            self._bury(name, str(death))
        finally:
            self.faults.aim(0)

    def _bury(self, action: str, write: str) -> None:
        how = self.rng.choice(
            [h for h, c in (("close", ""), ("kill", "kills"), ("power", "power_cuts")) if not c or c in self.plan.on]
        )
        self.process.die(how, self.rng)
        self.marks[f"death at {write}"] += 1
        self.marks[f"death by {how}"] += 1
        self._note(f"{action}: died before {write}, {how}")

    def _revive(self) -> None:
        if not self.process.alive:
            self.process.open(self.configuration, self.clock)
            self.process.remember(durable=False)

    # --- actions --------------------------------------------------------------------------------------------------
    def _deliver(self) -> None:
        rng, clock = self.rng, self.clock
        if rng.random() < 0.9:
            self.unacknowledged += self.workload.requests(clock)
        self._send()
        if "resends" in self.plan.on and self._last and rng.random() < 0.2:
            self.marks["sent again"] += 1
            self.unacknowledged.append(rng.choice(self._last))

    def _send(self) -> None:
        """Send everything that was not acknowledged; after this returns it is."""
        requests, clock = self.unacknowledged, self.clock
        receipts = self.process.deliver([[body.line for body in request] for request in requests], clock)
        self.process.remember(durable=True)
        self._last, self.unacknowledged = requests, []
        for request, receipt in zip(requests, receipts, strict=True):
            reasons = [body.verdict(self.configuration, clock) for body in request]
            told = {index: rejection.reason.value for index, rejection in receipt.rejected}
            if told != {index: reason for index, reason in enumerate(reasons) if reason}:
                raise Wrong(f"refused as {told}, should be {reasons}")
            if receipt.accepted + len(told) != len(request):
                raise Wrong(f"{receipt.accepted} accepted and {len(told)} refused of {len(request)}")
            self.written += [(body, clock) for body, reason in zip(request, reasons, strict=True) if not reason]
            self.refused += [
                (reason, body.line[:REFUSED_BYTES_MAX]) for body, reason in zip(request, reasons, strict=True) if reason
            ]
        self._note(f"delivered {len(requests)} requests, log {len(self.written)}")

    def _step(self) -> None:
        before = self.process.runner.position
        took = self.process.runner.step(self.clock)
        self.process.remember(durable=False)
        self.marks["took what was held"] += took > self.process.runner.position - before
        self._note(f"took {took}")

    def _settle(self) -> None:
        """Step until nothing is left to do now. It must end: every step takes some of what waits."""
        runner = self.process.runner
        for _ in range(2 * len(self.written) + 10):
            before = runner.position
            if not runner.step(self.clock) and runner.position == before and runner.caught_up:
                self.process.remember(durable=False)
                return
        raise Wrong(f"never caught up: {runner.waiting} events wait")

    def _store(self) -> None:
        self.process.runner.store_panes()
        self.process.remember(durable=False)
        self._note("stored")

    def _glance(self) -> None:
        self.process.runner.families(self.clock)
        self._note("glanced")

    def _read(self) -> None:
        self._settle()
        self._judge("read")

    def _forget(self) -> None:
        journal = self.process.journal
        before, first = len(list(journal.keys())), journal.first()
        self.process.runner.forget()
        self.process.remember(durable=True)
        self.marks["forgot"] += len(list(journal.keys())) < before
        self.marks["trimmed"] += journal.first() > first
        self._note("forgot")

    def _trim(self) -> None:
        runner = self.process.runner
        gone = runner.journal.trim(self.clock - self.rng.choice((0, HOUR_US)), runner.position)
        self.process.remember(durable=True)
        self.marks["trimmed"] += gone > 0
        self._note(f"trimmed {gone}")

    def _pardon(self) -> None:
        numbers = [number for number, *_ in self.process.journal.rejected()]
        gone = {index for index in range(len(numbers)) if self.rng.random() < 0.5}
        self.process.journal.drop_rejected([numbers[index] for index in gone])
        self.process.remember(durable=True)
        self.refused = [one for index, one in enumerate(self.refused) if index not in gone]
        self._note(f"pardoned {len(gone)}")

    def _advance(self) -> None:
        rng, width_us = self.rng, self.configuration.resolution_us
        days = rng.choice((8, 20, 40, 140)) if "long" in self.plan.on else 1
        leap = rng.choice((1, SECOND_US, MINUTE_US, width_us, HOUR_US, 6 * HOUR_US, DAY_US, days * DAY_US))
        self.clock += leap
        if rng.random() < 0.4:
            self.clock += rng.choice((-1, 0, 0)) - self.clock % rng.choice((width_us, HOUR_US, DAY_US))
            self.clock += rng.choice((0, leap))
        self._note("advanced")

    def _midnight(self) -> None:
        """Look just before a local day begins, and again in its first instant, which lies in the same pane."""
        calendar = self.configuration.calendar
        self.clock = calendar.begin(calendar.day(max(self.clock, self.process.runner.now)) + 1) - 1
        self._glance()
        self.clock += 1
        self._read()

    def _turn_back(self) -> None:
        self.clock -= self.rng.choice((1, SECOND_US, 5 * MINUTE_US, HOUR_US))
        self.marks["clock turned back"] += 1
        self._note("clock turned back")

    def _restart(self) -> None:
        if self.rng.random() < 0.5:
            self._store()
        self.process.close()
        self._revive()
        self._note("restarted")

    def _reconfigure(self, otherwise: Callable[[Random, Configuration], Configuration]) -> None:
        """Restart with another configuration, or the first one; refused where the log would be needed and is cut."""
        old = self.configuration
        self.configuration = self.plan.configuration if self.rng.random() < 0.3 else otherwise(self.rng, old)
        cut = self.process.journal.first() > 0
        self.process.close()
        try:
            self._revive()
        except Died:
            if self.rng.random() < 0.5:
                self.configuration = old
            raise
        except OperationError:
            if not cut:
                raise
            self.configuration = old
            self.marks["new configuration refused"] += 1
            self._revive()
        self.marks[otherwise.__name__] += self.configuration is not old
        self._note(f"reconfigured: {_changes(old, self.configuration)}")

    # --- judgement ------------------------------------------------------------------------------------------------
    def _heal(self) -> None:
        """No more faults: everything is delivered, everything is taken, and nothing may differ."""
        self._revive()
        self._send()
        latest = max((body.at for body, _ in self.written), default=0)
        self.clock = max(self.clock, self.process.runner.now, latest) + self.rng.choice((1, HOUR_US))
        self._settle()
        shown = self._judge("healed")
        if left := self.process.journal.held(2**62):
            raise Wrong(f"{len(left)} events are still held")
        self._store()
        self.process.close()
        self._revive()
        if self._judge("restarted") != shown:
            raise Wrong("another restart gave other figures")
        if kept := self.process.journal.changes():
            raise Wrong(f"{len(kept)} changes are kept that panes hold")
        self.clock += self.rng.choice((MINUTE_US, DAY_US, 8 * DAY_US))
        self._judge("later")

    def _judge(self, when: str) -> Values:
        process = self.process
        families = process.runner.families(self.clock)
        known = [body for body, arrived_at in self.written if not body.verdict(self.configuration, arrived_at)]
        brute_force = "brute_force" in self.plan.on
        shown = check_figures(families, known, process.runner.now, self.configuration, self.rng, brute_force)
        check_books(process.runner)
        check_log(process.journal, self.written)
        check_refused(process.journal, self.refused)
        self.marks[f"judged when {when}"] += 1
        sum_of = zlib.crc32(repr(sorted(shown.items())).encode())
        self._note(f"judged when {when}: {len(shown)} figures of {len(known)} events, {sum_of:08x}")
        return shown

    def _note(self, what: str) -> None:
        self.trace.append(f"{instant_text(self.clock)} {what}")


def _changes(old: Configuration, new: Configuration) -> str:
    return ", ".join(
        name
        for name, value in vars(new).items()
        if name in Configuration.__dataclass_fields__ and getattr(old, name) != value
    )
