"""How many partitions there are, and in which order their mail is read, changes no number."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import oracle
from stories import STATES, T, activity, item
from test_laws import disagreements
from worlds import HOUR, KINDS, Event, deliveries, line, worlds

from flowmetrics.configuration import Configuration, ValueStream
from flowmetrics.testing import Partitioned

FREE = Configuration(value_streams=(("*", ValueStream(states=STATES)),), kpis=("flow_velocity", "active_users"))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=settings().max_examples * 3 // 2)
@given(st.data(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_every_published_number_is_the_truth_over_any_number_of_partitions(
    kind: str, data: st.DataObject, partitions: int, random: Random
) -> None:
    world = data.draw(worlds(kind))
    delivery = data.draw(deliveries(world))
    engine, delivered = Partitioned(world.configuration, partitions, random.randrange), list[Event]()
    for now, batches in zip(world.nows, delivery.batches, strict=True):
        for batch in batches:
            engine.deliver([line(event) for event in batch])
            delivered += batch
        engine.advance(now)
        got = {name: value for name, value in engine.values().items() if not name.startswith("flowmetrics_kpi_")}
        assert not disagreements(got, oracle(delivered, now, world.configuration), world.configuration)


@given(
    st.dictionaries(st.sampled_from("abcdefghij"), st.integers(1, 3), min_size=1),
    st.integers(1, 4),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_value_streams_beyond_a_limit_are_in_one_overflow_or_in_none_and_the_others_are_true(
    told: dict[str, int], partitions: int, limit: int, random: Random
) -> None:
    engine = Partitioned(FREE, partitions, random.randrange)
    done = [line(item(0, "Done", f"{stream}{n}", stream=stream)) for stream, most in told.items() for n in range(most)]
    events = [*done, *(line(activity(0, stream=stream)) for stream in told)]
    random.shuffle(events)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("flowmetrics.steps.tally.VALUE_STREAMS_MAX", limit)
        engine.deliver(events)
        engine.advance(T + HOUR)
    values, name = engine.values(), 'flowmetrics_flow_velocity_items{value_stream="%s",item_type="all",window="1d"}'
    got = {stream: n for stream in (*told, "other") if (n := values.get(name % stream)) is not None}
    beyond = told.keys() - got.keys()
    assert {stream: n for stream, n in got.items() if stream != "other"} == {s: told[s] for s in told.keys() - beyond}
    assert got.get("other", 0) == sum(told[s] for s in beyond if engine.home(s) == engine.home("other"))
    counted = {n for n, tally in enumerate(engine.tallies) if tally.counted["label_overflow", "value_stream"]}
    assert counted == {engine.home(stream) for stream in beyond}
