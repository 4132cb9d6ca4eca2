"""The scenarios on the local engine: its threads, its SQLite file, and what a kill leaves of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from playing import Clock, Page, Series, play, shown_in_time
from scenario import Scenario, scenarios

from agents import published
from agents.local import engine
from agents.local.engine import Engine
from agents.local.journal import FILE
from flowmetrics.configuration import Configuration

PUBLISH_SECONDS = 0.02
"""How long a page may be old. Time stands still in a scenario, so that waiting for the next page tells nothing."""


class Local:
    """One engine after the other, each over what the one before stored."""

    def __init__(self, configuration: Configuration, clock: Clock, folder: Path) -> None:
        self._configuration = configuration
        self._clock = clock
        self._folder = folder
        self._lives = 0
        self._page = Page(configuration)

    @property
    def _directory(self) -> Path:
        return self._folder / f"life-{self._lives}"

    def start(self) -> None:
        """Begin over the directory of this life."""
        self._engine = Engine(replace(self._configuration, broker=f"local://{self._directory}"), self._clock)
        self._engine.start()

    def stop(self) -> None:
        """End in order."""
        self._engine.stop()
        assert self._engine.failure is None, self._engine.failure

    async def send(self, bodies: Sequence[bytes]) -> list[str]:
        receipt = await asyncio.wrap_future(self._engine.intake.take(bodies))
        return [rejection.reason.value for _, rejection in receipt.rejected]

    async def repeat(self, bodies: Sequence[bytes]) -> None:
        for body in bodies:
            assert not await self.send([body])

    async def restart(self, killed: bool) -> None:
        """A kill leaves what was committed at that instant: a copy of the file is taken, and the next life has that."""
        before = self._directory
        if killed:
            self._lives += 1
            self._directory.mkdir()
            with (
                closing(sqlite3.connect(before / FILE)) as left,
                closing(sqlite3.connect(self._directory / FILE)) as to,
            ):
                left.backup(to)
        self.stop()
        self.start()

    async def staff(self, joins: bool) -> None:
        """There is one process."""

    async def page(self, expected: Series, accepted: int) -> Series:
        def look() -> tuple[Series, float]:
            assert self._engine.failure is None, self._engine.failure
            page = self._engine.published.page
            return self._page.kpis(page), self._page.accepted(page)

        return await shown_in_time(look, expected, accepted)


@asynccontextmanager
async def started(scenario: Scenario, clock: Clock, folder: Path) -> AsyncIterator[Local]:
    """An engine that runs at the time of the first step."""
    runtime = Local(scenario.configuration, clock, folder)
    clock.now = scenario.begin
    runtime.start()
    try:
        yield runtime
    finally:
        runtime.stop()


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda scenario: scenario.name)
async def test_each_scenario_is_true_on_the_local_engine(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "PUBLISH_SECONDS_MIN", PUBLISH_SECONDS)
    monkeypatch.setattr(engine, "PUBLISH_SECONDS_MAX", PUBLISH_SECONDS)
    clock = Clock()
    async with started(scenario, clock, tmp_path) as runtime:
        await play(scenario, runtime, clock)
