"""What docs/how-to/backup-and-restore.md says, word for word: a running engine is backed up, lost, and restored."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest
from broker import Broker
from engine import COMMAND, EngineProcess, Event, done, event, lines, until
from fleet import Worker
from howto import BACKUP, typed
from integration.test_readme import Block
from parts import tool

BATCH: Final = 50
SECONDS: Final = 120.0


LOCAL: Final = ("sqlite3 /var/lib", "python3 -c", "sqlite3 /var/backups")
RESTORED: Final = ("mv /var/lib", "install -d", "cp /var/backups", "flowmetrics audit", "flowmetrics import since")
KAFKA: Final = ("kafka-console-consumer.sh", "flowmetrics import events")
"""How the commands of the page begin, in order."""


def command(beginning: str) -> Block:
    """The command of the page that begins so."""
    (found,) = [block for block in typed(BACKUP) if block.words.startswith(beginning)]
    return found


def here(words: str, places: Mapping[str, Path | str]) -> str:
    """Words with other places in them."""
    for place, other in places.items():
        words = re.sub(re.escape(place) + r"(?![\w-])", str(other), words)
    return words


def types(beginning: str, places: Mapping[str, Path | str], cwd: Path) -> str:
    """Type a command of the page into a shell, with other places in it; what it said."""
    block = command(beginning)
    words = here(block.words, places)
    path = f"{COMMAND.parent}:{os.environ['PATH']}"
    said = subprocess.run(
        ["bash", "-c", words], cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert said.returncode == 0, f"{words}\n{said.stdout}{said.stderr}"
    assert said.stdout.strip().startswith(block.output)
    return said.stdout + said.stderr


class Pouring:
    """Events pour into an engine, a batch at a time; `accepted` are those that it has taken."""

    def __init__(self, engine: EngineProcess) -> None:
        self._engine = engine
        self._stop = threading.Event()
        self.accepted: list[Event] = []

    def run(self) -> None:
        """Until told to stop."""
        for number in itertools.count():
            if self._stop.is_set():
                return
            told = [done(f"A-{number}-{n}", name=f"{number}-{n}") for n in range(BATCH // 2)]
            told += [
                event("activity", customer=f"c{number}-{n}", value_stream="shop", name=f"a{number}-{n}")
                for n in range(BATCH // 2)
            ]
            self._engine.post(*told)
            self.accepted += told

    def stop(self) -> None:
        """No more after this."""
        self._stop.set()


@contextmanager
def pouring(engine: EngineProcess) -> Iterator[Pouring]:
    """Events pour in while the context is open."""
    stream = Pouring(engine)
    thread = threading.Thread(target=stream.run)
    thread.start()
    try:
        yield stream
    finally:
        stream.stop()
        thread.join()


def in_the_log(file: Path) -> int:
    """How many events the log of a file holds."""
    with closing(sqlite3.connect(file)) as database:
        return int(database.execute("SELECT sum(count) FROM log").fetchone()[0])


def test_every_command_of_the_page_is_typed_here() -> None:
    tried = [LOCAL, RESTORED, KAFKA]
    told = [block.words for block in typed(BACKUP)]
    assert [words.startswith(begin) for words, begin in zip(told, itertools.chain(*tried), strict=True)] == [
        True
    ] * len(told)


def test_a_directory_is_backed_up_while_events_pour_in_and_restored_with_the_same_numbers(tmp_path: Path) -> None:
    tool("sqlite3")
    by_sqlite, by_python = tmp_path / "flowmetrics.db", tmp_path / "other.db"
    with EngineProcess(tmp_path / "engine") as engine:
        engine.ready()
        directory = {"/var/lib/flowmetrics": engine.data}
        before: list[int] = []
        with pouring(engine) as stream:
            until(lambda: len(stream.accepted) >= 20 * BATCH, "some events are in")
            for beginning, file in zip(LOCAL, (by_sqlite, by_python), strict=False):
                before.append(len(stream.accepted))
                types(beginning, {"/var/backups/flowmetrics.db": file, **directory}, tmp_path)
                assert before[-1] <= in_the_log(file) <= len(stream.accepted) + BATCH
            until(lambda: len(stream.accepted) > in_the_log(by_python) + 5 * BATCH, "more events are in")
        for file in (by_sqlite, by_python):
            types(LOCAL[2], {"/var/backups/flowmetrics.db": file}, tmp_path)
        items = sum(one["type"] == "flowmetrics.item.v1" for one in stream.accepted)
        wanted = engine.shows(lambda page: (page.velocity(), page.users()), (items, items)).kpis()
        engine.kill()

        (tmp_path / "since-the-backup.jsonl").write_bytes(lines(stream.accepted[before[0] :]))
        places = {"/var/backups/flowmetrics.db": by_sqlite, "/etc/flowmetrics/flowmetrics.yaml": engine.config}
        for beginning in RESTORED:
            types(beginning, {**directory, **places}, tmp_path)
        engine.ready()
        engine.shows(lambda page: page.kpis(), wanted)


@pytest.mark.long
def test_the_events_topic_is_enough_to_restore_the_numbers_on_another_kafka(
    brokers: Callable[..., Broker], prefix: str, tmp_path: Path
) -> None:
    broker = brokers()
    told = [
        *(done(f"A-{n}", stream=f"stream-{n % 3}") for n in range(30)),
        *(event("activity", customer=f"c{n}", value_stream="stream-0") for n in range(20)),
        event("customer", customer="c0", aliases=["c1"]),
        event("erase", person="c2", ago=1),
    ]

    def numbers(worker: Worker) -> dict[str, float]:
        return {name: value for name, value in worker.series().items() if "_age_" not in name}

    def everything(found: dict[str, float]) -> dict[str, float] | None:
        """What was found, if all of it counts: one page, because the next may be without numbers for a moment."""
        users = found.get('flowmetrics_active_users{value_stream="stream-0",window="1d"}')
        items = sum(value for name, value in found.items() if name.startswith("flowmetrics_flow_velocity_items{"))
        return found if (users, items) == (18, 30 * 2 * 3) else None

    with Worker(tmp_path / "worker", broker.address, f"topics: {{prefix: {prefix}, partitions: 4}}\n") as worker:
        worker.start()
        until(lambda: worker.get("/readyz").status == 200, "the worker is ready", SECONDS)
        worker.post(*told)
        wanted = until(lambda: everything(numbers(worker)), "everything counts", SECONDS)

    words, _, file = command(KAFKA[0]).words.partition(" > ")
    places = {"KAFKA": broker.address, "flowmetrics.events": f"{prefix}.events"}
    main = "org.apache.kafka.tools.consumer.ConsoleConsumer"
    (tmp_path / file).write_text(broker.java(main, *shlex.split(here(words, places))[1:]))

    settings = f"topics: {{prefix: {prefix}-restored, partitions: 3}}\n"
    with Worker(tmp_path / "restored", broker.address, settings) as worker:
        types(KAFKA[1], {"/etc/flowmetrics/flowmetrics.yaml": worker.config}, tmp_path)
        worker.start()
        until(lambda: worker.get("/readyz").status == 200, "the worker is ready", SECONDS)
        until(lambda: numbers(worker) == wanted, "the numbers are the same", SECONDS)
