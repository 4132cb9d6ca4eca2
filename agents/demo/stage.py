"""The demo on its stage: a simulated company imports its past, then sends its events to a real engine over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import click

from agents.client import Client
from agents.demo.alarms import impatient, sound
from agents.demo.producers import Company
from agents.importing import Outcome, OwnLog
from agents.local.engine import Engine, directory_of, open_runner
from agents.local.journal import Journal
from agents.published import clock_us
from agents.serving import bound, serve
from flowmetrics.configuration import Configuration
from flowmetrics.instants import DAY_US

PAST_EVENTS_A_BATCH = 5000
SECONDS_A_BEAT = 0.5


def play(listen: str, seed: int, days: int) -> None:
    """Run until Ctrl-C; the data directory is removed at the end."""
    bound(listen).close()  # a port that is taken is told before anything else takes time
    with (
        contextlib.suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="flowmetrics-demo-") as directory,
    ):
        configuration = impatient(
            replace(
                Configuration(),
                listen=listen,
                broker=f"local://{directory}/data",
                horizon_us=max(60, days + 1) * DAY_US,
            )
        )
        company = Company(seed, clock_us())
        _say(f"a simulated company imports its last {days} days …")
        _import(configuration, company.past(days))
        engine = Engine(configuration)
        engine.start()
        try:
            asyncio.run(_play(configuration, engine, company, Path(directory)))
        finally:
            engine.stop()
    _say("the demo is over; nothing of it is kept")


def _import(configuration: Configuration, past: Iterator[bytes]) -> None:
    """Into the directory, before an engine shows anything: what is half told would be in its charts for ever."""
    with contextlib.closing(Journal(directory_of(configuration.broker))) as journal:
        log = OwnLog(configuration, journal, open_runner(configuration, journal, clock_us()))
        while batch := list(islice(past, PAST_EVENTS_A_BATCH)):
            log.take(batch, Outcome())
        log.finish()


async def _play(configuration: Configuration, engine: Engine, company: Company, folder: Path) -> None:
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(configuration, engine, started))
    both: list[asyncio.Future[Any]] = [serving, started]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not started.done():
        await serving  # raises why it could not start
        return
    address = started.result()
    _say(_words(company, address))
    over = threading.Event()
    alarms = partial(sound, configuration, address, folder, over, _say)
    producing = asyncio.create_task(asyncio.to_thread(_produce, company, address, over, alarms))
    try:
        await serving
    finally:
        over.set()
        with contextlib.suppress(Exception):
            await producing


def _produce(company: Company, address: str, over: threading.Event, alarms: Callable[[], None]) -> None:
    with Client(f"{address}/events", attempts=3) as client:
        listening = threading.Thread(target=alarms, name="alarms")
        listening.start()
        try:
            while not over.wait(SECONDS_A_BEAT):
                client.post(company.until(clock_us()))
        finally:
            over.set()
            listening.join()


def _say(text: str) -> None:
    click.echo(text, err=True)


def _words(company: Company, address: str) -> str:
    return (
        f"\n  live page   {address}/\n  metrics     {address}/metrics\n\n{company.story}\n\n"
        "Stop it with Ctrl-C; nothing is kept."
    )
