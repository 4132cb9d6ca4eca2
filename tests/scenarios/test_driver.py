"""The scenarios in memory: on the driver, on three partitions that send each other mail, with all events at once."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from playing import Clock, InMemory, Series, play, series_of
from scenario import Scenario, Shows, scenarios

from flowmetrics.configuration import Configuration
from flowmetrics.kpis import catalogue
from flowmetrics.testing import Partitioned

ALL = scenarios()
each_scenario = pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)


class Partitions(InMemory):
    """Three partitions in memory, whose mail is read in a random order; what arrives is judged as the driver does."""

    def __init__(self, configuration: Configuration, clock: Clock) -> None:
        super().__init__(configuration, clock)
        self._partitions = Partitioned(configuration, 3, random.Random(1).randrange)

    async def send(self, bodies: Sequence[bytes]) -> list[str]:
        before = len(self.bodies)
        refused = await super().send(bodies)
        self._partitions.advance(self._clock())
        self._partitions.deliver(self.bodies[before:])
        return refused

    def shown(self) -> Series:
        self._partitions.advance(self._clock())
        return series_of("".join(f"{name} {value}\n" for name, value in self._partitions.values().items()).encode())


@each_scenario
async def test_each_scenario_is_true_on_the_driver(scenario: Scenario) -> None:
    clock = Clock()
    await play(scenario, InMemory(scenario.configuration, clock), clock)


@each_scenario
async def test_each_scenario_is_true_on_three_partitions(scenario: Scenario) -> None:
    clock = Clock()
    await play(scenario, Partitions(scenario.configuration, clock), clock)


@pytest.mark.parametrize(
    "scenario",
    [one for one in ALL if one.name != "labels-overflow.yaml"],  # which labels overflow depends on the order: exempted
    ids=lambda one: one.name,
)
async def test_the_last_page_of_each_scenario_depends_on_its_events_and_not_on_their_order(scenario: Scenario) -> None:
    clock = Clock()
    told = InMemory(scenario.configuration, clock)
    await play(scenario, told, clock)
    for seed in range(3):
        at_once = InMemory(scenario.configuration, clock)
        at_once.driver.advance(clock())
        at_once.driver.take(random.Random(seed).sample(told.accepted, len(told.accepted)))
        assert at_once.shown() == told.shown()


def test_every_metric_of_every_kpi_is_shown_by_some_scenario() -> None:
    kpis = catalogue(Configuration())
    metrics = {name for kpi in kpis for name in (kpi.metric, *(companion.name for companion in kpi.companions))}
    looks = [action for scenario in ALL for action in scenario.actions if isinstance(action, Shows)]
    assert metrics == {wanted.name for look in looks for wanted in look.series}


def test_no_two_scenarios_tell_the_same_story() -> None:
    assert len({scenario.title for scenario in ALL}) == len(ALL)
