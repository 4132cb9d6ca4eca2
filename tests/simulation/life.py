"""What can happen in a world: every action on the engine, each of which a death may cut short, and how it is judged.

An action changes what the world expects only after the engine has answered, so that a death before leaves the world as
it was: what was not acknowledged is sent again.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

import msgspec
from judge import Erasures, Values, Wrong, check_books, check_erased, check_figures, check_log, check_refused
from plan import Plan, differences, read_otherwise, store_otherwise
from process import TZDATA, Died, Process
from workload import T0, Body, Workload

from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError
from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US, SECOND_US, instant_text
from flowmetrics.settings import fingerprint

REFUSED_BYTES_MAX: Final = 256 * 1024
"""So much of a refused body is kept."""


class Life:
    """The clock, the producers, the engine, and what must be true of it. `marks` count, `trace` tells what happened."""

    process: Process

    def __init__(self, rng: Random, plan: Plan) -> None:
        self.rng = rng
        self.plan = plan
        self.configuration = plan.configuration
        self.readings = {fingerprint(self.configuration, TZDATA): self.configuration}
        """Every configuration that there was, by what the journal calls it."""
        self.clock = T0 + rng.choice((0, 1, SECOND_US, HOUR_US))
        self.workload = Workload(rng, plan.on, self.configuration)
        self.written: list[tuple[Body, int]] = []
        """What must be in the log: body and arrival stamp."""
        self.refused: list[tuple[str, bytes]] = []
        """What must be kept as refused: reason and body."""
        self.unacknowledged: list[list[Body]] = []
        self._last: list[list[Body]] = []
        self.marks: Counter[str] = Counter()
        self.trace: list[str] = []
        self.actions: Mapping[str, Callable[[], None]] = {
            "deliver": self._deliver,
            "step": self._step,
            "build": self._build,
            "store": self.store,
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

    def revive(self) -> None:
        """Start the engine if it does not live."""
        if not self.process.alive:
            self.readings[fingerprint(self.configuration, TZDATA)] = self.configuration
            self.process.open(self.configuration, self.clock)
            self.process.remember(durable=False)

    def note(self, what: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{instant_text(self.clock)} {what}")

    # --- deliveries -----------------------------------------------------------------------------------------------
    def _deliver(self) -> None:
        rng, clock = self.rng, self.clock
        if rng.random() < 0.9:
            self.unacknowledged += self.workload.requests(clock)
        self.send()
        if "resends" in self.plan.on and self._last and rng.random() < 0.2:
            self.marks["sent again"] += 1
            self.unacknowledged.append(rng.choice(self._last))

    def send(self) -> None:
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
        self.note(f"delivered {len(requests)} requests, log {len(self.written)}")

    def _step(self) -> None:
        before = self.process.runner.position
        took = self.process.runner.step(self.clock)
        self.process.runner.erase()
        self.process.remember(durable=False)
        self.marks["took what was held"] += took > self.process.runner.position - before
        self.note(f"took {took}")

    def settle(self) -> None:
        """Step until nothing is left to do now. It must end: every step takes some of what waits."""
        runner = self.process.runner
        for _ in range(2 * len(self.written) + 10):
            before = runner.position
            if not runner.step(self.clock) and runner.position == before and runner.caught_up:
                self.process.remember(durable=False)
                return
        raise Wrong(f"never caught up: {runner.waiting} events wait")

    def _build(self) -> None:
        coming = self.process.runner.progress < 1
        for _ in range(self.rng.choice((1, 1, 2, 6))):
            self.process.runner.build()
            self.process.remember(durable=False)
        self.marks["an epoch was published"] += coming and self.process.runner.progress == 1
        self.note(f"built, {self.process.runner.progress:.2f}")

    def build(self) -> None:
        """Build the coming epoch to its end, and drop what is left of others. It must end, with one epoch left."""
        for _ in range(10_000):
            if not self.process.runner.build():
                break
        self.process.remember(durable=False)
        if self.published() is not self.configuration:
            raise Wrong(f"never changed over: {self.process.runner.progress} of the coming epoch is built")
        if left := self.process.journal.former([max(self.process.journal.former([]), default=0)]):
            raise Wrong(f"panes of former epochs are left: {left}")

    def published(self) -> Configuration:
        """The configuration under which the figures must be true now: the last one whose epoch was complete."""
        stored = self.process.journal.meta("fingerprints")
        assert stored is not None
        first, second = msgspec.msgpack.decode(stored)
        published = self.readings[first, second]
        if self.process.runner.progress == 1 and published is not self.configuration:
            raise Wrong("nothing is built, and the figures are of another configuration")
        return published

    def store(self) -> None:
        self.process.runner.store_panes()
        self.process.remember(durable=False)
        self.note("stored")

    def _glance(self) -> None:
        self.process.runner.families(self.clock)
        self.note("glanced")

    def _read(self) -> None:
        self.settle()
        self.judge("read")

    def _forget(self) -> None:
        journal = self.process.journal
        if self.rng.random() < 0.5:
            self.settle()
        before, first = len(list(journal.keys())), journal.first()
        self.process.runner.forget()
        self.process.remember(durable=True)
        while self.process.runner.erase():
            pass
        self.process.remember(durable=False)
        self.marks["forgot"] += len(list(journal.keys())) < before
        self.marks["trimmed"] += journal.first() > first
        self.note("forgot")

    def _trim(self) -> None:
        runner = self.process.runner
        gone = runner.journal.trim(self.clock - self.rng.choice((0, HOUR_US)), runner.position)
        self.process.remember(durable=True)
        self.marks["trimmed"] += gone > 0
        self.note(f"trimmed {gone}")

    def _pardon(self) -> None:
        there = check_refused(self.process.journal, self.refused, self.erasures)
        numbers = [number for number, *_ in self.process.journal.rejected()]
        gone = {index: number for index, number in zip(there, numbers, strict=True) if self.rng.random() < 0.5}
        self.process.journal.drop_rejected(gone.values())
        self.process.remember(durable=True)
        self.refused = [one for index, one in enumerate(self.refused) if index not in gone]
        self.note(f"pardoned {len(gone)}")

    def _advance(self) -> None:
        rng, width_us = self.rng, self.configuration.resolution_us
        days = rng.choice((8, 20, 40, 140)) if "long" in self.plan.on else 1
        leap = rng.choice((1, SECOND_US, MINUTE_US, width_us, HOUR_US, 6 * HOUR_US, DAY_US, days * DAY_US))
        self.clock += leap
        if rng.random() < 0.4:
            self.clock += rng.choice((-1, 0, 0)) - self.clock % rng.choice((width_us, HOUR_US, DAY_US))
            self.clock += rng.choice((0, leap))
        self.note("advanced")

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
        self.note("clock turned back")

    def _restart(self) -> None:
        if self.rng.random() < 0.5:
            self.store()
        self.process.close()
        self.revive()
        self.note("restarted")

    def _reconfigure(self, otherwise: Callable[[Random, Configuration], Configuration]) -> None:
        """Restart with another configuration, or the first one; refused where the log would be needed and is cut."""
        old = self.configuration
        self.configuration = self.plan.configuration if self.rng.random() < 0.3 else otherwise(self.rng, old)
        cut = self.process.journal.first() > 0
        self.marks["another configuration came while an epoch was built"] += self.process.runner.progress < 1
        self.process.close()
        try:
            self.revive()
        except Died:
            if self.rng.random() < 0.6:
                self.configuration = old  # the operator takes it back
            raise
        except OperationError:
            if not cut:
                raise
            self.configuration = old
            self.marks["new configuration refused"] += 1
            self.revive()
        self.marks[otherwise.__name__] += self.configuration is not old
        self.note(f"reconfigured: {differences(old, self.configuration)}")

    def erasures(self) -> Erasures:
        """Who is erased by now."""
        return Erasures(self.written, self.process.runner.now, self.configuration)

    def erase(self) -> None:
        """Look whether those are gone who are erased, once everything was taken."""
        self._forget()
        check_erased(self.process.journal, self.written, self.erasures())

    def judge(self, when: str) -> Values:
        process = self.process
        families = process.runner.families(self.clock)
        known = [body for body, arrived_at in self.written if not body.verdict(self.configuration, arrived_at)]
        brute_force = "brute_force" in self.plan.on
        published = self.published()
        self.marks["judged while an epoch was built"] += process.runner.progress < 1
        shown = check_figures(families, known, process.runner.now, published, self.rng, brute_force)
        check_books(process.runner)
        self.marks["erased"] += check_log(process.journal, self.written, self.erasures)
        kept = check_refused(process.journal, self.refused, self.erasures)
        self.marks["erased what was refused"] += len(self.refused) - len(kept)
        self.marks[f"judged when {when}"] += 1
        sum_of = zlib.crc32(repr(sorted(shown.items())).encode())
        self.note(f"judged when {when}: {len(shown)} figures of {len(known)} events, {sum_of:08x}")
        return shown

    def _note(self, what: str) -> None:
        self.trace.append(f"{instant_text(self.clock)} {what}")
