"""The time formats of a mapping: how each is read as UTC, and how a time that cannot be read is refused."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from flowmetrics.errors import Reason, Rejection
from flowmetrics.sources.row_times import row_time


def read(value: object, form: str, zone: str | None = None, path: str = "at") -> str | Rejection:
    return row_time(path, form, ZoneInfo(zone) if zone else None)({"at": value})


@pytest.mark.parametrize(
    ("value", "form", "zone", "expected"),
    [
        ("2025-03-02T10:00:00.123456+01:00", "iso", None, "2025-03-02T09:00:00.123456Z"),
        ("2025-03-02T10:00:00z", "iso", None, "2025-03-02T10:00:00Z"),
        ("2025-03-02 10:00", "iso", "Asia/Seoul", "2025-03-02T01:00:00Z"),
        ("2025-03-02T10:00Z", "iso", "Asia/Seoul", "2025-03-02T10:00:00Z"),
        (1740909600, "epoch", None, "2025-03-02T10:00:00Z"),
        ("1740909600.123456", "epoch", None, "2025-03-02T10:00:00.123456Z"),
        (1740909600123, "epoch_ms", None, "2025-03-02T10:00:00.123000Z"),
        ("2025-03-02", "date", None, "2025-03-02T00:00:00Z"),
        ("2025-03-02", "date", "Asia/Seoul", "2025-03-01T15:00:00Z"),
        ("02.03.2025 10:00", "%d.%m.%Y %H:%M", "Europe/Amsterdam", "2025-03-02T09:00:00Z"),
        ("02.03.2025 10:00 +0200", "%d.%m.%Y %H:%M %z", None, "2025-03-02T08:00:00Z"),
        (datetime(2025, 3, 2, 10), "iso", None, "2025-03-02T10:00:00Z"),  # noqa: DTZ001
        (datetime(2025, 3, 2, 10), "iso", "Asia/Seoul", "2025-03-02T01:00:00Z"),  # noqa: DTZ001
        (datetime(2025, 3, 2, 10, tzinfo=timezone(timedelta(hours=1))), "iso", None, "2025-03-02T09:00:00Z"),
        (date(2025, 3, 2), "date", "Asia/Seoul", "2025-03-01T15:00:00Z"),
    ],
)
def test_each_format_of_time_is_read_as_utc(value: object, form: str, zone: str | None, expected: str) -> None:
    assert read(value, form, zone) == expected


@pytest.mark.parametrize(
    ("value", "form", "zone", "reason"),
    [
        ("2025-03-02T10:00:00", "iso", None, Reason.TIME_WITHOUT_OFFSET),
        ("2025-03-02", "iso", None, Reason.TIME_WITHOUT_OFFSET),
        ("yesterday", "iso", None, Reason.BAD_TIME),
        (1740909600, "iso", None, Reason.BAD_TIME),
        ("0001-01-01T00:00:00+10:00", "iso", None, Reason.BAD_TIME),
        ("1e999999999", "epoch", None, Reason.BAD_TIME),
        ("nan", "epoch", None, Reason.BAD_TIME),
        ("soon", "epoch", None, Reason.BAD_TIME),
        (True, "epoch", None, Reason.BAD_TIME),
        ("2025-13-02", "date", None, Reason.BAD_TIME),
        ("20250302", "date", None, Reason.BAD_TIME),
        ("2.3", "%d.%m.%Y", "UTC", Reason.BAD_TIME),
        (None, "iso", None, Reason.MISSING_FIELD),
        ("", "iso", None, Reason.MISSING_FIELD),
    ],
)
def test_a_time_that_cannot_be_read_is_refused_with_its_reason(
    value: object, form: str, zone: str | None, reason: Reason
) -> None:
    answer = read(value, form, zone)
    assert isinstance(answer, Rejection)
    assert answer.reason is reason


def test_a_path_that_leads_nowhere_is_a_missing_field() -> None:
    answer = read("x", "iso", path="at.clock")
    assert isinstance(answer, Rejection)
    assert answer.reason is Reason.MISSING_FIELD


def test_a_time_that_clocks_show_twice_is_the_first() -> None:
    assert read("2025-10-26 02:30", "iso", "Europe/Amsterdam") == "2025-10-26T00:30:00Z"
