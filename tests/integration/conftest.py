"""Fixtures of the tests that run the real engine: each gets its own, and what is started is ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest
from engine import EngineProcess

Start: TypeAlias = Callable[..., EngineProcess]


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
