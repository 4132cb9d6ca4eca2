"""The engine as a value: its steps, what each reads, gives and keeps. Runtimes and the driver interpret it.

    events ──▶ track ──▶ changes ──▶ tally ──▶ read ──▶ page
                 │                     │
         histories, held, series    segments, shown

>>> [step.name for step in STEPS if EVENTS in step.reads]
['track']
>>> [store.name for store in made_anew(Change.READ)]
['changes', 'segments', 'shown']
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, NamedTuple

from flowmetrics.configuration import Configuration
from flowmetrics.kpis import selected
from flowmetrics.steps.read import Read
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.tally import Tally
from flowmetrics.steps.track import Track


class Change(enum.Enum):
    """After which change of the configuration something is made anew."""

    READ = "read"
    """For a new epoch, from the histories: what they mean has changed."""
    WRITE = "write"
    """From the log: what is remembered has changed."""
    NEVER = "never"
    """It is what was told."""


@dataclass(frozen=True)
class Store:
    """Records that are kept: streams in order, states by key. `key` is by what they are found and partitioned."""

    name: str
    key: str
    anew: Change


EVENTS: Final = Store("log", "entity", Change.NEVER)
HISTORIES: Final = Store("histories", "entity", Change.WRITE)
HELD: Final = Store("held", "entity", Change.WRITE)
SERIES: Final = Store("series", "series", Change.WRITE)
CHANGES: Final = Store("changes", "value stream", Change.READ)
SEGMENTS: Final = Store("segments", "value stream and day", Change.READ)
SHOWN: Final = Store("shown", "series", Change.READ)


@dataclass(frozen=True)
class Step:
    """A pure function of state and batch: the streams it reads and gives, and the states it keeps."""

    name: str
    reads: tuple[Store, ...]
    gives: tuple[Store, ...] = ()
    keeps: tuple[Store, ...] = ()


STEPS: Final = (
    Step("track", (EVENTS,), (CHANGES,), (HISTORIES, HELD, SERIES)),
    Step("tally", (CHANGES,), (), (SEGMENTS, SHOWN)),
)


def made_anew(change: Change) -> tuple[Store, ...]:
    """What a change of the configuration makes anew; one of writing also what is made by reading."""
    levels = (Change.READ,) if change is Change.READ else (Change.READ, Change.WRITE)
    return tuple(store for step in STEPS for store in (*step.keeps, *step.gives) if store.anew in levels)


class Steps(NamedTuple):
    """The steps of one partition, ready to be driven."""

    track: Track
    tally: Tally
    read: Read


def assemble(configuration: Configuration, table: SeriesTable, now: int) -> Steps:
    """The steps of an engine with one partition, over a table of series; windows end at `now` at first."""
    kpis = selected(configuration)
    return Steps(Track(configuration, kpis, table), Tally(configuration, kpis, table, now), Read(configuration, kpis))
