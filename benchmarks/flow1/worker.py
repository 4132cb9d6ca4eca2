"""A worker whose clock stands still: worker.py CONFIGURATION INSTANT

It is what `flowmetrics run` starts on Kafka, with the one difference that its windows end at an instant of the events
of flow-1 and not now. Arrival stamps are the broker's, as ever.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agents.kafka.engine import KafkaEngine
from agents.serving import serve
from flowmetrics.configuration import Configuration
from flowmetrics.instants import parse_instant
from flowmetrics.settings import read_settings


async def work(configuration: Configuration, now: int) -> None:
    """Serve until SIGTERM; the address is told on standard output."""
    engine = KafkaEngine(configuration, clock=lambda: now)
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    started.add_done_callback(lambda address: print(address.result(), flush=True))
    with engine.holding():
        await engine.start()
        try:
            await serve(configuration, engine, started)
        finally:
            await engine.stop()


if __name__ == "__main__":
    path, instant = sys.argv[1:]
    asyncio.run(work(read_settings(Path(path).read_text(), path), parse_instant(instant)))
