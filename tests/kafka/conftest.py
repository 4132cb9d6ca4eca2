"""Brokers for the tests of this folder.

FLOWMETRICS_TEST_BROKER=HOST:PORT names one that runs already; else one is started from its jars. Without it, and
without Java and Maven, what needs a broker is left out, and says so. A test that pauses, kills or configures a broker
has one of its own, wherever that can be started.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeAlias
from uuid import uuid4

import pytest
from broker import Broker, can_run

NAMED = "FLOWMETRICS_TEST_BROKER"

Start: TypeAlias = Callable[..., Broker]


@dataclass(frozen=True)
class Running:
    """A broker that somebody else started, and ends."""

    address: str


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker | Running]:
    """A broker that runs through all tests, which keep to prefixes of their own."""
    named = os.environ.get(NAMED)
    if named:
        yield Running(named)
        return
    _needs_jars()
    running = Broker(tmp_path_factory.mktemp("broker"))
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts brokers that a module may treat as it likes; they end with it, however they are then."""
    _needs_jars()
    with ExitStack() as held:

        def one(**said: object) -> Broker:
            running = Broker(tmp_path_factory.mktemp("own-broker"), **said)  # type: ignore[arg-type]
            held.callback(running.stop, signal.SIGKILL)
            running.start()
            return running

        yield one


@pytest.fixture
def prefix() -> str:
    """The beginning of the names of topics that no other test, and no other run on the same broker, uses."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes the loops that Faust makes for a consumer of its own, which is never started, and leaves open."""
    made: list[asyncio.AbstractEventLoop] = []
    new_event_loop = asyncio.new_event_loop

    def noted() -> asyncio.AbstractEventLoop:
        made.append(new_event_loop())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", noted)
    yield
    for loop in made:
        loop.close()


def _needs_jars() -> None:
    if not can_run():
        pytest.skip(f"a broker needs java and mvn, or {NAMED}=HOST:PORT where a running one will do")
