"""What is right, by brute force over all rows: no framework, nothing kept up to date.

The peers answer at the time of the latest event with calendar days and interpolated percentiles, flowmetrics at an
instant with rolling windows and percentiles within 1 % of the nearest rank. Both mean the same items and customers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from tests.engine import Metrics

DAY_MS: Final = 86_400_000
WINDOWS: Final = (1, 7, 30)
PERCENTILES: Final = (50, 95)
WITHIN: Final = 0.01
"""How far a percentile of flowmetrics may be from the nearest rank, as a part of it."""


@dataclass
class Told:
    """What the rows of flow-1 say."""

    created: dict[str, int] = field(default_factory=dict)
    """Item → its first creation, in milliseconds."""
    done: list[tuple[str, str, str, int]] = field(default_factory=list)
    """(item, product, type, when)."""
    seen: list[tuple[str, str, int]] = field(default_factory=list)
    """(product, customer, when)."""
    latest: int = 0


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, one by one."""
    with path.open("rb") as file:
        yield from map(orjson.loads, file)


def read(path: Path) -> Told:
    """The rows of a file."""
    told = Told()
    for row in rows_of(path):
        at = milliseconds(row["event_time"])
        told.latest = max(told.latest, at)
        if row["kind"] == "activity":
            told.seen.append((row["product"], row["user_id"], at))
        elif row["state"] == "created":
            told.created[row["item_id"]] = min(at, told.created.get(row["item_id"], at))
        elif row["state"] == "done":
            told.done.append((row["item_id"], row["product"], row["type"], at))
    return told


def milliseconds(text: str) -> int:
    """Since 1970."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


# --- the peers' answer ----------------------------------------------------------------------------------------------
def by_calendar(told: Told) -> dict[str, Any]:
    """By group how many were done in 7 days, p50 and p95; by product the customers of 1, 7 and 30 days."""
    now, today = told.latest, told.latest // DAY_MS
    times = defaultdict(list)
    for item, product, kind, at in told.done:
        if item in told.created and at > now - 7 * DAY_MS:
            times[f"{product}|{kind}"].append(at - told.created[item])
    days = {product: [set[str]() for _ in WINDOWS] for product, *_ in told.seen}
    for product, customer, at in told.seen:
        for customers, window in zip(days[product], WINDOWS, strict=True):
            if at // DAY_MS > today - window:
                customers.add(customer)
    return {
        "flow": {group: [len(each), *(interpolated(each, p) for p in PERCENTILES)] for group, each in times.items()},
        "active": {product: [len(customers) for customers in each] for product, each in days.items()},
    }


def interpolated(values: Iterable[float], percentile: int) -> float:
    """The percentile on the line between the two nearest values.

    >>> interpolated([1, 2, 3, 4], 50)
    2.5
    """
    ordered = sorted(values)
    place = (len(ordered) - 1) * percentile / 100
    low = ordered[int(place)]
    return low + (ordered[min(int(place) + 1, len(ordered) - 1)] - low) * (place - int(place))


def wrong_answers(right: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    """What differs in the answer of a peer."""
    return [
        f"{part} {group}: {answer[part].get(group)}, right {right[part].get(group)}"
        for part in ("flow", "active")
        for group in sorted(right[part].keys() | answer[part].keys())
        if not _same(right[part].get(group), answer[part].get(group))
    ]


def _same(right: Sequence[float] | None, answer: Sequence[float] | None) -> bool:
    if right is None or answer is None:
        return right is answer
    return all(abs(a - b) <= 1e-6 * max(1, abs(a)) for a, b in zip(right, answer, strict=True))


# --- the answer of flowmetrics --------------------------------------------------------------------------------------
class Right(NamedTuple):
    """A series, its value, and how far from it is right."""

    name: str
    labels: dict[str, str]
    value: float
    within: float


def by_window(told: Told, now: int) -> list[Right]:
    """Velocity, flow time and active users of every window that ends `now`, with the totals over item types."""
    rights = []
    for days in WINDOWS:
        window, times, customers = f"{days}d", defaultdict(list), defaultdict(set)
        for item, product, kind, at in told.done:
            if now - days * DAY_MS < at <= now:
                for item_type in (kind, "all"):
                    times[product, item_type].append((at - told.created[item]) / 1000)
        for product, customer, at in told.seen:
            if now - days * DAY_MS < at <= now:
                customers[product].add(customer)
        for (product, item_type), each in times.items():
            labels = {"value_stream": product, "item_type": item_type, "window": window}
            rights.append(Right("flow_velocity_items", labels, len(each), 0))
            for percentile in PERCENTILES:
                value = nearest_rank(each, percentile)
                rights.append(
                    Right("flow_time_seconds", {**labels, "percentile": f"p{percentile}"}, value, WITHIN * value)
                )
        for product, known in customers.items():
            rights.append(Right("active_users", {"value_stream": product, "window": window}, len(known), 0))
    return rights


def nearest_rank(values: Iterable[float], percentile: int) -> float:
    """The smallest value that so many percent do not exceed.

    >>> nearest_rank([1, 2, 3, 4], 50)
    2
    """
    ordered = sorted(values)
    return ordered[ceil(len(ordered) * percentile / 100) - 1]


def wrong_series(rights: Iterable[Right], pages: Sequence[Metrics]) -> list[str]:
    """What the pages of all workers together show wrongly, or show and should not, or show twice."""
    wrong, counts = [], defaultdict[str, float](float)
    for name, labels, value, within in rights:
        shown = [found for page in pages if (found := page(name, **labels)) is not None]
        if len(shown) != 1 or abs(shown[0] - value) > within:
            wrong.append(f"{name} {labels}: {shown}, right {value}")
        counts[name] += 0 if within else value
    for name, right in counts.items():
        shown_in_all = sum(page.total(name) for page in pages)
        if right and shown_in_all != right:
            wrong.append(f"the sum of {name}: {shown_in_all}, right {right}")
    return wrong
