"""flowmetrics over the same events: workers on the topic, and how far the broker has what they committed.

Nothing is asked of a worker while it works. What counts as done is read off the changelogs: every checkpoint ends with
its position, in the same transaction as the state and what was told to the next step. The end is when the last
checkpoint of tally is committed that has all changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec
import urllib3
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from agents.kafka import tallying, tracking
from agents.kafka.connection import Connection
from agents.kafka.topics import Topics, prepare, topics_of
from agents.kafka.units import GATHER_EVENTS_MAX
from benchmarks.flow1.oracle import Right, wrong_series
from benchmarks.flow1.processes import Watch, cpu_seconds
from benchmarks.flow1.row import Row, today, wrong_in_short
from benchmarks.flow1.workload import PARTITIONS, as_native, as_ours_does, load, remove
from flowmetrics.settings import read_settings
from tests.engine import Metrics
from tests.kafka.broker import Broker

INSTANT: Final = "2025-03-02T00:00:00Z"
"""Where the sixty days of flow-1 end."""
SETTINGS: Final = """\
broker: kafka://{broker}
http: {{listen: "127.0.0.1:0"}}
kafka: {{store: {store}}}
topics: {{prefix: {prefix}, partitions: {partitions}}}
kpis: {kpis}
value_streams: {{"*": {{start: created}}}}
"""
KPIS: Final = "[flow_time, flow_velocity, active_users]"
"""What the peers compute; their flow time begins with the creation as well."""
PATIENCE_SECONDS: Final = 900.0
PAGE_SECONDS: Final = 60.0
"""How long the pages may take to show what is committed, on a busy machine."""
LOOK_SECONDS: Final = 0.1
TAIL_RECORDS: Final = 16
"""The last record of a partition is among so many offsets: those after it are marks of transactions."""


class Mark(NamedTuple):
    """How many events were committed, when, and with how much CPU of all workers."""

    events: int
    at: float
    cpu: float


class Failed(Exception):  # noqa: N818 - says what happened to a worker
    """A worker ended, or does not come to an end."""


class Worker:
    """A worker as a process; its clock stands at `INSTANT`."""

    def __init__(self, folder: Path, settings: str) -> None:
        folder.mkdir(parents=True)
        file = folder / "flowmetrics.yaml"
        file.write_text(settings)
        self._said = folder / "said.txt"
        command = [sys.executable, "-m", "benchmarks.flow1.worker", str(file), INSTANT]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, text=True
            )
        self.pid = self._process.pid

    def must_run(self) -> None:
        """Raises Failed where it does not."""
        if self._process.poll() is not None:
            raise Failed(f"a worker ended with {self._process.returncode}: {self._said.read_text()[-500:]}")

    @cached_property
    def address(self) -> str:
        """Where it listens, as soon as it does."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def page(self) -> str:
        """What it shows; nothing where it does not answer."""
        try:
            return urllib3.request("GET", f"{self.address}/metrics", timeout=60).data.decode()
        except urllib3.exceptions.HTTPError:
            return ""

    def end(self) -> None:
        """Stop it, in order if it can."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Committed:
    """What the broker has of an engine's state."""

    def __init__(self, consumer: AIOKafkaConsumer, topics: Topics) -> None:
        self._consumer = consumer
        self._topics = topics
        self._ends: dict[TopicPartition, int] = {}
        self._last: dict[TopicPartition, ConsumerRecord[bytes, bytes]] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, broker: str, topics: Topics) -> AsyncIterator[Self]:
        """Over a client of its own."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=broker, isolation_level="read_committed", enable_auto_commit=False, fetch_max_wait_ms=20,
            max_partition_fetch_bytes=8 * 1024 * 1024,
        )  # fmt: skip
        await consumer.start()
        try:
            read = [place for topic in (topics.track, topics.tally, topics.changes) for place in _places(topic)]
            consumer.assign(read)
            consumer.pause(*read)
            yield cls(consumer, topics)
        finally:
            await consumer.stop()

    async def events(self) -> int:
        """How many events track has committed."""
        last = await self._records(self._topics.track)
        return sum(msgspec.msgpack.decode(record.value, type=tracking.Position).events for record in last.values())

    async def told(self) -> dict[int, int]:
        """By partition, up to where the changes reach now."""
        return {
            place.partition: record.offset + 1 for place, record in (await self._records(self._topics.changes)).items()
        }

    async def tallied(self) -> dict[int, int]:
        """By partition, up to where tally has committed the changes."""
        last = await self._records(self._topics.tally)
        positions = {p.partition: msgspec.msgpack.decode(r.value, type=tallying.Position) for p, r in last.items()}
        return {number: position.changes for number, position in positions.items()}

    async def _records(self, topic: str) -> dict[TopicPartition, ConsumerRecord[bytes, bytes]]:
        """The last committed record of each partition that has one."""
        consumer, places = self._consumer, _places(topic)
        for place, end in (await consumer.end_offsets(places)).items():
            if end in (0, self._ends.get(place)):
                continue
            consumer.seek(place, max(0, end - TAIL_RECORDS))
            consumer.resume(place)
            records = (await consumer.getmany(place, timeout_ms=200)).get(place)
            consumer.pause(place)
            if records:  # none where a transaction is open: the next look sees what it becomes
                self._ends[place], self._last[place] = end, records[-1]
        return {place: self._last[place] for place in places if place in self._last}


def _places(topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(PARTITIONS)]


async def run(
    folder: Path, broker: Broker, rows: Path, events: int, rights: list[Right], size: int, every_kpi: bool
) -> Row:
    """Load a topic, let workers take it, and judge what their pages show together."""
    name = f"flowmetrics-{uuid.uuid4().hex[:8]}"
    home = folder / "runs" / name
    kpis = '["*"]' if every_kpi else KPIS
    settings = [
        SETTINGS.format(broker=broker.address, store=home / f"store-{n}", prefix=name, partitions=PARTITIONS, kpis=kpis)
        for n in range(size)
    ]
    configuration = read_settings(settings[0], "flowmetrics.yaml")
    topics = topics_of(configuration)
    await prepare(Connection(configuration), configuration)
    await load(broker.address, topics.events, as_native(rows), as_ours_does)
    workers = [Worker(home / f"worker-{n}", text) for n, text in enumerate(settings)]
    begun, marks = time.monotonic(), list[Mark]()
    with Watch([worker.pid for worker in workers], broker.pid) as watch:
        try:
            async with Committed.of(broker.address, topics) as committed:
                marks = await _marks(workers, committed, events)
            wrong = await _judged(workers, rights)
        except Failed as error:
            wrong = [str(error)]
        finally:
            for worker in workers:
                worker.end()
    wall_s = time.monotonic() - begun
    await remove(broker.address, name)
    if not wrong:
        shutil.rmtree(home)
    rate, cpu, remark = _figures(marks, events)
    return Row(
        engine=f"flowmetrics{f', {size} workers' if size > 1 else ''}{', every KPI' if every_kpi else ''}",
        date=today(),
        events=events,
        events_per_s=rate,
        cpu_s_per_million=cpu,
        peak_rss_mb=watch.peak_rss_mb,
        correct=not wrong,
        broker_cpu_s_per_million=watch.broker_cpu_s / events * 1e6,
        other_cpu_s=watch.other_cpu_s,
        wall_s=wall_s,
        state="RocksDB, changelogs",
        remark="; ".join(filter(None, [remark, wrong_in_short(wrong)])),
    )


async def _marks(workers: Sequence[Worker], committed: Committed, events: int) -> list[Mark]:
    """How far they were at every look, until everything is committed by both steps. Raises Failed."""
    until = time.monotonic() + PATIENCE_SECONDS
    marks = [_mark(0, workers)]
    while (done := await committed.events()) < events:
        if done > marks[-1].events:
            marks.append(_mark(done, workers))
        await _wait(workers, until)
    told = await committed.told()
    while not _reaches(await committed.tallied(), told):
        await _wait(workers, until)
    return [*marks, _mark(events, workers)]


def _reaches(tallied: Mapping[int, int], told: Mapping[int, int]) -> bool:
    return all(tallied.get(number, 0) >= end for number, end in told.items())


def _mark(events: int, workers: Sequence[Worker]) -> Mark:
    return Mark(events, time.monotonic(), sum(cpu_seconds(worker.pid) for worker in workers))


async def _wait(workers: Sequence[Worker], until: float) -> None:
    for worker in workers:
        worker.must_run()
    if time.monotonic() > until:
        raise Failed(f"not everything was committed in {PATIENCE_SECONDS:.0f} s")
    await asyncio.sleep(LOOK_SECONDS)


def _figures(marks: Sequence[Mark], events: int) -> tuple[float | None, float | None, str]:
    """Events a second and CPU seconds a million, and what is to be said of them.

    Counting begins at a fifth of the events, as for the peers, but not before as many were committed as the workers may
    have in hand. Where there are too few events for that it begins with the processes.
    """
    if not marks:
        return None, None, ""
    enough = max(events / 5, GATHER_EVENTS_MAX * PARTITIONS)
    begin, end = next((mark for mark in marks if enough <= mark.events < events), marks[0]), marks[-1]
    counted = end.events - begin.events
    remark = "few events: the start is included" if begin is marks[0] else ""
    return counted / (end.at - begin.at), (end.cpu - begin.cpu) / counted * 1e6, remark


async def _judged(workers: Sequence[Worker], rights: list[Right]) -> list[str]:
    """What is wrong on the pages, which are made anew a few times a second."""
    until = time.monotonic() + PAGE_SECONDS
    while True:
        pages = [Metrics(worker.page()) for worker in workers]
        wrong = wrong_series(rights, pages)
        if not wrong or time.monotonic() > until:
            return wrong
        await _wait(workers, until + 1)
