"""What each value stream of the simulated company is like, in numbers: rates, rhythms, durations, opinions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeAlias

from flowmetrics.instants import DAY_US, HOUR_US

Told: TypeAlias = tuple[int, str, str, dict[str, Any]]
"""Instant, short event type, value stream, and the fields besides the value stream."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A value stream. `pace` multiplies the live rates; `bargain_hunters` come for the daily flash sale only."""

    name: str
    prefix: str
    features: tuple[str, ...]
    touchpoints: tuple[str, ...]
    items_per_day: float
    requests_per_day: float
    pace: float
    bargain_hunters: int = 0
    slumps: bool = False


STREAMS: Final = (
    Stream(
        name="checkout",
        prefix="CHK",
        features=("express-pay", "saved-cart", "gift-card", "invoice"),
        touchpoints=("payment", "delivery"),
        items_per_day=56,
        requests_per_day=64,
        pace=2.4,
        bargain_hunters=200,
        slumps=True,
    ),
    Stream(
        name="search",
        prefix="SRC",
        features=("filters", "suggestions", "voice", "alerts"),
        touchpoints=("results", "product-page"),
        items_per_day=44,
        requests_per_day=48,
        pace=0.7,
    ),
    Stream(
        name="mobile-app",
        prefix="MOB",
        features=("widgets", "offline", "push", "wallet"),
        touchpoints=("onboarding", "support"),
        items_per_day=44,
        requests_per_day=48,
        pace=0.7,
    ),
)

ITEM_TYPES: Final = {"Story": 0.50, "Bug": 0.28, "Chore": 0.14, "Security": 0.08}
CHANNELS: Final = {"web": 0.45, "email": 0.25, "phone": 0.12, "chatbot": 0.18}
SEGMENTS: Final = {"free": 0.5, "smb": 0.35, "enterprise": 0.15}

CUSTOMERS_AT_FIRST: Final = 360
SIGN_UPS_PER_DAY: Final = 7.0
EMPLOYEES: Final = 30
BOTS: Final = 4

SURVEYS_PER_DAY: Final = {"nps": 30.0, "csat": 34.0, "ces": 20.0}
SCORES: Final[Mapping[str, tuple[range, tuple[int, ...], tuple[int, ...]]]] = {
    "nps": (range(11), (1, 1, 1, 2, 2, 5, 7, 13, 18, 27, 23), (14, 10, 10, 9, 8, 9, 8, 12, 11, 6, 3)),
    "enps": (range(11), (0, 0, 1, 1, 2, 5, 8, 17, 22, 26, 18), (4, 4, 5, 8, 10, 15, 16, 16, 12, 7, 3)),
    "csat": (range(1, 6), (3, 6, 11, 36, 44), (34, 28, 18, 13, 7)),
    "ces": (range(1, 8), (2, 3, 5, 10, 22, 32, 26), (24, 24, 20, 14, 9, 6, 3)),
}
"""The scale, how often each score is given when all is well, and how often when it is not."""

PER_SECOND: Final[Mapping[str, tuple[float, float]]] = {
    "arrive": (0.08, 0.08),
    "commit": (0.08, 0.06),
    "take_up": (0.08, 0.03),
    "hand_over": (0.08, 0.03),
    "finish": (0.08, 0.05),
    "block": (0.02, 0.12),
    "unblock": (0.02, 0.005),
    "reopen": (0.004, 0.05),
    "ask": (0.07, 0.15),
    "answer_back": (0.04, 0.02),
    "solve": (0.07, 0.06),
    "ask_again": (0.003, 0.03),
    "act": (8.0, 2.0),
    "crawl": (0.2, 0.2),
    "sign_up": (0.03, 0.008),
    "reach_value": (0.02, 0.008),
    "nps": (0.07, 0.45),
    "csat": (0.08, 0.20),
    "ces": (0.05, 0.12),
    "enps": (0.004, 0.004),
}
"""What happens live, times the pace of the stream: when all is well, and in the slump."""

SLOWER: Final = 4
"""How many times longer than before work, requests and value take in the slump."""

PILE: Final = 6
"""How many times as much as usual is taken on in the slump; otherwise no more than usual."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How busy each weekday (Monday first) and each hour of the day is, beside the busiest; in UTC."""

    weekdays: tuple[float, ...]
    hours: tuple[float, ...]

    def level(self, at: int) -> float:
        """How busy an instant is, from 0 to 1."""
        return self.weekdays[(at // DAY_US + 3) % 7] * self.hours[at % DAY_US // HOUR_US]

    def mean(self) -> float:
        """The level over a whole week."""
        return sum(self.weekdays) / 7 * sum(self.hours) / 24


OFFICE: Final = Rhythm(
    (1.0, 1.0, 1.0, 1.0, 0.9, 0.3, 0.25), (0.1,) * 7 + (0.6,) + (1.0,) * 10 + (0.4,) * 2 + (0.1,) * 4
)
SHOPPING: Final = Rhythm(
    (0.75, 0.75, 0.8, 0.8, 0.95, 1.0, 0.9),
    (0.3, 0.2, 0.15, 0.1, 0.1, 0.15, 0.3, 0.5) + (0.7,) * 9 + (0.9, 1.0, 1.0, 1.0, 0.9, 0.7, 0.5),
)


def moments(random: Random, begin: int, end: int, per_day: float, rhythm: Rhythm) -> Iterator[int]:
    """Instants in (begin, end), at random in a rhythm, `per_day` of them on the average day of a week."""
    busiest = per_day / rhythm.mean() / DAY_US
    at = begin
    while (at := at + 1 + int(random.expovariate(busiest))) < end:
        if random.random() < rhythm.level(at):
            yield at


def at_work(random: Random, at: int) -> int:
    """The instant itself or, when nobody is at work, a later one."""
    while random.random() > OFFICE.level(at):
        at += int(random.uniform(0.5, 3) * HOUR_US)
    return at


def spread(random: Random, median_us: float, sigma: float) -> int:
    """A duration, lognormal: a few are many times longer than most."""
    return 1 + int(median_us * random.lognormvariate(0, sigma))


def pick(random: Random, weights: Mapping[str, float]) -> str:
    """One of the words, each as often as its weight says."""
    return random.choices(list(weights), list(weights.values()))[0]
