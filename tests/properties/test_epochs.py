"""Another configuration in mid-life: the old numbers are true until the new ones are complete, and those are the truth.

The real steps over histories that are stored as bytes and seldom in memory, with a sweep that goes on a few histories
at a time while events come in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import oracle
from stories import PLAIN, T, activity, customer, item
from test_laws import disagreements
from worlds import CONFIGURATIONS, DAY, HOUR, KINDS, MINUTE, Event, deliveries, line, split, worlds

from agents.histories import HotHistories
from flowmetrics.configuration import Configuration
from flowmetrics.epochs import Sweep
from flowmetrics.source import FAR_FUTURE, Timed
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.steps.audit import compare
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.stored import decode_history, encode_facts, encode_history
from flowmetrics.steps.track import keyed
from flowmetrics.testing import Driver, flat
from flowmetrics.topology import Steps, assemble

READ = ("windows_us", "percentiles", "timezone", "value_streams", "time_to_value", "eligible")
"""What of a configuration may change without a look into the log, beside the resolution."""


class Shelf:
    """Histories as bytes."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}

    def histories(self, keys: Sequence[str]) -> Iterable[tuple[str, bytes]]:
        return [(key, self.bodies[key]) for key in keys if key in self.bodies]

    def told(self) -> AbstractContextManager[None]:
        return nullcontext()


class Engine:
    """One partition, one published epoch, and perhaps one that is coming."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.shelf = Shelf()
        self.histories = HotHistories(self.shelf, 2)
        self.table = SeriesTable(())
        self.steps = assemble(configuration, self.table, 0)
        self.now, self.epoch = 0, 0
        self.held: list[Timed] = []
        self.source = CloudEvents(configuration.surveys)
        self.coming: tuple[Configuration, Sweep, Steps] | None = None

    def deliver(self, events: Sequence[Event]) -> None:
        timed = [self.source.read(line(event), FAR_FUTURE) for event in events]
        self._take([one for one in timed if isinstance(one, tuple)])

    def advance(self, now: int) -> None:
        self.now = max(now, self.now)
        due, self.held = self.held, []
        self._take(due)

    def _take(self, batch: Sequence[Timed]) -> None:
        self.held += [timed for timed in batch if timed[0] > self.now]
        told = keyed(timed for timed in batch if timed[0] <= self.now)
        tracked = self.steps.track(told, self.histories)
        self.steps.tally.apply(tracked.changes)
        if self.coming is not None:
            _, sweep, steps = self.coming
            steps.tally.apply(sweep.emit(tracked.touched, self.histories))
        self._store(tracked.touched)

    def begin(self, configuration: Configuration) -> None:
        """Build another epoch; one that was being built is given up."""
        self.coming = configuration, Sweep(configuration, self.table), assemble(configuration, self.table, self.now)

    def give_up(self) -> None:
        self.coming = None

    def sweep(self, most: int) -> None:
        """Go on with the coming epoch, and publish it at the end."""
        if self.coming is None:
            return
        configuration, sweep, steps = self.coming
        keys = [key for key in sorted(self.shelf.bodies, key=str.encode) if key > sweep.cursor][:most]
        if keys:
            steps.tally.apply(sweep.advance(keys, self.histories))
            self._store(keys)
        else:
            self.configuration, self.steps, self.coming = configuration, steps, None
            self.epoch += 2
            self.histories.enter(self.epoch)

    def _store(self, keys: Iterable[str]) -> None:
        self.shelf.bodies.update(self.histories.rows(keys))
        self.histories.age()

    def values(self) -> dict[str, float]:
        self.steps.tally.advance(self.now)
        return flat(self.steps.read.families(self.steps.tally, self.now))

    def audit(self) -> list[object]:
        track, tally, _ = self.steps
        oldest = tally.pane - self.configuration.panes(self.configuration.horizon_us)
        return [*compare(sorted(self.shelf.bodies), self.histories, track, tally, self.table, oldest)]


@st.composite
def other_readings(draw: st.DrawFn, configuration: Configuration) -> Configuration:
    """The configuration with other values of some keys that are `read`."""
    other = CONFIGURATIONS[draw(st.sampled_from(sorted(CONFIGURATIONS)))]
    some = draw(st.sets(st.sampled_from(READ), min_size=1))
    changed = replace(configuration, **{name: getattr(other, name) for name in some})
    finer = replace(changed, resolution_us=other.resolution_us)
    return finer if draw(st.booleans()) and finer.grain_us == configuration.grain_us else changed


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_every_published_number_is_true_under_the_old_configuration_until_it_is_under_the_new(
    kind: str, data: st.DataObject
) -> None:
    world = data.draw(worlds(kind))
    delivery = data.draw(deliveries(world))
    readings = [world.configuration, *(data.draw(other_readings(world.configuration)) for _ in range(2))]
    engine, drivers = Engine(readings[0]), [Driver(reading) for reading in readings]
    published = wanted = 0
    delivered: list[Event] = []

    def agree() -> None:
        assert engine.values() == drivers[published].values()

    for now, batches in zip(world.nows, delivery.batches, strict=True):
        for batch in [*(some for each in batches for some in split(each, 2)), []]:
            what = data.draw(st.sampled_from(("begin", "begin", "return", "sweep", "sweep", "sweep", "nothing")))
            if what == "begin" and (new := data.draw(st.integers(0, 2))) not in (published, wanted):
                engine.begin(readings[new])
                wanted = new
            elif what == "return":
                engine.give_up()
                wanted = published
            elif what == "sweep":
                engine.sweep(data.draw(st.integers(1, 3)))
                published = wanted if engine.coming is None else published
            agree()
            engine.deliver(batch)
            delivered += batch
            for driver in drivers:
                driver.deliver([line(event) for event in batch])
            agree()
        engine.advance(now)
        for driver in drivers:
            driver.advance(now)
        agree()
        assert not engine.audit()
        got = {name: value for name, value in engine.values().items() if not name.startswith("flowmetrics_kpi_")}
        assert not disagreements(got, oracle(delivered, now, readings[published]), readings[published])
    while engine.coming is not None:
        agree()
        engine.sweep(2)
    published = wanted
    agree()
    assert not engine.audit()


# --- one at a time ------------------------------------------------------------------------------------------------

LATE = replace(PLAIN, windows_us=(7 * DAY,), timezone="Asia/Seoul")


def swept(engine: Engine, portions: int = -1) -> Engine:
    """The engine after some portions of one history each, or after all."""
    while portions and engine.coming is not None:
        engine.sweep(1)
        portions -= 1
    return engine


def engine_with(*batches: Sequence[Event], now: int = 30 * DAY) -> Engine:
    engine = Engine(PLAIN)
    engine.advance(T + now)
    for batch in batches:
        engine.deliver(batch)
    return engine


def in_memory(configuration: Configuration, *events: Event, now: int = 30 * DAY) -> dict[str, float]:
    driver = Driver(configuration, T + now)
    driver.deliver([line(event) for event in events])
    driver.advance(T + now)
    return driver.values()


def test_a_history_at_the_cursor_emits_and_one_just_above_it_waits_for_its_turn() -> None:
    events = [item(0, "Doing", "A"), item(0, "Doing", "B"), item(0, "Doing", "C")]
    more = [item(HOUR, "Done", name) for name in ("A", "B", "C", "AB", "D")]
    for portions in range(5):
        engine = engine_with(events)
        engine.begin(LATE)
        swept(engine, portions)
        engine.deliver(more)
        configuration = PLAIN if portions < 4 else LATE
        assert engine.values() == in_memory(configuration, *events, *more)
        assert swept(engine).values() == in_memory(LATE, *events, *more)
        assert not engine.audit()


def test_keys_are_in_the_order_of_their_bytes_beyond_the_first_plane_too() -> None:
    names = ["\uffff", "\U0001f600", "\u00e9", "z", ""]
    sweep = Sweep(PLAIN, SeriesTable(()))
    for cursor in names:
        sweep.cursor = cursor
        assert [sweep.swept(name) for name in names] == [name.encode() <= cursor.encode() for name in names]


def test_a_group_of_ids_that_lies_on_both_sides_of_the_cursor_is_emitted_below_it_only() -> None:
    """Under the new epoch the head of the group emits at once, and takes over from whom it is linked to later."""
    events = [activity(0, who) for who in ("ann", "bob", "eve")]
    link = customer(HOUR, "eve", aliases=["ann", "bob"])
    apart = customer(2 * HOUR, "eve", aliases=["ann"])
    for portions in range(4):
        engine = engine_with(events)
        engine.begin(LATE)
        swept(engine, portions).deliver([link])
        assert engine.values() == in_memory(PLAIN, *events, link)
        engine.deliver([apart])
        assert engine.values() == in_memory(PLAIN, *events, link, apart)
        assert swept(engine).values() == in_memory(LATE, *events, link, apart)
        assert not engine.audit()


def test_a_history_is_swept_as_if_nothing_were_known_of_an_epoch_that_was_given_up() -> None:
    events = [activity(0, "ann"), item(0, "Doing", "A")]
    engine = engine_with(events)
    engine.begin(replace(PLAIN, timezone="America/Havana"))
    swept(engine, 2)
    engine.begin(LATE)
    engine.deliver([activity(HOUR, "ann")])
    assert swept(engine).values() == in_memory(LATE, *events, activity(HOUR, "ann"))
    assert not engine.audit()


def test_what_a_history_contributed_under_the_coming_epoch_is_taken_back_once_that_is_published() -> None:
    events = [item(0, "Done", "A"), item(0, "Done", "B")]
    gone = item(HOUR, "Done", "B", deleted=True)
    engine = engine_with(events)
    engine.begin(LATE)
    swept(engine).deliver([gone])
    assert engine.values() == in_memory(LATE, *events, gone)
    assert not engine.audit()


def test_one_epoch_after_another_takes_back_what_was_given_under_the_one_before() -> None:
    names = ("A", "B", "C")
    told = [item(0, "Done", name) for name in names]
    engine = engine_with(told)
    for hours, reading in enumerate((LATE, replace(LATE, timezone="America/Havana"), PLAIN, LATE), start=1):
        engine.begin(reading)
        told.append(item(hours * HOUR, "Doing" if hours % 2 else "Done", "B"))
        swept(engine, hours % 3).deliver(told[-1:])
        assert swept(engine).values() == in_memory(reading, *told)
        for state in ("Doing", "Done"):
            told.append(item(hours * HOUR + MINUTE, state, f"new under epoch {hours}"))
            engine.deliver(told[-1:])
            engine.histories.forget()
        assert engine.values() == in_memory(reading, *told)
        assert not engine.audit()


def test_two_activities_may_lie_in_one_day_of_the_old_time_zone_and_in_two_of_the_new() -> None:
    """The event changes no day under the published epoch; under the coming one it does."""
    events = [activity(HOUR, "ann"), item(0, "Doing", "Z")]
    night = activity(13 * HOUR, "ann")
    engine = engine_with(events, now=DAY)
    engine.begin(LATE)
    swept(engine, 1).deliver([night])
    assert engine.values() == in_memory(PLAIN, *events, night, now=DAY)
    assert swept(engine).values() == in_memory(LATE, *events, night, now=DAY)


# --- as stored ----------------------------------------------------------------------------------------------------


def test_what_was_stored_before_there_were_epochs_is_read_as_of_epoch_0() -> None:
    engine = engine_with([item(0, "Done", "A"), activity(0, "ann")])
    for key, body in engine.shelf.bodies.items():
        history = decode_history(key, body)
        assert encode_history(history) == body
        assert body.endswith(b"\x00\x80")  # the epoch, and an empty map
        older = bytes([body[0] - 2]) + body[1:-2]
        assert decode_history(key, older) == history


def test_what_is_told_of_a_history_to_others_does_not_depend_on_epochs() -> None:
    engine = engine_with([item(0, "Done", "A")])
    told = encode_facts(engine.histories["item:A"])
    engine.begin(LATE)
    swept(engine, 1)
    history = engine.histories["item:A"]
    assert history.coming
    assert encode_facts(history) == told
    assert history.coming
    assert encode_facts(swept(engine).histories["item:A"]) == told
