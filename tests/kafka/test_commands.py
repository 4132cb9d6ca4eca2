"""The commands where `broker` names a Kafka: what a data directory is told, a broker is told as well."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from broker import Broker, free_port
from chaos import draw, wrong
from engine import EngineProcess, Event, chunks, command, done, event, lines, rejected, until
from fleet import KPI, Worker
from textual.widgets import Static
from worlds import HOUR, T0, line, text

from agents.commands import moving
from agents.commands.moving import Move
from agents.kafka.tracking import Changes
from agents.local.journal import FILE, Journal
from agents.local.runner import Runner
from agents.top import EngineView
from agents.top_screen import Top
from flowmetrics.configuration import Configuration
from flowmetrics.errors import Reason, Rejection
from flowmetrics.instants import instant_text
from flowmetrics.limits import HORIZON_US_MIN
from flowmetrics.routing import partition_of
from flowmetrics.settings import fingerprint
from flowmetrics.testing import Driver
from flowmetrics.windowing.bins import BINS

pytestmark = pytest.mark.long

SETTINGS: Final = "windows: [1d, 7d, 30d]\nhorizon: 60d\n"
PARTITIONS: Final = 3
CATCH_UP_SECONDS: Final = 120.0
MAP: Final = """
events:
  - type: flowmetrics.item.v1
    source: board
    time: {from: at, format: iso}
    data: {item: "${key}", value_stream: shop, state: Done}
"""


class Place(Worker):
    """A worker over topics of its own, and where commands are typed."""

    def __init__(self, directory: Path, broker: str, prefix: str) -> None:
        self.prefix = prefix
        super().__init__(directory, broker, "")

    def configure(self, settings: str, listen: str = "127.0.0.1:0") -> None:
        topics = f"topics: {{prefix: {self.prefix}, partitions: {PARTITIONS}}}\n"
        super().configure(topics + SETTINGS + settings, listen)

    def committed(self, name: str) -> list[Any]:
        """Every committed record of a topic."""
        return asyncio.run(self._committed(f"{self.prefix}.{name}"))

    async def _committed(self, topic: str) -> list[Any]:
        settings = {"isolation_level": "read_committed", "auto_offset_reset": "earliest"}
        consumer = AIOKafkaConsumer(bootstrap_servers=self.broker, **settings)
        await consumer.start()
        places, records = [TopicPartition(topic, number) for number in range(PARTITIONS)], list[Any]()
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            for some in (await consumer.getmany(timeout_ms=200)).values():
                records += some
        await consumer.stop()
        return records

    def write(self, name: str, partition: int, key: bytes | None, value: bytes) -> None:
        """A record that no engine wrote."""
        asyncio.run(self._write(f"{self.prefix}.{name}", partition, key, value))

    async def _write(self, topic: str, partition: int, key: bytes | None, value: bytes) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.broker)
        await producer.start()
        await producer.send_and_wait(topic, value, key=key, partition=partition)
        await producer.stop()


Make = Callable[..., Place]


@pytest.fixture
def make(tmp_path: Path, broker: Broker, prefix: str) -> Iterator[Make]:
    """Workers in directories of their own over the same topics, not started; `address` is that of the broker."""
    with ExitStack() as held:
        made: list[Place] = []

        def one(address: str = broker.address) -> Place:
            made.append(Place(tmp_path / f"worker-{len(made)}", address, prefix))
            return held.enter_context(made[-1])

        yield one


@pytest.fixture
def local(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine over a data directory, not started."""
    with EngineProcess(tmp_path / "local", SETTINGS) as engine:
        yield engine


def file(worker: EngineProcess, *events: Event | bytes) -> Path:
    """Events as a file."""
    path = worker.directory / "events.jsonl"
    path.write_bytes(b"".join(one + b"\n" if isinstance(one, bytes) else lines([one]) for one in events))
    return path


def test_the_events_topic_has_the_same_past_as_the_files_in_it(make: Make) -> None:
    worker = make()
    told = [
        event(kind, ago=3600.0 * hours, **data)
        for hours in range(1, 60)
        for kind, data in (
            ("item", {"item": f"A-{hours % 7}", "value_stream": "shop", "state": ("Doing", "Done")[hours % 2]}),
            ("activity", {"customer": f"c{hours % 5}", "value_stream": "shop", "feature": "search"}),
        )
    ]
    path = file(worker, *told)
    worker.run("import", path).well()
    span = ("--from", told[-1]["time"], "--to", told[0]["time"], "--step", "1h", "--openmetrics")
    worker.run("backfill", *span, worker.directory / "topic.txt").well()
    worker.run("backfill", path, *span, worker.directory / "files.txt").well()
    written = [(worker.directory / name).read_bytes() for name in ("topic.txt", "files.txt")]
    assert written[0] == written[1]
    assert written[0].count(b"flowmetrics_engine_ready 1.0") > 50


def shown(engine: EngineProcess) -> dict[str, float]:
    """The KPI series on a page."""
    rows = (line.rsplit(" ", 1) for line in engine.get("/metrics").text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in rows if KPI.match(name)}


def agree(local: EngineProcess, worker: EngineProcess) -> int:
    """Wait until both pages show the same; how many series that are. What grows with time may differ by the time
    between two looks."""
    found: list[str] = ["nothing was asked"]

    def same() -> int:
        before, there, after = shown(local), shown(worker), shown(local)
        found[:] = wrong(there, before, after)
        return 0 if found else len(there)

    try:
        return until(same, "both pages show the same", CATCH_UP_SECONDS)
    except AssertionError:
        raise AssertionError(f"{len(found)} series differ, such as {found[:5]}") from None


def a_company(seed: int, count: int) -> list[Event]:
    """Events of every kind: aliases, duplicates, erasures, and one whose time has not come."""
    random = Random(seed)
    ahead = event("item", ago=-1800, item="ahead", value_stream="shop", state="Done")
    return [*(draw(random, number) for number in range(1, count)), ahead]


# --- import ----------------------------------------------------------------------------------------------------------


def test_an_import_is_safe_to_repeat_and_may_come_before_the_first_worker(make: Make) -> None:
    worker = make()
    path = file(worker, *(done(f"A-{n}") for n in range(2000)), b"nonsense")
    for _ in range(2):
        told = worker.run("import", path).well().err
        assert told.endswith("2000 events are in the log; refused: 1 not_json\n")
    worker.ready().shows(lambda page: page.velocity(), 2000)
    worker.run("import", file(worker, done("A-1"), done("B-1"))).well()
    worker.shows(lambda page: page.velocity(), 2001)
    worker.stop()


def test_rows_of_a_mapping_and_events_that_are_refused_are_kept_for_reading_back(make: Make) -> None:
    worker = make()
    (worker.directory / "map.yaml").write_text(MAP)
    table = worker.directory / "board.csv"
    table.write_text("key,at\nA-1,2025-03-01T12:00:00Z\nA-2,never\nA-3,2525-03-01T12:00:00Z\n")
    told = worker.run("import", table, "--map", worker.directory / "map.yaml").well().err
    assert told.endswith("1 events are in the log; refused: 1 bad_time, 1 too_far_ahead\n")
    (row, (reason, kept)) = sorted(rejected(worker.run("rejected")))
    assert row == ("bad_time", "")
    assert (reason, orjson.loads(kept)["data"]["item"]) == ("too_far_ahead", "A-3")
    worker.run("import", file(worker, b"{}")).failed(1, "nothing was accepted; `flowmetrics rejected` shows why")


def test_an_import_hides_the_ids_of_persons_and_keeps_to_the_key_of_the_workers(make: Make) -> None:
    worker = make()
    key, other = worker.directory / "key", worker.directory / "other"
    key.write_text("k" * 32)
    other.write_text("o" * 32)
    worker.configure(f"privacy: {{pseudonym_key_file: {key}}}\n")
    path = file(worker, event("activity", customer="ann", value_stream="shop"))
    worker.run("import", path).well()
    (record,) = worker.committed("events")[:1]
    assert b"ann" not in record.value
    worker.ready().shows(lambda page: page.users(), 1)
    assert "active in shop" in worker.run("explain", "customer", "ann").well().out
    worker.stop()
    worker.configure(f"privacy: {{pseudonym_key_file: {other}}}\n")
    for words in (["import", path], ["rejected", "--replay"]):
        worker.run(*words).failed(2, "were written under another privacy.pseudonym_key_file")


def test_the_key_of_an_event_hides_whom_it_tells_of(make: Make) -> None:
    worker = make()
    (worker.directory / "key").write_text("k" * 32)
    worker.configure(f"privacy: {{pseudonym_key_file: {worker.directory / 'key'}}}\n")
    worker.run("import", file(worker, event("activity", customer="ann", value_stream="shop"))).well()
    assert not any(b"ann" in record.key for record in worker.committed("events"))


# --- rejected --------------------------------------------------------------------------------------------------------


def test_what_is_mended_is_sent_again_once_and_listed_no_more(make: Make) -> None:
    worker = make()
    smile = event("response", respondent="ann", value_stream="shop", survey="smile", score=2)
    worker.run("import", file(worker, smile, b"nonsense", done("A-1"))).well()
    assert worker.run("rejected", "--replay").well().err == "0 of 2 refused events are in the log now\n"
    assert [reason for reason, _ in rejected(worker.run("rejected"))] == ["unknown_survey", "not_json"]
    worker.configure("surveys: {smile: {scale: [1, 3], top: 1}}\n")
    assert worker.run("rejected", "--replay").well().err == "1 of 2 refused events are in the log now\n"
    until(lambda: len(worker.committed("events")) == 2, "what was sent again can be read")
    assert rejected(worker.run("rejected")) == [("not_json", "nonsense")]
    assert worker.run("rejected", "--replay").well().err == "0 of 1 refused events are in the log now\n"
    assert len(worker.committed("events")) == 2
    page = worker.ready().shows(lambda page: page.velocity(), 1)
    assert page.total("smile_responses") > 0
    worker.stop()


# --- explain ---------------------------------------------------------------------------------------------------------


def test_explain_says_what_it_says_of_a_data_directory_while_a_worker_runs(make: Make, local: EngineProcess) -> None:
    events = a_company(3, 1500)
    worker = make()
    worker.run("import", file(worker, *events)).well()
    local.run("import", file(local, *events)).well()
    worker.ready()
    items = [("item", f"i{n}") for n in range(3)]
    requests = [("request", f"r{n}") for n in range(3)]
    people = [("customer", f"p{n}") for n in range(6)]
    for kind, key in (*items, *requests, *people):
        there = local.run("explain", kind, key).well().out
        until(lambda kind=kind, key=key, there=there: alike(worker, kind, key, there), f"{kind} {key} is known")
    worker.run("explain", "item", "I0").failed(1, "nothing is known of item:I0; keys are case-sensitive")
    assert "begins again" not in worker.said, "nobody noticed"
    worker.stop()


def alike(worker: Place, kind: str, key: str, there: str) -> bool:
    """Whether a worker's topics say the same; contributions of one pane are in no order."""
    finished = worker.run("explain", kind, key)
    return finished.code == 0 and sorted(finished.out.splitlines()) == sorted(there.splitlines())


# --- top -------------------------------------------------------------------------------------------------------------


async def test_top_says_that_a_worker_shows_a_part_and_no_two_workers_are_taken_for_one(make: Make) -> None:
    first, second = make(), make()
    first.run("import", file(first, *(done(f"A-{n}", f"stream-{n}") for n in range(12)))).well()
    first.ready()
    second.ready()

    def shown() -> list[int]:
        readings = [EngineView(worker.url).reading() for worker in (first, second)]
        return [len({row.value_stream for row in each.rows}) for each in readings]

    until(lambda: sum(shown()) == 12 and all(shown()), "each shows its value streams", CATCH_UP_SECONDS)
    said = command("top", "--once", "--url", first.url, cwd=first.directory).well()
    part = re.fullmatch(r"This worker shows (\d+) value streams?; other workers show others\.\n", said.err)
    assert part
    assert int(part[1]) == shown()[0]
    assert part[0] not in said.out, "pipes get a table only"
    app = Top(EngineView(first.url), first.url)
    async with app.run_test(size=(80, 24)) as pilot:
        while part[0].strip() != str(app.query_one("#part", Static).content):
            await pilot.pause(0.05)
    told = [
        [worker.get(f"/api/{what}").json["worker"] for what in ("catalogue", "history")] for worker in (first, second)
    ]
    assert [len(set(names)) for names in told] == [1, 1]
    assert told[0] != told[1]
    first.stop()
    second.stop()


# --- audit -----------------------------------------------------------------------------------------------------------


def test_an_audit_proves_every_partition_also_after_a_kill_and_not_while_workers_run(make: Make) -> None:
    worker = make()
    worker.run("import", file(worker, *a_company(4, 3000))).well()
    assert worker.run("audit").well().err == "histories and panes agree\n", "nobody has worked yet"
    worker.ready()
    worker.run("audit").failed(1, "1 worker of", "must be stopped first")
    worker.run("import", file(worker, *a_company(5, 3000))).well()
    worker.kill()
    audited = until(lambda: at_rest(worker), "the worker that was killed is gone")
    assert audited == "histories and panes agree\n"
    worker.ready().stop()
    assert worker.run("audit").well().err == "histories and panes agree\n"
    assert sum(record.key[:1] == b"h" for record in worker.committed("track")) > 500, "there was something to prove"


def at_rest(worker: Place) -> str:
    """What the audit says, once the session of a killed worker has ended."""
    finished = worker.run("audit")
    return "" if "must be stopped first" in finished.err else finished.well().err


def test_an_audit_finds_a_change_too_many_and_a_history_that_was_tampered_with(make: Make) -> None:
    worker = make()
    worker.run("import", file(worker, *(done(f"A-{n}") for n in range(50)))).well()
    worker.ready().shows(lambda page: page.velocity(), 50)
    worker.stop()
    history = next(record for record in worker.committed("track") if record.key[:1] == b"h")
    told = msgspec.msgpack.Decoder(Changes)
    at = max(told.decode(record.value).now for record in worker.committed("changes"))
    pane = at // (300 * 1_000_000)
    home = partition_of(b"shop", PARTITIONS)
    one_more = Changes(0, at, at, {1: [(("items_done", "shop", "feature"), {pane * BINS: 1})]}, 0)
    worker.write("changes", home, None, msgspec.msgpack.encode(one_more))
    worker.run("audit").failed(1, "items_done shop feature", "called for", "do not agree")
    one_less = Changes(0, at, at, {1: [(("items_done", "shop", "feature"), {pane * BINS: -1})]}, 0)
    worker.write("changes", home, None, msgspec.msgpack.encode(one_less))
    worker.run("audit").well()
    place = partition_of(history.key[1:], PARTITIONS)
    worker.write("track", place, history.key, history.value.replace(b"Done", b"Doin"))
    worker.run("audit").failed(1, f"contributions of {history.key[1:].decode()}: called for", "do not agree")


# --- move ------------------------------------------------------------------------------------------------------------


def test_a_moved_directory_shows_the_same_numbers_also_moved_twice_and_after_a_kill(
    make: Make, local: EngineProcess
) -> None:
    worker, moved = make(), local.directory / "moved"
    local.run("import", file(local, *a_company(6, 6000), b"nonsense", b"{}")).well()
    shutil.copytree(local.data, moved)
    killed_at_the_third_portion(worker, moved, 1000)
    before = len(worker.committed("events"))
    assert 0 < before < 6000
    for _ in range(2):
        told = worker.run("move", moved).well().err
        assert f"6000 events of {moved} in {worker.prefix}.events now, and 2 refused in" in told
        assert "start workers with this configuration" in told

    def arrived() -> set[int]:
        records = [record for record in worker.committed("events") if b"flowmetrics/move" not in record.value]
        return {int(dict(record.headers)["flowmetrics-arrived"]) for record in records}

    until(lambda: arrived() == {at for at, _ in log(moved)}, "the stored arrival stamps can be read")
    local.ready()
    worker.ready()
    assert agree(local, worker) > 100
    for reason in ("not_json", "not_cloudevent"):
        worker.shows(lambda page, reason=reason: page("events_rejected_total", reason=reason), 1)
    assert sorted(rejected(worker.run("rejected"))) == sorted(rejected(local.run("rejected")))
    worker.run("move", moved).failed(1, "1 worker of", "must be stopped first")
    worker.stop()
    worker.run("audit").well()
    worker.run("move", moved).well()
    worker.ready()
    assert agree(local, worker) > 100
    worker.stop()
    local.stop()


def test_what_was_refused_is_moved_and_counted_once_also_moved_twice_and_after_a_kill(
    make: Make, local: EngineProcess
) -> None:
    """Rows of a mapping look alike; answers to a survey that the workers do not know are refused on the way."""
    worker = make()
    local.configure(SETTINGS + "surveys: {smile: {scale: [1, 3], top: 1}}\n")
    answers = [event("response", respondent=f"p{n}", value_stream="shop", survey="smile", score=2) for n in range(3)]
    local.run("import", file(local, *answers, b"nonsense", b"nonsense", done("A-1"))).well()
    (local.directory / "map.yaml").write_text(MAP)
    table = local.directory / "board.csv"
    table.write_text("key,at\n" + "B-1,never\n" * 5)
    local.run("import", table, "--map", local.directory / "map.yaml").failed(1)
    killed_at_the_third_portion(worker, local.data, 4)
    assert len(worker.committed("rejected")) == 7, "some of those that look alike"
    for _ in range(2):
        told = worker.run("move", local.data).well().err
        assert f"1 event of {local.data} in {worker.prefix}.events now, and 10 refused in" in told
    reasons = {"unknown_survey": 3, "not_json": 2, "bad_time": 5}
    assert Counter(reason for reason, _ in rejected(worker.run("rejected"))) == reasons
    worker.ready()
    for reason, count in reasons.items():
        worker.shows(lambda page, reason=reason: page("events_rejected_total", reason=reason), count)
    worker.stop()


def test_what_was_refused_is_not_sent_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "BYTES_AT_ONCE", 2500)
    settings = Configuration(broker="kafka://nowhere")
    with closing(Journal(tmp_path)) as journal:
        journal.append([], T0, [(Rejection(Reason.NOT_JSON, "no JSON"), b"%1000d" % n) for n in range(10)])
        portions = [*Move(journal, settings).portions(Counter(), lambda done: None)]
    assert [len(portion) for portion in portions] == [4, 4, 4, 2], "three refused events each, and how many they are"


def killed_at_the_third_portion(worker: Place, directory: Path, events: int) -> None:
    """`flowmetrics move`, by SIGKILL when two portions are there and the third has arrived but is not committed."""
    program = f"""
import os, signal
from agents import cli
from agents.commands import moving

class Dies(moving.Writer):
    committed = 0
    async def commit(self, told, rows):
        if self.committed == 2:
            self._producer.commit_transaction = lambda: os.kill(os.getpid(), signal.SIGKILL)
        self.committed += 1
        await super().commit(told, rows)

moving.Writer, moving.EVENTS_AT_ONCE = Dies, {events}
cli.main(["move", {str(directory)!r}, "--config", {str(worker.config)!r}])
"""
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == -signal.SIGKILL


def log(directory: Path) -> list[tuple[int, bytes]]:
    """Arrival stamps and lines of the log of a data directory."""
    with closing(sqlite3.connect(directory / FILE)) as opened:
        return opened.execute("SELECT arrived_at, body FROM log").fetchall()


def test_a_pseudonymised_directory_moves_under_its_key_only_and_what_is_erased_stays_so(
    make: Make, local: EngineProcess
) -> None:
    worker, moved, key = make(), local.directory / "moved", local.directory / "key"
    key.write_text("k" * 32)
    privacy = f"privacy: {{pseudonym_key_file: {key}}}\n"
    local.configure(SETTINGS + privacy)
    link = event("customer", ago=7200, customer="ann", aliases=["bob"], segment="smb")
    events = [link, event("activity", ago=5000, customer="bob", value_stream="shop"), event("erase", person="ann")]
    local.run("import", file(local, *a_company(7, 1500), *events)).well()
    local.ready()
    until(lambda: b"" in b"\n".join(body for _, body in log(local.data)).split(b"\n"), "erased lines are empty")
    local.stop()
    shutil.copytree(local.data, moved)
    worker.run("move", moved).failed(2, "was written under another privacy.pseudonym_key_file")
    worker.configure(privacy)
    worker.run("move", moved).well()
    for engine in (local, worker):
        engine.ready()
    agree(local, worker)
    assert "erased up to" in worker.run("explain", "customer", "bob").well().out
    for engine in (local, worker):
        engine.post(event("response", ago=6000, respondent="bob", value_stream="shop", survey="nps", score=1, name="l"))
        engine.post(event("activity", ago=86_400, customer="eve", value_stream="late"))
    for engine in (local, worker):
        engine.shows(lambda page: page.users("late", "7d"), 1)
    agree(local, worker)
    worker.stop()
    local.stop()


def test_what_cannot_be_moved_is_told_apart(make: Make, local: EngineProcess) -> None:
    worker = make()
    worker.run("move", local.data).failed(1, f"there is no {local.data}; name that of the engine to be moved")
    local.ready().post(done("A-1"), done("A-2"))
    worker.run("move", local.data).failed(1, f"{local.data} is held by process", "(flowmetrics run); stop it")
    local.stop()
    local.run("move", local.data).failed(2, "events move to Kafka; name a configuration with broker: kafka://HOST:PORT")
    local.run("import", file(local, done("A-3"))).well()
    with closing(sqlite3.connect(local.data / FILE)) as opened, opened:
        opened.execute("DELETE FROM log WHERE first = 0")
    worker.run("move", local.data).failed(1, "no longer begins at the first event", "histories know more", "--rest")


def test_the_rest_of_a_log_that_was_cut_moves_when_that_is_asked_for_and_says_what_is_not_known(
    make: Make, local: EngineProcess
) -> None:
    worker = make()
    local.run("import", file(local, done("A-1"), done("A-2"))).well()
    local.run("import", file(local, done("A-3"))).well()
    with closing(sqlite3.connect(local.data / FILE)) as opened, opened:
        opened.execute("DELETE FROM log WHERE first = 0")
    ((arrived_at, _),) = log(local.data)
    told = worker.run("move", local.data, "--rest").well().err
    assert f"1 event of {local.data} in" in told
    assert f"events that arrived before {instant_text(arrived_at)} are not in the log any more" in told
    assert "only the rest is known, and numbers that reach back to it are other ones" in told
    assert f"they show the numbers of {local.data}" not in told
    worker.ready().shows(lambda page: page.velocity(), 1)
    worker.stop()


def test_a_log_that_is_whole_moves_as_one_where_the_rest_is_asked_for(make: Make, local: EngineProcess) -> None:
    worker = make()
    local.run("import", file(local, done("A-1"))).well()
    told = worker.run("move", local.data, "--rest").well().err
    assert "any more:" not in told
    assert f"they show the numbers of {local.data}" in told


def test_a_broker_that_is_away_is_named_by_every_command(make: Make, local: EngineProcess) -> None:
    address = f"127.0.0.1:{free_port()}"
    worker = make(address)
    local.run("import", file(local, done("A-1"))).well()
    path = file(worker, done("A-1"))
    for words in (
        ["import", path], ["audit"], ["explain", "item", "A-1"], ["rejected"], ["rejected", "--replay"],
        ["move", local.data],
    ):  # fmt: skip
        finished = worker.run(*words).failed(1, f"Kafka at {address} does not answer", "look whether it runs")
        assert finished.err.count("\n") == 1


def test_topics_that_are_not_there_are_not_made_by_commands_that_read(make: Make) -> None:
    worker = make()
    for words in (["audit"], ["explain", "item", "A-1"], ["rejected"], ["rejected", "--replay"]):
        worker.run(*words).failed(1, f"has no topic {worker.prefix}.changes; name the prefix of the engine")
    worker.run("import", file(worker, done("A-1"))).well()
    worker.config.write_text(worker.config.read_text().replace(f"partitions: {PARTITIONS}", "partitions: 2"))
    for words in (["audit"], ["rejected"], ["import", worker.directory / "events.jsonl"]):
        worker.run(*words).failed(1, "have 3 partitions and topics.partitions says 2; say topics: {partitions: 3}")


def test_commands_say_what_to_install_where_kafka_is_not(make: Make) -> None:
    worker = make()
    for words in (["audit"], ["rejected"], ["move", "."], ["run"]):
        program = f"""
import sys
sys.modules["aiokafka"] = None
from agents import cli
cli.main([*{words}, "--config", {str(worker.config)!r}])
"""
        finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert finished.returncode == 2
        assert "needs aiokafka; install flowmetrics[kafka]" in finished.stderr


# --- what a moved log says of the erased -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_a_reading_of_what_is_moved_knows_what_erasing_deleted(seed: int, tmp_path: Path) -> None:
    """Few people, many links and erasures; then more of both, which may tell of the time before."""
    random, settings = Random(seed), Configuration(broker="kafka://nowhere", horizon_us=HORIZON_US_MIN)
    sent, later = [[said(random) for _ in range(random.randint(1, 25))] for _ in range(2)]
    with closing(Journal(tmp_path)) as journal:
        runner = Runner(settings, journal, fingerprint(settings, "2025.1"), T0 + 30 * HOUR)
        for some in chunks(sent, 4):
            journal.append(some, T0 + 30 * HOUR)
            while not runner.caught_up:
                runner.step(T0 + 30 * HOUR)
            if random.random() < 0.5:
                erase_from_the_log(runner)
        erase_from_the_log(runner)
        portions = Move(journal, settings).portions(Counter(), lambda done: None)
        moved = [record.value for portion in portions for record in portion if record.value]
    if any(b"erase.v1" in one for one in sent):
        assert moved != sent
    assert figures([*moved, *later], settings) == figures([*sent, *later], settings)


def said(random: Random) -> bytes:
    """What somebody did, who they also are, or that they are erased."""
    who, at = random.choice("abcd"), random.randrange(60) * HOUR // 2
    kind, told = random.choice(
        (
            ("activity", {"customer": who, "feature": "search"}),
            ("response", {"respondent": who, "survey": "nps", "score": 9}),
            ("customer", {"customer": who, "aliases": [random.choice("abcd")]}),
            ("erase", {"person": who}),
        )
    )
    stream = {} if kind in ("customer", "erase") else {"value_stream": "shop"}
    name = f"{random.randrange(10**9)}"
    return line(
        {"specversion": "1.0", "id": name, "source": "s", "type": f"flowmetrics.{kind}.v1", "time": text(T0 + at),
         "data": {**stream, **told}}
    )  # fmt: skip


def erase_from_the_log(runner: Runner) -> None:
    """As the engine does once a day."""
    runner.forget()
    while runner.erase():
        pass


def figures(events: Sequence[bytes], settings: Configuration) -> dict[str, float]:
    """What is published of events."""
    driver = Driver(settings)
    driver.deliver(events)
    driver.advance(T0 + 30 * HOUR)
    assert not driver.rejected
    return driver.values()
