"""Time to value: from the start milestone to the value milestone, and the share that reaches it in time.

Users who have not reached value yet are missing from any percentile, which flatters; so the share is read over the
customers who have had that long since they started, and only over those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from flowmetrics.configuration import NONE, label_of
from flowmetrics.entities.customer import CUSTOMER, MILESTONES, CustomerStory
from flowmetrics.entity import Place
from flowmetrics.instants import duration_text
from flowmetrics.kpi import Better, DriftAlert, Example, Kpi, Measure, NoAlert, Point, Unit, ratio_point
from flowmetrics.readings import BINNED_SECONDS, count_per_window, percentiles_per_window
from flowmetrics.view import View
from flowmetrics.windowing.bins import duration_bin


def _journeys(person: CustomerStory) -> Iterator[tuple[str, str, int, int | None]]:
    """(value stream, segment, start, value) for each value stream in which the person started."""
    names = person.configuration.time_to_value
    segment = label_of(person.attribute("segment"))
    told = person.facts.profile.milestones
    streams = {s for name in (names.start, names.value) for s in told.get(name, {}) if s}
    for stream in sorted(streams or _visited(person) or {NONE}):
        start = person.milestone(names.start, stream)
        if start is not None:
            yield stream, segment, start, person.milestone(names.value, stream)


def _visited(person: CustomerStory) -> set[str]:
    return {stream for stream, visits in person.facts.visits.items() if visits.slots}


def _time_to_value(person: CustomerStory) -> Iterable[Place]:
    for stream, segment, start, value in _journeys(person):
        if value is not None:
            yield (stream, segment), value, duration_bin(value - start), 1


def _before_start(person: CustomerStory) -> Iterable[Place]:
    for stream, segment, start, value in _journeys(person):
        if value is not None and value < start:
            yield (stream, segment), value, 0, 1


def _mature(person: CustomerStory) -> Iterable[Place]:
    for stream, segment, start, _ in _journeys(person):
        for within_us in person.configuration.time_to_value.within_us:
            yield (stream, segment, duration_text(within_us)), start + within_us, 0, 1


def _reached(person: CustomerStory) -> Iterable[Place]:
    for stream, segment, start, value in _journeys(person):
        for within_us in person.configuration.time_to_value.within_us:
            if value is not None and value <= start + within_us:
                yield (stream, segment, duration_text(within_us)), start + within_us, 0, 1


TIME_TO_VALUE: Final = Measure("time_to_value", CUSTOMER, ("segment",), _time_to_value, MILESTONES, says=BINNED_SECONDS)
BEFORE_START: Final = Measure("value_before_start", CUSTOMER, ("segment",), _before_start, MILESTONES)
MATURE: Final = Measure("value_mature", CUSTOMER, ("segment", "within"), _mature, MILESTONES, distinct=True)
REACHED: Final = Measure("value_reached", CUSTOMER, ("segment", "within"), _reached, MILESTONES, distinct=True)


def _read_reached(view: View) -> Iterator[Point]:
    reached = view.counts(REACHED.name, view.horizon, total=0)
    for labels, mature in view.counts(MATURE.name, view.horizon, total=0).items():
        yield ratio_point(labels, reached.get(labels, 0), mature)


_SIGNED_UP: Final = (
    ("2025-03-01T09:00:00Z", "customer customer=ann value_stream=shop milestone=signed_up segment=smb"),
    ("2025-03-02T09:00:00Z", "customer customer=ann value_stream=shop milestone=value_reached"),
    ("2025-03-01T10:00:00Z", "customer customer=bob value_stream=shop milestone=signed_up segment=smb"),
)

VALUE_KPIS: Final = (
    Kpi(
        name="time_to_value",
        group="Value",
        headline=True,
        question="How long does it take a customer to reach value?",
        help="From the start to the value milestone of customers who reached it in the window, percentile, in seconds.",
        unit=Unit.SECONDS,
        better=Better.LOWER,
        labels=("segment", "window", "percentile"),
        measures=(TIME_TO_VALUE,),
        reading=percentiles_per_window(TIME_TO_VALUE),
        alert=DriftAlert(
            "Look which step of onboarding grew, and at the releases since.",
            steps=(
                "Compare the segments: one alone points at a plan, a market or a campaign that brings other people.",
                "Go through onboarding as a new customer.",
            ),
        ),
        example=Example(
            "Ann reached value after a day.",
            _SIGNED_UP,
            "2025-03-02T10:00:00Z",
            {
                'flowmetrics_time_to_value_seconds{value_stream="shop",segment="smb",window="1d",'
                'percentile="p50"}': 86400.0
            },
        ),
    ),
    Kpi(
        name="value_reached",
        group="Value",
        question="Which share of customers reaches value in time?",
        help="Share reaching value within the time, of all customers of the horizon who have had that time.",
        unit=Unit.RATIO,
        better=Better.HIGHER,
        labels=("segment", "within"),
        measures=(MATURE, REACHED),
        reading=_read_reached,
        alert=DriftAlert(
            "Look at time_to_value by segment: it shows who stopped reaching it.",
            0.15,
            steps=(
                "Look whether the milestone is still sent: a renamed event looks like nobody reaching value.",
                "Look which cohort it is: customers count once they have had the time, so the cause lies that long "
                "ago.",
            ),
        ),
        example=Example(
            "A week after both signed up, one of two has reached value.",
            _SIGNED_UP,
            "2025-03-09T00:00:00Z",
            {
                'flowmetrics_value_reached_ratio{value_stream="shop",segment="smb",within="7d"}': 0.5,
                'flowmetrics_value_reached_ratio{value_stream="shop",segment="smb",within="30d"}': None,
            },
        ),
    ),
    Kpi(
        name="value_before_start",
        group="Value",
        question="How many customers reached value before they started?",
        help="Customers whose value milestone of the window came before their start; their time to value counts as 0.",
        unit=Unit.USERS,
        better=Better.NEITHER,
        labels=("segment", "window"),
        measures=(BEFORE_START,),
        reading=count_per_window(BEFORE_START),
        alert=NoAlert("It tells of a mapping that is wrong, or of accounts that were set up in advance."),
        example=Example(
            "Ann was set up in advance and signed up a day later.",
            (
                ("2025-03-01T09:00:00Z", "customer customer=ann value_stream=shop milestone=value_reached"),
                ("2025-03-02T09:00:00Z", "customer customer=ann value_stream=shop milestone=signed_up"),
            ),
            "2025-03-02T10:00:00Z",
            {
                'flowmetrics_value_before_start_users{value_stream="shop",segment="none",window="7d"}': 1,
                'flowmetrics_value_before_start_users{value_stream="shop",segment="none",window="1d"}': 0,
            },
        ),
    ),
)
