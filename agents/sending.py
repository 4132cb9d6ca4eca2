"""Events of files into the log of an engine that runs, over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import urllib3

from agents.client import BATCH_BYTES, Client, DeliveryError, fitting
from agents.importing import Entry, Outcome
from flowmetrics.errors import OperationError, Rejection

ANSWER_SECONDS_MAX: Final = 2.0
ATTEMPTS: Final = 8
"""Half a minute, so that an engine may be started again during a long import."""


def answers(address: str) -> bool:
    """Whether an engine serves at an address."""
    try:
        asked = urllib3.request("GET", f"{address}/healthz", timeout=ANSWER_SECONDS_MAX, retries=False)
    except urllib3.exceptions.HTTPError:
        return False
    return asked.status == 200


class EngineLog:
    """The log of the engine at an address: each batch is sent to it. It cannot be told of what a mapping refused."""

    def __init__(self, address: str, token: str | None) -> None:
        self._client = Client(f"{address}/events", token, attempts=ATTEMPTS)

    def take(self, batch: Sequence[Entry], outcome: Outcome) -> None:
        """In as many requests as it takes, each sent again until it is answered."""
        events = list[bytes]()
        for entry in batch:
            if isinstance(entry, Rejection):
                outcome.refused[entry.reason.value] += 1
                outcome.unkept += 1
            else:
                events.append(entry[:BATCH_BYTES])  # what is cut was far too large anyway, and is refused as such
        while events:
            count = fitting(events, len(events))
            try:
                receipt = self._client.deliver(events[:count])
            except DeliveryError as error:
                hint = "; `http.token_file` must be that of the engine" if error.status in (401, 403) else ""
                raise OperationError(f"{error}{hint}; {outcome.sentence}, and it is safe to import again") from None
            outcome.taken += receipt["accepted"]
            outcome.refused.update(one["reason"] for one in receipt["rejected"])
            events = events[count:]

    def finish(self) -> None:
        """Each answer said that its events are on the disk: only the connection is left to be closed."""
        self._client.close()
