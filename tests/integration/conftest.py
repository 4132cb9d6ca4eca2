"""Fixtures of the tests that run the real engine: each gets its own, and what is started is ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import chromium
import pytest
import pytest_asyncio
from engine import EngineProcess
from playwright.async_api import Browser, async_playwright, expect

Start: TypeAlias = Callable[..., EngineProcess]

expect.set_options(timeout=20_000)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Start]:
    """Make engines, each in a directory of its own; they are not started."""
    with ExitStack() as held:
        made: list[EngineProcess] = []

        def one(settings: str = "", data: Path | None = None, port: int = 0) -> EngineProcess:
            made.append(EngineProcess(tmp_path / f"engine-{len(made)}", settings, data, port))
            return held.enter_context(made[-1])

        yield one


@pytest.fixture
def engine(make: Start) -> EngineProcess:
    """An engine that runs and is ready."""
    return make().ready()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine that runs through all tests of a module, which keep to value streams of their own."""
    with EngineProcess(tmp_path_factory.mktemp("shared")) as running:
        yield running.ready()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """The Chromium of this machine."""
    program = chromium.installed()
    if program is None:
        pytest.skip("left out: no Chromium on this machine; install it to run the browser tests")
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=chromium.FLAGS)
        yield running
        await running.close()
