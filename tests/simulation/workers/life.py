"""What can happen in a world of workers: what producers, the group, operators and misfortune do, one action at a time,
and the units that live on between any two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from aiokafka import TopicPartition
from plan import differences
from workload import T0, Body, Workload

from agents.kafka.store import take
from agents.kafka.topics import Topics
from flowmetrics.configuration import Configuration
from flowmetrics.errors import Rejection
from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US, SECOND_US, instant_text
from flowmetrics.routing import partition_of
from flowmetrics.source import FAR_FUTURE
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.steps.track import key_of
from workers.broker import TIMEOUT_US, Broker
from workers.log import Troubles
from workers.plan import Plan, read_otherwise
from workers.worker import Machine, Parts, Place, Running, Worker, Yard

SKEW_US: Final = 30 * SECOND_US
"""So far a clock is off at most."""
STEP_US: Final = (0, 0, 1000, 10_000, 50_000)
"""How long a step may take."""


class Life:
    """The time, the broker, the workers and who owns what. `marks` count, `trace` tells what happened."""

    def __init__(self, rng: Random, plan: Plan, parts: Parts) -> None:
        self.rng = rng
        self.plan = plan
        self.time = T0 + rng.choice((0, 1, SECOND_US, HOUR_US))
        self.clock_steps = True
        """Whether time passes on clocks, and not only for those who measure how long something takes."""
        self.ticks = self.time
        self.latest = self.time
        """The latest instant that any clock ever showed."""
        self.topics = Topics("f", plan.partitions)
        self.broker = Broker(lambda: self.time, parts.fencing)
        self.troubles = Troubles(rng, plan.rates)
        self.workload = Workload(rng, plan.on, plan.configuration)
        self.sent: list[tuple[Body, int]] = []
        """What producers appended, and when it arrived."""
        self.workers = [Worker(Machine()) for _ in range(plan.workers)]
        self.owners: dict[Place, int] = {}
        self.untold: set[int] = set()
        """Workers that do not know yet what is their own now."""
        self.marks: Counter[str] = Counter()
        self.trace: list[str] = []
        self._parts = parts
        self.epochs = [plan.configuration]
        """The configurations that were told, the latest last."""
        self._yard = Yard(self.topics, self.epochs, self.broker, rng, self.troubles, parts)
        self._source = CloudEvents(plan.configuration.surveys)
        self._aim: tuple[str, Callable[[Worker], None]] | None = None
        self.actions: Mapping[str, Callable[[], None]] = {
            "deliver": self._deliver,
            "live": lambda: self.pass_by(rng.randint(0, 4 * plan.burst)),
            "start": self._start,
            "tell": self._tell,
            "wake": self._wake,
            "advance": self._advance,
            "crash": lambda: self._strike(self._crash),
            "pause": lambda: self._strike(self._pause),
            "rebalance": self.rebalance,
            "clean": self._clean,
            "skew": self._skew,
            "turn_back": self._turn_back,
            "stand_by": self._stand_by,
            "deafen": self._deafen,
            "weekend": self._weekend,
            "reconfigure": self._reconfigure,
            "learn": self._learn,
        }

    @property
    def places(self) -> list[Place]:
        """Every unit."""
        return [(step, number) for step in ("track", "tally") for number in range(self.plan.partitions)]

    def note(self, what: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{instant_text(self.time)} {what}")

    # --- time -----------------------------------------------------------------------------------------------------
    def pass_by(self, steps: int) -> None:
        """Let workers and broker go on, in any order."""
        rng = self.rng
        for _ in range(steps):
            self.flow(rng.choice(STEP_US))
            if self.broker.landing and rng.random() < self.plan.landing:
                self.broker.land(rng.randrange(len(self.broker.landing)))
            awake = [worker for worker in self.workers if worker.process and worker.wakes_at <= self.time]
            several = [(worker, one) for worker in awake for one in worker.process.running]
            if several:
                self.step(*several[rng.randrange(len(several))])

    def step(self, worker: Worker, one: Running) -> None:
        """One step of one unit, and what is aimed at the pause in which it then is."""
        process = worker.process
        assert process is not None
        one.step()
        self.marks[f"reached {one.at}"] += 1
        if one.over:
            process.tidy()
        if self._aim is not None and self._aim[0] == one.at and not one.over:
            (where, strike), self._aim = self._aim, None
            self.marks[f"struck at {where}"] += 1
            strike(worker)

    def flow(self, us: int) -> None:
        """Time passes."""
        self.ticks += us
        if self.clock_steps:
            self.time += us

    def leap(self, us: int) -> None:
        """Much time passes for workers that stand still; the broker ends what has been open for too long."""
        soon = min(us, 2 * TIMEOUT_US)
        self.flow(soon)
        self.marks["expired"] += self.broker.expire()
        if us > soon:
            self.land_all()
            self.flow(us - soon)

    def land_all(self) -> None:
        """All that was decided lands."""
        while self.broker.landing:
            self.broker.land(self.rng.randrange(len(self.broker.landing)))

    def _clock(self, machine: Machine) -> int:
        now = self.time + machine.offset_us
        self.latest = max(self.latest, now)
        return now

    def _advance(self) -> None:
        rng, width_us = self.rng, self.configuration.resolution_us
        days = rng.choice((1, 2, 2, 8, 20)) if "leaps" in self.plan.on else 0
        leap = rng.choice((SECOND_US, SECOND_US, 30 * SECOND_US, MINUTE_US, width_us, HOUR_US, days * DAY_US))
        self.leap(leap)
        self.note(f"advanced {leap / SECOND_US:g} s")

    def _skew(self) -> None:
        machine = self.rng.choice(self.workers).machine
        machine.offset_us = self.rng.randint(-SKEW_US, SKEW_US)

    def _turn_back(self) -> None:
        machine = self.rng.choice(self.workers).machine
        machine.offset_us -= self.rng.choice((1, SECOND_US, 5 * MINUTE_US, HOUR_US))
        self.marks["clock turned back"] += 1

    # --- producers ------------------------------------------------------------------------------------------------
    def _deliver(self) -> None:
        self.send([body for request in self.workload.requests(self.time) for body in request])

    def send(self, bodies: list[Body], *, at_home: bool = False) -> None:
        """Append events, mostly where they belong."""
        arrived = self.time // 1000 * 1000
        for body in bodies:
            number = self._partition_of(body, at_home)
            self.broker.partition(self.topics.events, number).append(None, body.line, self.time)
            self.sent.append((body, arrived))
        self.note(f"sent {len(bodies)}, {len(self.sent)} in all")

    def home(self, line: bytes) -> int | None:
        """The partition where an event belongs; None when it belongs anywhere."""
        timed = self._source.read(line, FAR_FUTURE)
        key = "" if isinstance(timed, Rejection) else key_of(timed[1])
        return partition_of(key.encode(), self.plan.partitions) if key else None

    def _partition_of(self, body: Body, at_home: bool) -> int:
        home = self.home(body.line)
        if home is None or (not at_home and "misplaced" in self.plan.on and self.rng.random() < 0.3):
            return self.rng.randrange(self.plan.partitions)
        return home

    # --- the group ------------------------------------------------------------------------------------------------
    def rebalance(self) -> None:
        """The group gives every unit to some worker that it takes for alive; who was told, and when, is another
        matter."""
        alive = [index for index, worker in enumerate(self.workers) if worker.process] or [0]
        self.owners = {place: self.rng.choice(alive) for place in self.places}
        self.untold = set(alive)
        if "late_notices" not in self.plan.on:
            self._tell_all()
        self.note(f"rebalanced: {self.owners}")

    def _tell(self) -> None:
        awake = sorted(index for index in self.untold if self.workers[index].wakes_at <= self.time)
        if awake:
            self.tell(self.rng.choice(awake))

    def _tell_all(self) -> None:
        for index in sorted(self.untold):
            if self.workers[index].wakes_at <= self.time:
                self.tell(index)

    def tell(self, index: int) -> None:
        """A worker hears what is its own now."""
        self.untold.discard(index)
        process = self.workers[index].process
        if process is not None:
            process.told(place for place, owner in self.owners.items() if owner == index)

    def _start(self) -> None:
        dead = [index for index, worker in enumerate(self.workers) if worker.process is None]
        if dead:
            self.start(self.rng.choice(dead))
            self.rebalance()

    def start(self, index: int) -> None:
        """A worker process begins."""
        worker = self.workers[index]
        machine = worker.machine
        worker.process = self._yard.process(machine, lambda: self._clock(machine), lambda: self.ticks / SECOND_US)
        worker.wakes_at = 0
        self.untold.add(index)
        self.marks["started"] += 1
        self.note(f"worker {index} started")

    # --- operators ------------------------------------------------------------------------------------------------
    @property
    def configuration(self) -> Configuration:
        """The one that is shown in the end."""
        return self.epochs[-1]

    def _reconfigure(self) -> None:
        """Somebody brings another configuration, or goes back to the first one."""
        new = self.epochs[0] if self.rng.random() < 0.3 else read_otherwise(self.rng, self.configuration)
        if new != self.configuration:
            self.marks["reconfigured"] += 1
            self.marks["new KPIs"] += len(new.kpis) < len(self.configuration.kpis)
            self.note(f"reconfigured: {differences(self.configuration, new)}")
            self.epochs.append(new)
            self._learn()

    def _learn(self) -> None:
        self.rng.choice(self.workers).learn()

    # --- misfortune -----------------------------------------------------------------------------------------------
    def _strike(self, strike: Callable[[Worker], None]) -> None:
        """Now, or when somebody comes to a certain pause: those that are rare would seldom be hit else."""
        if self.rng.random() < self.plan.aimed:
            names = sorted(name[8:] for name in self.marks if name.startswith("reached "))
            if names:
                weights = [1 / self.marks[f"reached {name}"] for name in names]
                self._aim = (self.rng.choices(names, weights)[0], strike)
        else:
            awake = [worker for worker in self.workers if worker.process and worker.wakes_at <= self.time]
            if awake:
                strike(self.rng.choice(awake))

    def miss(self) -> None:
        """Nothing is aimed at any more."""
        self._aim = None

    def _crash(self, worker: Worker) -> None:
        assert worker.process is not None
        worker.process.kill()
        worker.process = None
        for name, table in worker.machine.tables.items():
            table.held = False
            if "lost_stores" in self.plan.on and self.rng.random() < 0.2:
                worker.machine.tables[name] = type(table)()
                self.marks["lost a store"] += 1
            elif "power_cuts" in self.plan.on and self.rng.random() < 0.3:
                table.cut_power(self.rng)
                self.marks["cut power"] += 1
        self.marks["crashed"] += 1
        self.note(f"worker {self.workers.index(worker)} crashed")

    def _pause(self, worker: Worker) -> None:
        worker.wakes_at = self.time + self.rng.choice((SECOND_US, 20 * SECOND_US, 5 * MINUTE_US, HOUR_US))
        self.marks["paused"] += 1
        self.note(f"worker {self.workers.index(worker)} stands still")
        if self.rng.random() < 0.6:
            self._give_away(worker)

    def _give_away(self, worker: Worker) -> None:
        """The group misses a worker; it hears of that when it wakes up, or later."""
        index = self.workers.index(worker)
        others = [other for other, one in enumerate(self.workers) if one.process and other != index]
        if others:
            for place, owner in self.owners.items():
                if owner == index:
                    self.owners[place] = self.rng.choice(others)
            self.untold |= {*others, index}
            for other in others:
                if self.workers[other].wakes_at <= self.time:
                    self.tell(other)

    def _wake(self) -> None:
        for worker in self.workers:
            if worker.wakes_at > self.time and self.rng.random() < 0.5:
                worker.wakes_at = 0
                self.marks["woke up"] += 1

    def _deafen(self) -> None:
        """The broker of a partition does not answer one of the workers for a while."""
        step, number = self.rng.choice(self.places)
        for process in [worker.process for worker in self.workers if worker.process and self.rng.random() < 0.5]:
            for topic in (self.topics.events, self.topics.links) if step == "track" else (self.topics.changes,):
                until = self.time + self.rng.choice((SECOND_US, 5 * MINUTE_US, HOUR_US))
                process.log.deaf_until[TopicPartition(topic, number)] = until
                self.marks["deafened"] += 1

    def _weekend(self) -> None:
        """A machine is off for days, with its stores, while the others go on and changelogs are compacted."""
        alive = [worker for worker in self.workers if worker.process]
        if len(alive) < 2:
            return
        self._crash(self.rng.choice(alive))
        self.rebalance()
        self._tell_all()
        for _ in range(3):
            self._deliver()
            self.pass_by(500)
            self._clean()
            self.leap(self.rng.choice((DAY_US // 2, DAY_US)))
        self._start()
        self._tell_all()
        self.marks["weekend"] += 1

    # --- behind the scenes ----------------------------------------------------------------------------------------
    def _clean(self) -> None:
        """The broker compacts some changelogs, each as far as it likes."""
        gone = 0
        for step, number in self.places:
            partition = self.broker.partition(self.topics.changelog(step), number)
            if self.rng.random() < 0.7:
                gone += partition.clean(self.rng.choice((partition.end, self.rng.randint(0, partition.end))), self.time)
        self.marks["cleaned"] += gone > 0
        self.note(f"cleaned {gone}")

    def _stand_by(self) -> None:
        """A worker brings the store of a unit that it does not own up to some place, as a standby does."""
        step, number = self.rng.choice(self.places)
        worker = self.rng.choice(self.workers)
        table = worker.machine.tables[f"{step}-{number}"]
        if worker.process is None or table.held or (step, number) in worker.units:
            return
        store = self._parts.store(table, lambda: self._clock(worker.machine))
        source = self.broker.partition(self.topics.changelog(step), number)
        entries = list(source.committed(store.filled))
        some = entries[: self.rng.randint(0, len(entries))]
        if some:
            take(store, some)  # type: ignore[arg-type]
            self.marks["stood by"] += 1
        store.close()
