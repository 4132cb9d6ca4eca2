"""What a seed draws before anything happens: the plan of the local simulator for configuration and producers, and for
the workers how many there are, which faults occur, and how often. Swarm style, as there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import plan as local

from flowmetrics.configuration import Configuration

FAULTS: Final = (
    "crashes", "power_cuts", "lost_stores", "pauses", "rebalances", "late_notices", "deaf", "cleanings", "skew",
    "clock_back", "misplaced", "standbys", "leaps", "errors", "lost_answers", "failed_batches", "slow_markers",
    "weekends",
)  # fmt: skip

RARE: Final = {"weekends": 0.2}
"""How likely a fault occurs, where it is not the usual 0.7."""
FEW_KPIS: Final = ("flow_*", "active_users", "nps")
"""All others are new where the first configuration comes back."""
ACTIONS_MIN: Final = 20
ACTIONS_MAX: Final = 160

CLASSES: Final = (*local.EVENTS, *local.HABITS, "tight_labels", "brute_force", "rebuilds", *FAULTS)
_ELSEWHERE: Final = frozenset(local.CLASSES) - set(CLASSES)
"""What only the local runtime has."""


@dataclass(frozen=True)
class Plan:
    """One world, drawn. `aimed` is how likely a fault waits for a certain pause instead of striking at once."""

    configuration: Configuration
    on: frozenset[str]
    weights: Mapping[str, int]
    rates: Mapping[str, float]
    workers: int
    actions: int
    burst: int
    landing: float
    aimed: float
    batch_max: int
    slice_max: int

    @property
    def partitions(self) -> int:
        """Of every topic."""
        return self.configuration.topics_partitions

    @property
    def alone(self) -> bool:
        """Whether no history is read together with one that may live in another partition."""
        return self.partitions == 1 or not self.on & {"links", "duplicates"}

    def __str__(self) -> str:
        off = sorted(set(CLASSES) - self.on)
        return (
            f"{self.workers} workers, {self.actions} actions {self.weights}, rates {self.rates}, bursts {self.burst}, "
            f"landing {self.landing}, aimed {self.aimed}, batches {self.batch_max}, slices {self.slice_max}, "
            f"without {off}, {self.configuration}"
        )


def draw_plan(rng: Random, without: Collection[str] = ()) -> Plan:
    """Draw everything that is decided beforehand; the classes in `without` are off."""
    base = local.draw_plan(rng, {*_ELSEWHERE, *without})
    on = base.on | ({name for name in FAULTS if rng.random() < RARE.get(name, 0.7)} - set(without))
    return Plan(
        configuration=replace(base.configuration, topics_partitions=rng.choice((1, 2, 2, 3, 4))),
        on=on,
        weights={name: rng.choice((1, 1, 2, 3, 8)) * often for name, often in _often(on).items()},
        rates=_rates(rng, on),
        workers=rng.choice((2, 2, 3)),
        actions=rng.randint(ACTIONS_MIN, ACTIONS_MAX),
        burst=rng.choice((10, 40, 40, 150)),
        landing=rng.choice((0.02, 0.1)) if "slow_markers" in on else rng.choice((0.3, 1.0)),
        aimed=rng.choice((0.2, 0.8)),
        batch_max=rng.choice((1, 4, 10_000)),
        slice_max=rng.choice((1, 3, 2000)),
    )


def read_otherwise(rng: Random, configuration: Configuration) -> Configuration:
    """As on one machine; other KPIs come with other windows, so that the kept seeds draw the worlds that they drew."""
    new = local.read_otherwise(rng, configuration)
    return new if new.windows_us == configuration.windows_us else replace(new, kpis=FEW_KPIS)


def _often(on: frozenset[str]) -> dict[str, int]:
    """The actions that may happen, and how often each does before the weights."""
    optional = {
        "crash": ("crashes", 3),
        "pause": ("pauses", 3),
        "rebalance": ("rebalances", 3),
        "clean": ("cleanings", 3),
        "skew": ("skew", 1),
        "turn_back": ("clock_back", 1),
        "stand_by": ("standbys", 2),
        "deafen": ("deaf", 1),
        "weekend": ("weekends", 1),
        "reconfigure": ("rebuilds", 2),
    }
    always = {
        "learn": 1,
        "deliver": 8,
        "live": 6,
        "start": 3,
        "tell": 3,
        "wake": 2,
        "advance": 3,
        "glance": 5,
        "read": 1,
    }
    return always | {action: often for action, (name, often) in optional.items() if name in on}


def _rates(rng: Random, on: frozenset[str]) -> Mapping[str, float]:
    """How likely each answer of a broker is an error."""
    error = rng.choice((0.01, 0.1)) if "errors" in on else 0.0
    return {
        "open": error,
        "rest": error / 2,
        "read": error / 4,
        "seek": error / 4,
        "fetch": error / 10,
        "nothing": rng.choice((0.0, 0.1, 0.4)),
        "batch": rng.choice((0.005, 0.03)) if "failed_batches" in on else 0.0,
        "answer": rng.choice((0.02, 0.1)) if "lost_answers" in on else 0.0,
    }
