"""When a row happened: the time formats of a mapping, read as RFC 3339 in UTC."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal, DecimalException
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo, available_timezones

from flowmetrics.errors import Reason, Rejection, nearest
from flowmetrics.instants import SECOND_US, moment_of
from flowmetrics.sources.row_values import Row, path_reader

RowTime: TypeAlias = Callable[[Row], str | Rejection]
"""The time of a row as RFC 3339 with Z, to the microsecond, or why it has none."""
_Parse: TypeAlias = Callable[[object], datetime]

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_OFFSET: Final = re.compile(r"(?:[^%]|%[^z])*%z")
_TRIAL: Final = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
_YEAR_10000_US: Final = 253_402_300_800 * SECOND_US


def row_time(path: str, form: str, zone: tzinfo | None) -> RowTime:
    """How the time of a row is read from one of its fields. Raises ValueError where the format is not known.

    `iso`, `epoch`, `epoch_ms`, `date` or a pattern of strptime. A time without an offset is one of `zone`; where
    clocks go back it is the first of the two. Without a zone, a date and a time that Parquet stored as such are UTC,
    and any other is refused. A Parquet time needs no format.

    >>> row_time("at", "iso", ZoneInfo("Europe/Amsterdam"))({"at": "2025-03-02 10:00"})
    '2025-03-02T09:00:00Z'
    >>> row_time("at", "iso", None)({"at": "2025-03-02 10:00"}).reason.value
    'time_without_offset'
    """
    read = path_reader(path)
    parse = _parser(form)
    naive_zone = zone or (UTC if form == "date" else None)
    if "%" in form and zone is None and not _OFFSET.match(form):
        raise ValueError(f'the format "{form}" has no offset (%z); add a zone, such as zone: Europe/Amsterdam')

    def time(row: Row) -> str | Rejection:
        value = read(row)
        if value is None or value == "":
            return Rejection(Reason.MISSING_FIELD, f'the row has no "{path}", which its time is read from')
        try:
            if isinstance(value, date):
                return _utc_text(_stored(value, zone or UTC))
            moment = parse(value)
            if moment.tzinfo is None and naive_zone is not None:
                moment = moment.replace(tzinfo=naive_zone)
            return _utc_text(moment)
        except _NoOffsetError:
            detail = f'{path} "{value}" has no offset; give the time of the mapping a zone'
            return Rejection(Reason.TIME_WITHOUT_OFFSET, detail)
        except (ValueError, TypeError, OverflowError, DecimalException):
            return Rejection(Reason.BAD_TIME, f'{path} "{str(value)[:80]}" is not a time of the format {form}')

    return time


def zone_named(name: str) -> ZoneInfo:
    """The time zone of an IANA name. Raises ValueError with the nearest one."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        hint = nearest(name, available_timezones())
        raise ValueError(f'the zone "{name}" is not known; write a name such as Europe/Amsterdam.{hint}') from None


class _NoOffsetError(Exception):
    pass


def _parser(form: str) -> _Parse:
    if form in _FORMATS:
        return _FORMATS[form]
    if "%" not in form:
        known = ", ".join(_FORMATS)
        raise ValueError(
            f'the format "{form}" is not one of {known} or a pattern such as %d.%m.%Y.{nearest(form, _FORMATS)}'
        )
    try:
        datetime.strptime(_TRIAL.strftime(form), form)  # noqa: DTZ007 - only whether it can be read
    except (ValueError, re.error) as error:
        raise ValueError(f'the format "{form}" is not a pattern of strptime: {error}') from None

    def pattern(value: object) -> datetime:
        return datetime.strptime(_text(value), form)  # noqa: DTZ007 - the zone of the mapping follows

    return pattern


def _iso(value: object) -> datetime:
    return datetime.fromisoformat(_text(value).upper())


def _date(value: object) -> datetime:
    text = _text(value)
    if not _DAY.fullmatch(text):
        raise ValueError
    return datetime.fromisoformat(text)


def _epoch(value: object) -> datetime:
    return _since_1970(value, SECOND_US)


def _epoch_ms(value: object) -> datetime:
    return _since_1970(value, 1000)


def _since_1970(value: object, unit_us: int) -> datetime:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError
    at = Decimal(str(value).strip()) * unit_us
    if not abs(at) < _YEAR_10000_US:
        raise OverflowError
    return moment_of(round(at))


_FORMATS: Final[Mapping[str, _Parse]] = {"iso": _iso, "epoch": _epoch, "epoch_ms": _epoch_ms, "date": _date}


def _stored(value: date, zone: tzinfo) -> datetime:
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=zone)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value.strip()


def _utc_text(moment: datetime) -> str:
    if moment.tzinfo is not UTC:
        if moment.tzinfo is None:
            raise _NoOffsetError
        moment = moment.astimezone(UTC)
    return moment.isoformat()[:-6] + "Z"
