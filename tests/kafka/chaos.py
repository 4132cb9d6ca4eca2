"""Faults on a real broker while events flow: kills, pauses, workers that come and go, a broker that is started again
or does not answer for a minute; then the truth is asked for.

    python tests/kafka/chaos.py --kills 50 --stops 20 --moves 10 --restarts 1 --outages 1 --seed 1

Events are written to the topic itself, some twice, some under no key, and some that are none. At every quiet moment all
that the workers show together must be what the engine in memory says of the same events, which is held against brute
force elsewhere, and their histories must call for just what the panes hold. In the end every refused event is counted
and can be read back, and the command that audits agrees.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from broker import Broker
from engine import rejected, until
from fleet import KPI, SESSION_SECONDS, Fleet, fleet

from agents.kafka.auditing import differences
from agents.kafka.connection import Connection
from agents.kafka.reading import epochs_of
from agents.kafka.topics import topics_of
from agents.published import clock_us
from flowmetrics.settings import read_settings
from flowmetrics.testing import Driver

SETTINGS: Final = "windows: [1h, 1d, 7d]\nhorizon: 60d\nvalue_streams: {shop: {}, '*': {}}\n"
QUIET_SECONDS: Final = 90.0
OUTAGE_SECONDS: Final = 60.0
WORKERS_MIN: Final = 2
FAULTS: Final = {"kill": 8, "stop": 3, "move": 4, "restart": 1, "outage": 1}
BAD: Final = 0.01
"""The share of what is sent that is refused."""
SHOWN: Final = re.compile(f"{KPI.pattern}|flowmetrics_kpi_")
"""The series that are judged: of every KPI its own, and what all have alike."""
STATES: Final = ("Backlog", "Ready", "Doing", "Done", "Cancelled", "Doing", "Done")


def draw(random: Random, number: int) -> dict[str, Any]:
    """One event of a small company in the last three days."""
    at = datetime.now(UTC) - timedelta(seconds=random.choice((5, 60, 3600, 86_400)) * random.random() * 3)
    stream = random.choice(("shop", "help", "pay", "app"))
    person = f"p{int(random.expovariate(1 / 150))}"
    kind = random.choices(("item", "request", "activity", "customer", "response", "erase"), (30, 12, 45, 8, 8, 0.2))[0]
    fields: dict[str, Any] = {
        "item": lambda: {"item": f"i{random.randrange(number // 8 + 5)}", "state": random.choice(STATES),
                         "item_type": random.choice(("Bug", "Story", "Chore"))},
        "request": lambda: {"request": f"r{random.randrange(number // 20 + 3)}", "state": random.choice(STATES),
                            "channel": random.choice(("email", "phone")),
                            "duplicate_of": f"r{number // 100}" if random.random() < 0.05 else None},
        "activity": lambda: {"customer": person, "feature": random.choice(("search", "cart"))},
        "customer": lambda: {"customer": person, "segment": random.choice(("smb", "big")),
                             "milestone": random.choice(("signed_up", "value_reached", None)),
                             "aliases": [f"p{random.randrange(400)}"] if random.random() < 0.1 else None},
        "response": lambda: {"respondent": person, "survey": "nps", "score": random.randrange(11), "touchpoint": "end"},
        "erase": lambda: {"person": person},
    }[kind]()  # fmt: skip
    return {
        "specversion": "1.0",
        "id": str(number),
        "source": "chaos",
        "type": f"flowmetrics.{kind}.v1",
        "time": at.isoformat(),
        "data": {
            **({} if kind == "erase" else {"value_stream": stream}),
            **{k: v for k, v in fields.items() if v is not None},
        },
    }


def draw_bad(random: Random, number: int) -> tuple[str, bytes]:
    """Something that is no event, different from all others, and the reason for which it must be refused."""
    good = draw(random, number)
    reason = random.choice(("not_json", "unknown_type", "time_without_offset"))
    if reason == "not_json":
        return reason, b"number %d" % number
    wrong = {"type": "flowmetrics.thing.v1"} if reason == "unknown_type" else {"time": good["time"][:19]}
    return reason, json.dumps({**good, **wrong}).encode()


class Flow:
    """Events at a rate, written by a thread until it is told to pause; `told` are all that Kafka has, and `refused`
    what it has that must be refused, with the reason."""

    def __init__(self, broker: str, random: Random, rate: float) -> None:
        self._broker = broker
        self._random = random
        self._rate = rate
        self.told: list[bytes] = []
        self.refused: dict[bytes, str] = {}
        self.seconds = 0.0
        """For how long they flowed, also while no broker took them."""
        self._flows = threading.Event()
        self._rests = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        """Begin."""
        self._flows.set()
        self._thread.start()

    def pause(self) -> None:
        """Stop writing; what was begun is written."""
        self._rests.clear()
        self._flows.clear()
        assert self._rests.wait(120), "the producer does not come to rest"

    def go_on(self) -> None:
        """Write again."""
        self._flows.set()

    def end(self) -> None:
        """Stop for good."""
        self._ended.set()
        self._thread.join(30)

    async def _run(self) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._broker, acks="all", enable_idempotence=True, linger_ms=5)
        await producer.start()
        number, random, seconds = 0, self._random, 0.05
        while not self._ended.is_set():
            if not self._flows.is_set():
                await producer.flush()
                self._rests.set()
                await asyncio.sleep(0.05)
                continue
            begun, bodies, bad = time.monotonic(), list[bytes](), dict[bytes, str]()
            for _ in range(int(self._rate * min(1.0, seconds))):
                number += 1
                if random.random() < BAD:
                    reason, body = draw_bad(random, number)
                    bad[body] = reason
                    continue
                again = self.told and random.random() < 0.1
                bodies.append(random.choice(self.told) if again else json.dumps(draw(random, number)).encode())
            await self._send(producer, [*bodies, *bad])
            self.told += bodies
            self.refused |= bad
            await asyncio.sleep(max(0.0, 0.05 - (time.monotonic() - begun)))
            seconds = time.monotonic() - begun
            self.seconds += seconds
        await producer.stop()

    async def _send(self, producer: AIOKafkaProducer, bodies: list[bytes]) -> None:
        """Write until all are there; where Kafka did not answer in time, some are there twice."""
        while True:
            keys = [None if self._random.random() < 0.5 else str(self._random.random()).encode() for _ in bodies]
            try:
                sent = [await producer.send("flowmetrics.events", b, key=k) for b, k in zip(bodies, keys, strict=True)]
                await asyncio.gather(*sent)
                return
            except KafkaError:
                await asyncio.sleep(0.5)


def expected(told: list[bytes], settings: str) -> tuple[dict[str, float], dict[str, float]]:
    """What must be shown now: at the beginning and, one pane later, at the end of the look."""
    driver = Driver(read_settings(settings, "flowmetrics.yaml"), time.time_ns() // 1000)
    driver.deliver(dict.fromkeys(told))
    assert not driver.rejected
    driver.advance(time.time_ns() // 1000)
    before = driver.values()
    driver.advance(time.time_ns() // 1000 + 20_000_000)
    return before, driver.values()


def wrong(shown: dict[str, float], *truths: dict[str, float]) -> list[str]:
    """What is shown and is in no truth, or in every truth and not shown."""
    names = {name for truth in truths for name in truth if SHOWN.match(name)} | shown.keys()
    return [
        f"{name}: shown {shown.get(name)}, true {[truth.get(name) for truth in truths]}"
        for name in sorted(names)
        if not any(_same(name, shown.get(name), truth.get(name)) for truth in truths)
    ]


def _same(name: str, shown: float | None, true: float | None) -> bool:
    if shown is None or true is None:
        return shown is true
    slack = max(300.0, 0.011 * true) if "item_age" in name else 1e-9 * max(1.0, abs(true))
    return abs(shown - true) <= slack


def judge(workers: Fleet, flow: Flow, settings: str) -> int:
    """Wait until everything shown is true and the books agree; how many series that are. Fails after a while, and tells
    the first that are wrong."""
    flow.pause()
    until, found = time.monotonic() + QUIET_SECONDS, ["nothing was asked"]
    while time.monotonic() < until:
        before, after = expected(flow.told, settings)
        shown = workers.pages(SHOWN)
        found = wrong(shown, before, after) or asyncio.run(unequal(workers.workers[0].config))
        if not found:
            flow.go_on()
            return len(shown)
        time.sleep(1)
    raise AssertionError(f"{len(found)} are wrong, such as {found[:5]}\n{workers.told()}")


async def unequal(config: Path) -> list[str]:
    """Where histories call for something else than panes hold, of workers that have nothing to take."""
    configuration = read_settings(config.read_text(), str(config))
    connection, topics = Connection(configuration), topics_of(configuration)
    latest = (await epochs_of(connection, topics)).latest
    return [str(one) async for one in differences(connection, topics, latest, clock_us(), lambda records: None)]


def close(workers: Fleet, flow: Flow) -> None:
    """Everything that had to be refused was: it is counted, and can be read back once the workers have stopped; and the
    command that audits agrees. Nothing flows any more."""
    counts = until(lambda: _refused(workers, flow), "all that is no event is refused", QUIET_SECONDS)
    for worker in workers.workers:
        if worker.runs:
            worker.stop()
    worker = workers.workers[0]
    kept = rejected(worker.run("rejected"))
    assert Counter(reason for reason, _ in kept) == counts, "the count is of what can be read back"
    assert {body: reason for reason, body in kept} == {body.decode(): r for body, r in flow.refused.items()}
    assert "agree" in worker.run("audit").well().err


def _refused(workers: Fleet, flow: Flow) -> Counter[str] | None:
    """How many were refused by reason, when that may be all: a delivery that was repeated counts twice."""
    counts, called_for = Counter[str](), Counter(flow.refused.values())
    for worker in workers.workers:
        if worker.runs:
            page = worker.metrics()
            counts += Counter({r: int(page("events_rejected_total", reason=r) or 0) for r in called_for})
    return counts if counts >= called_for else None


def run(faults: Mapping[str, int], seed: int, size: int = 3, rate: float = 2000.0, quiet: int = 4) -> str:
    """Faults, so many of each kind, in random order over a new broker; what was seen. Fails where a number is wrong.

    Kinds: kill (SIGKILL), stop (SIGSTOP for longer than the session), move (a worker leaves, or one comes), restart (of
    the broker), outage (the broker does not answer for a minute).
    """
    random = Random(seed)
    with tempfile.TemporaryDirectory() as name:
        broker = Broker(Path(name) / "broker")
        broker.start()
        begun = time.monotonic()
        try:
            with fleet(Path(name), broker.address, SETTINGS, size) as workers:
                flow = Flow(broker.address, Random(seed + 1), rate)
                flow.start()
                order = [fault for fault, times in faults.items() for _ in range(times)]
                random.shuffle(order)
                series = 0
                for number, fault in enumerate(order):
                    time.sleep(random.uniform(0.2, 3))
                    _do(fault, workers, broker, random)
                    if number % quiet == quiet - 1:
                        series = judge(workers, flow, SETTINGS)
                        say(f"after {number + 1} faults: {series} series true, {len(flow.told)} events")
                series = judge(workers, flow, SETTINGS)
                flow.end()
                seconds = time.monotonic() - begun
                close(workers, flow)
                told = ", ".join(f"{times} {fault}s" for fault, times in faults.items())
                return (
                    f"{told}, seed {seed}, {seconds:.0f} s: {series} series of {len(flow.told)} events, "
                    f"{len(flow.told) / flow.seconds:.0f} a second in the {flow.seconds:.0f} s in which they flowed, "
                    f"all true, and the books agree; {len(flow.refused)} refused, all found"
                )
        finally:
            broker.stop()


def _do(fault: str, workers: Fleet, broker: Broker, random: Random) -> None:
    running = [number for number, worker in enumerate(workers.workers) if worker.runs]
    number = random.choice(running)
    worker = workers.workers[number]
    if fault == "restart":
        broker.stop()
        broker.start()
    elif fault == "outage":
        broker.pause()
        time.sleep(OUTAGE_SECONDS)
        broker.go_on()
    elif fault == "move" and len(running) > WORKERS_MIN:
        worker.stop()
    elif fault == "move":
        workers.add()
    elif fault == "kill":
        worker.kill()
        time.sleep(random.choice((0, 0, SESSION_SECONDS + 2)))
        worker.spawn()
        worker.listening()
    else:
        workers.stop(number)
        time.sleep(SESSION_SECONDS + random.uniform(1, 4))
        workers.go_on(number)


def say(text: str) -> None:
    """To standard output, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for fault, times in FAULTS.items():
        parser.add_argument(f"--{fault}s", type=int, default=times)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=2000.0)
    given = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that it asks again is no news; what fails is raised
    say(run({fault: getattr(given, f"{fault}s") for fault in FAULTS}, given.seed, rate=given.rate))
