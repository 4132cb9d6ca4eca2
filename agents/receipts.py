"""What a request is told of its events."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from flowmetrics.errors import OperationError, Rejection


@dataclass(slots=True)
class Receipt:
    """What became of a request: how many events are in the log, and which were refused (index, rejection)."""

    accepted: int = 0
    rejected: list[tuple[int, Rejection]] = field(default_factory=list)


class Busy(Exception):  # noqa: N818 - a state of the intake, not an error of anybody
    """Too much waits; come back later."""


class Intake(Protocol):
    """The way into the log of a running engine."""

    failure: OperationError | None
    """Why nothing can be taken any more; None while all is well."""

    def take(self, bodies: Sequence[bytes]) -> Future[Receipt]:
        """Queue the events of one request. Raises Busy; the future fails with OperationError when the log does."""
        ...
