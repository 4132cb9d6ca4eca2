"""The pictures of work agree with a reading by hand, and with the KPIs of the same items."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import orjson
import pytest

from agents.demo.producers import Company
from flowmetrics.configuration import Configuration
from flowmetrics.diagrams import INSTANTS, Diagrams, diagrams
from flowmetrics.driver import Driver
from flowmetrics.entities.work_item import ItemHistory
from flowmetrics.instants import DAY_US, HOUR_US, instant_text, parse_instant

NOW = parse_instant("2025-03-05T00:00:00Z")


def drawn(driver: Driver, stream: str, window_us: int) -> Diagrams:
    items = [(key, one) for key, one in driver.histories.items() if isinstance(one, ItemHistory)]
    return diagrams(items, stream, driver.configuration, NOW, window_us)


def told(*facts: tuple[int, dict[str, Any]]) -> Driver:
    """A driver that was told what happened to items so many hours before now."""
    driver = Driver(Configuration())
    driver.advance(NOW)
    driver.deliver(
        orjson.dumps(
            {
                "specversion": "1.0", "id": str(n), "source": "tests", "type": "flowmetrics.item.v1",
                "time": instant_text(NOW - hours * HOUR_US), "data": {"value_stream": "shop", **fields},
            }
        )
        for n, (hours, fields) in enumerate(facts)
    )  # fmt: skip
    return driver


def item(name: str, state: str, **more: Any) -> dict[str, Any]:
    return {"item": name, "state": state, **more}


def at(picture: Diagrams, hours_ago: int) -> dict[str, int]:
    """The counts at the last instant up to so many hours before now."""
    index = bisect_right(picture.instants, NOW - hours_ago * HOUR_US) - 1
    return {state: counts[index] for state, counts in picture.counts.items()}


def test_an_item_is_counted_where_it_stays_and_done_begins_at_nothing() -> None:
    picture = drawn(
        told(
            (50, item("A", "Backlog")), (40, item("A", "Ready")), (30, item("A", "In Progress")),
            (20, item("A", "Done")),
            (99, item("OLD", "Done")), (45, item("B", "Ready")), (15, item("B", "Cancelled")),
            (44, item("C", "Ready", value_stream="other")),
        ),
        "shop", 60 * HOUR_US,
    )  # fmt: skip
    assert at(picture, 55) == {"new": 0, "waiting": 0, "active": 0, "done": 0}
    assert at(picture, 42) == {"new": 1, "waiting": 1, "active": 0, "done": 0}
    assert at(picture, 35) == {"new": 0, "waiting": 2, "active": 0, "done": 0}
    assert at(picture, 25) == {"new": 0, "waiting": 1, "active": 1, "done": 0}
    assert at(picture, 10) == {"new": 0, "waiting": 0, "active": 0, "done": 1}
    assert len(picture.instants) == INSTANTS
    assert picture.instants[-1] == NOW


def test_who_is_blocked_waits_and_time_that_is_left_out_is_no_stay() -> None:
    facts = [(30, item("A", "Doing")), (20, item("A", "Doing", blocked=True)), (10, item("A", "Doing", blocked=False))]
    picture = drawn(told(*facts), "shop", 40 * HOUR_US)
    assert [at(picture, hours)["waiting"] for hours in (25, 15, 5)] == [0, 1, 0]
    assert [at(picture, hours)["active"] for hours in (25, 15, 5)] == [1, 0, 1]


@pytest.fixture(scope="module")
def company() -> Driver:
    """A company of nine days."""
    driver = Driver(Configuration())
    driver.advance(NOW)
    driver.deliver(Company(seed=7, begin=NOW).past(days=9))
    driver.read.points(driver.tally, NOW)
    return driver


def published(company: Driver, kpi: str, stream: str, *labels: str) -> float | None:
    return next(p.value for _, p in company.read.latest[kpi, stream] if p.labels == labels)


@pytest.mark.parametrize("stream", ["checkout", "search", "mobile-app"])
def test_the_pictures_agree_with_the_kpis(company: Driver, stream: str) -> None:
    picture = drawn(company, stream, 7 * DAY_US)
    velocity = published(company, "flow_velocity", stream, "all", "7d")
    assert velocity is not None
    assert len(picture.finished) <= velocity, "those without a known start have no dot"
    states = [one.state for one in picture.ageing]
    for state in ("waiting", "active"):
        load = published(company, "flow_load", stream, "all", state)
        assert picture.counts[state][-1] == load == states.count(state)
    for name, us in picture.percentiles.items():
        value = published(company, "flow_time", stream, "all", "7d", name)
        assert value is not None
        assert us / 1e6 == pytest.approx(value, rel=0.011)
    ages = [one.age_us for one in picture.ageing]
    assert ages == sorted(ages, reverse=True)
