"""The commands on a data directory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Final

from agents.commands.serving import served
from agents.commands.telling import each_with_bar, say
from agents.importing import Log, OwnLog
from agents.local import asking
from agents.local.engine import Engine, directory_of, open_runner
from agents.local.intake import pseudonyms_of
from agents.local.journal import FILE, Journal, Snapshot
from agents.local.reading import erasures, whole_log
from agents.local.runner import Runner
from agents.lock import DirectoryLock, HeldError
from agents.published import clock_us
from agents.token import token_of
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError, Rejection
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.steps.audit import Difference

HOLDER_SECONDS_MAX: Final = 10.0
"""How long an import waits for an engine that starts or ends."""


def run(configuration: Configuration) -> None:
    """Serve until told to stop."""
    engine = Engine(configuration)
    engine.start()
    try:
        asyncio.run(served(configuration, engine))
    finally:
        engine.stop()


@contextmanager
def log(configuration: Configuration) -> Iterator[Log]:
    """The log of the data directory: held by this process, or by an engine that answers within a while."""
    until = time.monotonic() + HOLDER_SECONDS_MAX
    with ExitStack() as stack:
        log: Log | None = None
        while log is None:
            try:
                log = OwnLog(configuration, *stack.enter_context(_data_directory(configuration, "import")))
            except HeldError as held:
                log = _log_of(held, configuration)
                if log is None and time.monotonic() > until:
                    raise _silent(held) from None
                time.sleep(0 if log else 0.1)
        yield log


@contextmanager
def past(configuration: Configuration) -> Iterator[tuple[int, Iterator[tuple[int, bytes]]]]:
    """The log of the data directory, also while the engine runs; and what is known of whom was erased from it."""
    journal = Journal(existing(directory_of(configuration.broker)))
    try:
        pseudonyms_of(configuration, journal)  # under another key one person would be two
        if journal.first() > 0:
            say(
                f"the log of {journal.path} no longer begins at the first event (log.retention): of what was begun "
                "before that only the rest is known, so the oldest values are too low"
            )
        yield journal.end - journal.first(), chain(erasures(journal), filter(itemgetter(1), whole_log(journal)))
    finally:
        journal.close()


def _log_of(held: HeldError, configuration: Configuration) -> Log | None:
    """The log of the engine that holds the directory; None while it does not answer. Another holder is an error."""
    from agents.sending import EngineLog, answers  # HTTP takes a sixth of the start-up time

    if not held.is_for("run"):
        raise held
    if held.address is None or not answers(held.address):
        return None
    say(f"{held.directory} is held by {held.holder}; the events are sent to it at {held.address}")
    return EngineLog(held.address, token_of(configuration))


def _silent(held: HeldError) -> OperationError:
    where = f"at {held.address}" if held.address else "yet"
    return OperationError(
        f"{held.directory} is held by {held.holder}, which does not answer {where}; stop it, or import when it answers"
    )


def differences(configuration: Configuration) -> Iterator[Difference]:
    """Where histories and panes do not agree."""
    with _data_directory(configuration, "audit", must_exist=True) as (_, runner):
        if runner.progress < 1:
            say(
                f"the configuration has changed: audited is epoch {runner.epoch}, under the former one, "
                f"until flowmetrics run has built the next ({runner.progress:.0%} done)"
            )
        yield from runner.audit(partial(each_with_bar, label="auditing"))


def explained(kind: str, key: str, configuration: Configuration) -> Iterator[str]:
    """The history of one entity and what it contributes, also while the engine runs."""
    with Snapshot(existing(directory_of(configuration.broker))) as journal:
        pseudonyms = pseudonyms_of(configuration, journal)
        name = pseudonyms.of(key) if pseudonyms and kind == "customer" else key
        yield from asking.explained(f"{kind}:{name}", configuration, journal)


def refused(configuration: Configuration) -> Iterator[tuple[str | int, int, Rejection, bytes]]:
    """What was refused, also while the engine runs."""
    journal = Journal(existing(directory_of(configuration.broker)))
    try:
        yield from journal.rejected()
    finally:
        journal.close()


def send_again(configuration: Configuration) -> tuple[int, int]:
    """Judge again what was refused, and take what is mended: how many, and of how many."""
    with _data_directory(configuration, "rejected", must_exist=True) as (journal, runner):
        rows = list(journal.rejected())
        source, now = CloudEvents(configuration.surveys), clock_us()
        mended = [(number, body) for number, _, _, body in rows if not isinstance(source.read(body, now), Rejection)]
        journal.append([body.replace(b"\n", b" ") for _, body in mended], now)
        journal.drop_rejected([number for number, _ in mended])
        while not runner.caught_up:
            runner.step(now)
        runner.store_panes()
    return len(mended), len(rows)


def existing(directory: Path, advice: str = "name the directory under `broker`, or start with flowmetrics run") -> Path:
    """The directory, which an engine or an import has written before. Raises OperationError."""
    if (directory / FILE).is_file():
        return directory
    wrong = f"{directory} is no data directory" if directory.exists() else f"there is no {directory}"
    raise OperationError(f"{wrong}; {advice}")


@contextmanager
def _data_directory(
    configuration: Configuration, purpose: str, must_exist: bool = False
) -> Iterator[tuple[Journal, Runner]]:
    directory = directory_of(configuration.broker)
    if must_exist:
        existing(directory)
    with DirectoryLock(directory, purpose):
        journal = Journal(directory)
        try:
            pseudonyms_of(configuration, journal)  # another key is told before anything is made anew
            yield journal, open_runner(configuration, journal, clock_us())
        finally:
            journal.close()
