"""Instants, durations and calendar days: integers of microseconds since 1970 (UTC), and the days of a time zone."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

_UNITS_US: Final = {"s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhdw])")
_QUARTER_US: Final = 15 * MINUTE_US
"""Since 1972 every midnight of every zone lies on a quarter of an hour; earlier ones are looked up each time."""
_QUARTERS_MAX: Final = 100_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def duration_us(text: str) -> int:
    """The microseconds of a duration such as `5m` or `30d`. Raises ValueError with the form that is meant.

    >>> duration_us("5m"), duration_us("2w") // DAY_US
    (300000000, 14)
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a duration; write a whole number and s, m, h, d or w, such as 30d')
    return int(match[1]) * _UNITS_US[match[2]]


def duration_text(us: int) -> str:
    """The shortest text of a duration in whole seconds; the inverse of `duration_us`, with days for weeks.

    >>> duration_text(300_000_000), duration_text(14 * DAY_US)
    ('5m', '14d')
    """
    for unit in ("d", "h", "m"):
        if us and us % _UNITS_US[unit] == 0:
            return f"{us // _UNITS_US[unit]}{unit}"
    return f"{us // SECOND_US}s"


def instant_of(moment: datetime) -> int:
    """The instant of an aware datetime, exact to the microsecond.

    >>> instant_of(datetime(1970, 1, 2, tzinfo=UTC)) == DAY_US
    True
    """
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(instant: int) -> datetime:
    """The UTC datetime of an instant; the inverse of `instant_of`."""
    return _EPOCH + instant * _MICROSECOND


def parse_instant(text: str) -> int:
    """The instant of an RFC 3339 text with an offset, read as events are read. Raises ValueError.

    >>> parse_instant("1970-01-01T01:00:00.5+01:00")
    500000
    """
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise ValueError(f'"{text}" is not an RFC 3339 time such as 2025-03-02T00:00:00Z') from None
    if moment.tzinfo is None:
        raise ValueError(f'"{text}" has no offset; add Z or one such as +01:00')
    return instant_of(moment)


def instant_text(instant: int) -> str:
    """RFC 3339 in UTC, with as many digits as it takes.

    >>> instant_text(500000), instant_text(DAY_US)
    ('1970-01-01T00:00:00.500000Z', '1970-01-02T00:00:00Z')
    """
    return moment_of(instant).isoformat().replace("+00:00", "Z")


class Calendar:
    """The calendar days of one time zone, each numbered by its days since 1970-01-01.

    A day begins at its first instant that exists: where clocks jump over midnight, at the jump. Days are 23 to 25
    hours long where the zone says so.

    >>> seoul = Calendar("Asia/Seoul")
    >>> seoul.day(parse_instant("2025-03-01T15:00:00Z")) == seoul.day(parse_instant("2025-03-02T14:59:59Z"))
    True
    >>> instant_text(seoul.begin(seoul.day(parse_instant("2025-03-02T00:00:00Z"))))
    '2025-03-01T15:00:00Z'
    """

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self._zone = ZoneInfo(zone)
        self._begins: dict[int, int] = {}
        self._days: dict[int, int] = {}

    def begin(self, day: int) -> int:
        """The first instant of a day."""
        begin = self._begins.get(day)
        if begin is None:
            begin = self._begins[day] = self._first_instant(day)
        return begin

    def day(self, instant: int) -> int:
        """The number of the day that holds an instant."""
        quarter = instant // _QUARTER_US
        day = self._days.get(quarter)
        if day is None:
            day = instant // DAY_US - 1  # no zone is more than a day behind UTC
            while instant >= self.begin(day + 1):
                day += 1
            if self.begin(day) % _QUARTER_US == 0 == self.begin(day + 1) % _QUARTER_US:
                if len(self._days) >= _QUARTERS_MAX:
                    self._days.clear()
                self._days[quarter] = day
        return day

    def _first_instant(self, day: int) -> int:
        local = date(1970, 1, 1) + timedelta(days=day)
        midnight = instant_of(datetime(local.year, local.month, local.day, tzinfo=self._zone))
        if self._date(midnight) >= local and self._date(midnight - 1) < local:
            return midnight
        low, high = midnight - 2 * DAY_US, midnight + 2 * DAY_US
        while high - low > 1:  # the zone jumped over this midnight
            middle = (low + high) // 2
            low, high = (low, middle) if self._date(middle) >= local else (middle, high)
        return high

    def _date(self, instant: int) -> date:
        return moment_of(instant).astimezone(self._zone).date()
