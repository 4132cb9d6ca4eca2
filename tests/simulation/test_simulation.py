"""Whole worlds, drawn from seeds: whatever dies and whenever, what is published is the truth; and the simulation would
notice if it were not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from controls import CONTROLS
from judge import Wrong
from process import Parts
from world import World

from agents.local import journal, runner

SEEDS: Final = range(100)
HERE: Final = Path(__file__).parent
KEPT: Final = [int(line.split()[0]) for line in (HERE / "seeds.txt").read_text().splitlines() if line[:1].isdigit()]
EACH: Final = [pytest.param(seed, marks=pytest.mark.long) if seed >= 20 else seed for seed in (*SEEDS, *KEPT)]
"""The later ones are the same on every Python."""

REACHED: Final = (
    "clock turned back", "death at between", "death by close", "death by kill", "death by power", "erased",
    "erased what was refused", "forgot",
    "an epoch was published", "another configuration came while an epoch was built", "judged while an epoch was built",
    "judged when healed", "judged when later", "judged when read", "judged when restarted", "new configuration refused",
    "read_otherwise", "sent again", "store_otherwise", "took what was held", "trimmed",
)  # fmt: skip
"""What must have happened somewhere in the worlds of `SEEDS`."""


class Lived(NamedTuple):
    """What is kept of a world after its end: worlds are large."""

    wrong: str
    """What was found wrong; "" where nothing was."""
    marks: Counter[str]
    crashes: Counter[str]


@cache
def lived(seed: int) -> Lived:
    """What became of the world of a seed."""
    world, found = World(seed), ""
    try:
        world.run()
    except Wrong as wrong:
        found = f"wrong: {wrong}"
    return Lived(found, world.marks, world.faults.crashes)


def passes(seed: int, parts: Parts) -> bool:
    """Whether nothing is found wrong in a world whose engine is made of these parts."""
    try:
        World(seed, parts=parts).run()
    except (Wrong, AssertionError):
        return False
    return True


@pytest.mark.parametrize("seed", EACH)
def test_after_all_faults_everything_published_is_the_truth(seed: int) -> None:
    assert not lived(seed).wrong


@pytest.mark.long
@pytest.mark.parametrize("broken", CONTROLS)
def test_a_broken_engine_is_found_out_when(broken: str) -> None:
    assert any(passes(seed, Parts()) and not passes(seed, CONTROLS[broken]) for seed in SEEDS)


def test_the_same_seed_gives_the_same_world_in_every_process() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-m", "tests.simulation.run", "6", "--trace", "--jobs", "1"],
            cwd=HERE.parents[1],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=False,
        ).stdout.rpartition(b" failures")[0]
        for seed in ("1", "2")
    }
    assert len(told) == 1


@pytest.mark.long
def test_the_process_died_before_every_kind_of_write() -> None:
    named = set(re.findall(r'(?:_fault|_write|self\.write)\((?:self\._log, )?"([a-z ]+)"', source(journal)))
    named |= set(re.findall(r'\.meta\("([a-z ]+)", ', source(runner)))
    crashes = sum((lived(seed).crashes for seed in (*SEEDS, *KEPT)), Counter[str]())
    assert len(named) > 10
    assert not named - crashes.keys()


@pytest.mark.long
def test_every_class_of_events_in_the_life_of_an_engine_was_reached() -> None:
    marks = sum((lived(seed).marks for seed in SEEDS), Counter[str]())
    assert not set(REACHED) - marks.keys()


def source(module: object) -> str:
    """The text of a module of the product."""
    return Path(str(getattr(module, "__file__"))).read_text()  # noqa: B009 - modules are objects to the type checker
