"""What is declared of the engine is what each runtime shows."""

from __future__ import annotations

from agents.kafka.families import unit_families
from flowmetrics.engine_metrics import EVERYWHERE, ON_KAFKA, EngineCounters, epoch_families, process_families


def test_both_runtimes_make_what_is_declared_of_both() -> None:
    made = [*process_families(True, 0), *EngineCounters([]).families(0), *epoch_families(None, None)]
    assert sorted((family.name, family.help) for family in made) == sorted(
        (each.name, each.help) for each in EVERYWHERE
    )


def test_workers_on_kafka_make_what_is_declared_of_them() -> None:
    made = unit_families([], {}, lambda unit: 0.0)
    assert [(family.name, family.help) for family in made] == [(each.name, each.help) for each in ON_KAFKA]
