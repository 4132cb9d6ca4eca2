"""What a source promises: it turns a delivery into events, or says why not; it never raises for what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from flowmetrics.errors import Rejection
from flowmetrics.events import Event


@dataclass(frozen=True, slots=True)
class Delivery:
    """Bytes as they arrived, with the arrival stamp that is stored with them.

    Acceptance is judged by that stamp alone, so that reading the log again years later gives the same answer.
    """

    body: bytes
    arrived_at: int


class Source(Protocol):
    """One kind of sender. Implementations are pure: the same delivery always gives the same answer."""

    def read(self, delivery: Delivery) -> Event | Rejection:
        """The event in a delivery, or why it is refused."""
        ...
