"""The commands that read files: import, replay, validate."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

import click
import orjson

from agents.commands.runtime import runtime_of
from agents.commands.telling import bar, counted, say
from agents.files import read_events, sizes
from agents.importing import Outcome, refusals
from agents.published import clock_us
from agents.replay import AT_US_END, Replay, json_lines, openmetrics
from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError, OperationError, Rejection
from flowmetrics.instants import parse_instant
from flowmetrics.settings import json_schema, read_settings
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.sources.rows import RowMapping, parse_mapping

IMPORT_EVENTS: Final = 5000
"""Events of an import that are written together."""


def import_files(files: Sequence[Path], mapping: Path | None, configuration: Configuration) -> None:
    """Put the events of files into the log, with a bar that shows bytes read."""
    outcome, rows, runtime = Outcome(), mapping_of(mapping), runtime_of(configuration)
    sizes(files)
    for path in files:
        read_events(path, rows)  # a file that cannot be read is told before anything is written
    gc.disable()
    with runtime.log(configuration) as log, files_bar(files) as progress:
        for batch in _batches(file_events(files, rows, progress)):
            log.take(batch, outcome)
        log.finish()
    say(outcome.sentence)
    if outcome.refused and not outcome.taken:
        raise OperationError(f"nothing was accepted; `flowmetrics {outcome.command}` shows why, event by event")


def replay(
    files: Sequence[Path], mapping: Path | None, configuration: Configuration, ats: Sequence[str], form: str
) -> None:
    """Print the metrics at each instant."""
    for at in ats:
        try:
            instant = parse_instant(at)
        except ValueError as error:
            raise ConfigurationError(f"--at {error}") from None
        if instant >= AT_US_END:
            raise ConfigurationError(f"--at {at} is too late for any calendar; name a year before 9900")
    gc.disable()  # histories and panes hold no cycles, and looking for some costs 40 % of the time
    again = Replay(configuration, ats)
    with files_bar(files) as progress:
        readings = again.readings(file_events(files, mapping_of(mapping), progress))
        (json_lines if form == "json" else openmetrics)(readings, sys.stdout.buffer.write)
    say(f"{again.taken} events read{refusals(again.rejected)}")
    sys.stdout.flush()
    os._exit(0)  # nothing is open any more, and taking millions of histories apart one by one takes half a second


def validate(files: Sequence[Path], mapping: Path | None, configuration: Configuration, schema: bool) -> None:
    """Check files of every kind, all of them, and fail if any is wrong."""
    if schema:
        click.echo(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode())
        return
    if not files:
        raise ConfigurationError("name a file to check: a configuration, a mapping, or events")
    rows, mistakes = mapping_of(mapping), 0
    for path in files:
        for mistake in _mistakes(path, rows, configuration):
            say(mistake)
            mistakes += 1
    if mistakes:
        raise OperationError(f"not all well: {counted(mistakes, 'mistake')} in {counted(len(files), 'file')}")
    say("all well")


def _mistakes(path: Path, rows: RowMapping | None, configuration: Configuration) -> Iterator[str]:
    sizes([path])
    if path.suffix in (".yaml", ".yml"):
        text = _text(path)
        try:
            if any(line.startswith("events:") for line in text.splitlines()):
                parse_mapping(text, str(path))
            else:
                read_settings(text, str(path))
        except ConfigurationError as error:
            yield from error.args
        return
    source = CloudEvents(configuration.surveys)
    for number, event in enumerate(read_events(path, rows), start=1):
        answer = event if isinstance(event, Rejection) else source.read(event, clock_us())
        if isinstance(answer, Rejection):
            yield f"{path}: event {number}: {answer.reason.value}: {answer.detail}"


def _text(path: Path) -> str:
    sizes([path])
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def mapping_of(path: Path | None) -> RowMapping | None:
    """The mapping in a file; None where none is named. Raises ConfigurationError."""
    return None if path is None else parse_mapping(_text(path), str(path))


def file_events(
    files: Iterable[Path], mapping: RowMapping | None, progress: Callable[[int], None]
) -> Iterator[bytes | Rejection]:
    """The events of several files; `progress` is told up to which byte of all of them they were read."""
    before = 0
    for path in files:
        base = before
        yield from read_events(path, mapping, lambda read, base=base: progress(base + read))  # type: ignore[misc] # mypy cannot infer a lambda with a default
        before += sizes([path])


def _batches(events: Iterator[bytes | Rejection]) -> Iterator[list[bytes | Rejection]]:
    while batch := list(islice(events, IMPORT_EVENTS)):
        yield batch


@contextmanager
def files_bar(files: Sequence[Path]) -> Iterator[Callable[[int], None]]:
    """A progress bar over the bytes of files; what it gives is told up to which byte they were read."""
    reached = 0
    with bar(sizes(files), "reading") as progress:

        def read(until: int) -> None:
            nonlocal reached
            progress(until - reached)
            reached = until

        yield read
