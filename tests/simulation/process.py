"""The engine as a process that can die between any two writes: the real intake, runner and journal over one directory.

kill     the files as they are at that write, without what was not committed: as after SIGKILL
close    the same, but the connections are closed in order, as when an exception ends the process
power    the files as they were after some commit since the last durable append: as after a power cut, because
         checkpoints need not have reached the disk
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

from agents.local.intake import Intake
from agents.local.journal import FILE, Fault, Journal
from agents.local.runner import Runner
from agents.receipts import Receipt
from flowmetrics.configuration import Configuration
from flowmetrics.sources.cloudevents import CloudEvents

Files: TypeAlias = dict[str, bytes]

TZDATA: Final = "2025.1"
"""The version of the time zone database, as the engine is told."""

STORED: Final = (FILE, f"{FILE}-wal")
"""What a dead process leaves; the shared memory file is made anew from them."""


class Died(BaseException):
    """The process is no more. Not an Exception, so that nobody in the product takes it for an error to handle."""


class Faults:
    """Lets the process die before the write at which it is aimed. `writes` counts all, `crashes` the deadly ones."""

    def __init__(self) -> None:
        self.writes: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        self.at_death: Callable[[], None] = lambda: None
        self._left = 0
        self._name = ""

    @property
    def aimed(self) -> bool:
        """Whether a death is still to come."""
        return self._left > 0

    def aim(self, left: int, name: str = "") -> None:
        """Die before the `left`-th write from now, counted over those of that name, or over all."""
        self._left, self._name = left, name

    def __call__(self, write: str) -> None:
        self.writes[write] += 1
        if self._left and self._name in ("", write):
            self._left -= 1
            if not self._left:
                self.crashes[write] += 1
                self.at_death()
                raise Died(write)


@dataclass(frozen=True)
class Parts:
    """What the process is made of; a negative control puts in a broken part."""

    journal: Callable[[Path, Fault], Journal] = Journal
    runner: Callable[[Configuration, Journal, str, int], Runner] = Runner


class Desk(Intake):
    """The intake without its thread: what was queued is judged and written at once."""

    def serve(self) -> None:
        """Do what the thread would do, up to now."""
        self._queue.put(None)
        self._run()


@dataclass
class Process:
    """`journal` and `runner` are those of the living process; after a death what is left lies in a new directory."""

    root: Path
    parts: Parts
    faults: Faults
    remembers: bool
    """Whether older states of the files are kept, for power cuts."""

    alive: bool = False
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _states: list[Files] = field(default_factory=list)
    _left: Files = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._directory = self._fresh_directory()
        self.faults.at_death = self._note_death

    def open(self, configuration: Configuration, now: int) -> None:
        """Start over what is stored. The runner may write, and therefore die."""
        self.journal = self.parts.journal(self._directory, self.faults)
        try:
            self._intake = Desk(self.journal, CloudEvents(configuration.surveys), lambda: self._clock, lambda: None)
            self.runner = self.parts.runner(configuration, self.journal, TZDATA, now)
        except Exception:
            self.journal.close()
            raise
        self.alive = True

    def deliver(self, requests: Sequence[Sequence[bytes]], clock: int) -> list[Receipt]:
        """Send requests, all at one time, and wait for the answers."""
        self._clock = clock
        answers = [self._intake.take(request) for request in requests]
        self._intake.serve()
        return [answer.result(0) for answer in answers]

    def remember(self, durable: bool) -> None:
        """Note the files as they are after a commit; `durable` when a power cut cannot undo it."""
        if self.remembers:
            if durable:
                self._states.clear()
            self._states.append(_read(self._directory))

    def close(self) -> None:
        """End in order."""
        self.journal.close()
        self.alive = False

    def die(self, how: str, rng: Random) -> None:
        """Leave what such a death leaves: at the write that the fault struck, or else right now."""
        left = self._left or _read(self._directory)
        self._left = {}
        self.close()
        if how == "power" and self._states:
            left = rng.choice(self._states)
        if how != "close":
            self._directory = self._fresh_directory()
            for name, content in left.items():
                (self._directory / name).write_bytes(content)
            self.remember(durable=False)

    def _note_death(self) -> None:
        self._left = _read(self._directory)

    def _fresh_directory(self) -> Path:
        directory = self.root / str(next(self._numbers))
        directory.mkdir()
        return directory


def _read(directory: Path) -> Files:
    return {name: (directory / name).read_bytes() for name in STORED if (directory / name).exists()}
