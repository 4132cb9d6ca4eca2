"""How a process that serves tells what happens in it: a line for each thing, which names who must act.

Modules write to the loggers of the standard library under their own names; here it is decided how a line looks. A
machine reads JSON with `time`, `level`, `logger`, `message`, `act`, and `exception` where there is one; a person at a
terminal reads the same as words. `act` follows from the level, as errors are sorted by who must act:

    debug, info, warning     nobody        it is news, or it goes on by itself
    error, critical          operator      the surroundings must be mended
    with an exception        developers    a mistake of ours: report it

A library's error is nobody's: it tries again by itself, and while that does not help the engine is not ready and says
why.
"""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Final

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

OURS: Final = ("agents", "flowmetrics")
"""Loggers that tell from the configured level on; those of libraries tell warnings and worse."""


def configure_logs(form: str, level: str) -> None:
    """Let all loggers write to standard error, from a level on: as `json`, as `console`, or `auto`.

    `auto` is `console` where standard error is a terminal, and `json` elsewhere.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(form == "console" or (form == "auto" and sys.stderr.isatty())))
    chosen = logging.getLevelName(level.upper())
    logging.basicConfig(handlers=[handler], level=max(chosen, logging.WARNING), force=True)
    logging.captureWarnings(True)
    for name in OURS:
        logging.getLogger(name).setLevel(chosen)
    sys.excepthook = _unforeseen


def share_format(name: str) -> None:
    """Let the handlers that a logger has of its own write lines as all others do."""
    for handler in logging.getLogger(name).handlers:
        handler.setFormatter(logging.root.handlers[0].formatter)


def _formatter(for_people: bool) -> logging.Formatter:
    before: list[Processor] = [
        structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%SZ" if for_people else "iso", utc=True, key="time"),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _name_who_must_act,
    ]
    machine: list[Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(lambda line, **_: orjson.dumps(line, default=repr).decode()),
    ]
    person: list[Processor] = [_drop_what_no_person_reads, _console()]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *(person if for_people else machine)],
    )


def _console() -> structlog.dev.ConsoleRenderer:
    bare = structlog.dev.KeyValueColumnFormatter(None, "", "", str)
    return structlog.dev.ConsoleRenderer(
        columns=[
            structlog.dev.Column("time", bare),
            structlog.dev.Column("level", bare),
            structlog.dev.Column("event", bare),
            structlog.dev.Column("", structlog.dev.KeyValueColumnFormatter("", "", "", str)),
        ],
        exception_formatter=structlog.dev.plain_traceback,
    )


def _name_who_must_act(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    grave = line["level"] in ("error", "critical") and line["logger"].partition(".")[0] in OURS
    line["act"] = "developers" if line.get("exc_info") else "operator" if grave else "nobody"
    return line


def _drop_what_no_person_reads(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    del line["logger"]
    if line["act"] == "nobody":
        del line["act"]
    return line


def _unforeseen(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        logging.getLogger(OURS[0]).critical("flowmetrics itself failed", exc_info=(kind, error, trace))
