"""How a mapping takes values from a row: `${path.to.field}` templates, and the types that events want them in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from math import isnan
from typing import Final, TypeAlias

import msgspec
from msgspec import inspect

Row: TypeAlias = Mapping[str, object]
"""A row as a reader gives it: JSON values, and the plain Python values of Parquet columns."""
Read: TypeAlias = Callable[[Row], object]
"""Takes one value from a row; None is absent."""

_PLACE: Final = re.compile(r"\$\{([^{}]*)\}")
_NUMBERS: Final[Mapping[type[inspect.Type], type]] = {
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.BoolType: bool,
}


def path_reader(path: str) -> Read:
    """Takes the value at a path; a column whose own name holds the dots comes first. Raises ValueError.

    >>> read = path_reader("attrs.type")
    >>> read({"attrs": {"type": "bug"}}), read({"attrs.type": "pull"}), read({"attrs": 7})
    ('bug', 'pull', None)
    """
    names = path.split(".")
    if not all(name.strip() for name in names):
        raise ValueError(f'"{path}" is not a path to a field; write names with dots between, such as attrs.type')
    if len(names) == 1:
        return lambda row: row.get(path)

    def read(row: Row) -> object:
        value: object = row.get(path)
        if value is None:
            value = row
            for name in names:
                value = value.get(name) if isinstance(value, Mapping) else None
        return value

    return read


def template(text: str) -> str | Read:
    """A template as what takes its value from a row; a text without `${` stays as it is. Raises ValueError.

    A text that is exactly one `${path}` keeps the type of the value. Text around it makes a text, which is absent as
    a whole when a part of it is.

    >>> template("shop"), template("${n}")({"n": 5}), template("no. ${n}")({"n": 5}), template("no. ${n}")({})
    ('shop', 5, 'no. 5', None)
    """
    literals = _PLACE.split(text)
    if any("${" in literal for literal in literals[::2]):
        raise ValueError(f'"{text}" holds a "${{" that does not close; write ${{path.to.field}}')
    readers = [path_reader(path.strip()) for path in literals[1::2]]
    if not readers:
        return text
    if len(readers) == 1 and not literals[0] and not literals[2]:
        return readers[0]
    return _joined("%s".join(literal.replace("%", "%%") for literal in literals[::2]), readers)


def _joined(form: str, readers: list[Read]) -> Read:
    def read(row: Row) -> str | None:
        texts = []
        for reader in readers:
            value = text_of(reader(row))
            if value is None:
                return None
            texts.append(value)
        return form % tuple(texts)

    return read


def always(value: object) -> Read:
    """What `template` or a compiled field gives, as what takes a value from each row."""
    if callable(value):
        read: Read = value
        return read
    return lambda _row: value


def text_of(value: object) -> str | None:
    """A value as the text a person would write; None where it is absent: null, empty or not a number.

    >>> text_of(8.0), text_of(True), text_of("x"), text_of("")
    ('8', 'true', 'x', None)
    """
    if _is_absent(value):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, date):
        return value.isoformat()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def converter(wanted: inspect.Type) -> Callable[[object], object]:
    """How a value of a row becomes what a field of an event wants; what does not convert stays for the decoder.

    Absent is None: null, the empty text, and what is not a number.

    >>> number, name = converter(inspect.type_info(int)), converter(inspect.type_info(str))
    >>> number("8"), number(8.0), number("eight"), name(17), name("")
    (8, 8, 'eight', '17', None)
    """
    kinds = [type(member) for member in members(wanted)]
    if is_text(wanted):
        return _as_text
    if len(kinds) == 1 and kinds[0] in _NUMBERS:
        return _number(_NUMBERS[kinds[0]])
    return _whole if inspect.IntType in kinds else _as_is


def members(wanted: inspect.Type) -> list[inspect.Type]:
    """The types that a field takes, besides null."""
    types = list(wanted.types) if isinstance(wanted, inspect.UnionType) else [wanted]
    return [member for member in types if not isinstance(member, inspect.NoneType)]


def is_text(wanted: inspect.Type) -> bool:
    """Whether a field takes texts only."""
    return all(isinstance(member, inspect.StrType | inspect.LiteralType) for member in members(wanted))


def _as_text(value: object) -> object:
    return value if isinstance(value, (list, dict)) else text_of(value)


def _as_is(value: object) -> object:
    return None if _is_absent(value) else value


def _is_absent(value: object) -> bool:
    if isinstance(value, float):
        return isnan(value)
    return value is None or value == "" or (isinstance(value, Decimal) and value.is_nan())


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else _as_is(value)


def _number(wanted: type) -> Callable[[object], object]:
    def convert(value: object) -> object:
        if type(value) is wanted:
            return _as_is(value)
        if isinstance(value, str):
            value = value.strip() or None
        elif isinstance(value, timedelta):
            value = value.total_seconds()
        elif isinstance(value, Decimal) and value.is_finite():
            value = float(value)
        try:
            return None if value is None else _as_is(msgspec.convert(value, wanted, strict=False))
        except msgspec.ValidationError:
            return _as_is(value)

    return convert
