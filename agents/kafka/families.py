"""What a worker says of its units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from agents.kafka.effort import Effort
from agents.kafka.units import Unit
from flowmetrics.engine_metrics import (
    CHECKPOINT_BYTES,
    CHECKPOINT_SECONDS,
    CHECKPOINTS,
    HISTORIES_READ,
    PARTITION_LAG,
    PARTITIONS_OWNED,
    RECOVERY,
    STABLE_OFFSET_AGE,
    EngineMetric,
)
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
        if unit.recovered:
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
    told: Sequence[tuple[EngineMetric, Mapping[str, float]]] = (
        (PARTITION_LAG, lag),
        (PARTITIONS_OWNED, owned),
        (RECOVERY, recovery),
        (STABLE_OFFSET_AGE, stable),
        (CHECKPOINTS, number),
        (CHECKPOINT_SECONDS, seconds),
        (CHECKPOINT_BYTES, size),
        (HISTORIES_READ, reads),
    )
    return [metric.family({(label,): value for label, value in values.items()}) for metric, values in told]
