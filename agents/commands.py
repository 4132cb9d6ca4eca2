"""What each command does, once its words are read."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
import orjson
from yaml import ScalarNode

from agents.files import read_events, sizes
from agents.importing import Log, Outcome, OwnLog, refusals
from agents.local.engine import Engine, directory_of, open_runner
from agents.local.intake import pseudonyms_of
from agents.local.journal import FILE, Journal
from agents.local.runner import Runner
from agents.lock import DirectoryLock, HeldError
from agents.published import Served, clock_us
from agents.replay import AT_US_END, Replay, json_lines, openmetrics
from agents.token import token_of
from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError, OperationError, Rejection
from flowmetrics.instants import instant_text, parse_instant
from flowmetrics.pages import documents
from flowmetrics.setting_kinds import LISTEN
from flowmetrics.settings import json_schema, read_settings
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.sources.rows import RowMapping, parse_mapping
from flowmetrics.yaml_text import Spot, Walk, WrongValueError

IMPORT_EVENTS: Final = 5000
"""Events of an import that are written together."""
HOLDER_SECONDS_MAX: Final = 10.0
"""How long an import waits for an engine that starts or ends."""


def run(configuration: Configuration) -> None:
    """Serve until told to stop."""
    if configuration.broker.startswith("kafka://"):
        asyncio.run(_worker(configuration))
        return
    engine = Engine(configuration)
    engine.start()
    try:
        asyncio.run(_served(configuration, engine))
    finally:
        engine.stop()


async def _worker(configuration: Configuration) -> None:
    try:
        from agents.kafka.engine import KafkaEngine
    except ImportError as error:
        raise ConfigurationError(
            f"broker {configuration.broker} needs {error.name}; install flowmetrics[kafka]"
        ) from None
    engine = KafkaEngine(configuration)
    with engine.holding():
        await engine.start()
        try:
            await _served(configuration, engine)
        finally:
            await engine.stop()


async def _served(configuration: Configuration, engine: Served) -> None:
    from agents.serving import serve  # the web server takes half of the start-up time, and only this command needs it

    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    started.add_done_callback(lambda address: _say(f"flowmetrics serves {address.result()} (metrics at /metrics)"))
    await serve(configuration, engine, started)


def demo(listen: str, seed: int, days: int) -> None:
    """A simulated company in a directory that is removed at the end."""
    from agents.demo.stage import play  # the stage needs all of the above, and is needed by nobody else

    try:
        LISTEN.read(Spot(ScalarNode("tag:yaml.org,2002:str", listen), "--listen", Walk("")))
    except WrongValueError as error:
        raise ConfigurationError(f"{error}.") from None
    play(listen, seed, days)


def import_files(files: Sequence[Path], mapping: Path | None, configuration: Configuration) -> None:
    """Put the events of files into the log, with a bar that shows bytes read."""
    outcome, rows = Outcome(), _mapping(mapping)
    sizes(files)
    for path in files:
        read_events(path, rows)  # a file that cannot be read is told before anything is written
    gc.disable()
    with _log(configuration) as log, _bar(files) as progress:
        for batch in _batches(_events(files, rows, progress)):
            log.take(batch, outcome)
        log.finish()
    _say(outcome.sentence)
    if outcome.refused and not outcome.taken:
        raise OperationError(f"nothing was accepted; `flowmetrics {outcome.command}` shows why, event by event")


@contextmanager
def _log(configuration: Configuration) -> Iterator[Log]:
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


def _log_of(held: HeldError, configuration: Configuration) -> Log | None:
    """The log of the engine that holds the directory; None while it does not answer. Another holder is an error."""
    from agents.sending import EngineLog, answers  # HTTP takes a sixth of the start-up time

    if not held.is_for("run"):
        raise held
    if held.address is None or not answers(held.address):
        return None
    _say(f"{held.directory} is held by {held.holder}; the events are sent to it at {held.address}")
    return EngineLog(held.address, token_of(configuration))


def _silent(held: HeldError) -> OperationError:
    where = f"at {held.address}" if held.address else "yet"
    return OperationError(
        f"{held.directory} is held by {held.holder}, which does not answer {where}; stop it, or import when it answers"
    )


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
    with _bar(files) as progress:
        readings = again.readings(_events(files, _mapping(mapping), progress))
        (json_lines if form == "json" else openmetrics)(readings, sys.stdout.buffer.write)
    _say(f"{again.taken} events read{refusals(again.rejected)}")
    sys.stdout.flush()
    os._exit(0)  # nothing is open any more, and taking millions of histories apart one by one takes half a second


def audit(configuration: Configuration) -> None:
    """Fail where the books do not balance."""
    with _data_directory(configuration, "audit", must_exist=True) as (_, runner):
        differences = list(islice(runner.audit(), 100))
    for difference in differences:
        _say(f"{difference.place}: called for {difference.called_for}, found {difference.found}")
    if differences:
        raise OperationError("histories and panes do not agree; keep the directory and report this, it is our mistake")
    _say("histories and panes agree")


def explain(kind: str, key: str, configuration: Configuration) -> None:
    """Print the history of one entity and what it contributes."""
    with _data_directory(configuration, "explain", must_exist=True) as (journal, runner):
        pseudonyms = pseudonyms_of(configuration, journal)
        name = pseudonyms.of(key) if pseudonyms and kind == "customer" else key
        for line in runner.explain(f"{kind}:{name}"):
            click.echo(line)


def rejected(again: bool, configuration: Configuration) -> None:
    """Print what was refused, also while the engine runs; or judge it again under the present configuration."""
    if not again:
        _local(configuration)
        journal = Journal(_existing(directory_of(configuration.broker)))
        for number, arrived_at, rejection, body in journal.rejected():
            row = {"number": number, "arrived_at": instant_text(arrived_at), "reason": rejection.reason.value}
            click.echo(orjson.dumps({**row, "detail": rejection.detail, "event": body.decode("utf-8", "replace")}))
        journal.close()
        return
    with _data_directory(configuration, "rejected", must_exist=True) as (journal, runner):
        rows = list(journal.rejected())
        source, now = CloudEvents(configuration.surveys), clock_us()
        mended = [(number, body) for number, _, _, body in rows if not isinstance(source.read(body, now), Rejection)]
        journal.append([body.replace(b"\n", b" ") for _, body in mended], now)
        journal.drop_rejected([number for number, _ in mended])
        while not runner.caught_up:
            runner.step(now)
        runner.store_panes()
    _say(f"{len(mended)} of {len(rows)} refused events are in the log now")


def generate(what: str, check: bool) -> None:
    """Write, or compare, the files that follow from the catalogue."""
    wrong, pages = [], {name: text.encode() for name, text in documents().items()}
    try:
        for name, page in pages.items():
            path = Path(name)
            if check:
                wrong += [] if path.is_file() and path.read_bytes() == page else [name]
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(page)
    except OSError as error:
        raise OperationError(f"{error.filename}: {error.strerror}; move it away, or make it writable") from None
    orphans = [str(p) for p in Path("docs/kpis").glob("*.md") if str(p) not in pages]
    if check and (wrong or orphans):
        raise OperationError(f"not fresh: {', '.join(sorted([*wrong, *orphans]))}; run flowmetrics generate {what}")


def validate(files: Sequence[Path], mapping: Path | None, configuration: Configuration, schema: bool) -> None:
    """Check files of every kind, all of them, and fail if any is wrong."""
    if schema:
        click.echo(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode())
        return
    if not files:
        raise ConfigurationError("name a file to check: a configuration, a mapping, or events")
    rows, mistakes = _mapping(mapping), 0
    for path in files:
        for mistake in _mistakes(path, rows, configuration):
            _say(mistake)
            mistakes += 1
    if mistakes:
        raise OperationError(f"not all well: {_counted(mistakes, 'mistake')} in {_counted(len(files), 'file')}")
    _say("all well")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count > 1 else ''}"


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
            yield str(error)
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


def _mapping(path: Path | None) -> RowMapping | None:
    return None if path is None else parse_mapping(_text(path), str(path))


def _events(
    files: Iterable[Path], mapping: RowMapping | None, progress: Callable[[int], None]
) -> Iterator[bytes | Rejection]:
    before = 0
    for path in files:
        base = before
        yield from read_events(path, mapping, lambda read, base=base: progress(base + read))  # type: ignore[misc] # mypy cannot infer a lambda with a default
        before += sizes([path])


def _batches(events: Iterator[bytes | Rejection]) -> Iterator[list[bytes | Rejection]]:
    while batch := list(islice(events, IMPORT_EVENTS)):
        yield batch


@contextmanager
def _bar(files: Sequence[Path]) -> Iterator[Callable[[int], None]]:
    """A progress bar over the bytes of files, on standard error, where somebody looks at it."""
    if not sys.stderr.isatty():
        sizes(files)
        yield lambda read: None
        return
    bar: Any
    with click.progressbar(length=sizes(files), file=sys.stderr, label="reading") as bar:
        yield lambda read: bar.update(read - bar.pos)


@contextmanager
def _data_directory(
    configuration: Configuration, purpose: str, must_exist: bool = False
) -> Iterator[tuple[Journal, Runner]]:
    _local(configuration)
    directory = directory_of(configuration.broker)
    if must_exist:
        _existing(directory)
    with DirectoryLock(directory, purpose):
        journal = Journal(directory)
        try:
            pseudonyms_of(configuration, journal)  # another key is told before anything is made anew
            runner = open_runner(configuration, journal, clock_us())
            if runner.progress < 1:
                _say(
                    f"the configuration has changed: this is epoch {runner.epoch}, of the former one, until "
                    f"flowmetrics run has built the next ({runner.progress:.0%} done)"
                )
            yield journal, runner
        finally:
            journal.close()


def _existing(directory: Path) -> Path:
    """The directory, which an engine or an import has written before. Raises OperationError."""
    if (directory / FILE).is_file():
        return directory
    wrong = f"{directory} is no data directory" if directory.exists() else f"there is no {directory}"
    raise OperationError(f"{wrong}; name the directory under `broker`, or start with flowmetrics run")


def _local(configuration: Configuration) -> None:
    if not configuration.broker.startswith("local://"):
        raise ConfigurationError(f"broker {configuration.broker}: this command works on local://DIRECTORY only")


def _say(text: str) -> None:
    click.echo(text, err=True)
