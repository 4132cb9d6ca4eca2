"""What a seed draws before anything happens: the configuration, which classes of actions occur, and how often.

Swarm style: most worlds have some classes switched off as a whole and the others weighted wildly, so that rare corners
get whole worlds to themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Final

from flowmetrics.configuration import DEFAULT_SURVEYS, Configuration, Survey, TimeToValue, ValueStream
from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US, SECOND_US

EVENTS: Final = ("items", "requests", "activity", "customers", "answers", "others")
"""Classes of events."""

HABITS: Final = (
    "links",
    "duplicates",
    "erasures",
    "late",
    "ahead",
    "edges",
    "imports",
    "repeats",
    "conflicts",
    "refused",
)
"""What producers do besides."""

ENGINE: Final = (
    "crashes", "kills", "power_cuts", "stores", "glances", "forgets", "trims", "pardons", "resends", "rebuilds",
    "rewrites", "long", "clock_back", "tight_labels", "brute_force",
)  # fmt: skip
"""What happens to the engine, and whether brute force judges it too."""

CLASSES: Final = (*EVENTS, *HABITS, *ENGINE)
RARE: Final = {
    "brute_force": 1.0,
    "crashes": 0.95,
    "long": 0.3,
    "rewrites": 0.3,
    "tight_labels": 0.15,
}
"""How likely a class is on, where it is not the usual 0.7."""

ACTIONS_MIN: Final = 15
ACTIONS_MAX: Final = 80

_STATES: Final[Mapping[str, tuple[str, ...]]] = {
    "new": ("Backlog",),
    "waiting": ("Ready",),
    "active": ("Doing", "Done twice"),
    "done": ("Done", "Closed"),
    "cancelled": ("Cancelled",),
    "ignore": ("Later",),
    "note": ("Comment*",),
}
_RULES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "f": {"segment": ("p",)},
    "h": {"plan": ("x", "y"), "segment": ("p", "q")},
}


@dataclass(frozen=True)
class Plan:
    """One world, drawn: `on` are the classes that occur, `crash` is how likely an action is to be cut short."""

    configuration: Configuration
    on: frozenset[str]
    weights: Mapping[str, int]
    crash: float
    batch_max: int
    sweep_max: int
    actions: int

    def __str__(self) -> str:
        off = sorted(set(CLASSES) - self.on)
        return f"{self.actions} actions {self.weights}, crash {self.crash}, without {off}, {self.configuration}"


def draw_plan(rng: Random, without: Collection[str] = ()) -> Plan:
    """Draw everything that is decided beforehand; the classes in `without` are off."""
    drawn = {name for name in CLASSES if rng.random() < RARE.get(name, 0.7)}
    if not drawn & set(EVENTS):
        drawn.add(rng.choice(EVENTS))
    on = frozenset(drawn - set(without))
    return Plan(
        configuration=_configuration(rng, on),
        on=on,
        weights={name: rng.choice((1, 1, 2, 3, 8)) * often for name, often in _often(on).items()},
        crash=rng.choice((0.05, 0.2, 0.5)) if "crashes" in on else 0.0,
        batch_max=rng.choice((1, 4, 4, 10_000)),
        sweep_max=rng.choice((1, 2, 5, 1000)),
        actions=rng.randint(ACTIONS_MIN, ACTIONS_MAX),
    )


def _often(on: frozenset[str]) -> dict[str, int]:
    """The actions that may happen, and how often each does before the weights."""
    optional = {
        "store": ("stores", 2),
        "glance": ("glances", 2),
        "forget": ("forgets", 2),
        "trim": ("trims", 1),
        "pardon": ("pardons", 1),
        "rebuild": ("rebuilds", 2),
        "rewrite": ("rewrites", 1),
        "turn_back": ("clock_back", 1),
    }
    always = {"build": 4, "deliver": 5, "step": 4, "advance": 3, "midnight": 1, "read": 1, "restart": 1}
    return always | {action: often for action, (name, often) in optional.items() if name in on}


def _configuration(rng: Random, on: frozenset[str]) -> Configuration:
    windows_us = rng.choice(((HOUR_US, DAY_US), (15 * MINUTE_US, 2 * DAY_US), (DAY_US, 7 * DAY_US, 30 * DAY_US)))
    return Configuration(
        windows_us=windows_us,
        horizon_us=rng.choice((31, 31, 45)) * DAY_US,
        resolution_us=rng.choice((SECOND_US, MINUTE_US, 5 * MINUTE_US, 5 * MINUTE_US, 15 * MINUTE_US)),
        timezone=rng.choice(("UTC", "Asia/Seoul", "America/Sao_Paulo", "Asia/Kathmandu")),
        value_streams=_streams(rng),
        eligible=rng.choice(({}, _RULES)),
        time_to_value=TimeToValue(within_us=rng.choice(((7 * DAY_US, 30 * DAY_US), (HOUR_US,), (DAY_US,)))),
        labels_max=rng.choice((1, 2, 3)) if "tight_labels" in on else 2000,
        log_retention_us=rng.choice((HOUR_US, DAY_US, 400 * DAY_US)) if "trims" in on else 4000 * DAY_US,
        hot_entities_max=rng.choice((1, 2, 4, 8, 1000)),
    )


def _streams(rng: Random) -> tuple[tuple[str, ValueStream], ...]:
    here, there = (
        ValueStream(
            states=states,
            start=rng.choice(("first_committed", "created")),
            reopen_gap=rng.choice(("exclude", "include")),
        )
        for states in (_STATES, ValueStream().states)
    )
    return ((rng.choice(("team1", "team*")), here), ("*", there))


def read_otherwise(rng: Random, configuration: Configuration) -> Configuration:
    """The configuration with another way to read what is stored."""
    five_minutes = configuration.resolution_us % (5 * MINUTE_US) == 0
    return replace(
        configuration,
        **rng.choice(
            (
                {"value_streams": _streams(rng)},
                {"value_streams": _streams(rng), "timezone": "Asia/Tokyo"},
                {"timezone": rng.choice(("UTC", "Asia/Tokyo", "America/Havana"))},
                {"windows_us": (15 * MINUTE_US, DAY_US)},
                {"percentiles": (1, 50, 100)},
                {"eligible": {"g": {"plan": ("x",)}}},
                {"time_to_value": TimeToValue("onboarded", "value_reached", (DAY_US,))},
                {"resolution_us": 15 * MINUTE_US if five_minutes else configuration.resolution_us},
            )
        ),
    )


def store_otherwise(rng: Random, configuration: Configuration) -> Configuration:
    """The configuration with another shape of what is stored."""
    more = configuration.horizon_us + rng.choice((DAY_US, 10 * DAY_US))
    return replace(
        configuration,
        **rng.choice(
            (
                {"horizon_us": more},
                {"surveys": {**DEFAULT_SURVEYS, "csat": Survey(0, 4, top=2)}},
                {"surveys": {**DEFAULT_SURVEYS, "smile": Survey(1, 5, top=1)}},
                {"resolution_us": rng.choice((SECOND_US, 5 * MINUTE_US))},
            )
        ),
    )


def differences(old: Configuration, new: Configuration) -> str:
    """The names of what is not the same in two configurations."""
    return ", ".join(field.name for field in fields(old) if getattr(old, field.name) != getattr(new, field.name))
