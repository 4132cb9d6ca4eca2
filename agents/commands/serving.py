"""Engines that serve until they are told to stop."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click
from yaml import ScalarNode

from agents.published import Served
from agents.token import token_at
from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError, OperationError
from flowmetrics.setting_kinds import LISTEN
from flowmetrics.yaml_text import Spot, Walk, WrongValueError

log = logging.getLogger(__name__)


async def served(configuration: Configuration, engine: Served) -> None:
    """Serve an engine that was started, and say where."""
    from agents.serving import serve  # the web server takes half of the start-up time, and few commands need it

    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    started.add_done_callback(lambda address: log.info("flowmetrics serves %s (metrics at /metrics)", address.result()))
    await serve(configuration, engine, started)


def demo(listen: str, seed: int, days: int) -> None:
    """A simulated company in a directory that is removed at the end."""
    from agents.demo.stage import play  # the stage needs all of the engine, and is needed by nobody else

    try:
        LISTEN.read(Spot(ScalarNode("tag:yaml.org,2002:str", listen), "--listen", Walk("")))
    except WrongValueError as error:
        raise ConfigurationError(f"{error}.") from None
    play(listen, seed, days)


def top(url: str, token_file: Path | None, once: bool, everything: bool) -> None:
    """The table of a running engine, on the screen or once as text."""
    from agents.top import NOTHING_YET, SORTS, EngineView, in_order, table  # only this command needs HTTP and a screen

    engine = EngineView(url, token_at(token_file))
    if once:
        reading = engine.reading()
        if reading.wrong:
            raise OperationError(f"the engine at {url} is {reading.wrong}")
        if not reading.rows:
            click.echo(NOTHING_YET, err=True)
        click.echo(table(in_order(reading.rows, SORTS[0], everything=everything)))
        if reading.part:
            click.echo(reading.part, err=True)
        return
    from agents.top_screen import Top

    Top(engine, url, everything).run()
