"""Events of files into the log: what becomes of them, and how this process writes them itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from agents.judging import judged
from agents.local.intake import pseudonyms_of
from agents.local.journal import Journal
from agents.local.runner import Runner
from agents.published import clock_us
from flowmetrics.configuration import Configuration
from flowmetrics.errors import Rejection
from flowmetrics.limits import EVENT_BYTES_MAX
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.sources.pseudonyms import discreet

Entry: TypeAlias = bytes | Rejection
"""An event of a file as native JSON, or why a row of it makes none."""


@dataclass
class Outcome:
    """What became of the events of an import so far."""

    taken: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By reason."""
    unkept: int = 0
    """Those of `refused` that are not kept for reading back."""

    @property
    def sentence(self) -> str:
        """How many are in the log, and what was refused."""
        taken = f"{self.taken} events are in the log{refusals(self.refused)}"
        if not self.unkept:
            return taken
        return (
            f"{taken} ({self.unkept} by the mapping: `flowmetrics validate` shows them, `flowmetrics rejected` cannot)"
        )

    @property
    def command(self) -> str:
        """The command that shows what was refused."""
        return "rejected" if self.refused.total() > self.unkept else "validate"


class Log(Protocol):
    """Where an import puts its events."""

    def take(self, batch: Sequence[Entry], outcome: Outcome) -> None:
        """Put a batch into the log, and count what became of it; the same `outcome` each time. Raises OperationError.

        It may still be on its way when this returns.
        """

    def finish(self) -> None:
        """Wait until everything is durably in the log and counted. Raises OperationError."""


class OwnLog:
    """The log of a directory that this process holds: each batch is written, then taken."""

    def __init__(self, configuration: Configuration, journal: Journal, runner: Runner) -> None:
        self._source = CloudEvents(configuration.surveys)
        self._pseudonyms = pseudonyms_of(configuration, journal)
        self._journal = journal
        self._runner = runner

    def take(self, batch: Sequence[Entry], outcome: Outcome) -> None:
        """Refused events are kept and counted, as the engine does."""
        now, lines = clock_us(), list[bytes]()
        rejected = [(self._kept(entry), b"") for entry in batch if isinstance(entry, Rejection)]
        bodies = [entry for entry in batch if isinstance(entry, bytes)]
        for body, answer in judged(self._source, self._pseudonyms, bodies, now):
            if isinstance(answer, Rejection):
                rejected.append((answer if body else discreet(answer), body[:EVENT_BYTES_MAX]))
            else:
                lines.append(body)
        self._journal.append(lines, now, rejected)
        for rejection, _ in rejected:
            outcome.refused[rejection.reason.value] += 1
            self._runner.counters.add("events_rejected", rejection.reason.value)
        outcome.taken += len(lines)
        while not self._runner.caught_up:
            self._runner.step(now)

    def _kept(self, rejection: Rejection) -> Rejection:
        """What is kept of why a row makes no event: without quoting it where ids of persons are hidden."""
        return rejection if self._pseudonyms is None else discreet(rejection)

    def finish(self) -> None:
        """Store the panes."""
        self._runner.store_panes()


def refusals(refused: Counter[str]) -> str:
    """The end of a sentence on how many events were taken.

    >>> refusals(Counter(not_json=2)), refusals(Counter())
    ('; refused: 2 not_json', '')
    """
    return "; refused: " + ", ".join(f"{n} {reason}" for reason, n in sorted(refused.items())) if refused else ""
