"""The demo on its stage: a simulated company sends its events to a real engine over HTTP, in real time."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from dataclasses import replace
from itertools import islice
from typing import Any

import click

from agents.client import Client
from agents.demo.producers import Company
from agents.local.engine import Engine
from agents.published import clock_us
from agents.serving import serve
from flowmetrics.configuration import Configuration
from flowmetrics.instants import DAY_US

PAST_EVENTS_A_REQUEST = 5000
SECONDS_A_BEAT = 0.5


def play(listen: str, seed: int, days: int) -> None:
    """Run until Ctrl-C; the data directory is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="flowmetrics-demo-") as directory:
        configuration = replace(
            Configuration(), listen=listen, broker=f"local://{directory}", horizon_us=max(60, days + 1) * DAY_US
        )
        engine = Engine(configuration)
        engine.start()
        try:
            asyncio.run(_play(configuration, engine, Company(seed, clock_us()), days))
        finally:
            engine.stop()
    click.echo("the demo is over; nothing of it is kept", err=True)


async def _play(configuration: Configuration, engine: Engine, company: Company, days: int) -> None:
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(configuration, engine, started))
    both: list[asyncio.Future[Any]] = [serving, started]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not started.done():
        await serving  # raises why it could not start
        return
    address = started.result()
    click.echo(f"a simulated company sends its last {days} days to {address} …", err=True)
    producing = asyncio.create_task(asyncio.to_thread(_produce, company, address, days, _Stop(serving)))
    try:
        await serving
    finally:
        with contextlib.suppress(Exception):
            await producing


class _Stop:
    """Whether the stage is being cleared."""

    def __init__(self, serving: asyncio.Task[None]) -> None:
        self._serving = serving

    def __bool__(self) -> bool:
        return self._serving.done()


def _produce(company: Company, address: str, days: int, stop: _Stop) -> None:
    with Client(f"{address}/events", attempts=3) as client:
        past = company.past(days)
        while not stop and (batch := list(islice(past, PAST_EVENTS_A_REQUEST))):
            client.post(batch)
        click.echo(_words(company, address), err=True)
        while not stop:
            client.post(company.until(clock_us()))
            time.sleep(SECONDS_A_BEAT)


def _words(company: Company, address: str) -> str:
    return (
        f"\n  live page   {address}/\n  metrics     {address}/metrics\n\n{company.story}\n\n"
        "Stop it with Ctrl-C; nothing is kept."
    )
