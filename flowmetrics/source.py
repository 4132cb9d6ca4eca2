"""What a source promises: it turns what was delivered into an event and its instant, or says why not; it never raises.

Acceptance is a pure function of the bytes and the arrival stamp that is stored with them, so that reading the log again
years later gives the same answer.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeAlias

from flowmetrics.errors import Rejection
from flowmetrics.events import Event

Timed: TypeAlias = tuple[int, Event]
"""An accepted event and its instant."""

FAR_FUTURE: Final = 2**62
"""An arrival stamp after which nothing is too far ahead: that of files, which say what happened, not when it came."""


class Source(Protocol):
    """One kind of sender."""

    def read(self, body: bytes, arrived_at: int) -> Timed | Rejection:
        """The event in a delivery with its instant, or why it is refused."""
        ...
