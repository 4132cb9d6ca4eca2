"""What an engine of either runtime shows to its server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from agents.receipts import Intake
from flowmetrics.errors import FlowmetricsError
from flowmetrics.steps.read import Points


def clock_us() -> int:
    """The wall clock."""
    return time.time_ns() // 1000


@dataclass
class Published:
    """What the process shows: the rendered page, and whether it may be trusted."""

    page: bytes = b""
    version: int = 0
    ready: bool = False
    reason: str = "starting: the state is being read"
    listeners: list[Callable[[int, Points], None]] = field(default_factory=list)
    """Called from the engine's thread with each reading: instant and points."""


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
