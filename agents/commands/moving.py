"""move: the log of a data directory, carried to Kafka."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec
import orjson

from agents.commands.local import existing
from agents.commands.telling import bar, counted, say
from agents.judging import read_pseudonyms
from agents.kafka.changelog import Record
from agents.kafka.connection import Connection
from agents.kafka.reading import Progress, answering, must_rest, same_pseudonyms
from agents.kafka.refused import ever_refused
from agents.kafka.sending import Sender, event_record
from agents.kafka.topics import prepare, topics_of
from agents.kafka.tracking import rejected_record
from agents.local.intake import pseudonyms_of
from agents.local.journal import Journal
from agents.lock import DirectoryLock
from flowmetrics.configuration import Configuration
from flowmetrics.entities.customer import CUSTOMER, CustomerHistory
from flowmetrics.errors import OperationError, Rejection
from flowmetrics.events import CustomerEvent, EraseEvent
from flowmetrics.instants import instant_text
from flowmetrics.limits import EVENT_BYTES_MAX
from flowmetrics.settings import fingerprint
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.sources.pseudonyms import discreet
from flowmetrics.steps.stored import decode_history

EVENTS_AT_ONCE: Final = 10_000
BYTES_AT_ONCE: Final = 8 * 1024 * 1024
SOURCE: Final = "flowmetrics/move"
"""Of the events that tell of an erased person what the log no longer does."""


def move_log(directory: Path, configuration: Configuration) -> None:
    """Send every event of a directory to the events topic; safe to repeat, as events are a set.

    Raises OperationError where the directory is in use, where its log no longer begins at the first event, and while
    workers run: what they show would be wrong until the last event is there.
    """
    with DirectoryLock(existing(directory, "name that of the engine to be moved"), "move"):
        journal = Journal(directory)
        try:
            pseudonyms_of(configuration, journal)  # under another key one person would be two
            _must_be_whole(journal)
            move = Move(journal, configuration)
            asyncio.run(move.run())
        finally:
            journal.close()
    topics = topics_of(configuration)
    kept = f", and {move.refused} refused in {topics.rejected}" if move.refused else ""
    say(f"{counted(move.sent, 'event')} of {directory} in {topics.events} now{kept}")
    if move.read_otherwise:
        say(f"{directory} was written under another configuration; the past will be read under this one")
    say(
        f"start workers with this configuration; they show the numbers of {directory}, which is left as it was "
        "and must not be run any more"
    )


def _must_be_whole(journal: Journal) -> None:
    if journal.first() > 0:
        raise OperationError(
            f"the log of {journal.path} no longer begins at the first event (log.retention): its histories know more "
            "than the events could tell Kafka; go on with the directory, or import what you have of the events"
        )


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
        """Send everything; what was refused only if it is not there yet, since that is a list."""
        connection = Connection(self._configuration)
        async with answering(connection):
            await prepare(connection, self._configuration)
            await must_rest(connection, self._topics)
            await same_pseudonyms(connection, self._topics, self._configuration)
            there = {_mark(one.arrived_at, one.body) async for one in ever_refused(connection, self._topics)}
            async with Sender(connection, "move") as sender:
                with bar(self._journal.end, "moving") as progress:
                    for portion in self.portions(there, progress):
                        await sender.send(portion)

    def portions(self, there: set[bytes], progress: Progress) -> Iterator[list[Record]]:
        """Records to be sent together; those that follow from erasures first, as in a reading from the beginning."""
        records, size = [self._event(*told) for told in _erasures(self._journal)], 0
        for arrived_at, line in _log(self._journal):
            progress(1)
            if not line:
                continue  # it was an event of an erased person
            record = self._event(arrived_at, line)
            if record.topic == self._topics.events:
                self.sent += 1
            elif _mark(arrived_at, line) in there:
                continue
            else:
                self.refused += 1
            records.append(record)
            size += len(line)
            if size >= BYTES_AT_ONCE or len(records) >= EVENTS_AT_ONCE:
                yield records
                records, size = [], 0
        for _, arrived_at, rejection, body in self._journal.rejected():
            self.refused += 1
            if _mark(arrived_at, body) not in there:
                records.append(rejected_record(self._topics, 0, rejection, (arrived_at, body)))
        yield records

    def _event(self, arrived_at: int, line: bytes) -> Record:
        """An event under its stored arrival stamp, by which it is judged; another configuration may refuse it."""
        timed = self._source.read(line, arrived_at)
        if isinstance(timed, Rejection):
            told = discreet(timed) if self._discreet else timed
            return rejected_record(self._topics, 0, told, (arrived_at, line))
        return event_record(self._topics, timed[1], line, arrived_at)


def _log(journal: Journal) -> Iterator[tuple[int, bytes]]:
    """Arrival stamp and line of every event."""
    position = 0
    while position < journal.end:
        for arrived_at, lines in journal.read(position, EVENTS_AT_ONCE):
            position += len(lines)
            for line in lines:
                yield arrived_at, line


def _erasures(journal: Journal) -> Iterator[tuple[int, bytes]]:
    """What is known of erased persons, as events: that they are erased, and whom the deleted events linked them to.

    They are the same in every move; as arrival stamp they have the instant that they tell of.
    """
    for key, body in journal.histories([key for key, _, _ in journal.erased()]):
        history = decode_history(key, body)
        assert isinstance(history, CustomerHistory)
        person = key.removeprefix(CUSTOMER.key(""))
        for mate, told_at in sorted(history.mentioned.items()):
            if told_at <= history.erased_at:
                other = mate.removeprefix(CUSTOMER.key(""))
                yield _told(CustomerEvent, told_at, f"{person} {other}", {"customer": person, "aliases": [other]})
        yield _told(EraseEvent, history.erased_at, person, {"person": person})


def _told(kind: type[msgspec.Struct], at: int, name: str, data: dict[str, object]) -> tuple[int, bytes]:
    event = {"specversion": "1.0", "id": name, "source": SOURCE, "type": kind.__struct_config__.tag}
    return at, orjson.dumps({**event, "time": instant_text(at), "data": data})


def _mark(arrived_at: int, body: bytes) -> bytes:
    """What tells a refused event from others."""
    return blake2b(b"%d " % arrived_at + body[:EVENT_BYTES_MAX], digest_size=16).digest()
