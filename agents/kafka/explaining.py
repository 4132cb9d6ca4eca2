"""What a partition knows of one entity, read from its changelog beside the worker that has it."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from agents.kafka.connection import Connection
from agents.kafka.reading import Progress, records_of, shape_of
from agents.kafka.topics import Topics
from agents.kafka.tracking import HISTORY, POSITION, SERIES, Position, same_shape
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError
from flowmetrics.explain import explanation
from flowmetrics.kpis import selected
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.stored import decode_history

_NUMBER: Final = struct.Struct(">q")
_SERIES: Final = msgspec.msgpack.Decoder(tuple[str, ...]).decode


async def explanation_of(
    connection: Connection, topics: Topics, configuration: Configuration, number: int, key: str, progress: Progress
) -> list[str]:
    """The facts of an entity of partition `number` and what they contribute, in words.

    Raises OperationError for an unknown key, and where the partition was written under another configuration.
    """
    wanted, body, position = HISTORY + key.encode(), None, None
    series: dict[int, tuple[str, ...]] = {}
    async for record in records_of(connection, topics.track, number, 0, progress):
        if record.key == wanted:
            body = record.value
        elif record.key == POSITION:
            position = record.value
        elif record.key is not None and record.key[:1] == SERIES and record.value is not None:
            series[_NUMBER.unpack(record.key[1:])[0]] = _SERIES(record.value)
    if body is None:
        raise OperationError(f"nothing is known of {key}; keys are case-sensitive, and ids are those that were sent")
    if position is not None:
        same_shape(topics, msgspec.msgpack.decode(position, type=Position).shape, shape_of(configuration))
    history = decode_history(key, body[_NUMBER.size :])
    table = SeriesTable(series.items())
    return [*explanation(key, history, history.contributed, table, selected(configuration), configuration)]
