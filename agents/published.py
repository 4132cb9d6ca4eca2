"""What an engine of either runtime shows to its server."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from agents.receipts import Intake
from flowmetrics.errors import FlowmetricsError
from flowmetrics.kpi import Kpi
from flowmetrics.steps.read import Points

PUBLISH_SECONDS_MIN: Final = 0.1
"""At most this often is everything read and rendered."""


def rest_seconds(cost_seconds: float, most_seconds: float) -> float:
    """How long to wait before everything is read and rendered again, which took so long: it may take a fifth of a core,
    or more where `most_seconds` are too short for that.

    >>> [rest_seconds(cost, 1.0) for cost in (0.001, 0.05, 2.0)]
    [0.1, 0.2, 1.0]
    """
    return min(most_seconds, max(PUBLISH_SECONDS_MIN, 4 * cost_seconds))


def clock_us() -> int:
    """The wall clock."""
    return time.time_ns() // 1000


@dataclass
class Published:
    """What the process shows: the rendered page, and whether it may be trusted."""

    page: bytes = b""
    good_until: float = math.inf
    """Monotonic time from which the page may be wrong, because somebody else may show its series."""
    bare: bytes = b""
    """The page without what is not good any more."""
    ready: bool = False
    reason: str = "starting: the state is being read"
    """Why it is not ready; or, where it is, why it shows no numbers all the same."""
    kpis: tuple[Kpi, ...] = ()
    """Those that are shown, where they may be others than those of the configuration: while an epoch is built."""
    listeners: list[Callable[[int, Points], None]] = field(default_factory=list)
    """Called from the engine's thread with each reading: instant and points."""

    @property
    def current(self) -> bytes:
        """The page that may be served at this moment."""
        return self.page if time.monotonic() < self.good_until else self.bare


class Served(Protocol):
    """An engine, as its server sees it."""

    published: Published
    failure: FlowmetricsError | None
    """Why it ended by itself."""

    @property
    def intake(self) -> Intake:
        """The way into its log."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it still works."""
        ...

    def serves(self, address: str) -> None:
        """Told where its server listens."""
        ...
