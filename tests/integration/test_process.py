"""The engine as a process: start and stop, what goes wrong around it, time that passes, files, and the client."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pyarrow
import pyarrow.parquet
import pytest
import urllib3
from engine import (
    PATIENCE_SECONDS,
    STOP_SECONDS,
    Answer,
    EngineProcess,
    Event,
    Metrics,
    chunks,
    command,
    done,
    event,
    free_port,
    lines,
    series,
    until,
)

from agents.client import Client, DeliveryError
from agents.local.journal import Journal

Make: TypeAlias = Callable[..., EngineProcess]
DATABASE = "flowmetrics.db"
TYPE = "flowmetrics.item.v1"


def fails_to_start(engine: EngineProcess, code: int, *words: str) -> None:
    """It ends by itself with this code and a message with these words, and without a traceback."""
    engine.spawn()
    assert engine.ended() == code, engine.said
    assert "Traceback" not in engine.said, engine.said
    assert engine.said.count("\n") <= 3, engine.said
    for word in words:
        assert word in engine.said, engine.said


# --- start and stop --------------------------------------------------------------------------------------------------


def test_a_second_engine_on_a_directory_is_told_who_holds_it(make: Make) -> None:
    first = make().ready()
    second = make(data=first.data)
    fails_to_start(second, 1, str(first.data), f"process {first.pid}", "flowmetrics run")
    first.post(done("still works"))
    first.shows(lambda page: page.velocity(), 1)
    first.kill()
    assert second.ready().metrics().velocity() == 1, "a lock dies with its holder"


@pytest.mark.parametrize("words", [("audit",), ("rejected", "--replay")], ids=lambda w: w[0])
def test_a_command_that_needs_the_directory_is_told_who_holds_it(engine: EngineProcess, words: tuple[str, ...]) -> None:
    engine.run(*words).failed(1, f"process {engine.pid}", "stop it")


def test_a_port_in_use_is_named(make: Make) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        engine = make(port=port)
        fails_to_start(engine, 1, f"127.0.0.1:{port}", "http.listen")
    assert engine.ready().get("/readyz").status == 200


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "localhost:0"])
def test_it_listens_where_it_is_told(make: Make, listen: str) -> None:
    if listen.startswith("["):
        with socket.socket(socket.AF_INET6) as trial:
            try:
                trial.bind(("::1", 0))
            except OSError:
                pytest.skip("left out: this machine has no IPv6")
    engine = make(f'http: {{listen: "{listen}"}}').ready()
    engine.post(done("A"))


MISTAKES = {
    "windows: [1d, 1x]": (":3:15: ", "1x"),
    "widnows: [1d]": (":3:1: ", '"widnows"', 'Did you mean "windows"?'),
    "\n\nresolution: 7m": (":5:13: ", "7m"),
    "windows: [1d": (":3", "flowmetrics.yaml"),
    "timezone: Asia/Soul": (":3:11: ", "Asia/Soul", "Asia/Seoul"),
    "kpis: [flow_tme]": (":3:8: ", "flow_tme", "flow_time"),
}


@pytest.mark.parametrize("settings", MISTAKES)
def test_a_mistake_in_the_configuration_stops_the_start_with_its_place(make: Make, settings: str) -> None:
    engine = make(settings)
    fails_to_start(engine, 2, str(engine.config), *MISTAKES[settings])
    assert not engine.data.exists(), "nothing is written before the configuration is right"


def test_a_configuration_that_is_not_there_and_a_broker_that_is_away_are_told(make: Make) -> None:
    engine = make()
    command("run", "--config", "nowhere.yaml", cwd=engine.directory).failed(2, "nowhere.yaml does not exist")
    nowhere = f"127.0.0.1:{free_port()}"
    engine.config.write_text(f"broker: kafka://{nowhere}\n")
    engine.run("audit").failed(1, f"Kafka at {nowhere} does not answer")


def test_sigterm_ends_in_time_with_everything_accepted_counted_after_the_restart(make: Make) -> None:
    engine = make().ready()
    engine.post(*(done(f"A-{n}") for n in range(20_000)))
    engine.stop()
    assert "Traceback" not in engine.said
    assert engine.ready().metrics().velocity() == 20_000
    engine.stop()
    engine.run("audit").well()


def test_sigterm_under_load_answers_or_breaks_off_and_counts_what_it_answered(make: Make) -> None:
    engine = make().ready()
    accepted: list[str] = []
    over = threading.Event()

    def produce(name: str) -> None:
        pool = urllib3.PoolManager(retries=False, timeout=STOP_SECONDS)
        number = 0
        while not over.is_set():
            batch = [done(f"{name}-{number}-{n}") for n in range(20)]
            number += 1
            with suppress(urllib3.exceptions.HTTPError):
                body, kind = lines(batch), {"Content-Type": "application/x-ndjson"}
                if pool.request("POST", f"{engine.url}/events", body=body, headers=kind).status == 202:
                    accepted.extend(one["data"]["item"] for one in batch)
        pool.clear()

    threads = [threading.Thread(target=produce, args=(name,)) for name in "abc"]
    try:
        for thread in threads:
            thread.start()
        until(lambda: len(accepted) > 1000, "the load is there")
        engine.stop()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    velocity = engine.ready().metrics().velocity()
    assert velocity is not None
    assert velocity >= len(accepted)
    assert velocity - len(accepted) <= 20 * len(threads), "only what was in flight may be there unanswered"
    engine.stop()
    engine.run("audit").well()


def test_sigterm_does_not_wait_for_clients_that_hang(make: Make) -> None:
    engine = make().ready()
    engine.post(done("A"))
    port = int(engine.url.rpartition(":")[2])
    live, half, idle = (socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(3))
    with live, half, idle:
        live.sendall(b"GET /api/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"event: reading" in until(lambda: live.recv(4096), "the stream begins") + live.recv(4096)
        half.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n[")
        engine.stop()


def test_sigterm_at_any_moment_of_a_large_page_leaves_no_traceback(make: Make) -> None:
    engine = make("windows: [1d, 2d, 3d, 7d, 30d]\npercentiles: [10, 50, 75, 85, 90, 95, 99]")
    items = [done(f"{s}-{n}", f"stream {s}", item_type=t)
             for s in range(60) for n, t in enumerate(("Bug", "Story", "Risk", "Chore"))]  # fmt: skip
    path = engine.directory / "events.jsonl"
    path.write_bytes(lines(items))
    engine.run("import", path).well()
    dice = random.Random(7)
    for _ in range(3):
        engine.ready()
        end = time.monotonic() + dice.uniform(0.2, 0.8)
        while time.monotonic() < end:  # keep it reading and publishing
            engine.post(*(done(f"now {n}", f"stream {n}") for n in range(60)))
        engine.stop()
        assert "Traceback" not in engine.said, engine.said


def test_a_signal_during_the_start_ends_it_too(make: Make) -> None:
    engine = make()
    path = engine.directory / "events.jsonl"
    path.write_bytes(lines(done(f"A-{n}") for n in range(5000)))
    engine.run("import", path).well()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        engine.start()
        engine.signal(number)
        assert engine.ended(STOP_SECONDS) == 0, engine.said
        assert "Traceback" not in engine.said, engine.said
    assert engine.ready().metrics().velocity() == 5000


# --- ready -----------------------------------------------------------------------------------------------------------


def test_ready_is_said_once_the_log_is_counted_and_until_then_why_not(make: Make) -> None:
    """A machine that lets the engine run and not the test may hide how it catches up: then there is another time."""
    for _ in range(5):
        engine = make()
        engine.data.mkdir()
        with closing(Journal(engine.data)) as journal:
            for n in range(60):
                journal.append([orjson.dumps(done(f"A-{n}-{m}")) for m in range(3000)], int(time.time() * 1e6))
        answers, pages = until_ready(engine.start())
        waiting = [one for one in answers if one.status != 200]
        assert {one.status for one in waiting} <= {503}
        assert all(re.match("starting|catching up", one.text) for one in waiting)
        assert {page.velocity() for page in pages} <= {None, 180_000.0}, "nothing is shown before it is right"
        assert {page("engine_ready") for page in pages} <= {None, 0.0, 1.0}
        engine.shows(lambda page: (page("engine_ready"), page.velocity()), (1, 180_000))
        engine.kill()
        if any("events of the log" in one.text for one in waiting):
            return
    pytest.fail("it never said what it waited for")


def until_ready(engine: EngineProcess) -> tuple[list[Answer], list[Metrics]]:
    """What an engine said of itself until it was ready, and its pages meanwhile."""
    answers: list[Answer] = []
    pages: list[Metrics] = []

    def ready() -> bool:
        answers.append(engine.get("/readyz"))
        pages.append(engine.metrics())
        assert engine.get("/healthz").status == 200
        return answers[-1].status == 200

    until(ready, "it is ready", 60)
    return answers, pages


def test_a_start_after_sigkill_keeps_the_state(make: Make) -> None:
    engine = make().ready()
    engine.post(
        *(done(f"A-{n}", item_type="Bug") for n in range(50)), event("activity", customer="ann", value_stream="shop")
    )
    before = engine.shows(lambda page: (page.velocity(), page.users()), (50, 1)).kpis()
    for _ in range(3):
        engine.kill()
        assert engine.ready().metrics().kpis() == before
    engine.stop()
    assert engine.ready().metrics().kpis() == before


def test_each_start_is_told_so_that_prometheus_can_count_them(make: Make) -> None:
    engine = make().ready()
    first, again = (engine.metrics()("engine_start_time_seconds") for _ in range(2))
    engine.kill()
    second = engine.ready().metrics()("engine_start_time_seconds")
    assert first == again
    assert first is not None
    assert second is not None
    assert first < second


# --- what goes wrong -------------------------------------------------------------------------------------------------


FILLED = 20_000


def filled(engine: EngineProcess) -> Path:
    """A database with something in it, of an engine that does not run; its path."""
    path = engine.directory / "events.jsonl"
    path.write_bytes(lines(done(f"A-{n}", f"stream {n % 50}", item_type="Bug") for n in range(20_000)))
    engine.run("import", path).well()
    return engine.data / DATABASE


def damage(path: Path, first: float, last: float) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(int(size * first))
        file.write(random.Random(7).randbytes(int(size * (last - first))))


def ends_with_advice(engine: EngineProcess, *words: str) -> None:
    """`run` ends by itself with code 1 and one sentence, at the start or at its first reading."""
    engine.spawn()
    try:
        code = engine.ended(15)
    except subprocess.TimeoutExpired:
        code = None
    assert code == 1, f"{code}: {engine.said}"
    assert "Traceback" not in engine.said, engine.said
    for word in words:
        assert word in engine.said, engine.said


def test_a_file_that_is_no_database_is_named(make: Make) -> None:
    engine, content = make(), b"this is not a database\n" * 500
    engine.data.mkdir()
    (engine.data / DATABASE).write_bytes(content)
    ends_with_advice(engine, str(engine.data / DATABASE))
    for words in (["audit"], ["explain", "item", "A-1"], ["rejected"]):
        engine.run(*words).failed(1, DATABASE)
    assert (engine.data / DATABASE).read_bytes() == content, "it is somebody's file"


def goes_on_or_ends_with_advice(engine: EngineProcess, *words: str) -> None:
    """Damage that nobody has read yet stops nobody. Once it is read the process ends; until then all figures are right.

    Every item is touched here, so that every history is read.
    """
    engine.spawn()
    again = [done(f"A-{n}", f"stream {n % 50}", item_type="Bug") for n in range(FILLED)]
    with suppress(AssertionError, urllib3.exceptions.HTTPError):
        engine.listening()
        until(lambda: engine.get("/readyz").status == 200 or not engine.runs, "it is ready or ends")
        for some in chunks(again, 5000):
            engine.post(*some)
        page = engine.shows(lambda page: page.accepted(), 2 * FILLED)
        assert sum(page.velocity(f"stream {n}") or 0 for n in range(50)) == FILLED, "a wrong number is shown"
        engine.kill()
        return
    assert engine.ended() == 1, engine.said
    assert "Traceback" not in engine.said, engine.said
    for word in words:
        assert word in engine.said, engine.said


@pytest.mark.parametrize("part", [(0.0, 0.001), (0.1, 0.9), (0.4, 0.6), (0.97, 1.0)], ids=str)
def test_a_damaged_database_is_named_and_nothing_wrong_is_shown(make: Make, part: tuple[float, float]) -> None:
    engine = make()
    damage(filled(engine), *part)
    goes_on_or_ends_with_advice(engine, DATABASE, "restore it from a backup")
    audited = engine.run("audit")
    if audited.code:
        audited.failed(1)


def test_a_database_cut_short_is_named(make: Make) -> None:
    engine = make()
    path = filled(engine)
    os.truncate(path, path.stat().st_size // 2)
    goes_on_or_ends_with_advice(engine, DATABASE, "restore it from a backup")
    engine.run("audit").failed(1, DATABASE)


def test_a_database_of_another_format_is_refused(make: Make) -> None:
    import sqlite3

    engine = make()
    path = filled(engine)
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version=99")
    ends_with_advice(engine, DATABASE, "format 99")


@pytest.mark.parametrize("name", ["a file", "not mine"])
def test_a_data_directory_that_cannot_be_used_is_named(make: Make, tmp_path: Path, name: str) -> None:
    place = tmp_path / "place"
    if name == "a file":
        place.write_text("I am a file")
    else:
        place = Path("/proc/1/nobody-may-write-here")
    engine = make(data=place)
    ends_with_advice(engine, str(place))


Room: TypeAlias = tuple[Path, Callable[[], None] | None, Callable[[], None]]


def limited() -> None:
    """In the new process: no file may grow beyond two mebibytes, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 2**20, 2 * 2**20))


@pytest.fixture(params=["a small disk", "a limited file"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    """A place with little space: directory, what the new process does first, and how the space comes back."""
    place = tmp_path / "small"
    place.mkdir()
    if request.param == "a limited file":
        yield place, limited, lambda: None
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "flowmetrics-test", place]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("left out: no file system can be mounted here; the limited file is tried instead")
    try:
        grow = ["mount", "-o", "remount,size=64m", place]
        yield place, None, lambda: subprocess.run(grow, capture_output=True, check=True)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_on_a_full_disk_nothing_accepted_is_lost_and_senders_are_told(make: Make, room: Room) -> None:
    place, ready, give_space = room
    engine = make(data=place / "data")
    engine.start(ready)
    until(lambda: engine.get("/readyz").status == 200, "it is ready")
    accepted: list[Event] = []
    refused: list[Answer] = []
    dice = random.Random(7)
    for n in range(2000):
        title = dice.randbytes(2000).hex()
        batch = [done(f"A-{n}-{m}", title=title) for m in range(5)]
        try:
            answer = engine.send(lines(batch), "application/x-ndjson")
        except urllib3.exceptions.HTTPError:
            break  # it has ended
        if answer.status == 202:
            assert not refused, "what cannot be written is not accepted"
            accepted += batch
        else:
            refused.append(answer)
    for answer in refused:  # none, where counting what was accepted filled the disk and the engine had ended
        assert (answer.status, answer.json["accepted"], answer.json["rejected"]) == (503, 0, [])
        assert int(answer.headers["Retry-After"]) >= 1
        assert "disk" in answer.json["error"]
    assert engine.ended(STOP_SECONDS) == 1
    assert "disk" in engine.said
    assert DATABASE in engine.said
    assert "Traceback" not in engine.said, engine.said
    assert len(accepted) > 100

    give_space()
    engine.ready()
    assert engine.metrics().velocity() == len(accepted)
    engine.post(done("after"))
    engine.shows(lambda page: page.velocity(), len(accepted) + 1)
    engine.stop()
    engine.run("audit").well()


def test_on_a_disk_that_stays_full_the_start_fails_with_advice(make: Make, room: Room) -> None:
    place, ready, _ = room
    engine = make(data=place / "data")
    path = engine.directory / "events.jsonl"
    path.write_bytes(lines(done(f"A-{n}", title="x" * 200) for n in range(20_000)))
    finished = command("import", path, "--config", engine.config, cwd=engine.directory, ready=ready)
    finished.failed(1, DATABASE, "disk")


# --- time ------------------------------------------------------------------------------------------------------------

SECONDS = "resolution: 1s\nwindows: [12s, 1d]"


def test_events_ahead_of_now_are_seen_when_their_time_comes(make: Make) -> None:
    engine = make(SECONDS).ready()
    come = time.time() + 10
    engine.post(done("now"), done("soon", ago=-10), done("later", ago=-1800), event(
        "activity", customer="ann", value_stream="shop", ago=-10))  # fmt: skip
    page = engine.shows(lambda page: page.velocity(), 1)
    assert page.users() in (None, 0)
    assert time.time() < come, "this machine is too slow for this test"
    page = engine.shows(lambda page: (page.velocity(), page.users()), (2, 1))
    assert time.time() >= come - 0.01
    assert page.accepted() == 4


def test_events_ahead_of_now_are_kept_over_a_kill_and_come_while_nobody_is_there(make: Make) -> None:
    engine = make(SECONDS).ready()
    engine.post(done("now"), done("soon", ago=-1.5), done("later", ago=-1800))
    until(lambda: engine.metrics().velocity(), "the first is there")
    engine.kill()
    assert engine.ready().shows(lambda page: page.velocity(), 2)
    engine.stop()
    engine.run("audit").well()


def test_windows_move_while_no_event_arrives(make: Make) -> None:
    engine = make(SECONDS).ready()
    begun = time.monotonic()
    engine.post(done("A", ago=0), event("activity", customer="ann", value_stream="shop", ago=0))
    engine.shows(lambda page: (page.velocity(window="12s"), page.users(window="12s")), (1, 1))
    page = engine.shows(lambda page: (page.velocity(window="12s"), page.users(window="12s")), (0, 0))
    assert time.monotonic() - begun >= 11
    assert (page.velocity(), page.users()) == (1, 1)


def test_ages_grow_while_no_event_arrives(make: Make) -> None:
    engine = make(SECONDS).ready()
    engine.post(event("item", item="A", value_stream="shop", state="In Progress", ago=100))

    def age() -> float | None:
        return engine.metrics()("item_age_seconds", value_stream="shop", item_type="all", percentile="p50")

    first = until(age, "an age is shown")
    assert 99 <= first <= 100 + PATIENCE_SECONDS
    until(lambda: (age() or 0) >= first + 1, "it grows")


def test_an_accepted_event_is_on_the_page_within_a_second(engine: EngineProcess) -> None:
    took = []
    for n in range(1, 11):
        engine.post(done(f"A-{n}"))
        begun = time.monotonic()
        engine.shows(lambda page, n=n: page.velocity(), n)  # type: ignore[misc]
        took.append(time.monotonic() - begun)
    assert min(took) < 1, took


# --- import ----------------------------------------------------------------------------------------------------------

MAP = """
events:
  - type: flowmetrics.item.v1
    when: kind == "item"
    source: rows
    time: {from: at, format: iso}
    data: {item: "${key}", value_stream: shop, item_type: "${type}", state: "${state}"}
  - type: flowmetrics.activity.v1
    when: kind == "visit"
    source: rows
    time: {from: at, format: iso}
    data: {customer: "${key}", value_stream: shop, feature: "${type}"}
"""


def table() -> list[dict[str, str]]:
    begun = datetime.now(UTC) - timedelta(hours=20)
    rows = []
    for n in range(3000):
        at = (begun + timedelta(seconds=20 * n)).isoformat()
        rows.append({"kind": "item", "key": f"A-{n % 1000}", "type": "Bug" if n % 3 else "Story", "state":
                     ("Ready", "In Progress", "Done")[n // 1000], "at": at})  # fmt: skip
        rows.append({"kind": "visit", "key": f"u{n % 77}", "type": "search", "state": "", "at": at})
    return rows


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        names = list(rows[0])
        path.write_text("\n".join([",".join(names), *(",".join(row[name] for name in names) for row in rows)]) + "\n")
    else:
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def of_imports(engine: EngineProcess) -> dict[str, float]:
    """What the page shows of imports, without what depends on when it is read."""
    page = engine.ready().metrics().kpis()
    engine.stop()
    return page


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_mapped_file_imported_twice_gives_the_same_numbers(make: Make, ending: str) -> None:
    engine = make()
    (engine.directory / "map.yaml").write_text(MAP)
    path = write(engine.directory / f"rows.{ending}", table())
    assert "6000 events are in the log" in engine.run("import", path, "--map", "map.yaml").well().err
    first = of_imports(engine)
    day = {"value_stream": "shop", "window": "1d"}
    assert first[series("flow_velocity_items", **day, item_type="all")] == 1000
    assert first[series("active_users", **day)] == 77
    engine.run("import", path, "--map", "map.yaml").well()
    engine.run("audit").well()
    assert of_imports(engine) == first


def test_a_native_file_imported_twice_while_half_of_it_came_over_http_gives_the_same_numbers(make: Make) -> None:
    engine = make()
    events = [done(f"A-{n}", ago=60 + n) for n in range(1000)]
    path = engine.directory / "events.jsonl"
    path.write_bytes(lines(events) + b"\nnot json\n")
    assert "refused: 1 not_json" in engine.run("import", path).well().err
    first = of_imports(engine)
    engine.ready().post(*events[::2])
    engine.stop()
    engine.run("import", path, path).well()
    engine.run("audit").well()
    assert of_imports(engine) == first


def test_an_import_of_nothing_that_can_be_read_fails_and_says_where_to_look(make: Make) -> None:
    engine = make()
    path = engine.directory / "events.jsonl"
    path.write_text("not json\n")
    engine.run("import", path).failed(1, "flowmetrics rejected")
    engine.run("import", engine.directory / "nowhere.jsonl").failed(2, "nowhere.jsonl does not exist")
    write(engine.directory / "rows.csv", table())
    engine.run("import", engine.directory / "rows.csv").failed(2, "--map")


# --- the client ------------------------------------------------------------------------------------------------------


ANSWER = {"respondent": "ann", "value_stream": "shop", "score": 1}


def sends(client: Client, item: str, stream: str = "shop", **more: Any) -> str:
    return client.send(
        TYPE, source="client", data={"item": f"{stream} {item}", "value_stream": stream, "state": "Done"}, **more
    )


def test_the_client_sends_what_is_queued_in_batches(shared: EngineProcess) -> None:
    with Client(f"{shared.url}/events", batch_events=100) as client:
        ids = [sends(client, f"A-{n}", "queued") for n in range(1000)]
        client.flush()
        shared.shows(lambda page: page.velocity("queued"), 1000)
    assert len(set(ids)) == 1000


def test_the_client_sends_a_single_event_by_itself_soon(shared: EngineProcess) -> None:
    with Client(f"{shared.url}/events", linger_seconds=0.1) as client:
        sends(client, "A-1", "single")
        shared.shows(lambda page: page.velocity("single"), 1)
        sends(client, "A-2", "single")
        shared.shows(lambda page: page.velocity("single"), 2)


def test_the_client_sends_what_is_left_when_it_is_closed(shared: EngineProcess) -> None:
    with Client(f"{shared.url}/events", linger_seconds=3600) as client:
        for n in range(10):
            sends(client, f"A-{n}", "left")
    shared.shows(lambda page: page.velocity("left"), 10)


def test_the_client_delivers_over_kills_and_restarts_and_nothing_twice(make: Make) -> None:
    engine = make(port=free_port())
    with Client(
        f"{engine.url or f'http://127.0.0.1:{port_of(engine)}'}/events", batch_events=50, attempts=20
    ) as client:
        for turn in range(3):
            if turn == 1:
                engine.ready()
            for n in range(300):
                sends(client, f"A-{turn}-{n}")
            if turn == 1:
                engine.kill()
        engine.ready()
        client.flush()
    engine.shows(lambda page: page.velocity(), 900)
    engine.stop()
    engine.run("audit").well()


def port_of(engine: EngineProcess) -> int:
    return int(re.findall(r"127\.0\.0\.1:(\d+)", engine.config.read_text())[0])


def test_the_client_raises_the_receipt_of_what_was_refused_and_the_rest_is_taken(shared: EngineProcess) -> None:
    client = Client(f"{shared.url}/events", batch_events=3, linger_seconds=60)
    sends(client, "A-1", "receipt")
    wrong = client.send("flowmetrics.item.v1", source="client", data={"item": "A-2", "value_stream": "shop"})
    sends(client, "A-3", "receipt")
    assert wrong
    with pytest.raises(DeliveryError) as refused:
        client.flush()
    assert refused.value.receipt["accepted"] == 2
    ((index, reason),) = [(one["index"], one["reason"]) for one in refused.value.receipt["rejected"]]
    assert (index, reason) == (1, "missing_field")
    sends(client, "A-4", "receipt")
    client.close()
    shared.shows(lambda page: page.velocity("receipt"), 3)


def test_the_client_raises_every_failure_and_drops_none_silently(shared: EngineProcess) -> None:
    client = Client(f"{shared.url}/events", batch_events=1)
    queued, raised = 0, list[DeliveryError]()
    for n in range(20):  # each is a batch of its own, and each is refused
        try:
            client.send("flowmetrics.response.v1", source="client", data={**ANSWER, "survey": f"unknown {n}"})
            queued += 1
        except DeliveryError as error:  # of an earlier one; this one was not queued
            raised.append(error)

    def told() -> bool:
        try:
            client.flush()
        except DeliveryError as error:
            raised.append(error)
            return False
        return True

    until(told, "no failure is left")
    client.close()
    refused = [one["reason"] for error in raised for one in error.receipt["rejected"]]
    assert refused == ["unknown_survey"] * queued


def test_the_client_raises_when_nobody_answers(make: Make) -> None:
    client = Client(f"http://127.0.0.1:{free_port()}/events", attempts=2)
    sends(client, "A-1")
    with pytest.raises(DeliveryError, match="cannot be reached"):
        client.flush()
    client.close()


def test_the_client_shows_its_token_and_is_told_when_it_is_wrong(make: Make, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("right\n")
    engine = make(f'http: {{listen: "127.0.0.1:0", token_file: {tmp_path / "token"}}}').ready()
    with Client(f"{engine.url}/events", token="right") as client:
        sends(client, "A-1")
    engine.shows(lambda page: page.velocity(), 1)
    client = Client(f"{engine.url}/events", token="wrong")
    sends(client, "A-2")
    with pytest.raises(DeliveryError, match="401"):
        client.close()


@contextmanager
def someone_else(status: int, body: bytes) -> Iterator[str]:
    """A server that is no collector; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.05))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/events"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"[]"), (200, b'"ok"'), (202, b"<html>"), (404, b"null"), (500, b"")]
)
def test_the_client_takes_no_answer_of_another_server_for_a_receipt(status: int, body: bytes) -> None:
    with someone_else(status, body) as url:
        client = Client(url, attempts=1)
        sends(client, "A-1")
        flushed: list[BaseException | None] = []

        def flush() -> None:
            try:
                client.flush()
            except DeliveryError as error:
                flushed.append(error)
            else:
                flushed.append(None)

        thread = threading.Thread(target=flush, daemon=True)
        thread.start()
        thread.join(10)
        assert flushed, "flush hangs"
        assert isinstance(flushed[0], DeliveryError)
        client.close()


def test_the_client_sends_large_events_in_as_many_requests_as_it_takes(shared: EngineProcess) -> None:
    with Client(f"{shared.url}/events", attempts=1) as client:
        for n in range(80):
            data = {"item": f"large {n}", "value_stream": "large", "state": "Done", "title": "x" * 250_000}
            client.send(TYPE, source="client", data=data)
    shared.shows(lambda page: page.velocity("large"), 80)


def test_the_client_serves_several_threads(shared: EngineProcess) -> None:
    with Client(f"{shared.url}/events", batch_events=37) as client:

        def send(name: str) -> None:
            for n in range(300):
                sends(client, f"{name}-{n}", "threads")

        threads = [threading.Thread(target=send, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    shared.shows(lambda page: page.velocity("threads"), 1200)


def test_the_examples_of_the_client_need_an_offset() -> None:
    with Client(f"http://127.0.0.1:{free_port()}/events") as client, pytest.raises(ValueError, match="offset"):
        sends(client, "A-1", at=datetime(2025, 3, 1))  # noqa: DTZ001
