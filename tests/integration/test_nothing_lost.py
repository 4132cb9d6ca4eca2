"""SIGKILL at any moment: what was acknowledged counts, what was sent twice counts once, what was refused is kept."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeAlias

import orjson
import pytest
import urllib3
from engine import COMMAND, EngineProcess, Event, Metrics, done, event, free_port, lines, until

Make: TypeAlias = Callable[..., EngineProcess]

KILLS = 8
BATCHES_A_SECOND = 60
STREAMS = ("shop", "search")
DEFECT = "defect"


class Producer:
    """Sends batches until it is told to end: most of them again and again until they are acknowledged.

    Ids are fixed before the first attempt. A batch that may be given up is tried once; it counts wholly or not at all,
    and wholly if it was acknowledged.
    """

    def __init__(self, engine: EngineProcess, seed: int, name: str) -> None:
        self._engine, self._dice, self._name = engine, random.Random(seed), name
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)
        self._pool = urllib3.PoolManager(retries=False, timeout=5)
        self._number = 0
        self.acknowledged: list[list[Event]] = []
        self.given_up: list[list[Event]] = []
        self.refused: list[str] = []
        self.attempts = 0

    def __enter__(self) -> Producer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        """Send no new batch; wait until the last one is answered."""
        self._ending.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._pool.clear()

    def _run(self) -> None:
        while not self._ending.is_set():
            batch, wrong = self._batch()
            once = self._dice.random() < 0.1
            answered = self._try(batch, wrong)
            while not answered and not once:
                time.sleep(0.01)
                answered = self._try(batch, wrong)
            (self.acknowledged if answered else self.given_up).append(batch)
            if answered:
                self.refused += wrong
            time.sleep(1 / BATCHES_A_SECOND)

    def _try(self, batch: list[Event], wrong: list[str]) -> bool:
        self.attempts += 1
        body = lines(batch) + "\n".join(wrong).encode()
        try:
            url = f"{self._engine.url}/events"
            answer = self._pool.request("POST", url, body=body, headers={"Content-Type": "application/x-ndjson"})
        except urllib3.exceptions.HTTPError:
            return False
        if answer.status != 202:
            assert answer.status == 503, answer.data
            return False
        receipt = orjson.loads(answer.data)
        assert (receipt["accepted"], len(receipt["rejected"])) == (len(batch), len(wrong))
        return True

    def _batch(self) -> tuple[list[Event], list[str]]:
        batch = [one for _ in range(self._dice.randint(1, 8)) for one in self._facts()]
        self._dice.shuffle(batch)
        wrong = [f"nonsense {self._name} {self._number}"] if self._dice.random() < 0.05 else []
        return batch, wrong

    def _facts(self) -> Iterator[Event]:
        self._number += 1
        key, stream = f"{self._name}-{self._number}", self._dice.choice(STREAMS)
        ahead = self._dice.random() < 0.1  # some lie ahead, and wait in the store until their time has come
        ago = self._dice.uniform(-1.5, 0) if ahead else self._dice.uniform(0, 3000)
        kind = self._dice.choice(("item", "request", "activity", "reopened"))
        told: dict[str, Any] = {"ago": ago, "source": self._name}
        if kind == "item":
            yield done(key, stream, item_type="Bug", **told)
        elif kind == "request":
            yield event("request", request=key, value_stream=stream, state="Open", ago=ago + 600, source=self._name)
            if self._number % 3:
                yield event("request", request=key, value_stream=stream, state="Solved", **told)
        elif kind == "activity":
            who = f"{self._name}-{self._number % 400}"
            yield event("activity", customer=who, value_stream=stream, feature="search", **told)
        else:
            yield done(key, stream, ago=ago + 60, source=self._name)
            yield event("item", item=key, value_stream=stream, state="In Progress", **told)


def expected(events: list[Event]) -> dict[str, float]:
    """What the page must show once all of these have happened, counted by hand."""
    counts: dict[str, float] = {}
    for stream in STREAMS:
        here = [one for one in events if one["data"]["value_stream"] == stream]
        items = [one for one in here if "item" in one["data"]]
        requests = [one for one in here if "request" in one["data"]]
        reopened = {one["data"]["item"] for one in items if one["data"]["state"] == "In Progress"}
        solved = {one["data"]["request"] for one in requests if one["data"]["state"] == "Solved"}
        counts |= {
            f"{stream} velocity": len({one["data"]["item"] for one in items} - reopened),
            f"{stream} defects": len({one["data"]["item"] for one in items if "item_type" in one["data"]}),
            f"{stream} reopened": len(reopened),
            f"{stream} in progress": len(reopened),
            f"{stream} users": len({one["data"]["customer"] for one in here if "customer" in one["data"]}),
            f"{stream} resolved": len(solved),
            f"{stream} open": len({one["data"]["request"] for one in requests} - solved),
        }
    return counts


def shown(page: Metrics) -> dict[str, float]:
    """The same of a page; what is absent is zero here, because a count of nothing may be either."""
    counts: dict[str, float | None] = {}
    for stream in STREAMS:
        counts |= {
            f"{stream} velocity": page.velocity(stream),
            f"{stream} defects": page.velocity(stream, item_type=DEFECT),
            f"{stream} reopened": page("items_reopened", value_stream=stream, window="1d", item_type="all"),
            f"{stream} in progress": page.load("active", stream, "unmapped"),
            f"{stream} users": page.users(stream),
            f"{stream} resolved": page.resolved(stream),
            f"{stream} open": page("requests_open", value_stream=stream, channel="all"),
        }
    return {name: count or 0 for name, count in counts.items()}


def taken(engine: EngineProcess) -> list[Event]:
    """Every event in the log of an engine that does not run."""
    with closing(sqlite3.connect(engine.data / "flowmetrics.db")) as file:
        bodies = file.execute("SELECT body FROM log ORDER BY first").fetchall()
    return [orjson.loads(line) for (body,) in bodies for line in body.split(b"\n")]


@contextmanager
def producers(engine: EngineProcess, seed: int) -> Iterator[list[Producer]]:
    with Producer(engine, seed, "one") as one, Producer(engine, seed + 1, "two") as two:
        yield [one, two]


@pytest.mark.parametrize("seed", [int(os.environ.get("FLOWMETRICS_SEED", "7"))])
def test_after_many_kills_every_acknowledged_event_counts_once_and_none_twice(make: Make, seed: int) -> None:
    dice = random.Random(seed)
    engine = make(port=free_port()).ready()
    with producers(engine, seed) as both:
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.05, 1.0))
            engine.kill()
            if dice.random() < 0.5:  # die once more at some moment of the start
                engine.spawn()
                time.sleep(dice.uniform(0.2, 0.8))
                engine.kill()
            engine.start()
        engine.ready()
        until(lambda: sum(len(batch) for one in both for batch in one.acknowledged) > 500, "enough was sent")
    acknowledged = [one for producer in both for batch in producer.acknowledged for one in batch]
    given_up = [batch for producer in both for batch in producer.given_up]
    assert len(acknowledged) > 500
    engine.stop()

    log = taken(engine)
    ids = {one["id"] for one in log}
    assert {one["id"] for one in acknowledged} <= ids, "acknowledged means durable"
    for batch in given_up:
        assert len({one["id"] for one in batch} & ids) in (0, len(batch)), "a request is taken as a whole"
    there = {one["id"]: one for one in [*acknowledged, *(one for batch in given_up for one in batch)]}
    assert ids <= there.keys(), "nothing is invented"
    assert sum(producer.attempts for producer in both) > sum(len(producer.acknowledged) for producer in both)

    engine.run("audit").well()
    wanted = expected([one for name, one in there.items() if name in ids])
    engine.ready()
    engine.shows(shown, wanted)
    taken_by_source = {name: sum(one["source"] == name for one in log) for name in ("one", "two")}
    assert {name: engine.metrics().accepted(name) for name in ("one", "two")} == taken_by_source
    engine.kill()
    assert shown(engine.ready().shows(shown, wanted)) == wanted
    engine.stop()

    kept = [row["event"] for row in engine.run("rejected").well().rows]
    refused = [one for producer in both for one in producer.refused]
    assert set(refused) <= set(kept), "what was said to be refused can be read back"
    engine.run("audit").well()


def many(count: int) -> list[Event]:
    return [done(f"B-{n}", ago=60 + n % 3000) for n in range(count)]


def test_an_import_that_was_killed_can_be_repeated(make: Make) -> None:
    engine = make()
    path = engine.directory / "events.jsonl"
    path.write_bytes(lines(many(40_000)))
    for seconds in (0.5, 0.7, 1.0):
        running = subprocess.Popen(
            [COMMAND, "import", path, "--config", engine.config], cwd=engine.directory, stderr=subprocess.DEVNULL
        )
        time.sleep(seconds)
        running.kill()
        running.wait()
    assert "40000 events are in the log" in engine.run("import", path).well().err
    engine.run("audit").well()
    engine.ready()
    assert engine.metrics().velocity() == 40_000


def test_a_change_of_the_configuration_that_is_killed_goes_on_at_the_next_start(make: Make) -> None:
    engine = make("windows: [1d]")
    path = engine.directory / "events.jsonl"
    path.write_bytes(lines(many(15_000)))
    engine.run("import", path).well()
    engine.configure('windows: [2d]\nvalue_streams: {"*": {states: {active: [Done]}}}')
    for seconds in (0.45, 0.55, 0.7):
        engine.spawn()
        time.sleep(seconds)
        engine.kill()
    engine.ready()
    seen: set[tuple[float | None, ...]] = set()

    def numbers(page: Metrics) -> tuple[float | None, ...]:
        load = page.load("active", item_type="unmapped")
        seen.add((page.velocity(window="1d"), page.velocity(window="2d") or None, load or None))
        return load, page.velocity(window="2d")

    engine.shows(lambda page: numbers(page)[0], 15_000)
    assert seen <= {(15_000, None, None), (None, None, 15_000)}
    engine.stop()
    engine.run("audit").well()
    engine.configure("windows: [2d]")
    engine.ready().shows(lambda page: numbers(page)[1], 15_000)
    assert seen <= {(15_000, None, None), (None, None, 15_000), (None, 15_000, None)}


def test_while_it_catches_up_after_a_kill_no_wrong_number_is_shown(make: Make) -> None:
    engine = make()
    path = engine.directory / "events.jsonl"
    path.write_bytes(lines(many(20_000)))
    engine.run("import", path).well()
    engine.ready()
    engine.post(*(done(f"C-{n}") for n in range(2000)))
    engine.kill()
    engine.start()
    seen = set()

    def ready() -> bool:
        ended = engine.get("/readyz").status == 200
        seen.add(engine.metrics().velocity())
        return ended

    until(ready, "the engine is ready")
    assert seen <= {None, 22_000.0}
    assert engine.metrics().velocity() == 22_000
