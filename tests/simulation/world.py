"""One seed, one world: it draws a workload and a schedule, runs the real engine in virtual time while it dies again and
again, heals it, and holds what it publishes against the truth.

    seed ──▶ plan ──▶ actions, each of which a death may cut short ──▶ heal ──▶ judge

Same seed, same trace: everything is drawn from one `Random`, and the clock is a number.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from random import Random
from typing import Final
from unittest.mock import patch

from judge import Wrong
from life import Life
from plan import draw_plan
from process import Died, Faults, Parts, Process

from agents.local import runner as runner_module
from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US

_SHM: Final = Path("/dev/shm")
"""Where it exists, writing there costs no disk."""

EPOCH_WRITES: Final = ("fingerprints", "drop panes")

DEATHS: Final = {"close": "crashes", "kill": "kills", "power": "power_cuts"}
"""Kind of death → the class of the plan that allows it."""


class World(Life):
    """The world of one seed. `run` raises Wrong when a law is broken."""

    def __init__(self, seed: int, without: Collection[str] = (), parts: Parts | None = None) -> None:
        rng = Random(seed)
        super().__init__(rng, draw_plan(rng, without))
        self.faults = Faults()
        self._parts = parts or Parts()

    def run(self) -> None:
        """Live through it."""
        directory = _SHM if _SHM.is_dir() else None
        with (
            tempfile.TemporaryDirectory(dir=directory, prefix="flowmetrics-") as root,
            patch.object(runner_module, "BATCH_EVENTS_MAX", self.plan.batch_max),
            patch.object(runner_module, "SWEEP_HISTORIES", self.plan.sweep_max),
            patch.object(runner_module, "DROPPED_SEGMENTS", 1),
            patch.object(runner_module, "ERASE_BYTES", 1),
        ):
            self.process = Process(Path(root), self._parts, self.faults, "power_cuts" in self.plan.on)
            try:
                self._live()
                self._heal()
            finally:
                if self.process.alive:
                    self.process.close()

    def _live(self) -> None:
        if "imports" in self.plan.on:
            self.unacknowledged = self.workload.imported(self.clock)
        names, weights = list(self.plan.weights), list(self.plan.weights.values())
        for _ in range(self.plan.actions):
            self._act(self.rng.choices(names, weights)[0])

    def _act(self, name: str) -> None:
        crash = self.rng.random() < self.plan.crash
        if crash and (not self.faults.aimed or self.rng.random() < 0.3):
            self._aim()
        try:
            self.revive()
            self.actions[name]()
            if crash and self.rng.random() < 0.2:
                raise Died("between")
        except Died as death:
            self._bury(name, str(death))

    def _aim(self) -> None:
        """At one of the next writes, or at the next of a name: the rare ones would seldom be hit else."""
        rng, writes = self.rng, self.faults.writes
        rare = {"forgets": ["blank", "swept"] if "erasures" in self.plan.on else [], "rebuilds": EPOCH_WRITES}
        names = sorted({*writes, *(name for kind, some in rare.items() if kind in self.plan.on for name in some)})
        weights = [1 / (writes[name] or 5) for name in names]
        kind = rng.random()
        if kind < 0.3 and names:
            self.faults.aim(rng.choice((1, 1, 2)), rng.choices(names, weights)[0])
        elif kind < 0.5:
            self.faults.aim(rng.choice((1, 2, 3)), "commit")
        else:
            self.faults.aim(rng.choice((1, 1, 2, 3, 4, 5, 6, 7, 9, 12)))

    def _bury(self, action: str, write: str) -> None:
        how = self.rng.choice([how for how, needed in DEATHS.items() if needed in self.plan.on])
        self.process.die(how, self.rng)
        self.marks[f"death at {write}"] += 1
        self.marks[f"death by {how}"] += 1
        self.note(f"{action}: died before {write}, {how}")

    def _heal(self) -> None:
        """No more faults: everything is delivered, everything is taken, and nothing may differ."""
        self.faults.aim(0)
        self.revive()
        self.send()
        latest = max((body.at for body, _ in self.written), default=0)
        self.clock = max(self.clock, self.process.runner.now, latest) + self.rng.choice((1, HOUR_US))
        self.settle()
        if self.process.runner.progress < 1:
            self.judge("a coming epoch was left")
        self.build()
        shown = self.judge("healed")
        if left := self.process.journal.held(2**62):
            raise Wrong(f"{len(left)} events are still held")
        if "forgets" in self.plan.on:
            self.erase()
        self.store()
        self.process.close()
        self.revive()
        if self.judge("restarted") != shown:
            raise Wrong("another restart gave other figures")
        if kept := self.process.journal.changes():
            raise Wrong(f"{len(kept)} changes are kept that panes hold")
        self.clock += self.rng.choice((MINUTE_US, DAY_US, 8 * DAY_US))
        self.judge("later")
