"""move: the log of a data directory, carried to Kafka."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from agents.commands.local import existing
from agents.commands.telling import bar, counted, say
from agents.judging import read_pseudonyms
from agents.kafka.changelog import Lost, Record, Writer
from agents.kafka.connection import Connection
from agents.kafka.reading import Progress, answering, must_rest, same_pseudonyms
from agents.kafka.refused import ever_refused
from agents.kafka.sending import event_record
from agents.kafka.topics import prepare, topics_of
from agents.kafka.tracking import refusals_record, rejected_record
from agents.local.intake import pseudonyms_of
from agents.local.journal import Journal
from agents.local.reading import EVENTS_AT_ONCE, erasures, whole_log
from agents.lock import DirectoryLock
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError, Rejection
from flowmetrics.instants import instant_text
from flowmetrics.limits import EVENT_BYTES_MAX
from flowmetrics.settings import fingerprint
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.sources.pseudonyms import discreet

BYTES_AT_ONCE: Final = 1024 * 1024
"""In one transaction, which is over after ten seconds, also over a slow line."""


def move_log(directory: Path, configuration: Configuration, rest: bool) -> None:
    """Send every event of a directory to the events topic; safe to repeat, as events are a set.

    Raises OperationError where the directory is in use, where its log no longer begins at the first event, unless the
    `rest` will do, and while workers run: what they show would be wrong until the last event is there.
    """
    with DirectoryLock(existing(directory, "name that of the engine to be moved"), "move"):
        journal = Journal(directory)
        try:
            pseudonyms_of(configuration, journal)  # under another key one person would be two
            since = _begin(journal)
            if since is not None and not rest:
                raise OperationError(
                    f"the log of {journal.path} no longer begins at the first event (log.retention): its histories "
                    "know more than the events could tell Kafka; go on with the directory, or move what is left of "
                    "the events with --rest"
                )
            move = Move(journal, configuration)
            asyncio.run(move.run())
        finally:
            journal.close()
    topics = topics_of(configuration)
    kept = f", and {move.refused} refused in {topics.rejected}" if move.refused else ""
    say(f"{counted(move.sent, 'event')} of {directory} in {topics.events} now{kept}")
    if move.read_otherwise:
        say(f"{directory} was written under another configuration; the past will be read under this one")
    if since is not None:
        say(
            f"events that arrived before {since} are not in the log any more: of items, requests and persons that "
            "began before then only the rest is known, and numbers that reach back to it are other ones"
        )
    shown = "what follows from the rest" if since is not None else f"the numbers of {directory}"
    say(
        f"start workers with this configuration; they show {shown}; {directory} is left as it was and must not be run "
        "any more"
    )


def _begin(journal: Journal) -> str | None:
    """Since when a log that was cut is known; None where it is whole."""
    if journal.first() == 0:
        return None
    arrived = (instant_text(arrived_at) for arrived_at, _ in whole_log(journal))
    return next(arrived, "now")


class Move:
    """What is sent of a journal, and how much that was."""

    def __init__(self, journal: Journal, configuration: Configuration) -> None:
        self._journal = journal
        self._configuration = configuration
        self._topics = topics_of(configuration)
        self._source = CloudEvents(configuration.surveys)
        self._discreet = read_pseudonyms(configuration) is not None
        self.sent = self.refused = 0
        stored = journal.meta("fingerprints")
        here = fingerprint(configuration, importlib.metadata.version("tzdata"))
        self.read_otherwise = stored is not None and msgspec.msgpack.decode(stored) != [*here]
        """Whether the directory was written under another configuration."""

    async def run(self) -> None:
        """Send everything; what was refused only if it is not there yet, since that is a list.

        The writer is opened before anything is read, so what a move that was killed left open is not waited for.
        """
        connection = Connection(self._configuration)
        async with answering(connection):
            await prepare(connection, self._configuration)
            await must_rest(connection, self._topics)
            await same_pseudonyms(connection, self._topics, self._configuration)
            writer = await Writer.open(connection, f"{self._topics.prefix}-move")
            try:
                there = Counter(
                    [_mark(one.arrived_at, one.body) async for one in ever_refused(connection, self._topics)]
                )
                with bar(self._journal.end - self._journal.first(), "moving") as progress:
                    for portion in self.portions(there, progress):
                        await writer.commit(portion, [])
            except Lost as error:
                raise OperationError(
                    f"Kafka did not take the events ({error}), or another move began meanwhile; run this again"
                ) from None
            finally:
                await writer.close()

    def portions(self, there: Counter[bytes], progress: Progress) -> Iterator[list[Record]]:
        """Records of one transaction each: what was refused is in the list and in the count of it, or in neither."""
        portion, size = list[Record](), 0
        for record in self._records(there, progress):
            portion.append(record)
            size += len(record.value or b"")
            if size >= BYTES_AT_ONCE or len(portion) >= EVENTS_AT_ONCE:
                yield self._counted(portion)
                portion, size = [], 0
        if portion:
            yield self._counted(portion)

    def _records(self, there: Counter[bytes], progress: Progress) -> Iterator[Record]:
        """What is not there yet; what follows from erasures first, as in a reading from the beginning."""
        for arrived_at, line in erasures(self._journal):
            timed = self._source.read(line, arrived_at)
            assert not isinstance(timed, Rejection)
            yield event_record(self._topics, timed[1], line, arrived_at)
        for arrived_at, line in whole_log(self._journal):
            progress(1)
            if not line:
                continue  # it was an event of an erased person
            timed = self._source.read(line, arrived_at)  # by its stored arrival; another configuration may refuse it
            if isinstance(timed, Rejection):
                yield from self._refused(discreet(timed) if self._discreet else timed, arrived_at, line, there)
            else:
                self.sent += 1
                yield event_record(self._topics, timed[1], line, arrived_at)
        for _, arrived_at, rejection, body in self._journal.rejected():
            yield from self._refused(rejection, arrived_at, body, there)

    def _refused(self, rejection: Rejection, arrived_at: int, body: bytes, there: Counter[bytes]) -> Iterator[Record]:
        """A refused event; as many of those that look alike as are there already are left out."""
        self.refused += 1
        mark = _mark(arrived_at, body)
        if there[mark]:
            there[mark] -= 1
        else:
            yield rejected_record(self._topics, 0, rejection, (arrived_at, body))

    def _counted(self, portion: list[Record]) -> list[Record]:
        """With how many of them were refused, if any."""
        refused = Counter(dict(one.headers)["reason"].decode() for one in portion if one.topic == self._topics.rejected)
        return [*portion, refusals_record(self._topics, refused)] if refused else portion


def _mark(arrived_at: int, body: bytes) -> bytes:
    """What tells a refused event from others."""
    return blake2b(b"%d " % arrived_at + body[:EVENT_BYTES_MAX], digest_size=16).digest()
