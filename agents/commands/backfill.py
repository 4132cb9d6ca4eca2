"""The command backfill: past KPIs for a Prometheus, as OpenMetrics or as blocks in its data directory."""

from __future__ import annotations

import gc
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from agents.backfill import Backfill, Chronicle, Hole, Span, Told, Written
from agents.commands.files import file_events, files_bar, mapping_of
from agents.commands.runtime import runtime_of
from agents.commands.telling import bar, counted, say
from agents.files import read_events, sizes
from agents.importing import refusals
from agents.prometheus import blocks_command, fill, must_be_installed
from agents.published import clock_us
from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError, OperationError
from flowmetrics.families import Labels
from flowmetrics.instants import (
    DAY_US,
    MINUTE_US,
    SECOND_US,
    duration_text,
    duration_us,
    instant_text,
    parse_instant,
)
from flowmetrics.publishing.rules.cells import own_labels
from flowmetrics.publishing.rules.passes import baseline_us, pass_files
from flowmetrics.publishing.rules.recording import NEARBY
from flowmetrics.source import FAR_FUTURE

STEP_US: Final = 5 * MINUTE_US
"""As long as Prometheus takes a value for current; with a longer step its graphs show dots."""
HOLES_TOLD_MAX: Final = 10
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True)
class Wanted:
    """What is asked for, in the words of the command line."""

    openmetrics: Path | None
    prometheus: Path | None
    start: str | None
    end: str | None
    step: str | None
    hole: str
    retention: str
    labels: Sequence[str]
    files: Sequence[Path]
    mapping: Path | None


def backfill(wanted: Wanted, configuration: Configuration) -> None:
    """Write the KPIs of the chronicle, of files or of the log of the engine."""
    if wanted.openmetrics is None and wanted.prometheus is None:
        raise ConfigurationError("say where to: --openmetrics OUT for a file, or --prometheus DIRECTORY for blocks")
    span, hole_us = _span(wanted, configuration), _duration("--hole", wanted.hole)
    labels = _labels(wanted.labels, configuration)
    if wanted.prometheus is not None:
        must_be_installed()
    gc.disable()  # as in a replay
    with ExitStack() as held:
        folder = held.enter_context(_folder(wanted.prometheus))
        path = wanted.openmetrics or folder / "history.txt"
        out = held.enter_context(_fresh(path))
        task = Backfill(configuration, span, hole_us, folder, labels)
        chronicle = held.enter_context(task.chronicle())
        _tell(chronicle, span.last, wanted, configuration)
        with bar(len(span.instants), "computing") as progress:
            written = task.write(out, progress)
        out.close()
        if not written.samples:
            raise OperationError(f"nothing to write: {_why_nothing(chronicle, span)}")
        _report(written, chronicle, span, path if wanted.openmetrics else None)
        if wanted.prometheus is None:
            _advise(path)
            return
        files = pass_files(configuration, duration_text(span.step))
        with bar(len(files) + 1, "making blocks") as progress:
            blocks = fill(path, files, wanted.prometheus, folder, span, progress)
        say(
            f"{counted(blocks, 'block')} in {wanted.prometheus}, recording rules included; a Prometheus that runs "
            "there finds them within two minutes, and deletes what is older than its --storage.tsdb.retention.time"
        )


def _span(wanted: Wanted, configuration: Configuration) -> Span:
    """The instants that are asked for. Raises ConfigurationError where that makes no sense, or nobody would keep it."""
    now, resolution = clock_us(), configuration.resolution_us
    step = max(STEP_US, resolution) if wanted.step is None else _duration("--step", wanted.step)
    if step == 0 or step % resolution:
        raise ConfigurationError(
            f"--step {wanted.step} is no multiple of the resolution, {duration_text(resolution)}: values change at the "
            f"end of a pane only; say --step {duration_text(max(1, round(step / resolution)) * resolution)}"
        )
    if wanted.prometheus is not None and step > duration_us(NEARBY):
        raise ConfigurationError(
            f"--step {wanted.step} is too long for --prometheus: its rules look for a former value within {NEARBY} "
            f"and would find a baseline now and then only; say --step {NEARBY} or shorter, or --openmetrics instead"
        )
    last = now if wanted.end is None else _instant("--to", wanted.end)
    if last > now:
        raise ConfigurationError(f"--to {wanted.end} has not come yet; leave --to out for everything up to now")
    first = last - baseline_us(configuration) if wanted.start is None else _instant("--from", wanted.start)
    span = Span(-(-first // step) * step, last // step * step, step)
    if first > last:
        raise ConfigurationError(f"--from {wanted.start} is after --to {wanted.end or instant_text(last)}; swap them")
    if not span.instants:
        raise ConfigurationError(
            f"between --from and --to lies no full --step of {duration_text(step)}; name more time or a shorter step"
        )
    oldest = now - _duration("--retention", wanted.retention)
    if span.first < oldest:
        raise ConfigurationError(
            f"{instant_text(span.first)} is too old for a Prometheus that keeps {wanted.retention}: it would delete "
            f"the blocks at once. Say --from {instant_text((oldest // DAY_US + 2) * DAY_US)} or later, or let it "
            "keep more (--storage.tsdb.retention.time) and say so with --retention"
        )
    return span


def _instant(option: str, text: str) -> int:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise ConfigurationError(f"{option} {error}") from None


def _duration(option: str, text: str) -> int:
    try:
        return duration_us(text)
    except ValueError as error:
        raise ConfigurationError(f"{option} {error}") from None


def _labels(given: Sequence[str], configuration: Configuration) -> Labels:
    """Labels by the words of the command line. Raises ConfigurationError where Prometheus would not put them so."""
    labels: dict[str, str] = {}
    for text in given:
        name, _, value = text.partition("=")
        if not _LABEL.fullmatch(name) or not value:
            raise ConfigurationError(f'--label "{text}" is not NAME=VALUE; say it like --label namespace=flowmetrics')
        if name in {"kpi", "value_stream", *own_labels(configuration), *labels}:
            raise ConfigurationError(f'--label "{text}": there is a label {name} already; leave it out')
        labels[name] = value
    return tuple(labels.items())


@contextmanager
def _folder(prometheus: Path | None) -> Iterator[Path]:
    """A folder for temporary files; beside the blocks, so that they need not be copied."""
    try:
        if prometheus is not None:
            prometheus.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="backfill-", dir=prometheus) as folder:
            yield Path(folder)
    except OSError as error:
        where = error.filename or prometheus or tempfile.gettempdir()
        raise OperationError(
            f"{where}: {error.strerror or error}; make it writable, make room, or name another"
        ) from None


@contextmanager
def _fresh(path: Path) -> Iterator[BinaryIO]:
    """A new file, which is there in the end only if all went well."""
    try:
        file = path.open("xb")
    except FileExistsError:
        raise ConfigurationError(f"{path} exists; move it away or name another file") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}; name another file") from None
    try:
        with file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _tell(chronicle: Chronicle, until: int, wanted: Wanted, configuration: Configuration) -> None:
    """Put all events up to an instant into a chronicle."""
    if wanted.files:
        rows = mapping_of(wanted.mapping)
        sizes(wanted.files)
        for path in wanted.files:
            read_events(path, rows)  # a file that cannot be read is told before any is read through
        with files_bar(wanted.files) as progress:
            chronicle.tell(((FAR_FUTURE, event) for event in file_events(wanted.files, rows, progress)), until)
        return
    if wanted.mapping is not None:
        raise ConfigurationError("--map says how rows of files are read; name the files")
    with runtime_of(configuration).past(configuration) as (count, events), bar(count, "reading") as progress:

        def counted_events() -> Iterator[Told]:
            for event in events:
                progress(1)
                yield event

        chronicle.tell(counted_events(), until)


def _why_nothing(chronicle: Chronicle, span: Span) -> str:
    if chronicle.taken == 0:
        return f"there is no event up to {instant_text(span.last)}{refusals(chronicle.rejected)}; name another --to"
    return f"no event is near {instant_text(span.first)} to {instant_text(span.last)}; name --from, --to or --hole"


def _report(written: Written, chronicle: Chronicle, span: Span, path: Path | None) -> None:
    say(f"{counted(chronicle.taken, 'event')} read{refusals(chronicle.rejected)}")
    for hole in written.holes[:HOLES_TOLD_MAX]:
        say(_hole_text(hole))
    if len(written.holes) > HOLES_TOLD_MAX:
        say(f"and {len(written.holes) - HOLES_TOLD_MAX} more such silences")
    say(
        f"{counted(written.samples, 'sample')} of {written.series} series at {written.instants} instants, every "
        f"{duration_text(span.step)} from {instant_text(span.first)} to {instant_text(span.last)}"
        f"{f', in {path}' if path else ''}"
    )


def _hole_text(hole: Hole) -> str:
    if hole.after is None:
        return f"nothing is written before the first event, {_text(hole.before)}"
    until = "and none after it" if hole.before is None else f"until {_text(hole.before)}"
    return (
        f"no event from {_text(hole.after)} {until}: nothing is written for that time, and windows that reach into it "
        "count what they know; import what is missing and backfill again, or give a longer --hole if it was quiet"
    )


def _text(instant: int | None) -> str:
    return "ever" if instant is None else instant_text(instant // SECOND_US * SECOND_US)


def _advise(path: Path) -> None:
    say("make blocks of it where the Prometheus is, in its data directory:")
    say(f"  {shlex.join(blocks_command(path, Path('DIRECTORY')))}")
    say("for the recording rules too, so that there are baselines at once, say --prometheus DIRECTORY instead")
