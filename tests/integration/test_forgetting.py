"""What the engine lets go of: histories, the log, the reading under another configuration. No figure may tell of it.

The real journal and runner over a directory, in virtual time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from worlds import DAY, HOUR, MINUTE, T0, Event, line, text

from agents.local.journal import Fault, Journal, no_fault
from agents.local.runner import Runner
from flowmetrics.configuration import Configuration
from flowmetrics.limits import HORIZON_US_MIN, LATENESS_DAYS
from flowmetrics.testing import Driver, sample_text

SHORT: Final = Configuration(horizon_us=HORIZON_US_MIN, log_retention_us=DAY)
FORGOTTEN: Final = 2 * HORIZON_US_MIN + (40 + LATENESS_DAYS) * DAY
"""Nobody who was heard of since is forgotten."""

_ACTIVE: Final = 'flowmetrics_active_users{value_stream="shop",window="30d"}'


class Died(BaseException):
    """The process is no more."""


def told(kind: str, after: int, **data: object) -> Event:
    stream = {} if kind in ("customer", "erase") else {"value_stream": "shop"}
    return {
        "specversion": "1.0",
        "id": f"{kind} {after} {sorted(data.items())}",
        "source": "s",
        "type": f"flowmetrics.{kind}.v1",
        "time": text(T0 + after),
        "data": {**stream, **data},
    }


def activity(after: int, who: str) -> Event:
    return told("activity", after, customer=who)


def request(after: int, name: str, state: str, **more: str) -> Event:
    return told("request", after, request=name, state=state, **more)


@contextmanager
def opened(directory: Path, configuration: Configuration, after: int, fault: Fault = no_fault) -> Iterator[Runner]:
    """The engine over what is stored, `after` T0."""
    journal = Journal(directory, fault)
    try:
        yield Runner(configuration, journal, "2025.1", T0 + after)
    finally:
        journal.close()


def take(runner: Runner, after: int, *events: Event, arrived: int | None = None) -> None:
    """Deliver events and take them, `after` T0; the clock of the intake may say otherwise."""
    runner.journal.append([line(event) for event in events], T0 + (after if arrived is None else arrived))
    while runner.step(T0 + after):
        pass


def build(runner: Runner) -> None:
    """Build the coming epoch to its end."""
    while runner.build():
        pass


def figures(runner: Runner, after: int) -> dict[str, float]:
    return {
        sample_text(family.name, sample): sample.value
        for family in runner.families(T0 + after)
        for sample in family.samples
    }


def in_memory(configuration: Configuration, after: int, events: Sequence[Event]) -> dict[str, float]:
    """What an engine publishes that forgot nothing."""
    driver = Driver(configuration)
    driver.deliver([line(event) for event in events])
    driver.advance(T0 + after)
    return driver.values()


def keys(runner: Runner) -> list[str]:
    return list(runner.journal.keys())


# --- histories ----------------------------------------------------------------------------------------------------


def test_somebody_who_was_only_mentioned_is_remembered_while_who_named_them_is_alive(tmp_path: Path) -> None:
    before = [activity(0, "ann"), told("customer", 0, customer="ann", aliases=["bob"])]
    after = activity(HOUR, "bob")
    with opened(tmp_path, SHORT, 0) as runner:
        take(runner, 0, *before)
        runner.forget()
        take(runner, HOUR, after)
        assert figures(runner, HOUR)[_ACTIVE] == 1
        assert figures(runner, HOUR) == in_memory(SHORT, HOUR, [*before, after])
        assert not list(runner.audit())


def test_a_request_that_was_only_named_is_remembered_while_its_duplicate_is_alive(tmp_path: Path) -> None:
    before = request(0, "R2", "Open", duplicate_of="R1")
    after = request(2 * HOUR, "R1", "Solved")
    with opened(tmp_path, SHORT, 0) as runner:
        take(runner, 0, before)
        runner.forget()
        take(runner, 2 * HOUR, after)
        assert figures(runner, 2 * HOUR) == in_memory(SHORT, 2 * HOUR, [before, after])
        assert not list(runner.audit())


def test_the_silent_head_of_a_group_is_remembered_while_anyone_of_the_group_is_alive(tmp_path: Path) -> None:
    """What the group contributed lies with its head."""
    last = FORGOTTEN + DAY
    events = [
        activity(0, "ann"),
        told("customer", 0, customer="ann", aliases=["bob"]),
        *(activity(day * DAY, "bob") for day in (50, 100, 130)),
        activity(last, "bob"),
    ]
    with opened(tmp_path, SHORT, 0) as runner:
        for event in events[:-1]:
            take(runner, 130 * DAY, event)
        runner.step(T0 + last)
        runner.families(T0 + last)
        runner.forget()
        take(runner, last, events[-1])
        assert figures(runner, last)[_ACTIVE] == 1
        assert figures(runner, last) == in_memory(SHORT, last, events)
        assert not list(runner.audit())


def test_a_history_is_kept_while_its_old_events_are_still_being_imported(tmp_path: Path) -> None:
    events = [request(-FORGOTTEN - DAY, "R1", "Open"), request(-HOUR, "R1", "Solved")]
    with opened(tmp_path, SHORT, 0) as runner:
        take(runner, 0, events[0])
        runner.forget()
        take(runner, MINUTE, events[1])
        assert figures(runner, MINUTE) == in_memory(SHORT, MINUTE, events)
        assert not list(runner.audit())


def test_a_change_of_configuration_keeps_nobody_longer(tmp_path: Path) -> None:
    with opened(tmp_path, SHORT, 0) as runner:
        take(runner, 0, activity(0, "ann"))
    with opened(tmp_path, replace(SHORT, percentiles=(50,)), DAY) as runner:
        build(runner)
        runner.step(T0 + FORGOTTEN + 1)
        runner.forget()
        assert keys(runner) == []


def test_who_was_heard_of_is_remembered_and_a_group_while_any_of_it_was(tmp_path: Path) -> None:
    with opened(tmp_path, SHORT, 0) as runner:
        take(runner, 0, activity(0, "ann"), told("customer", 0, customer="ann", aliases=["bob"]))
        take(runner, 0, activity(0, "eve"), activity(0, "kim"), request(0, "R1", "Open"))
        take(runner, HOUR, activity(HOUR, "kim"), request(HOUR, "R1", "Solved"))
        take(runner, DAY, activity(DAY, "bob"))
        linked = ["customer:ann", "customer:bob"]
        for after, left in (
            (FORGOTTEN, [*linked, "customer:eve", "customer:kim", "request:R1"]),
            (FORGOTTEN + 1, [*linked, "customer:kim", "request:R1"]),
            (FORGOTTEN + HOUR, [*linked, "customer:kim", "request:R1"]),
            (FORGOTTEN + HOUR + 1, linked),
            (FORGOTTEN + DAY, linked),
            (FORGOTTEN + DAY + 1, []),
        ):
            runner.families(T0 + after)
            runner.forget()
            assert keys(runner) == left


# --- the log ------------------------------------------------------------------------------------------------------


def test_the_log_has_no_hole_after_the_clock_stepped_back(tmp_path: Path) -> None:
    """What arrived first was stamped late; the second event looks old enough to go, and must not go alone."""
    arrivals = (0, -2 * DAY, MINUTE)
    events = [request(arrived, f"R{arrived}", "Solved") for arrived in arrivals]
    with opened(tmp_path, SHORT, 0) as runner:
        for event, arrived in zip(events, arrivals, strict=True):
            take(runner, MINUTE, event, arrived=arrived)
        runner.forget()
        held = [one for _, lines in runner.journal.read(0, 10) for one in lines]
        assert runner.journal.first() == 0
        assert held == [line(event) for event in events]
    longer = replace(SHORT, horizon_us=60 * DAY)
    with opened(tmp_path, longer, HOUR) as runner:
        take(runner, HOUR)
        assert figures(runner, HOUR) == in_memory(longer, HOUR, events)


def test_the_log_is_trimmed_from_its_beginning_to_the_first_event_that_is_young_or_not_taken(tmp_path: Path) -> None:
    with opened(tmp_path, SHORT, 0) as runner:
        journal = runner.journal
        for number, arrived in enumerate((0, 1, DAY, 0, 0)):
            journal.append([line(request(0, f"R{number}", "Solved"))], T0 + arrived)
        assert journal.trim(T0, 5) == 0
        assert journal.trim(T0 + HOUR, 1) == 1
        assert journal.trim(T0 + HOUR, 5) == 1
        assert (journal.first(), journal.end) == (2, 5)
        assert journal.trim(T0 + 2 * DAY, 4) == 2
        assert (journal.first(), journal.end) == (4, 5)
        assert journal.trim(T0 + 2 * DAY, 5) == 1
        assert (journal.first(), journal.end) == (5, 5)


# --- another configuration ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(SHORT, timezone="Asia/Seoul"), id="read"),
        pytest.param(replace(SHORT, horizon_us=60 * DAY), id="write"),
    ],
)
def test_a_reading_that_dies_before_its_fingerprints_are_written_leaves_the_old_one(
    tmp_path: Path, other: Configuration
) -> None:
    """The operator takes the new configuration back: nothing of it may be left."""
    events = [activity(0, "ann"), activity(20 * HOUR, "ann")]
    with opened(tmp_path, SHORT, 0) as runner:
        take(runner, DAY, *events)
        runner.store_panes()
        before = figures(runner, DAY)

    def fault(write: str) -> None:
        if write == "fingerprints":
            raise Died

    with pytest.raises(Died), opened(tmp_path, other, DAY, fault) as runner:
        build(runner)
    with opened(tmp_path, SHORT, DAY) as runner:
        take(runner, DAY)
        assert figures(runner, DAY) == before
        assert before != in_memory(replace(SHORT, timezone="Asia/Seoul"), DAY, events)
