"""What tests tell and read in a line each: events counted from one Tuesday, and what is published then."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from worlds import DAY, HOUR, Event, line, text

from flowmetrics.configuration import Configuration, ValueStream
from flowmetrics.instants import parse_instant
from flowmetrics.testing import Driver

T = parse_instant("2025-03-04T10:00:00Z")
"""A Tuesday; every instant below is counted from here."""

STATES = {
    "new": ("Backlog",),
    "waiting": ("Ready",),
    "active": ("Doing",),
    "done": ("Done", "Closed"),
    "cancelled": ("Cancelled",),
    "ignore": ("Parked",),
    "note": ("Commented",),
}
OTHER_STATES = {"new": ("Backlog",), "active": ("Ready",), "done": ("Doing",), "waiting": ("Done",)}
PLAIN = Configuration(
    windows_us=(HOUR, DAY, 30 * DAY),
    value_streams=(("other", ValueStream(states=OTHER_STATES)), ("*", ValueStream(states=STATES))),
)
SHORT = Configuration(value_streams=PLAIN.value_streams, horizon_us=60 * DAY)

_numbers = itertools.count()


def told(kind: str, after: int, *, id: str | None = None, sequence: int | str | None = None, **data: Any) -> Event:  # noqa: A002
    """An event `after` microseconds from T; `stream` is the value stream, "shop" unless said."""
    stream = data.pop("stream", "shop")
    return {
        "specversion": "1.0",
        "id": id or str(next(_numbers)),
        "source": data.pop("source", "s"),
        "type": f"flowmetrics.{kind}.v1",
        "time": text(T + after),
        **({} if sequence is None else {"sequence": sequence}),
        "data": {**({} if kind == "erase" or stream is None else {"value_stream": stream}), **data},
    }


def item(after: int, state: str, name: str = "I", **more: Any) -> Event:
    return told("item", after, item=name, state=state, **more)


def request(after: int, state: str, name: str = "R", **more: Any) -> Event:
    return told("request", after, request=name, state=state, **more)


def activity(after: int, who: str = "ann", **more: Any) -> Event:
    return told("activity", after, customer=who, **more)


def customer(after: int, who: str = "ann", **more: Any) -> Event:
    return told("customer", after, customer=who, **{"stream": None, **more})


def answer(after: int, score: int, who: str = "ann", **more: Any) -> Event:
    return told("response", after, respondent=who, survey="nps", score=score, **more)


class Page(dict[str, float]):
    """What is published, by KPI and label values: `page("flow_velocity", "all", "1h")` is of value stream "shop"."""

    def __call__(self, kpi: str, *labels: str, stream: str = "shop") -> float | None:
        """The value of a KPI under these label values; None where there is none."""
        found = [
            value
            for name, value in self.items()
            if re.fullmatch(f"flowmetrics_{kpi}(_seconds|_items|_ratio)?", name.partition("{")[0])
            and re.findall('="(.*?)"', name) == [stream, *labels]
        ]
        assert len(found) <= 1, found
        return found[0] if found else None

    def count(self, kpi: str, *labels: str, stream: str = "shop") -> float:
        """The value of a count that may be absent, which says that there is nothing in its value stream."""
        return self(kpi, *labels, stream=stream) or 0


def at(after: int, *batches: Sequence[Event], configuration: Configuration = PLAIN) -> Page:
    """What is published `after` T, when the batches came in one by one, all before that instant."""
    driver = Driver(configuration)
    for batch in batches:
        driver.deliver([line(event) for event in batch])
        assert not driver.rejected
    driver.advance(T + after)
    return Page((name, value) for name, value in driver.values().items() if "_kpi_" not in name)


def live(*happens: Event | int, configuration: Configuration = PLAIN) -> Page:
    """What is published at the end, when events come in one by one while the clock moves; a number is an instant."""
    driver = Driver(configuration, T)
    for one in happens:
        if isinstance(one, int):
            driver.advance(T + one)
        else:
            driver.deliver([line(one)])
    assert not driver.rejected
    return Page((name, value) for name, value in driver.values().items() if "_kpi_" not in name)


def same_in_any_order(after: int, events: Sequence[Event], configuration: Configuration = PLAIN) -> Page:
    """What is published, once it is sure that it is the same for every order of arrival."""
    first, *others = [live(after, *order, configuration=configuration) for order in itertools.permutations(events)]
    assert all(page == first for page in others)
    return first
