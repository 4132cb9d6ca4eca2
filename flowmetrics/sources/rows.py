"""Rows of CSV, JSON Lines or Parquet as native events: the mapping format of the public contract (`--map`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from typing import Final, TypeVar

import orjson
from msgspec import inspect

from flowmetrics.errors import Reason, Rejection, nearest
from flowmetrics.events import EVENT_TYPES
from flowmetrics.sources.marked_yaml import Marked, read_yaml
from flowmetrics.sources.row_conditions import Condition, compile_condition
from flowmetrics.sources.row_fields import event_fields
from flowmetrics.sources.row_times import RowTime, row_time, zone_named
from flowmetrics.sources.row_values import Read, Row, always, converter, path_reader, template, text_of

_T = TypeVar("_T")

_EVENT_KEYS: Final = {
    "type": "the type",
    "when": "the condition",
    "id": "the id",
    "source": "the source",
    "time": "the time",
    "sequence": "the sequence",
    "data": "the data",
}
_TIME_KEYS: Final = {"from": "from", "format": "the format", "zone": "the zone"}
_SEQUENCE: Final = inspect.type_info(int | str)
_OPTIONS: Final = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


@dataclass(frozen=True, slots=True)
class _EventTemplate:
    """One entry of `events`. An absent `id` is the hash of the row; a data field that reads None is left out."""

    type_name: str
    holds: Condition | None
    id: Read | None
    source: Read
    time: RowTime
    sequence: Read
    constants: Mapping[str, object]
    fields: tuple[tuple[str, Read], ...]

    def event(self, row: Row, time: str, row_id: Callable[[], str]) -> bytes | Rejection:
        """The event of a row for which the template holds."""
        source = text_of(self.source(row))
        event_id = row_id() if self.id is None else text_of(self.id(row))
        if source is None or event_id is None:
            name = "source" if source is None else "id"
            return Rejection(Reason.MISSING_FIELD, f'the row lacks what the "{name}" of the event is made of')
        fields = dict(self.constants)
        for name, read in self.fields:
            value = read(row)
            if value is not None:
                fields[name] = value
        event: dict[str, object] = {
            "specversion": "1.0",
            "id": event_id,
            "source": source,
            "type": self.type_name,
            "time": time,
            "data": fields,
        }
        sequence = self.sequence(row)
        if sequence is not None:
            event["sequence"] = sequence
        try:
            return orjson.dumps(event, _plain, _OPTIONS)
        except orjson.JSONEncodeError as error:
            return Rejection(Reason.WRONG_TYPE, f"a value of the row has no form in JSON: {error}")


class RowMapping:
    """What a mapping makes of each row; `parse_mapping` builds it."""

    def __init__(self, templates: tuple[_EventTemplate, ...]) -> None:
        self._templates = templates

    def events(self, row: Row, position: str) -> list[bytes | Rejection]:
        """For each entry of the mapping that applies: one native event as JSON, or why there is none. Never raises.

        `position` tells equal rows of a file apart and is part of the default id. Give the number of the row, not
        the path, so that an import that is repeated from another place makes the same ids. Values that a field
        cannot take are left to the decoder of events, which refuses them.
        """
        times: dict[RowTime, str | Rejection] = {}
        answers: list[bytes | Rejection] = []
        for number, entry in enumerate(self._templates):
            try:
                if entry.holds is not None and not entry.holds(row):
                    continue
                time = times.get(entry.time)
                if time is None:
                    time = times[entry.time] = entry.time(row)
                if isinstance(time, Rejection):
                    answers.append(time)
                else:
                    answers.append(entry.event(row, time, partial(_row_id, row, position, number)))
            except RecursionError:
                answers.append(Rejection(Reason.WRONG_TYPE, "the row is nested too deeply to be read"))
        return answers


def parse_mapping(text: str, name: str) -> RowMapping:
    """The mapping that a YAML text says; `name` is the file's, for errors.

    Raises ConfigurationError with file, line, the offending text and the nearest right word.

    >>> mapping = parse_mapping('''
    ... events:
    ...   - type: flowmetrics.activity.v1
    ...     source: shop
    ...     id: ${n}
    ...     time: {from: day, format: date}
    ...     data: {customer: "${user}", value_stream: shop}
    ... ''', "map.yaml")
    >>> mapping.events({"n": 1, "day": "2025-03-02", "user": "ann"}, "1")[0].decode()[:67]
    '{"specversion":"1.0","id":"1","source":"shop","type":"flowmetrics.a'
    """
    root = read_yaml(text, name)
    entries = root.entries({"events": "events"}, ("events",))["events"]
    times: dict[tuple[str, str, str | None], RowTime] = {}
    templates = tuple(_template(entry, times) for entry in entries.elements())
    if not templates:
        raise entries.mistake("events is empty; add one entry for each event that a row makes")
    return RowMapping(templates)


def _template(entry: Marked, times: dict[tuple[str, str, str | None], RowTime]) -> _EventTemplate:
    keys = entry.entries(_EVENT_KEYS, ("type", "source", "time", "data"))
    type_name = keys["type"].text()
    if type_name not in EVENT_TYPES:
        raise keys["type"].mistake(f'the type "{type_name}" is not known.{nearest(type_name, EVENT_TYPES)}')
    constants, fields = event_fields(keys["data"], type_name)
    return _EventTemplate(
        type_name=type_name,
        holds=_checked(keys["when"], compile_condition) if "when" in keys else None,
        id=_id(keys["id"]) if "id" in keys else None,
        source=always(_checked(keys["source"], template)),
        time=_time(keys["time"], times),
        sequence=_sequence(keys["sequence"]) if "sequence" in keys else always(None),
        constants=constants,
        fields=fields,
    )


def _checked(place: Marked, parse: Callable[[str], _T], text: str | None = None) -> _T:
    try:
        return parse(place.text() if text is None else text)
    except ValueError as error:
        raise place.mistake(str(error)) from None


def _id(place: Marked) -> Read:
    read = _checked(place, template)
    if isinstance(read, str):
        raise place.mistake(f'the id "{read}" is the same for each row; take it from a field, such as ${{id}}')
    return read


def _sequence(place: Marked) -> Read:
    read, convert = always(_checked(place, template)), converter(_SEQUENCE)
    return lambda row: convert(read(row))


def _time(place: Marked, times: dict[tuple[str, str, str | None], RowTime]) -> RowTime:
    """Entries that read the same time share its reader, so that it is read once for each row."""
    keys = place.entries(_TIME_KEYS, ("from",))
    path, form = keys["from"].text(), keys["format"].text() if "format" in keys else "iso"
    zone = _checked(keys["zone"], zone_named) if "zone" in keys else None
    if "${" in path:
        raise keys["from"].mistake(f'from "{path}" must be the path alone; write it without ${{}}')
    key = (path, form, zone.key if zone else None)
    if key not in times:
        _checked(keys["from"], path_reader)
        times[key] = _checked(keys.get("format", place), lambda form: row_time(path, form, zone), form)
    return times[key]


def _row_id(row: Row, position: str, number: int) -> str:
    """The default id. Only the entries after the first add their number, so most mappings show a plain hash."""
    try:
        content = orjson.dumps(row, _plain, _OPTIONS | orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        content = repr(row).encode("utf-8", "surrogatepass")
    digest = blake2b(content, digest_size=16, person=b"flowmetrics")
    digest.update(b"\0" + position.encode("utf-8", "surrogatepass"))
    return f"{digest.hexdigest()}-{number + 1}" if number else digest.hexdigest()


def _plain(value: object) -> object:
    """What JSON has no form for: decimals and durations as numbers, all else as text."""
    if isinstance(value, Decimal):
        return float(value)
    return value.total_seconds() if isinstance(value, timedelta) else text_of(value)
