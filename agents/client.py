"""A small client for producers: events in, batched and sent again until they are accepted.

    with Client("http://localhost:8080/events") as client:
        client.send("flowmetrics.item.v1", source="tracker",
                    data={"item": "A-1", "value_stream": "shop", "state": "Done"})

An event that was sent twice counts once, because its id is made before the first attempt.
"""

from __future__ import annotations

import gzip
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

import orjson
import urllib3

from flowmetrics.errors import FlowmetricsError

RETRIED: Final = (429, 502, 503, 504)
_RECEIPT: Final = (202, 400)
"""Something was accepted, or nothing of it was."""
BATCH_EVENTS: Final = 500
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Half of what a collector takes in one request."""
LINGER_SECONDS: Final = 0.2


class DeliveryError(FlowmetricsError):
    """Events that could not be delivered; `status` and `receipt` are the answer of the collector if there was one."""

    def __init__(self, message: str, status: int = 0, receipt: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.receipt = receipt or {}


def fitting(lines: Sequence[bytes], most: int) -> int:
    """How many of the first lines go into one request, at most `most`; at least one.

    >>> fitting([b"x" * 5_000_000] * 3, 500), fitting([b"x"] * 3, 2)
    (1, 2)
    """
    size = 0
    for count, line in enumerate(lines[:most]):
        size += len(line) + 1
        if count and size > BATCH_BYTES:
            return count
    return min(len(lines), most)


class Client:
    """Sends events in the background, in batches of `batch_events` or after `linger_seconds`.

    `attempts` bounds how often a batch is tried, waiting longer each time and at least as long as the collector asks
    (Retry-After). What is refused or given up raises DeliveryError on the next call; nothing is dropped silently. Safe
    to use from several threads.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        batch_events: int = BATCH_EVENTS,
        linger_seconds: float = LINGER_SECONDS,
        attempts: int = 10,
        timeout_seconds: float = 30.0,
    ) -> None:
        self._url = url
        self._batch_events = batch_events
        self._linger_seconds = linger_seconds
        self._headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        retry = urllib3.Retry(
            total=attempts,
            backoff_factor=0.2,
            backoff_max=10,
            status_forcelist=RETRIED,
            allowed_methods=None,
            respect_retry_after_header=True,
            raise_on_status=False,  # the last answer says why
        )
        self._pool = urllib3.PoolManager(retries=retry, timeout=timeout_seconds)
        self._waiting: list[bytes] = []
        self._changed = threading.Condition()
        self._sending = 0
        self._closing = False
        self._failures: list[DeliveryError] = []
        self._thread = threading.Thread(target=self._run, name="flowmetrics client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(
        self,
        event_type: str,
        *,
        source: str,
        data: Mapping[str, Any],
        event_id: str | None = None,
        at: datetime | None = None,
    ) -> str:
        """Queue one event; its id. Without `at` it happened now. Raises the failures of earlier batches."""
        name = event_id or str(uuid.uuid4())
        moment = at or datetime.now(UTC)
        if moment.tzinfo is None:
            raise ValueError("at must carry an offset, such as datetime.now(timezone.utc)")
        event = {
            "specversion": "1.0",
            "id": name,
            "source": source,
            "type": event_type,
            "time": moment.isoformat(),
            "data": data,
        }
        with self._changed:
            self._raise_failures()
            self._waiting.append(orjson.dumps(event))
            self._changed.notify_all()
        return name

    def post(self, lines: Sequence[bytes]) -> Mapping[str, Any]:
        """Send a batch of native events at once and wait for the receipt. Raises DeliveryError, also for a refusal."""
        receipt = self.deliver(lines)
        refused = receipt["rejected"]
        if refused:
            raise DeliveryError(f"{self._url} refused {len(refused)} events, the first: {refused[0]}", 202, receipt)
        return receipt

    def deliver(self, lines: Sequence[bytes]) -> Mapping[str, Any]:
        """Send a batch of native events at once; the receipt, also where some were refused. Raises DeliveryError."""
        if not lines:
            return {"accepted": 0, "rejected": []}
        try:
            answer = self._pool.request("POST", self._url, gzip.compress(b"\n".join(lines), 1), headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            raise DeliveryError(f"{self._url} cannot be reached: {error}") from None
        try:
            told = orjson.loads(answer.data)
        except orjson.JSONDecodeError:
            told = None
        receipt: Mapping[str, Any] = told if isinstance(told, dict) else {}
        if answer.status not in _RECEIPT or "error" in receipt or not {"accepted", "rejected"} <= receipt.keys():
            why = receipt.get("error", "that is no receipt of a collector")
            raise DeliveryError(f"{self._url} answered {answer.status}: {why}", answer.status, receipt)
        return receipt

    def flush(self) -> None:
        """Wait until everything queued was answered. Raises the failures."""
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting and not self._sending)
            self._raise_failures()

    def close(self) -> None:
        """Send what is queued, then end. Raises the failures."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._pool.clear()
        with self._changed:
            self._raise_failures()

    def _raise_failures(self) -> None:
        if self._failures:
            raise self._failures.pop(0)  # one at a time: each is told

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                until = time.monotonic() + self._linger_seconds
                self._changed.wait_for(
                    lambda: len(self._waiting) >= self._batch_events or self._closing,
                    max(0.0, until - time.monotonic()),
                )
                count = fitting(self._waiting, self._batch_events)
                batch, self._waiting = self._waiting[:count], self._waiting[count:]
                self._sending = len(batch)
            try:
                self.post(batch)
            except DeliveryError as error:
                with self._changed:
                    self._failures.append(error)
            with self._changed:
                self._sending = 0
                self._changed.notify_all()
