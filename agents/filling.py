"""The past of the KPIs out of the log, for a directory whose events are older than itself: an import, a demo.

A process of its own, so that the engine is not slowed down: `python -m agents.filling` with the configuration
on standard input. It reads the log once, takes the events in the order of their time through the same steps, and keeps
a reading every three hours: any hour of a week has one within an hour of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agents.local.engine import directory_of
from agents.local.journal import Snapshot
from agents.past import KEPT_HOURS, Past
from agents.published import clock_us
from flowmetrics.configuration import Configuration
from flowmetrics.driver import Driver
from flowmetrics.errors import OperationError, Rejection
from flowmetrics.instants import DAY_US, HOUR_US, SECOND_US
from flowmetrics.settings import effective, read_settings
from flowmetrics.source import Timed
from flowmetrics.sources.cloudevents import CloudEvents

EVERY_HOURS: Final = 3
EVENTS_MIN: Final = 100
EVENTS_MAX: Final = 500_000
"""A longer log is not read again: it would take minutes and half a gigabyte. Then states warm up by themselves."""
FILLED: Final = "filled"
_BATCH_EVENTS: Final = 5000
_NICE: Final = 10


def is_due(directory: Path, past: Past, hour: int, settled_at: int) -> bool:
    """Whether the past should be filled: it is not known, and the log has grown much since it was read for it.

    `settled_at` is the end of the log a while ago: while it grows fast, it is waited for.
    """
    if past.knows(hour):
        return False
    end, filled = log_end(directory), past.remembered(FILLED) or 0
    settled = end - settled_at < max(EVENTS_MIN, end // 100)
    return EVENTS_MIN <= end <= EVENTS_MAX and end > 1.2 * filled and settled


def log_end(directory: Path) -> int:
    """How many events the log has taken."""
    with Snapshot(directory) as journal:
        return journal.end


async def run(configuration: Configuration) -> bool:
    """Run the process to its end; it ends with whoever waits for it. Whether it ended well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agents.filling", stdin=asyncio.subprocess.PIPE
    )
    try:
        await process.communicate(effective(configuration).encode())
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    return process.returncode == 0


def fill(configuration: Configuration, past: Past, now: int) -> int:
    """Keep the readings of the last five weeks, up to `now`; how many hours were read.

    Raises OperationError where they cannot be kept.
    """
    with Snapshot(directory_of(configuration.broker)) as journal:
        end, events = journal.end, sorted(_events(configuration, journal), key=lambda timed: timed[0])
    if not events or events[0][0] > now - DAY_US:
        _note(past, end)
        return 0
    past.begin(_begins(events))
    driver, read, next_event = Driver(configuration), 0, 0
    first = max(now // HOUR_US - KEPT_HOURS, events[0][0] // HOUR_US + 1)
    for hour in range(first - first % EVERY_HOURS + EVERY_HOURS, now // HOUR_US + 1, EVERY_HOURS):
        at, until = hour * HOUR_US, next_event
        while until < len(events) and events[until][0] <= at:
            until += 1
        driver.advance(at)
        for start in range(next_event, until, _BATCH_EVENTS):
            driver.take(events[start : min(until, start + _BATCH_EVENTS)])
        next_event = until
        past.keep(hour, driver.read.points(driver.tally, at), driver.read.kpis)
        read += 1
    _note(past, end)
    return read


def _note(past: Past, end: int) -> None:
    past.remember(FILLED, end)
    if past.remembered(FILLED) != end:
        raise OperationError("the readings cannot be kept")


def _events(configuration: Configuration, journal: Snapshot) -> Iterator[Timed]:
    source, position = CloudEvents(configuration.surveys), journal.first()
    while position < journal.end:
        for arrived_at, lines in journal.read(position, _BATCH_EVENTS):
            position += len(lines)
            for line in filter(None, lines):
                timed = source.read(line, arrived_at)
                if not isinstance(timed, Rejection):
                    yield timed


def _begins(events: list[Timed]) -> dict[str, int]:
    """The second of the first event of each value stream."""
    begins: dict[str, int] = {}
    for at, event in events:
        stream = getattr(event.data, "value_stream", None)
        if stream:
            begins.setdefault(stream, at // SECOND_US)
    return begins


def main() -> None:
    """The process."""
    with contextlib.suppress(OSError):  # a courtesy, which the filter of system calls of the systemd unit refuses
        os.nice(_NICE)
    configuration = read_settings(sys.stdin.read(), "the configuration of the engine")
    past = Past(directory_of(configuration.broker))
    try:
        fill(configuration, past, clock_us())
    except (
        OperationError,
        sqlite3.Error,
    ) as error:  # of a disk that is full, or a log that is damaged, the engine ends
        sys.exit(f"the past of the page is not filled for now: {error}")
    finally:
        past.close()


if __name__ == "__main__":
    main()
