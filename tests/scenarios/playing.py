"""Plays a scenario on a runtime, beside the driver in memory: whenever the page is looked at, both must be the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from prometheus_client.parser import text_string_to_metric_families
from scenario import At, Repeat, Restart, Scenario, Send, Shows, Staff, Wanted

from flowmetrics.configuration import Configuration
from flowmetrics.errors import Rejection
from flowmetrics.exposition import render
from flowmetrics.families import Family
from flowmetrics.instants import MINUTE_US, instant_text
from flowmetrics.source import Timed
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.testing import Driver

Series: TypeAlias = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""The KPI series of a page: (name, labels) → value."""

PATIENCE_SECONDS: Final = 90.0
"""How long a page may take to show what it must on a busy machine; none takes that long on an idle one."""
POLL_SECONDS: Final = 0.01
AFTERWARDS_US: Final = 5 * MINUTE_US
"""The page is looked at once more so long after the last step."""
DIFFERENCES_SHOWN: Final = 10


class Clock:
    """The time of a scenario; whoever runs asks it."""

    now = 0

    def __call__(self) -> int:
        return self.now


class Runtime(Protocol):
    """An engine that runs under the clock of a scenario."""

    async def send(self, bodies: Sequence[bytes]) -> list[str]:
        """Post events; the reasons of those that were refused, in order."""
        ...

    async def repeat(self, bodies: Sequence[bytes]) -> None:
        """Deliver accepted events again, wherever that is most awkward."""
        ...

    async def restart(self, killed: bool) -> None:
        """End the engine, in order or not, and start it again over what it stored."""
        ...

    async def staff(self, joins: bool) -> None:
        """A second worker joins or leaves; nothing where there can be only one."""
        ...

    async def page(self, expected: Series, accepted: int) -> Series:
        """The page as soon as `accepted` events were taken and it is as expected; the latest one if that never is."""
        ...


class InMemory:
    """The driver, as a runtime: what all others are held against."""

    def __init__(self, configuration: Configuration, clock: Clock) -> None:
        self.driver = Driver(configuration)
        self.accepted: list[Timed] = []
        self.bodies: list[bytes] = []
        self._source = CloudEvents(configuration.surveys)
        self._clock = clock

    async def send(self, bodies: Sequence[bytes]) -> list[str]:
        self.driver.advance(self._clock())
        answers = [self._source.read(body, self._clock()) for body in bodies]
        self.bodies += [body for body, answer in zip(bodies, answers, strict=True) if not isinstance(answer, Rejection)]
        accepted = [answer for answer in answers if not isinstance(answer, Rejection)]
        self.accepted += accepted
        self.driver.take(accepted)
        return [answer.reason.value for answer in answers if isinstance(answer, Rejection)]

    async def repeat(self, bodies: Sequence[bytes]) -> None:
        await self.send(bodies)

    async def restart(self, killed: bool) -> None:
        """It stores nothing, so it cannot."""

    async def staff(self, joins: bool) -> None:
        """It is alone."""

    async def page(self, expected: Series, accepted: int) -> Series:
        return self.shown()

    def shown(self) -> Series:
        """The page as it is now."""
        self.driver.advance(self._clock())
        return series(self.driver.families())


def series(families: Iterable[Family]) -> Series:
    """Families as they are read from a page."""
    return series_of(render(families))


def series_of(page: bytes) -> Series:
    """All series of a page."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


class Page:
    """What a page of a real engine says: its KPI series, and how many events it counts."""

    def __init__(self, configuration: Configuration) -> None:
        self._kpis = {family.name for family in Driver(configuration).families()}

    def kpis(self, page: bytes) -> Series:
        """The series of KPIs; what the engine says about itself is its own affair."""
        return {key: value for key, value in series_of(page).items() if key[0] in self._kpis}

    @staticmethod
    def accepted(page: bytes) -> float:
        """How many events were taken."""
        return sum(v for (name, _), v in series_of(page).items() if name == "flowmetrics_events_accepted_total")


async def shown_in_time(look: Callable[[], tuple[Series, float]], expected: Series, accepted: int) -> Series:
    """What a page shows once it counts so many events and is as expected; the latest when that takes too long.

    More events may be counted: who was told to send again has perhaps sent twice.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        shown, counted = look()
        if (shown == expected and counted >= accepted) or time.monotonic() > until:
            assert counted >= accepted, f"{counted:g} of {accepted} events were taken in {PATIENCE_SECONDS:g} s"
            return shown
        await asyncio.sleep(POLL_SECONDS)


async def play(scenario: Scenario, runtime: Runtime, clock: Clock) -> None:
    """Play a scenario to its end. Fails where the page is not the driver's, or not what the scenario says."""
    model = InMemory(scenario.configuration, clock)
    for action in scenario.actions:
        match action:
            case At(instant):
                clock.now = instant
            case Send(bodies, refused):
                for engine in (model, runtime):
                    reasons = await engine.send(bodies)
                    assert reasons == list(refused), f"{scenario.name}: {reasons} are refused, and must be {refused}"
            case Repeat():
                again = model.bodies[::-1]
                await model.repeat(again)
                await runtime.repeat(again)
            case Restart(killed):
                await runtime.restart(killed)
            case Staff(joins):
                await runtime.staff(joins)
            case Shows(wanted):
                shown = await _look(scenario, runtime, model, clock)
                missing = [text for one in wanted if (text := _missed(one, shown))]
                assert not missing, "\n".join(f"{scenario.name}:{text}" for text in missing)
    clock.now += AFTERWARDS_US
    await _look(scenario, runtime, model, clock)


async def _look(scenario: Scenario, runtime: Runtime, model: InMemory, clock: Clock) -> Series:
    expected = model.shown()
    shown = await runtime.page(expected, len(model.bodies))
    differences = [_difference(key, shown, expected) for key in _differing(shown, expected)]
    told = "\n".join(differences[:DIFFERENCES_SHOWN])
    at = instant_text(clock.now)
    assert not differences, f"{scenario.name}: at {at} {len(differences)} series are not the driver's:\n{told}"
    return shown


def _differing(shown: Series, expected: Series) -> list[tuple[str, frozenset[tuple[str, str]]]]:
    return sorted(
        (key for key in shown.keys() | expected.keys() if shown.get(key) != expected.get(key)),
        key=lambda key: (key[0], sorted(key[1])),
    )


def _difference(key: tuple[str, frozenset[tuple[str, str]]], shown: Series, expected: Series) -> str:
    return f"{_text(key)} is {shown.get(key, 'absent')}, and the driver's {expected.get(key, 'absent')}"


def _missed(wanted: Wanted, shown: Series) -> str:
    """What is wrong with one series; nothing where it is as wanted."""
    value = shown.get((wanted.name, frozenset(wanted.labels.items())))
    if wanted.holds(value):
        return ""
    others = "\n  ".join(sorted(f"{_text(key)} {n:g}" for key, n in shown.items() if key[0] == wanted.name))
    is_now = "absent" if value is None else f"{value:g}"
    there_are = f"there are\n  {others}" if others else "there is none of this name"
    return f"{wanted.line}: {wanted.name} must be {wanted.text} and is {is_now}; {there_are}"


def _text(key: tuple[str, frozenset[tuple[str, str]]]) -> str:
    return f"{key[0]}{{{', '.join(f'{label}={value}' for label, value in sorted(key[1]))}}}"
