"""How many partitions there are, and in which order their mail is read, changes no number."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import oracle
from test_laws import disagreements
from worlds import KINDS, Event, deliveries, line, worlds

from flowmetrics.testing import Partitioned


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
