"""Whole worlds of workers on a model of Kafka, drawn from seeds: whoever dies, sleeps, or is replaced, and whatever
Kafka is free to do, what the workers publish together is the truth; and the simulation would notice if it were not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from aiokafka import TopicPartition
from judge import Wrong
from workers import log, worker
from workers.broker import Transaction
from workers.controls import CONTROLS
from workers.world import World

from agents.kafka.units import TallyUnit
from flowmetrics.instants import DAY_US, SECOND_US

SEEDS: Final = range(200)
CONTROL_SEEDS: Final = range(300)
HERE: Final = Path(__file__).parent
SEEDS_FILE: Final = HERE / "workers" / "seeds.txt"
KEPT: Final = [int(line.split()[0]) for line in SEEDS_FILE.read_text().splitlines() if line[:1].isdigit()]
EACH: Final = [pytest.param(seed, marks=pytest.mark.long) if seed >= 40 else seed for seed in (*SEEDS, *KEPT)]
"""The later ones are the same on every Python."""

REACHED: Final = (
    "cleaned", "clock turned back", "crashed", "cut power", "deafened", "expired", "forgot", "glanced",
    "glanced and judged", "judged when aged", "judged when healed", "judged when later", "judged when read",
    "judged when restarted", "lost a store", "new KPIs", "paused", "reconfigured", "stood by", "weekend", "woke up",
)  # fmt: skip
"""What must have happened somewhere in the worlds of `SEEDS`."""
WENT_WRONG: Final = ("answer", "batch", "fetch", "late commit", "open", "read", "rest", "seek")
"""The answers of brokers that must have been errors there."""


class Lived(NamedTuple):
    """What is kept of a world after its end: worlds are large."""

    wrong: str
    """What was found wrong; "" where nothing was."""
    marks: Counter[str]
    troubles: set[str]


@cache
def lived(seed: int) -> Lived:
    """What became of the world of a seed."""
    world, found = World(seed), ""
    try:
        world.run()
    except Wrong as wrong:
        found = f"wrong: {wrong}"
    return Lived(found, world.marks, world.troubles.seen)


def fine(seed: int) -> bool:
    """Whether nothing is found wrong in the world of a seed."""
    return not lived(seed).wrong


def found_out(seed: int, broken: str) -> bool:
    """Whether the judge finds something wrong in a world with a broken part."""
    try:
        World(seed, parts=CONTROLS[broken]).run()
    except Wrong:
        return True
    except Exception:  # noqa: BLE001 - the units may fall over the broken part: that is no verdict
        return False
    return False


@pytest.mark.parametrize("seed", EACH)
def test_after_all_faults_what_workers_publish_together_is_the_truth(seed: int) -> None:
    assert not lived(seed).wrong


@pytest.mark.long
@pytest.mark.parametrize("broken", CONTROLS)
def test_a_broken_world_of_workers_is_found_out_when(broken: str) -> None:
    assert any(found_out(seed, broken) and fine(seed) for seed in CONTROL_SEEDS)


@pytest.fixture
def world() -> Iterator[World]:
    """A world at rest, whose workers run."""
    world = World(3)
    world.heal()
    world.settle()
    yield world
    for each in world.workers:
        each.process.kill()


@pytest.mark.parametrize("hidden", ["behind an open transaction", "at a broker that does not answer"])
def test_events_that_stand_where_nobody_hears_of_them_take_the_numbers_off_every_page(
    world: World, hidden: str
) -> None:
    events = world.broker.partition(world.topics.events, 0)
    held_back = Transaction(world.time)
    if hidden == "behind an open transaction":
        events.append(None, b"not json", world.time, (), held_back)
    else:
        world.troubles.on, world.troubles.rates = True, {}
        for each in world.workers:
            each.process.log.deaf_until[TopicPartition(world.topics.events, 0)] = world.time + DAY_US
    end, arrived = events.end, world.time
    while events.end == end:
        world.actions["deliver"]()
    for _ in range(9):
        world.flow(10 * SECOND_US)
        world.settle()
    assert max(unit.state.complete_until() for unit in tallies(world)) <= arrived
    if hidden == "behind an open transaction":
        held_back.committed = False
        events.land(held_back, world.time)
    world.troubles.on = False
    world.settle()
    assert min(unit.state.complete_until() for unit in tallies(world)) > world.time - 10 * SECOND_US


def tallies(world: World) -> list[TallyUnit]:
    """The units that show something."""
    return [unit for unit in world.units() if isinstance(unit, TallyUnit)]


def test_the_same_seed_gives_the_same_world_of_workers_in_every_process() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-m", "tests.simulation.run", "12", "--kafka", "--trace", "--jobs", "1"],
            cwd=HERE.parents[1],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=False,
        ).stdout.rpartition(b" failures")[0]
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert told.pop().count(b"judged when later") == 12


@pytest.mark.long
def test_a_crash_or_a_pause_was_aimed_at_every_place_where_a_unit_waits() -> None:
    named = {name for module in (log, worker) for name in re.findall(r'pause\("([a-z ]+)"\)', text_of(module))}
    marks = sum((lived(seed).marks for seed in (*SEEDS, *KEPT)), Counter[str]())
    assert len(named) > 10
    assert not {name for name in named if not marks[f"struck at {name}"]}


@pytest.mark.long
def test_every_class_of_events_in_the_life_of_workers_was_reached() -> None:
    marks = sum((lived(seed).marks for seed in (*SEEDS, *KEPT)), Counter[str]())
    went_wrong = set().union(*(lived(seed).troubles for seed in (*SEEDS, *KEPT)))
    assert not set(REACHED) - marks.keys()
    assert not set(WENT_WRONG) - went_wrong


def text_of(module: object) -> str:
    """The text of a module of the simulator."""
    return Path(str(getattr(module, "__file__"))).read_text()  # noqa: B009 - modules are objects to the type checker
