"""Figures of the engine on Kafka: kafka.py memory|takeover|restart|latency [N]

memory    N customers (3,000,000), one event each, one worker, all KPIs: resident MiB
takeover  N customers (1,000,000), two workers, one is killed: seconds until the other is ready with everything
restart   N customers (1,000,000), one worker is killed and started again: seconds until it is ready
latency   N probes (200) at 1,000 events a second: milliseconds from sending to /metrics, and the broker's CPU

A broker is started from the jars of tests/kafka. Run it from the root of the project.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from aiokafka import AIOKafkaProducer
from local import Engine, cpu_seconds, post

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "kafka"))
from broker import Broker

from flowmetrics.routing import partition_of

SESSION_SECONDS = 10
PARTITIONS = 6


class Worker(Engine):
    """One worker over a broker."""

    def __init__(self, directory: Path, broker: Broker, settings: str = "") -> None:
        directory.mkdir()
        topics = f"topics: {{partitions: {PARTITIONS}}}\nkafka: {{session: {SESSION_SECONDS}s}}\n"
        super().__init__(directory, f"broker: kafka://{broker.address}\n{topics}{settings}")


@contextmanager
def fleet(settings: str = "") -> Iterator[tuple[Broker, Callable[[], Worker]]]:
    """A broker, and workers that are started as they are asked for."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ends:
        broker = Broker(Path(folder) / "broker")
        broker.start()
        ends.callback(broker.stop)
        made: list[Worker] = []

        def worker() -> Worker:
            made.append(Worker(Path(folder) / f"worker-{len(made)}", broker, settings))
            ends.callback(_end, made[-1])
            return made[-1]

        yield broker, worker


def _end(worker: Worker) -> None:
    if worker.process.poll() is None:
        worker.process.send_signal(signal.SIGTERM)
        worker.process.wait(60)


def customers(most: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, event): one activity of each."""
    begin = datetime.now(UTC) - timedelta(days=28)
    for number in range(most):
        told = {"customer": f"U-{number}", "value_stream": f"p{number % 20}", "feature": f"f{number % 5}"}
        moment = (begin + timedelta(seconds=number * 28 * 86400 / most)).isoformat()
        event = {"specversion": "1.0", "id": f"e{number}", "source": "web", "type": "flowmetrics.activity.v1"}
        yield f"customer:U-{number}".encode(), orjson.dumps({**event, "time": moment, "data": told})


async def fill(broker: Broker, events: Iterator[tuple[bytes, bytes]]) -> None:
    """Write events to their partitions, in batches."""
    producer = AIOKafkaProducer(bootstrap_servers=broker.address, max_batch_size=900_000, max_request_size=2**23)
    await producer.start()
    while some := list(itertools.islice(events, 50_000)):
        rows: dict[int, list[tuple[bytes, bytes]]] = {}
        for key, body in some:
            rows.setdefault(partition_of(key, PARTITIONS), []).append((key, body))
        sent = []
        for number, records in rows.items():
            builder = producer.create_batch()
            for key, body in records:
                if builder.append(key=key, value=body, timestamp=None) is None:
                    sent.append(await producer.send_batch(builder, "flowmetrics.events", partition=number))
                    builder = producer.create_batch()
                    builder.append(key=key, value=body, timestamp=None)
            sent.append(await producer.send_batch(builder, "flowmetrics.events", partition=number))
        await asyncio.gather(*sent)
    await producer.stop()


def counted(workers: list[Worker]) -> float:
    """The customers of the last 30 days on the pages of workers."""
    total = 0.0
    for worker in workers:
        for line in worker.get("/metrics")[1].splitlines():
            if line.startswith(b"flowmetrics_active_users{") and b'window="30d"' in line:
                total += float(line.rsplit(b" ", 1)[1])
    return total


def wait_counted(workers: list[Worker], most: int) -> float:
    """Seconds until all customers are on the pages."""
    begin = time.monotonic()
    while counted(workers) != most:
        time.sleep(0.1)
    return time.monotonic() - begin


def memory(most: int) -> None:
    with fleet() as (broker, worker):
        one = worker()
        one.wait_ready()
        asyncio.run(fill(broker, customers(most)))
        wait_counted([one], most)
        caught_up = one.resident_mib()
        time.sleep(10)
        cpu = one.cpu_seconds() / most * 1e6
        peak = int(
            next(x for x in Path(f"/proc/{one.process.pid}/status").read_text().splitlines() if "VmHWM" in x).split()[1]
        )
        print(
            f"memory: {one.resident_mib()} MiB resident with {most:,} customers ({caught_up} when caught up, "
            f"peak {peak // 1024}); {cpu:.1f} CPU s per million events, every KPI on"
        )


def takeover(most: int) -> None:
    with fleet() as (broker, worker):
        workers = [worker(), worker()]
        for one in workers:
            one.wait_ready()
        asyncio.run(fill(broker, customers(most)))
        wait_counted(workers, most)
        time.sleep(10)  # the standbys follow
        workers[0].process.kill()
        workers[0].process.wait()
        seconds = wait_counted(workers[1:], most)
        print(f"takeover: everything is shown {seconds:.1f} s after a SIGKILL; the session is {SESSION_SECONDS} s")


def restart(most: int) -> None:
    with fleet() as (broker, worker):
        one = worker()
        one.wait_ready()
        asyncio.run(fill(broker, customers(most)))
        wait_counted([one], most)
        for how in (signal.SIGTERM, signal.SIGKILL):
            time.sleep(5)
            one.process.send_signal(how)
            one.process.wait()
            begin = time.monotonic()
            one.start()
            wait_counted([one], most)
            print(f"restart: everything is shown {time.monotonic() - begin:.1f} s after {how.name} and a start")


def latency(probes: int) -> None:
    """A probe creates a value stream of its own; visible is when its series appears in /metrics."""
    rate, waits = 1000, []
    with fleet() as (broker, worker):
        one = worker()
        one.wait_ready()
        stop = threading.Event()

        def load() -> None:
            connection = http.client.HTTPConnection(one.host, one.port, timeout=60)
            due, bodies = time.monotonic(), (body for _, body in customers(10_000_000))
            while not stop.is_set():
                post(connection, b"\n".join(itertools.islice(bodies, rate // 20)))
                due += 0.05
                time.sleep(max(0.0, due - time.monotonic()))

        thread = threading.Thread(target=load)
        thread.start()
        time.sleep(5)
        spent, begun = cpu_seconds(broker.pid), time.monotonic()
        connection = http.client.HTTPConnection(one.host, one.port, timeout=60)
        for number in range(probes):
            name = f"probe-{number}"
            told = {"customer": name, "value_stream": name}
            moment = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
            event = {"specversion": "1.0", "id": name, "source": "probe", "type": "flowmetrics.activity.v1"}
            body = orjson.dumps({**event, "time": moment, "data": told})
            begin = time.monotonic()
            post(connection, body)
            while name.encode() not in one.get("/metrics")[1]:
                time.sleep(0.01)
            waits.append((time.monotonic() - begin) * 1000)
        share = (cpu_seconds(broker.pid) - spent) / (time.monotonic() - begun)
        stop.set()
        thread.join()
    waits.sort()
    p50, p99 = statistics.median(waits), waits[int(0.99 * (probes - 1))]
    print(
        f"latency at {rate} events/s, {probes} probes: p50 {p50:.0f} ms, p99 {p99:.0f} ms; broker {share:.0%} of a core"
    )


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    figures = {"memory": (memory, 3_000_000), "takeover": (takeover, 1_000_000), "restart": (restart, 1_000_000)}
    figure, usual = {**figures, "latency": (latency, 200)}[what]
    figure(int(rest[0]) if rest else usual)
