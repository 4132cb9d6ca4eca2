"""What a worker says of its units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from agents.kafka.effort import Effort
from agents.kafka.units import Unit
from flowmetrics.engine_metrics import counter, gauge
from flowmetrics.families import Family


def unit_families(
    units: Iterable[Unit], efforts: Mapping[str, Effort], stable_age_seconds: Callable[[Unit], float]
) -> list[Family]:
    """What a worker says of the units that it owns now, and of all its checkpoints since it began."""
    lag, stable, recovery = dict[str, float](), dict[str, float](), dict[str, float]()
    owned: Counter[str] = Counter(track=0, tally=0)
    for unit in units:
        owned[unit.step] += 1
        lag[unit.name] = unit.lag
        stable[unit.name] = stable_age_seconds(unit)
        if unit.caught_up:
            recovery[unit.name] = unit.effort.recovery_seconds
    number, seconds, size, reads = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for name, effort in efforts.items():
        step = name.partition("-")[0]
        number[step] += effort.checkpoints
        seconds[step] += effort.checkpoint_seconds  # type: ignore[assignment] # a sum of floats
        size[step] += effort.checkpoint_bytes
        reads["memory"] += effort.histories_from_memory
        reads["store"] += effort.histories_from_store
    return [
        _gauge("partition_lag_records", "Records that a partition has not taken.", "unit", lag),
        _gauge("engine_partitions_owned", "Partitions of a step that this worker owns.", "step", owned),
        _gauge("engine_recovery_seconds", "How long a unit took until it was caught up.", "unit", recovery),
        _gauge(
            "engine_stable_offset_age_seconds",
            "How long an open transaction holds back a unit's input.",
            "unit",
            stable,
        ),
        _counter("engine_checkpoints", "Transactions that were committed.", "step", number),
        _counter("engine_checkpoint_seconds", "Time that transactions took.", "step", seconds),
        _counter("engine_checkpoint_bytes", "Bytes that transactions wrote.", "step", size),
        _counter("engine_histories_read", "Histories asked for, by where they were.", "place", reads),
    ]


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Family:
    return gauge(name, text, (label,), {(key,): value for key, value in values.items()})


def _counter(name: str, text: str, label: str, values: Mapping[str, float]) -> Family:
    return counter(name, text, (label,), {(key,): value for key, value in values.items()})
