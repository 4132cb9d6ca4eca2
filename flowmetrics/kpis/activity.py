"""Active users over rolling windows, and stickiness over local days.

A person contributes +1 to the pane of their last activity, so that every window ending now is a sum over one array:

    activity    x       x           x         contributes  ·  ·  ·  +1
    pane        3       5           9                      3  5  7  9      window (6, 10] counts 1, (9, 10] counts 0
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from flowmetrics.entities.customer import CUSTOMER, DAYS, RECENCY, CustomerStory
from flowmetrics.entities.slots import slot_end
from flowmetrics.entity import Place
from flowmetrics.instants import DAY_US
from flowmetrics.kpi import (
    Better,
    DriftAlert,
    Example,
    Kpi,
    Measure,
    NoAlert,
    Noise,
    Point,
    Severity,
    Unit,
    ratio_point,
)
from flowmetrics.readings import count_per_window
from flowmetrics.view import View

STICKINESS_DAYS: Final = 30


def _last_activity(person: CustomerStory) -> Iterable[Place]:
    slots = person.visits.slots
    return (((person.stream,), slot_end(slots[-1], person.configuration.grain_us), 0, 1),) if slots else ()


def _days(person: CustomerStory) -> Iterable[Place]:
    """+1 for each of the last 30 active days, just after its midnight: earlier ones lie outside every reading."""
    begin, days = person.configuration.calendar.begin, person.active_days()
    recent = (day for day in days if day > days[-1] - STICKINESS_DAYS)
    return [((person.stream,), begin(day) + 1, 0, 1) for day in recent]


def _last_day(person: CustomerStory) -> Iterable[Place]:
    begin, days = person.configuration.calendar.begin, person.active_days()
    return [((person.stream,), begin(day) + 1, 0, 1) for day in days[-1:]]


ACTIVE: Final = Measure("active_users", CUSTOMER, (), _last_activity, RECENCY, distinct=True)
PERSON_DAYS: Final = Measure("person_days", CUSTOMER, (), _days, DAYS, distinct=True)
LAST_DAY: Final = Measure("last_active_day", CUSTOMER, (), _last_day, DAYS, distinct=True)


def _read_stickiness(view: View) -> Iterator[Point]:
    configuration = view.configuration
    today = configuration.calendar.day(view.now)
    panes = [
        configuration.pane(configuration.calendar.begin(day) + 1)
        for day in range(today - STICKINESS_DAYS + 1, today + 1)
    ]

    def total(measure: Measure) -> int:
        return sum(series.amount(pane) for _, series in view.series(measure.name) for pane in panes)

    people = total(LAST_DAY)
    if people > 0:
        point = ratio_point((), total(PERSON_DAYS), people * STICKINESS_DAYS)
        yield Point((), point.value, people)


_VISITS: Final = (
    ("2025-03-01T08:00:00Z", "activity customer=ann value_stream=shop feature=search"),
    ("2025-03-02T09:00:00Z", "activity customer=ann value_stream=shop feature=search"),
    ("2025-03-02T09:30:00Z", "activity customer=bob value_stream=shop feature=cart"),
    ("2025-03-02T09:45:00Z", "activity customer=crawler value_stream=shop feature=search actor=bot"),
)
_AT: Final = "2025-03-02T10:00:00Z"

ACTIVITY_KPIS: Final = (
    Kpi(
        name="active_users",
        group="Adoption",
        headline=True,
        question="How many people use it?",
        help="Distinct people active in the rolling window that ends now; bots, internal and test users left out.",
        unit=Unit.USERS,
        suffix="",
        better=Better.HIGHER,
        labels=("window",),
        measures=(ACTIVE,),
        reading=count_per_window(ACTIVE, total=None),
        alert=DriftAlert(
            "Compare with the same weekday; look at releases and incidents since it fell.",
            noise=Noise.COUNTING,
            severity=Severity.PAGE,
            window="1d",
            steps=(
                "Look at the calendar first: a public holiday of your customers looks like a slump, and no rule knows "
                "of it.",
                "Try the product as a customer does, from outside: sign in, and do the commonest thing.",
                "Look whether the drop is in one value stream or in all; in all at once it is more often telemetry "
                "than people.",
                "Look at releases since the line left its band, and roll back what touched sign-in or the tracking of "
                "activity.",
            ),
        ),
        example=Example(
            "Ann and Bob were active within a day; the crawler is a bot.",
            _VISITS,
            _AT,
            {'flowmetrics_active_users{value_stream="shop",window="1d"}': 2},
        ),
    ),
    Kpi(
        name="stickiness",
        group="Adoption",
        question="On how many days of a month does a user come?",
        help="Mean of the last 30 local days' active users, today included, over the distinct users of those days.",
        unit=Unit.RATIO,
        better=Better.HIGHER,
        labels=(),
        measures=(PERSON_DAYS, LAST_DAY),
        reading=_read_stickiness,
        span_us=lambda configuration: STICKINESS_DAYS * DAY_US,
        alert=NoAlert("It moves over weeks; active_users pages first, this one explains it."),
        example=Example(
            "Three person-days over thirty days and two people.",
            _VISITS,
            _AT,
            {'flowmetrics_stickiness_ratio{value_stream="shop"}': 3 / 30 / 2},
        ),
    ),
)
