"""Records that no engine wrote, on topics where only an engine writes; and what is no such record but a bug of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import msgspec
import pytest
from workers.log import Nowhere
from workers.store import SimulatedStore, Table
from workers.worker import SimulatedEpochs

from agents.kafka.changelog import Record, Rows
from agents.kafka.epochs import Epoch, Known
from agents.kafka.tallying import Tallying
from agents.kafka.topics import Topics
from agents.kafka.tracking import ARRIVED, REFUSED, SHOWN, Changes, Tracking
from flowmetrics.configuration import Configuration
from flowmetrics.entities.customer import CustomerHistory
from flowmetrics.instants import parse_instant
from flowmetrics.steps.stored import encode_facts
from flowmetrics.steps.tally import Tally
from flowmetrics.steps.track import Track

NOW = parse_instant("2025-03-01T12:00:00Z")
TOPICS = Topics("f", 1)
KNOWN = Known({1: Epoch(1, Configuration())})
ANN = encode_facts(CustomerHistory())
OURS = msgspec.msgpack.encode(Changes(0, NOW, NOW, {1: [(("active_users", "shop"), {7: 1})]}, 0))


class Told(NamedTuple):
    key: bytes | None
    value: bytes | None
    offset: int = 0


class Writer(Nowhere):
    """Remembers what was told."""

    def __init__(self) -> None:
        self.told: list[Record] = []

    async def commit(self, told: Sequence[Record], rows: Rows) -> int:
        self.told += told
        return await super().commit(told, rows)


async def hears(*letters: Told) -> tuple[Tracking, list[Record]]:
    """A partition of track that took letters, and what it has told."""
    writer = Writer()
    tracking = Tracking(TOPICS, 0, KNOWN, SimulatedStore(Table()), writer, 1000)  # type: ignore[arg-type]
    await tracking.take(letters, NOW, NOW)  # type: ignore[arg-type]
    return tracking, writer.told


async def adds(*changes: Told) -> tuple[Tallying, list[Record]]:
    """A partition of tally that took changes, and what it has told."""
    writer = Writer()
    tallying = Tallying(TOPICS, 0, KNOWN, SimulatedStore(Table()), writer)  # type: ignore[arg-type]
    epochs = SimulatedEpochs([Configuration()])
    await tallying.take(changes, epochs)  # type: ignore[arg-type]
    await tallying.commit(await tallying.checkpoint(NOW, epochs))  # type: ignore[arg-type]
    return tallying, writer.told


def kept(told: Sequence[Record], topic: str) -> list[bytes | None]:
    """The bodies of what is kept of refused records, each with a reason that says where it was."""
    refused = [record for record in told if record.topic == "f.rejected"]
    for offset, record in enumerate(refused):
        assert dict(record.headers) == {
            "reason": b"not_cloudevent",
            "detail": f"the record at offset {offset} of partition 0 of f.{topic} is not of the engine, which alone "
            "may write there; send events to f.events".encode(),
            ARRIVED: b"%d" % NOW,
        }
    return [record.value for record in refused]


def counted(part: Tracking | Tallying) -> dict[str, int]:
    return {labels[0]: n for (counter, *labels), n in part.counters.stored() if counter == "events_rejected"}


async def test_letters_that_no_engine_wrote_are_kept_and_counted_and_those_after_them_are_heard() -> None:
    nobodys = [
        *((key, value) for key in (None, b"", b"x", b"\xff", b"item:A", SHOWN, REFUSED) for value in (None, b"x")),
        (b"thing:A", ANN),
        (None, ANN),
    ]
    refusals = Told(REFUSED, msgspec.msgpack.encode({"bad_time": 3}), len(nobodys))
    records = [Told(key, value, offset) for offset, (key, value) in enumerate(nobodys)]
    tracking, told = await hears(*records, refusals, Told(b"customer:ann", ANN, len(nobodys) + 1))
    assert kept(told, "links") == [value or b"" for _, value in nobodys]
    assert counted(tracking) == {"not_cloudevent": len(nobodys), "bad_time": 3}
    assert tracking.position.links == len(nobodys) + 2


async def test_changes_that_no_engine_wrote_are_kept_and_counted_and_those_after_them_are_added() -> None:
    nobodys = [None, b"", b"x", b"\x90", b'{"specversion": "1.0"}', OURS[:-1]]
    records = [Told(None, value, offset) for offset, value in enumerate(nobodys)]
    tallying, told = await adds(*records, Told(None, OURS, len(nobodys)))
    assert kept(told, "changes") == [value or b"" for value in nobodys]
    assert counted(tallying) == {"not_cloudevent": len(nobodys)}
    assert tallying.position.changes == len(nobodys) + 1
    assert tallying.complete_until() == NOW


@pytest.mark.parametrize(
    "mistake", [KeyError("x"), UnicodeDecodeError("utf-8", b"x", 0, 1, "x"), msgspec.DecodeError()]
)
async def test_a_step_that_fails_over_what_an_engine_wrote_refuses_nothing(
    monkeypatch: pytest.MonkeyPatch, mistake: Exception
) -> None:
    def fail(*told: object) -> NoReturn:
        raise mistake

    monkeypatch.setattr(Track, "hear", fail)
    monkeypatch.setattr(Tally, "apply", fail)
    with pytest.raises(type(mistake)):
        await hears(Told(b"customer:ann", ANN))
    with pytest.raises(type(mistake)):
        await adds(Told(None, OURS))
