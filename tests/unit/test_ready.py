"""An engine is ready from the moment on at which its numbers are on its page, and not a moment before."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.kafka.engine import KafkaEngine
from agents.local.engine import Engine
from flowmetrics.configuration import Configuration
from flowmetrics.engine_metrics import process_families
from flowmetrics.exposition import Page


def told_while_rendering(monkeypatch: pytest.MonkeyPatch, ready: Callable[[], bool]) -> list[bool]:
    """Whether an engine was ready, each time that a page of it was rendered."""
    told: list[bool] = []
    render = Page.render

    def slow(page: Page, families: Any) -> bytes:
        rendered = render(page, families)
        told.append(ready())
        return rendered

    monkeypatch.setattr(Page, "render", slow)
    return told


def test_a_directory_is_ready_after_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(Configuration(broker=f"local://{tmp_path}"))
    told = told_while_rendering(monkeypatch, lambda: engine.published.ready)
    engine.start()
    give_up = time.monotonic() + 30
    while not engine.published.ready and time.monotonic() < give_up:
        time.sleep(0.01)
    ready, page = engine.published.ready, engine.published.page
    engine.stop()
    assert ready
    assert not told[0]
    assert b"flowmetrics_engine_ready 1" in page


async def test_a_worker_is_ready_after_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = KafkaEngine(Configuration(broker="kafka://localhost:1", kafka_store=str(tmp_path)))
    monkeypatch.setattr(engine, "_reason", lambda units: "")  # a whole worker needs a broker, which tests/kafka has
    monkeypatch.setattr(engine, "_engine_families", lambda units, ready: process_families(ready, 0))
    told = told_while_rendering(monkeypatch, lambda: engine.published.ready)
    worker: Any = SimpleNamespace(units={})
    await engine._publish(worker)
    assert told == [False, False]
    assert engine.published.ready
    assert b"flowmetrics_engine_ready 1" in engine.published.page
