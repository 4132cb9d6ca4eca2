"""The feed of the live page follows the KPIs that are shown, which are others once another epoch is published."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from agents.live import LiveFeed
from agents.past import Past
from flowmetrics.configuration import Configuration
from flowmetrics.kpi import Point
from flowmetrics.kpis import selected
from flowmetrics.steps.read import Points

pytestmark = pytest.mark.usefixtures("pasts")

FLOW = Configuration(kpis=("flow_velocity", "flow_load"))
OTHERS = selected(Configuration(kpis=("flow_velocity", "nps")))


def points(*kpis: str) -> Points:
    return {(kpi, "shop"): [((("value_stream", "shop"),), Point((), 1.0, 1))] for kpi in kpis}


def fed(configuration: Configuration) -> LiveFeed:
    return LiveFeed(configuration, asyncio.get_running_loop(), lambda: (True, ""), Past(None), ThreadPoolExecutor(1))


def names(told: bytes, what: str, name: str) -> list[str]:
    return [one[name] for one in orjson.loads(told)[what]]


async def test_browsers_come_back_for_the_catalogue_when_other_kpis_are_shown() -> None:
    feed = fed(FLOW)
    listener = feed.listen()
    feed.publish(1, points("flow_velocity", "flow_load"))
    feed.show(OTHERS)
    feed.publish(2, points("flow_velocity", "nps"))
    await asyncio.sleep(0)
    readings = [listener.get_nowait() for _ in range(3)]
    assert names(readings[1] or b"", "values", "kpi") == ["flow_velocity", "flow_load"]
    assert readings[2] is None
    assert names(feed.catalogue(), "kpis", "name") == ["flow_velocity", "nps"]
    assert names(feed.history(), "series", "kpi") == ["flow_velocity", "nps"]


async def test_browsers_stay_when_the_kpis_are_the_same() -> None:
    feed = fed(FLOW)
    listener = feed.listen()
    feed.show(selected(Configuration(kpis=("flow_load", "flow_velocity"))))
    feed.publish(1, points("flow_velocity", "nps"))
    await asyncio.sleep(0)
    listener.get_nowait()
    assert names(listener.get_nowait() or b"", "values", "kpi") == ["flow_velocity"]
    assert listener.empty()


async def test_a_beat_says_of_when_the_last_reading_is_and_not_that_there_is_one() -> None:
    feed = fed(FLOW)
    listener = feed.listen()
    feed.publish(1, points("flow_velocity"))
    await asyncio.sleep(0)
    feed.beat()
    begun, published, beat = (orjson.loads(listener.get_nowait() or b"") for _ in range(3))
    assert begun["now"] - begun["at"] in {0, 1}
    assert (published["at"], beat["at"], beat["values"]) == (1, 1, [])
    assert beat["now"] >= begun["now"]
    assert orjson.loads(feed.now())["at"] == 1
