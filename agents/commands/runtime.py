"""The commands that are done otherwise on a data directory than on Kafka, and which of both it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

import click
import orjson

from agents.commands import local
from agents.commands.telling import say
from agents.importing import Log
from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError, OperationError, Rejection
from flowmetrics.instants import instant_text
from flowmetrics.steps.audit import Difference

DIFFERENCES_MAX: Final = 100
"""So many are told."""


class Runtime(Protocol):
    """What commands ask of either. Everything may raise OperationError or ConfigurationError."""

    def run(self, configuration: Configuration) -> None:
        """Serve until told to stop."""

    def log(self, configuration: Configuration) -> AbstractContextManager[Log]:
        """The log of events, to be written."""
        ...

    def past(self, configuration: Configuration) -> AbstractContextManager[tuple[int, Iterator[tuple[int, bytes]]]]:
        """The events so far, each with its arrival stamp, and about how many they are."""
        ...

    def differences(self, configuration: Configuration) -> Iterable[Difference]:
        """Where histories and panes do not agree."""
        ...

    def explained(self, kind: str, key: str, configuration: Configuration) -> Iterable[str]:
        """The history of one entity and what it contributes."""
        ...

    def refused(self, configuration: Configuration) -> Iterable[tuple[str | int, int, Rejection, bytes]]:
        """What was refused: number, arrival stamp, why, and the bytes as they came."""
        ...

    def send_again(self, configuration: Configuration) -> tuple[int, int]:
        """Judge again what was refused, and take what is mended: how many, and of how many."""
        ...


def runtime_of(configuration: Configuration) -> Runtime:
    """The runtime that `broker` names. Raises ConfigurationError where what it needs is not installed."""
    if not _on_kafka(configuration):
        return local
    try:
        from agents.commands import kafka  # needs what only some installations have
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise ConfigurationError(f"broker {configuration.broker} needs {package}; install flowmetrics[kafka]") from None
    return kafka


def run(configuration: Configuration) -> None:
    """Serve until told to stop."""
    from agents.logs import configure_logs  # only what serves writes a log

    configure_logs(configuration.logging_format, configuration.logging_level)
    runtime_of(configuration).run(configuration)


def audit(configuration: Configuration) -> None:
    """Fail where the books do not balance."""
    differences = list(islice(runtime_of(configuration).differences(configuration), DIFFERENCES_MAX))
    for difference in differences:
        say(f"{difference.place}: called for {difference.called_for}, found {difference.found}")
    if differences:
        raise OperationError("histories and panes do not agree; keep what is stored and report this, it is our mistake")
    say("histories and panes agree")


def explain(kind: str, key: str, configuration: Configuration) -> None:
    """Print the history of one entity and what it contributes."""
    for line in runtime_of(configuration).explained(kind, key, configuration):
        click.echo(line)


def rejected(again: bool, configuration: Configuration) -> None:
    """Print what was refused, also while the engine runs; or judge it again under the present configuration."""
    runtime = runtime_of(configuration)
    if again:
        sent, total = runtime.send_again(configuration)
        say(f"{sent} of {total} refused events are in the log now")
        return
    for number, arrived_at, rejection, body in runtime.refused(configuration):
        row = {"number": number, "arrived_at": instant_text(arrived_at), "reason": rejection.reason.value}
        click.echo(orjson.dumps({**row, "detail": rejection.detail, "event": body.decode("utf-8", "replace")}))


def move(directory: Path, rest: bool, configuration: Configuration) -> None:
    """Carry the log of a data directory to Kafka, or the `rest` of one that was cut."""
    if not _on_kafka(configuration):
        raise ConfigurationError(
            f"broker {configuration.broker}: events move to Kafka; name a configuration with broker: kafka://HOST:PORT"
        )
    runtime_of(configuration)  # says what is not installed
    from agents.commands.moving import move_log

    move_log(directory, configuration, rest)


def adopt(configuration: Configuration) -> None:
    """Make a configuration the one that all workers on Kafka follow."""
    if not _on_kafka(configuration):
        raise ConfigurationError(
            f"broker {configuration.broker}: an engine on one machine takes a configuration when it starts; restart it"
        )
    runtime_of(configuration)  # says what is not installed
    from agents.commands.kafka import adopt

    adopt(configuration)
    say("all workers follow this configuration from now on; /metrics shows flowmetrics_engine_epoch")


def _on_kafka(configuration: Configuration) -> bool:
    return configuration.broker.startswith("kafka://")
