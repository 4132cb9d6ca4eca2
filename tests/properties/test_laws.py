"""The truth law and the set law over small adversarial worlds: the engine in memory against brute force."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import instant, oracle
from worlds import KINDS, Event, World, deliveries, line, worlds

from flowmetrics.configuration import Configuration
from flowmetrics.testing import Driver

kinds = pytest.mark.parametrize("kind", KINDS)
often = settings(max_examples=settings().max_examples * 3 // 2)


def kpi_values(driver: Driver) -> dict[str, float]:
    """What is published, without the uniform layer, which says the same again."""
    return {name: value for name, value in driver.values().items() if not name.startswith("flowmetrics_kpi_")}


def feed(driver: Driver, batches: Iterable[Iterable[Event]]) -> None:
    for batch in batches:
        driver.deliver([line(event) for event in batch])
    assert not driver.rejected


def agrees(name: str, got: float, want: float, configuration: Configuration) -> bool:
    """Percentiles within 1 %, ages within 1 % or one pane, all else exactly, up to the last digits of a ratio."""
    if name.startswith("flowmetrics_item_age_seconds"):
        return abs(got - want) <= max(0.01 * want, configuration.resolution_us / 1e6)
    if "percentile=" in name:
        return abs(got - want) <= 0.01 * want + 1e-9
    return abs(got - want) <= 1e-9 * max(1.0, abs(want))


def disagreements(
    got: Mapping[str, float], want: Mapping[str, float], configuration: Configuration
) -> dict[str, tuple[float | None, float | None]]:
    """Metric → what the engine says, what is true; None where there is no such series."""
    return {
        name: (got.get(name), want.get(name))
        for name in sorted(got.keys() | want.keys())
        if name not in got or name not in want or not agrees(name, got[name], want[name], configuration)
    }


@kinds
@often
@given(st.data())
def test_every_published_number_is_the_one_that_brute_force_gives(kind: str, data: st.DataObject) -> None:
    world = data.draw(worlds(kind))
    delivery = data.draw(deliveries(world))
    driver, delivered = Driver(world.configuration), list[Event]()
    for now, batches in zip(world.nows, delivery.batches, strict=True):
        feed(driver, batches)
        delivered += [event for batch in batches for event in batch]
        driver.advance(now)
        want = oracle(delivered, now, world.configuration)
        assert not disagreements(kpi_values(driver), want, world.configuration)


def published(world: World, batches: Iterable[Iterable[Iterable[Event]]]) -> dict[str, float]:
    driver = Driver(world.configuration)
    for now, each in zip(world.nows, batches, strict=True):
        feed(driver, each)
        driver.advance(now)
    return driver.values()


@kinds
@often
@given(st.data())
def test_what_is_published_does_not_depend_on_order_repetition_or_batches(kind: str, data: st.DataObject) -> None:
    world = data.draw(worlds(kind))
    one, other = data.draw(deliveries(world)), data.draw(deliveries(world))
    assert published(world, one.batches) == published(world, other.batches)


@kinds
@often
@given(st.data())
def test_events_ahead_of_now_are_held_until_their_time_has_come(kind: str, data: st.DataObject) -> None:
    world = data.draw(worlds(kind))
    ahead = Driver(world.configuration)
    feed(ahead, [world.events])
    for now in world.nows:
        known = [event for event in world.events if instant(event["time"]) <= now]
        ahead.advance(now)
        punctual = Driver(world.configuration, now)
        feed(punctual, [known])
        punctual.advance(now)
        assert ahead.values() == punctual.values()
        assert len(ahead.held) == len(world.events) - len(known)
