"""Run many worlds: `python -m tests.simulation.run SEEDS [--kafka] [--first N] [--trace] [--jobs N]`.

Of the local runtime, or with --kafka of workers over a model of Kafka. One line for each seed that fails, which replays
it; the last line is the figure.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from os import cpu_count
from pathlib import Path
from typing import Final

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from judge import Wrong  # noqa: E402
from workers.world import World as Workers  # noqa: E402
from world import World  # noqa: E402

KINDS: Final[Mapping[str, Callable[[int, frozenset[str]], World | Workers]]] = {
    "": World,
    "--kafka": Workers,
}


def verdict(seed: int, kind: str, without: frozenset[str] = frozenset(), trace: bool = False) -> tuple[int, str]:
    """The seed and what is wrong in its world, or nothing; the trace goes to standard output."""
    world = KINDS[kind](seed, without)
    try:
        world.run()
        wrong = ""
    except Exception as error:  # noqa: BLE001 - whatever ends a world is its verdict
        wrong = str(error) if isinstance(error, Wrong) else f"{type(error).__name__}: {error}"
    if trace:
        sys.stdout.write("\n".join([str(world.plan), *world.trace, ""]))
    return seed, wrong


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description=__doc__)
    parser.add_argument("seeds", type=int, help="how many worlds")
    parser.add_argument("--kafka", action="store_true", help="workers on Kafka instead of the local runtime")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--without", default="", help="classes of actions that are off in every world")
    parser.add_argument("--trace", action="store_true", help="tell what happens")
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="worlds at one time")
    told = parser.parse_args()
    without = frozenset(filter(None, told.without.split(",")))
    began, failures = time.monotonic(), 0
    kind = "--kafka" * told.kafka
    more = f"{kind and ' '}{kind}{f' --without {told.without}' if without else ''}"
    with ProcessPoolExecutor(told.jobs) as pool:
        check = partial(verdict, kind=kind, without=without, trace=told.trace)
        for seed, wrong in pool.map(check, range(told.first, told.first + told.seeds), chunksize=8):
            if wrong:
                failures += 1
                replay = f"python -m tests.simulation.run 1 --first {seed}{more} --trace"
                sys.stdout.write(f"seed {seed}: {wrong} — {replay}\n")
                sys.stdout.flush()
    seconds = time.monotonic() - began
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = sum(each.ru_utime + each.ru_stime for each in used)
    sys.stdout.write(f"{told.seeds} seeds, {failures} failures, {seconds:.1f} s, {cpu:.1f} s of CPU\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
