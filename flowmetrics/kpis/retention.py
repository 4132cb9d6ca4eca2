"""Retention by calendar day: of the users who have had time to come back after N days, who did.

Day 0 is the local day of a user's first activity. A user is mature for "on" and "on or after" day N when that day is
over, and for the bracket when day N + 6 is; maturity and its outcome are contributed together, dated at that midnight:

    day        0        1        2    …        N │            "on" day N matures here: +1 mature, +1 retained if active
    activity   x                 x             x │
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from flowmetrics.entities.customer import CUSTOMER, DAYS, CustomerStory
from flowmetrics.entity import Place
from flowmetrics.kpi import Better, Companion, Example, Kpi, Measure, NoAlert, Point, Unit, ratio_point
from flowmetrics.view import View

PERIODS: Final = (1, 7, 30)
BRACKET_DAYS: Final = 7
MODES: Final = ("on", "on_or_after", "bracket")


def _outcomes(person: CustomerStory) -> Iterator[tuple[tuple[str, str, str], int, bool]]:
    """For each mode and period: labels, the midnight of maturity, whether the user was retained."""
    days = person.active_days()
    if not days:
        return
    begin, stream = person.configuration.calendar.begin, person.stream
    first, last, active = days[0], days[-1], set(days)
    for period in PERIODS:
        wanted = first + period
        label, over = f"d{period}", begin(wanted + 1)
        yield (stream, "on", label), over, wanted in active
        yield (stream, "on_or_after", label), over, last >= wanted
        bracket = range(wanted, wanted + BRACKET_DAYS)
        yield (stream, "bracket", label), begin(bracket[-1] + 1), not active.isdisjoint(bracket)


def _mature(person: CustomerStory) -> Iterable[Place]:
    return [(labels, at, 0, 1) for labels, at, _ in _outcomes(person)]


def _retained(person: CustomerStory) -> Iterable[Place]:
    return [(labels, at, 0, 1) for labels, at, retained in _outcomes(person) if retained]


MATURE: Final = Measure("retention_mature", CUSTOMER, ("mode", "period"), _mature, DAYS, distinct=True)
RETAINED: Final = Measure("retention_retained", CUSTOMER, ("mode", "period"), _retained, DAYS, distinct=True)


def _read_retention(view: View) -> Iterator[Point]:
    retained = view.counts(RETAINED.name, view.longest)
    for labels, mature in view.counts(MATURE.name, view.longest).items():
        yield ratio_point(labels, retained.get(labels, 0), mature)


RETENTION_KPIS: Final = (
    Kpi(
        name="retention",
        group="Adoption",
        question="Do people come back?",
        help="Users active again on day N, on or after it, or in days N to N+6, of those mature in the longest window.",
        unit=Unit.RATIO,
        better=Better.HIGHER,
        labels=("mode", "period"),
        measures=(MATURE, RETAINED),
        reading=_read_retention,
        span_us=lambda configuration: configuration.longest_us,
        alert=NoAlert("A cohort tells its story weeks later; active_users and value_reached page first."),
        example=Example(
            "Ann came on the first and the second day, Bob on the first only; day 1 is over on the third.",
            (
                ("2025-03-01T09:00:00Z", "activity customer=ann value_stream=shop"),
                ("2025-03-02T09:00:00Z", "activity customer=ann value_stream=shop"),
                ("2025-03-01T10:00:00Z", "activity customer=bob value_stream=shop"),
            ),
            "2025-03-03T00:00:00Z",
            {
                'flowmetrics_retention_ratio{value_stream="shop",mode="on",period="d1"}': 0.5,
                'flowmetrics_retention_mature_users{value_stream="shop",mode="on",period="d1"}': 2,
                'flowmetrics_retention_ratio{value_stream="shop",mode="on",period="d7"}': None,
            },
        ),
        companions=(
            Companion(
                "flowmetrics_retention_mature_users",
                "Users who have had time to come back, matured within the longest window.",
                lambda p: float(p.samples),
            ),
        ),
    ),
)
