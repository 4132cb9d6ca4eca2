"""What a partition knows of one entity, read from its changelog beside the worker that has it."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from agents.kafka.connection import Connection
from agents.kafka.reading import Progress, epochs_of, records_of
from agents.kafka.topics import Topics
from agents.kafka.tracking import HISTORY, POSITION, SERIES, Position
from flowmetrics.errors import OperationError
from flowmetrics.explain import explanation
from flowmetrics.kpis import selected
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.stored import decode_history

_NUMBER: Final = struct.Struct(">q")
_SERIES: Final = msgspec.msgpack.Decoder(tuple[str, ...]).decode


async def explanation_of(
    connection: Connection, topics: Topics, number: int, key: str, progress: Progress
) -> list[str]:
    """The facts of an entity of partition `number` and what they contribute, in words.

    They are read under the configuration of the published epoch. Raises OperationError for an unknown key.
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
    assert position is not None, "a checkpoint ends with its position"
    epoch = msgspec.msgpack.decode(position, type=Position).epoch
    configuration = (await epochs_of(connection, topics)).epochs[epoch].configuration
    history = decode_history(key, body[_NUMBER.size :], epoch)
    table = SeriesTable(series.items())
    return [*explanation(key, history, history.contributed, table, selected(configuration), configuration)]
