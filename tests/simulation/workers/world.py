"""One seed, one world of workers: it draws producers, workers and faults, lets them live, heals them, and holds what
they publish against the truth.

    seed ──▶ plan ──▶ actions, and steps of any unit between any two ──▶ heal ──▶ judge

Same seed, same trace: everything is drawn from one `Random`, time is a number, and coroutines are stepped by hand.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from random import Random
from typing import Final
from unittest.mock import patch

from judge import Values, Wrong
from workload import Body

from agents.kafka import tracking
from agents.kafka import units as units_module
from agents.kafka.engine import BEHIND_US_MAX
from agents.kafka.units import TallyUnit, TrackUnit, Unit
from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from workers import judge
from workers.life import SKEW_US, Life
from workers.plan import draw_plan
from workers.worker import Parts

ROUNDS_MAX: Final = 3000
BEATS_MAX: Final = 100
AGES: Final = 8
"""How often much time passes at the end of a world: together it is enough for any history to be forgotten."""
AT_REST: Final = frozenset({"fetch", "fetched", "behind"})
"""Where a unit is that finds nothing to do."""


class World(Life):
    """The world of one seed. `run` raises Wrong when a law is broken."""

    def __init__(self, seed: int, without: Collection[str] = (), parts: Parts | None = None) -> None:
        rng = Random(seed)
        super().__init__(rng, draw_plan(rng, without), parts or Parts())
        self.actions = {**self.actions, "glance": self._glance, "read": self._read}

    def run(self) -> None:
        """Live through it."""
        plan = self.plan
        with (
            patch.object(units_module, "BATCH_EVENTS_MAX", plan.batch_max),
            patch.object(units_module, "GATHER_EVENTS_MAX", 2 * plan.batch_max),
            patch.object(tracking, "SLICE", plan.slice_max),
        ):
            try:
                self._live()
                self._end()
            finally:
                for worker in self.workers:
                    if worker.process is not None:
                        worker.process.kill()

    def _live(self) -> None:
        for index in range(len(self.workers)):
            self.start(index)
        self.rebalance()
        if "imports" in self.plan.on:
            for _ in range(self.rng.choice((1, 4))):
                self.send([body for request in self.workload.imported(self.time) for body in request], at_home=True)
        names, weights = list(self.plan.weights), list(self.plan.weights.values())
        for _ in range(self.plan.actions):
            self.actions[self.rng.choices(names, weights)[0]]()
            self.pass_by(self.rng.randint(0, self.plan.burst))

    def _end(self) -> None:
        """No more faults: everything is taken, and nothing may differ, also after all began anew, and later."""
        self.heal()
        latest = max((body.at for body, _ in self.sent), default=0)
        self.leap(max(0, latest - self.time) + self.rng.choice((1, HOUR_US)))
        self.settle()
        shown = self.judge("healed")
        for index, worker in enumerate(self.workers):
            self._crash(worker)
            self.start(index)
        self.heal()
        self.settle()
        if self.judge("restarted") != shown:
            raise Wrong("another restart gave other figures")
        self.leap(self.rng.choice((MINUTE_US, DAY_US, 8 * DAY_US)))
        self.settle()
        self.judge("later")
        if "leaps" in self.plan.on and self.rng.random() < 0.4:
            self._age()

    def _age(self) -> None:
        """Months pass, with faults: some are heard of again and again, and whoever is not is forgotten."""
        self.troubles.on = True
        names, weights = list(self.plan.weights), list(self.plan.weights.values())
        for _ in range(AGES):
            self.leap(self.rng.choice((DAY_US, 20 * DAY_US, 40 * DAY_US, 140 * DAY_US)))
            for name in ("start", "deliver", *self.rng.choices(names, weights, k=4)):
                self.actions[name]()
                self.pass_by(self.rng.randint(0, 4 * self.plan.burst))
        self.heal()
        self.settle()
        self.judge("aged")
        self.marks["forgot"] += judge.check_forgotten(self.broker, self.topics, self.configuration, self.time)

    # --- healing --------------------------------------------------------------------------------------------------
    def heal(self) -> None:
        """Everybody is there, awake, and knows what is its own; clocks are right, and brokers answer."""
        self.miss()
        self.troubles.on = False
        self.time = max(self.time, self.latest)
        for index, worker in enumerate(self.workers):
            worker.wakes_at, worker.machine.offset_us = 0, 0
            if worker.process is None:
                self.start(index)
            worker.learn()
        self.owners = {place: self.rng.randrange(len(self.workers)) for place in self.places}
        for index in range(len(self.workers)):
            self.tell(index)
        self.note(f"healed: {self.owners}")

    def settle(self) -> None:
        """Go on, while clocks stand still, until nothing is left to do and all is stored. It must end."""
        self.clock_steps = False
        self._until_at_rest()
        for _ in range(BEATS_MAX):
            if self._at_latest_epoch():
                break
            self._beat()
        for _ in range(2):  # what waited for its time is told once more, then stored
            self._beat()
        self.clock_steps = True

    def _beat(self) -> None:
        self.flow(2 * SECOND_US)
        self._until_at_rest()

    def _at_latest_epoch(self) -> bool:
        positions = [unit.state.position for unit in self.units() if isinstance(unit, TrackUnit | TallyUnit)]
        return all(position.epoch == len(self.epochs) for position in positions)

    def _until_at_rest(self) -> None:
        for _ in range(ROUNDS_MAX):
            if not self._round():
                return
        raise Wrong(f"never at rest: {[(unit.name, unit.recovered, unit.lag) for unit in self.units()]}")

    def _round(self) -> bool:
        """Some steps of everybody; whether there was something to do."""
        busy = bool(self.broker.landing)
        self.land_all()
        for worker in self.workers:
            assert worker.process is not None
            for one in list(worker.process.running):
                for _ in range(10):
                    if not one.over:
                        self.step(worker, one)
                        busy |= one.over or one.at not in AT_REST
        return busy or any(unit.lag for unit in self.units())

    # --- judging --------------------------------------------------------------------------------------------------
    def units(self) -> list[Unit]:
        """All units of all workers, as these see it."""
        return [unit for worker in self.workers for unit in worker.units.values()]

    def _read(self) -> None:
        self.heal()
        self.settle()
        self.judge("read")
        self.troubles.on = True

    def judge(self, when: str) -> Values:
        """Everything was taken: hold it against the truth."""
        configuration = self.configuration
        if not self._at_latest_epoch():
            raise Wrong("the latest epoch is not shown")
        units = self.units()
        if sorted((unit.step, unit.number) for unit in units) != sorted(self.places):
            raise Wrong(f"units are owned by nobody or twice: {[unit.name for unit in units]}")
        for unit in units:
            if not unit.recovered or not unit.caught_up or unit.lag:
                raise Wrong(f"{unit.name} does not say that it has taken everything")
        tallies = [unit for unit in units if isinstance(unit, TallyUnit)]
        for unit in tallies:
            if unit.state.complete_until() <= self.time - BEHIND_US_MAX:
                raise Wrong(f"{unit.name} has counted everything and shows nothing")
        verdicts = [(body, body.verdict(configuration, arrived_at)) for body, arrived_at in self.sent]
        known = [body for body, reason in verdicts if not reason]
        brute_force = "brute_force" in self.plan.on
        judge.check_refused(self.broker, self.topics, ((reason, body.line) for body, reason in verdicts if reason))
        shown = judge.check_page(tallies, known, self.time, configuration, self.rng, brute_force)
        judge.check_books(self.broker, self.topics, configuration, self.time)
        self._check_stores()
        judge.check_claims(self.broker, self.topics, 2 * SKEW_US)
        self.marks[f"judged when {when}"] += 1
        sum_of = zlib.crc32(repr(sorted(shown.items())).encode())
        self.note(f"judged when {when}: {len(shown)} figures of {len(known)} events, {sum_of:08x}")
        return shown

    def _check_stores(self) -> None:
        for worker in self.workers:
            for unit in worker.units.values():
                judge.check_store(self.broker, self.topics, unit, worker.machine.tables[unit.name])

    def _glance(self) -> None:
        """Look at what each worker would show now, whoever else may own it."""
        plan = self.plan
        for worker in self.workers:
            if worker.process is None or worker.wakes_at > self.time:
                continue
            now = self._clock(worker.machine)
            for unit in list(worker.units.values()):
                if not isinstance(unit, TallyUnit) or not self._may_show(unit, now) or unit.busy.locked():
                    continue
                reading = unit.state.reading(now)
                if not plan.alone:
                    self.marks["glanced"] += 1
                    continue
                counted = judge.Counted(self.broker, self.topics, unit)
                bodies, configuration = self._told_by(counted), self.epochs[reading.epoch - 1]
                judge.check_counted(unit, reading, bodies, configuration, self.rng, plan.partitions)
                self.marks["glanced and judged"] += 1

    def _told_by(self, counted: judge.Counted) -> list[Body]:
        """The events that a unit has counted: accepted, at home, and not ahead of who took them."""
        bodies = {body.line: body for body, _ in self.sent}
        told = []
        for entry, number, now in counted.events():
            body = bodies[entry.value or b""]
            accepted = not body.verdict(self.plan.configuration, judge.arrived_at(entry))
            if accepted and body.at <= now and self.home(body.line) in (None, number):
                told.append(body)
        return told

    def _may_show(self, unit: TallyUnit, now: int) -> bool:
        """As `agents.kafka.engine` decides it."""
        proven = self.ticks / SECOND_US < unit.proven + self.plan.configuration.kafka_session_us / SECOND_US / 2
        return unit.recovered and unit.caught_up and proven and unit.state.complete_until() > now - BEHIND_US_MAX
