"""A shop whose KPIs stand still for weeks, so that whatever moves was moved by a test.

Every day is like the one before, to the second: 20 items flow through in ten hours, 420 customers come of whom 126
come for a sale at one minute of the day, and 150 people answer the NPS survey with a score of 50. Each slumps by about
a third:

    flow time      60 items that took 13 hours and 20 minutes lift the p85 of 7 days from 10 hours to that
    active users   today's sale does not take place: when yesterday's leaves the 24 hours, 126 of 420 are missing
    NPS            117 detractors bring the score of 7 days from 50 to 35
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from engine import Event

from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US, instant_text

STREAM: Final = "shop"
DAYS: Final = 38
"""Four weeks, a window of seven days before them, and some to spare."""
ITEMS_A_DAY, REGULARS, HUNTERS, ANSWERS_A_DAY = 20, 294, 126, 150
SLOW_ITEMS, QUICK_ITEMS, DETRACTORS = 60, 300, 117
FLOW_US: Final = 10 * HOUR_US
SLOW_US: Final = FLOW_US * 4 // 3
SCORES: Final = (10, 9, 9, 10, 9, 10, 8, 7, 8, 3)
"""Six promoters, three in between, one detractor: 50."""


def past(now: int, sale_at: int) -> list[Event]:
    """What was told before `now`; the sale takes place each day at the time of `sale_at`, and not at `sale_at`."""
    told = []
    for day in range(DAYS):
        end = now - day * DAY_US
        told += [event for event in _day(day, end) if event[0] <= now]
        told += _sale(sale_at - (day + 1) * DAY_US, f"{day}")
    return [event for _, event in sorted(told, key=lambda pair: pair[0])]


def slump(now: int) -> list[Event]:
    """What makes flow time and NPS slump; active users do by themselves."""
    items = [step for n in range(SLOW_ITEMS) for step in _item(f"slow-{n}", now, SLOW_US)]
    return [event for _, event in [*items, *_detractors(now, 3, "bad")]]


def recovery(now: int) -> list[Event]:
    """Everybody who came for the sale comes, work is quick again, and the detractors have thought better of it."""
    items = [step for n in range(QUICK_ITEMS) for step in _item(f"quick-{n}", now, FLOW_US)]
    return [event for _, event in [*items, *_detractors(now, 10, "good"), *_sale(now, "today")]]


def heartbeat(now: int) -> list[Event]:
    """Somebody who comes anyway comes again."""
    return [event for _, event in _visit("regular-0", now, f"beat-{now}")]


Told = tuple[int, Event]


def _day(day: int, end: int) -> Iterator[Told]:
    for n in range(ITEMS_A_DAY):
        yield from _item(f"{day}-{n}", end + FLOW_US - n * DAY_US // ITEMS_A_DAY, FLOW_US + n % 10 * MINUTE_US)
    for n in range(REGULARS):
        yield from _visit(f"regular-{n}", end - n * DAY_US // REGULARS, f"{day}")
    for n in range(ANSWERS_A_DAY):
        at = end - n * DAY_US // ANSWERS_A_DAY
        yield from _answer(f"{day}-{n}", at, SCORES[n % len(SCORES)], "first")


def _item(name: str, done_at: int, took_us: int) -> Iterator[Told]:
    for state, at in (("Ready", done_at - took_us), ("In Progress", done_at - took_us // 2), ("Done", done_at)):
        yield _told("item", f"item-{name}-{state}", at, item=f"SHOP-{name}", state=state, item_type="Story")


def _sale(at: int, day: str) -> list[Told]:
    return [told for n in range(HUNTERS) for told in _visit(f"hunter-{n}", at, f"sale-{day}")]


def _visit(customer: str, at: int, name: str) -> Iterable[Told]:
    return [_told("activity", f"visit-{customer}-{name}", at, customer=customer)]


def _detractors(now: int, score: int, name: str) -> list[Told]:
    return [told for n in range(DETRACTORS) for told in _answer(f"cross-{n}", now, score, name)]


def _answer(respondent: str, at: int, score: int, name: str) -> Iterable[Told]:
    told = {"respondent": respondent, "survey": "nps", "score": score, "touchpoint": "checkout"}
    return [_told("response", f"answer-{respondent}-{name}", at, **told)]


def _told(kind: str, name: str, at: int, **fields: Any) -> Told:
    event = {"specversion": "1.0", "id": name, "source": "shop", "type": f"flowmetrics.{kind}.v1"}
    return at, {**event, "time": instant_text(at), "data": {"value_stream": STREAM, **fields}}
