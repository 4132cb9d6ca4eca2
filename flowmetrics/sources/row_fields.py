"""The data of an event as a mapping writes it: which fields there are, and how each is read from a row.

The fields and their types are those of the classes in `flowmetrics.events`; nothing is listed here again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import inspect

from flowmetrics.errors import nearest
from flowmetrics.events import EVENT_TYPES
from flowmetrics.sources.marked_yaml import Marked
from flowmetrics.sources.row_values import Read, always, converter, is_text, members, template

_SHOWN: Final[Mapping[type[inspect.Type], str]] = {
    inspect.IntType: "an integer",
    inspect.FloatType: "a number",
    inspect.BoolType: "true or false",
    inspect.DateTimeType: "an RFC 3339 time",
    inspect.ListType: "a list",
    inspect.DictType: "names with values",
    inspect.StrType: "a text",
}


def event_fields(place: Marked, type_name: str) -> tuple[dict[str, object], tuple[tuple[str, Read], ...]]:
    """The data fields of an event type as a mapping gives them: the constant ones, and those that each row fills.

    Raises ConfigurationError where a field is unknown, a required one is missing, or a constant is not of its type.
    """
    known = {field.encode_name: field for field in _data_fields(type_name)}
    required = [name for name, field in known.items() if field.required]
    constants: dict[str, object] = {}
    readers: list[tuple[str, Read]] = []
    for name, entry in place.entries({name: f"data.{name}" for name in known}, required).items():
        wanted = inspect.type_info(known[name].type)
        value = _compile(entry, wanted)
        if callable(value):
            readers.append((name, value))
        elif value is not None or name in required:
            _check(entry, value, wanted, known[name].type)
            constants[name] = value
    return constants, tuple(readers)


def _data_fields(type_name: str) -> tuple[msgspec.structs.FieldInfo, ...]:
    envelope = {field.name: field.type for field in msgspec.structs.fields(EVENT_TYPES[type_name])}
    return msgspec.structs.fields(envelope["data"])


def _compile(entry: Marked, wanted: inspect.Type) -> object:
    """A constant, or what reads the value of a field from a row."""
    for member in members(wanted):
        if isinstance(member, inspect.ListType) and entry.is_list:
            return _list([_compile(element, member.item_type) for element in entry.elements()])
        if isinstance(member, inspect.DictType) and entry.is_mapping:
            return _names({name: _compile(value, member.value_type) for name, value in entry.pairs().items()})
    if entry.is_list or entry.is_mapping:
        raise entry.mistake(f"{entry.what} must be {_shown(wanted)}")
    convert = converter(wanted)
    scalar = entry.text() if is_text(wanted) and not entry.is_null else entry.scalar()
    if not isinstance(scalar, str):
        return convert(scalar)
    try:
        value = template(scalar)
    except ValueError as error:
        raise entry.mistake(str(error)) from None
    if isinstance(value, str):
        return convert(value)
    read = value
    return lambda row: convert(read(row))


def _list(values: list[object]) -> object:
    if not any(map(callable, values)):
        return values
    readers = [always(value) for value in values]
    return lambda row: [value for read in readers if (value := read(row)) is not None] or None


def _names(values: dict[str, object]) -> object:
    if not any(map(callable, values.values())):
        return values
    readers = [(name, always(value)) for name, value in values.items()]
    return lambda row: {name: value for name, read in readers if (value := read(row)) is not None} or None


def _check(entry: Marked, value: object, wanted: inspect.Type, annotation: type) -> None:
    """A constant of the wrong type is refused now rather than with each row."""
    try:
        msgspec.convert(value, annotation)
    except msgspec.ValidationError:
        words = [str(v) for member in members(wanted) if isinstance(member, inspect.LiteralType) for v in member.values]
        shown = "null" if value is None else str(value)
        raise entry.mistake(f'{entry.what} "{shown}" must be {_shown(wanted)}.{nearest(shown, words)}') from None


def _shown(wanted: inspect.Type) -> str:
    return " or ".join(
        f"one of {', '.join(map(str, member.values))}"
        if isinstance(member, inspect.LiteralType)
        else _SHOWN.get(type(member), "of its type")
        for member in members(wanted)
    )
