"""Intake: deliveries are judged, appended to the log in groups, and only then answered.

Requests wait in a queue; one thread takes all that wait, writes them in one durable transaction, and wakes them. Under
load the groups grow, so the cost of a sync is shared.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

import msgspec

from agents.judging import judged, read_pseudonyms
from agents.local.journal import Journal
from agents.receipts import Busy, Receipt
from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError, OperationError, Rejection
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.sources.pseudonyms import Pseudonyms, discreet

WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes that wait to be written; beyond it a request is told to come back later."""

GROUP_BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes written in one transaction, so that the first of a group does not wait for too many others."""


class Intake:
    """The only way into the log of a running engine. `clock` gives the arrival stamp, `pseudonyms` hide the ids."""

    def __init__(
        self,
        journal: Journal,
        source: CloudEvents,
        clock: Callable[[], int],
        notify: Callable[[], None],
        pseudonyms: Pseudonyms | None = None,
    ) -> None:
        self._journal = journal
        self._source = source
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._notify = notify
        self._queue: queue.SimpleQueue[tuple[Sequence[bytes], Future[Receipt]] | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self.failure: OperationError | None = None
        """Why nothing can be taken any more; None while all is well."""
        self._refused = Counter[str]()

    def refusals(self) -> Counter[str]:
        """How many events were refused since this was asked last, by reason."""
        with self._counting:
            refused, self._refused = self._refused, Counter()
        return refused

    def start(self) -> None:
        """Begin to take."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._queue.put(None)
        self._thread.join()

    def take(self, bodies: Sequence[bytes]) -> Future[Receipt]:
        """Queue the events of one request. Raises Busy; the future fails with OperationError when the disk does."""
        if self.failure is not None:
            raise Busy
        size = sum(map(len, bodies))
        with self._counting:
            if self._waiting_bytes and self._waiting_bytes + size > WAITING_BYTES_MAX:
                raise Busy
            self._waiting_bytes += size
        future: Future[Receipt] = Future()
        self._queue.put((bodies, future))
        return future

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group, size, ended = [first], sum(map(len, first[0])), False
            while size < GROUP_BYTES_MAX and not self._queue.empty():
                another = self._queue.get()
                if another is None:
                    ended = True
                    break
                group.append(another)
                size += sum(map(len, another[0]))
            self._write(group)
            if ended:
                return

    def _write(self, group: Sequence[tuple[Sequence[bytes], Future[Receipt]]]) -> None:
        arrived_at = self._clock()
        lines: list[bytes] = []
        refused: list[tuple[Rejection, bytes]] = []
        receipts = [self._judge(bodies, arrived_at, lines, refused) for bodies, _ in group]
        try:
            self._journal.append(lines, arrived_at, refused)
        except OperationError as error:
            self.failure = error
            for _, future in group:
                future.set_exception(error)
        else:
            with self._counting:
                self._refused.update(rejection.reason.value for rejection, _ in refused)
            for receipt, (_, future) in zip(receipts, group, strict=True):
                future.set_result(receipt)
            self._notify()
        with self._counting:
            self._waiting_bytes -= sum(len(body) for bodies, _ in group for body in bodies)

    def _judge(
        self, bodies: Sequence[bytes], arrived_at: int, lines: list[bytes], refused: list[tuple[Rejection, bytes]]
    ) -> Receipt:
        receipt = Receipt()
        for index, (body, answer) in enumerate(judged(self._source, self._pseudonyms, bodies, arrived_at)):
            if isinstance(answer, Rejection):
                receipt.rejected.append((index, answer))
                refused.append((answer if body else discreet(answer), body[:_REFUSED_BYTES_MAX]))
            else:
                lines.append(_one_line(body))
                receipt.accepted += 1
        return receipt


def pseudonyms_of(configuration: Configuration, journal: Journal) -> Pseudonyms | None:
    """The pseudonyms under the configured key; None where ids are stored as they are sent.

    Raises ConfigurationError where the key cannot be read, or is not that under which the directory was written: one
    person would be two.
    """
    pseudonyms = read_pseudonyms(configuration)
    stored = journal.meta("pseudonyms")
    mark, before = pseudonyms.mark if pseudonyms else "", msgspec.msgpack.decode(stored, type=str) if stored else ""
    if mark != before:
        if not journal.untouched:
            raise ConfigurationError(
                f"{journal.path} was written under {'another' if before else 'no'} privacy.pseudonym_key_file; restore "
                "what it was, or name another directory under broker and import the events into it"
            )
        with journal.checkpoint() as checkpoint:
            checkpoint.meta("pseudonyms", mark)
    return pseudonyms


_REFUSED_BYTES_MAX: Final = 256 * 1024


def _one_line(body: bytes) -> bytes:
    """JSON has no line break but between its words, where a blank says the same."""
    return body.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in body or b"\r" in body else body
