"""Figures of the engine on one machine: local.py collector|latency|scrape|restart|memory NATIVE.jsonl [EVENTS]

Each starts the real engine in a process of its own, drives it over HTTP or through the journal, and prints its figure.
"""

from __future__ import annotations

import http.client
import itertools
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

SLIM = "kpis: [flow_time, flow_velocity, flow_load, active_users]\n"


class Engine:
    """`flowmetrics run` in a directory."""

    def __init__(self, directory: Path, settings: str = "") -> None:
        self.directory = directory
        (directory / "flowmetrics.yaml").write_text(f"http: {{listen: '127.0.0.1:0'}}\n{settings}")
        self.start()

    def start(self) -> None:
        command = [str(Path(sys.executable).with_name("flowmetrics")), "run"]
        self.process = subprocess.Popen(command, cwd=self.directory, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = re.search(r"http://([0-9.]+):(\d+)", line)
            if found:
                self.host, self.port = found[1], int(found[2])
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def wait_ready(self) -> float:
        """Seconds until ready."""
        begin = time.monotonic()
        while self.get("/readyz")[0] != 200:
            time.sleep(0.01)
        return time.monotonic() - begin

    def wait_taken(self) -> None:
        while not re.search(rb"\nflowmetrics_consumer_lag_events 0", self.get("/metrics")[1]):
            time.sleep(0.05)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process.pid)

    def loop_seconds(self) -> float:
        """CPU of the main thread, which runs the event loop."""
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9

    def resident_mib(self) -> int:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096 // 2**20


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def engine(settings: str = "") -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as directory:
        one = Engine(Path(directory), settings)
        try:
            one.wait_ready()
            yield one
        finally:
            one.process.send_signal(signal.SIGTERM)
            one.process.wait(30)


def batches(path: str, size: int, most: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        lines = itertools.islice(file, most)
        while some := b"".join(itertools.islice(lines, size)):
            yield some


def post(connection: http.client.HTTPConnection, body: bytes) -> None:
    connection.request("POST", "/events", body, {"Content-Type": "application/x-ndjson"})
    answer = connection.getresponse()
    receipt = orjson.loads(answer.read())
    assert answer.status == 202, receipt
    assert not receipt["rejected"], receipt


def fill(one: Engine, path: str, most: int, senders: int = 4) -> float:
    """Send events with some connections at once; the seconds until the last 202."""
    waiting = iter(list(batches(path, 1000, most)))
    guard = threading.Lock()

    def send() -> None:
        connection = http.client.HTTPConnection(one.host, one.port, timeout=120)
        while True:
            with guard:
                body = next(waiting, None)
            if body is None:
                return
            post(connection, body)

    begin = time.monotonic()
    threads = [threading.Thread(target=send) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - begin


def collector(path: str, most: int) -> None:
    with engine(SLIM) as one:
        before = one.cpu_seconds()
        seconds = fill(one, path, most)
        accepted = one.cpu_seconds() - before
        one.wait_taken()
        counted = one.cpu_seconds() - before
        cpu = f"{accepted / most * 1e6:.1f} until accepted, {counted / most * 1e6:.1f} until counted"
        print(f"collector: {most / seconds:,.0f} events/s durable; CPU s per million: {cpu}; {one.resident_mib()} MiB")


def latency(path: str, most: int) -> None:
    """A probe creates a value stream of its own; visible is when its series appears in /metrics."""
    rate, probes, waits = 1000, min(most, 100), []
    with engine(SLIM) as one:
        stop = threading.Event()

        def load() -> None:
            connection = http.client.HTTPConnection(one.host, one.port, timeout=60)
            due = time.monotonic()
            for body in itertools.cycle(list(batches(path, rate // 20, 200_000))):
                if stop.is_set():
                    return
                post(connection, body)
                due += 0.05
                time.sleep(max(0.0, due - time.monotonic()))

        thread = threading.Thread(target=load)
        thread.start()
        connection = http.client.HTTPConnection(one.host, one.port, timeout=60)
        for number in range(probes):
            name = f"probe-{number}"
            told = {"customer": name, "value_stream": name}
            moment = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
            event = {"specversion": "1.0", "id": name, "source": "probe", "type": "flowmetrics.activity.v1"}
            post(connection, orjson.dumps({**event, "time": moment, "data": told}))
            begin = time.monotonic()
            while name.encode() not in one.get("/metrics")[1]:
                time.sleep(0.005)
            waits.append(time.monotonic() - begin)
        stop.set()
        thread.join()
    waits.sort()
    p50, p99 = statistics.median(waits) * 1000, waits[int(0.99 * (probes - 1))] * 1000
    print(f"latency: accepted to visible at {rate} events/s, {probes} probes: p50 {p50:.0f} ms, p99 {p99:.0f} ms")


def scrape(path: str, most: int) -> None:
    """20,000 series: what a scrape costs the thread of the event loop, and how long other requests wait meanwhile."""
    with engine("windows: [1h, 1d, 7d, 30d, 60d, 90d]\n") as one:
        fill(one, path, most)
        one.wait_taken()
        time.sleep(2)
        page = one.get("/metrics")[1]
        series = sum(not line.startswith(b"#") for line in page.splitlines())
        print(f"scrape: {series:,} series, {len(page) >> 10} KiB")
        idle = 0.0
        for name, scrapes, headers in (
            ("nothing", 0, {}),
            ("plain", 5, {}),
            ("gzip", 5, {"Accept-Encoding": "gzip"}),
        ):
            waits: list[float] = []
            ended = threading.Event()
            other = threading.Thread(target=_ask, args=(one, waits, ended))
            other.start()
            begun, times = one.loop_seconds(), []
            for _ in range(20):
                times += [_timed(one, headers) for _ in range(scrapes)]
                time.sleep(0.5)
            ended.set()
            other.join()
            spent = (one.loop_seconds() - begun) * 1000
            print(f"  {name}: /healthz beside it p50 {statistics.median(waits):.1f} ms, max {max(waits):.1f} ms")
            if times:
                print(f"    event loop {(spent - idle) / len(times):.2f} ms of CPU a scrape")
                print(f"    p50 {statistics.median(times):.1f} ms, max {max(times):.1f} ms at the client")
            else:
                idle = spent


def _timed(one: Engine, headers: dict[str, str]) -> float:
    """Milliseconds of a scrape."""
    connection = http.client.HTTPConnection(one.host, one.port, timeout=60)
    begin = time.monotonic()
    connection.request("GET", "/metrics", headers=headers)
    connection.getresponse().read()
    return (time.monotonic() - begin) * 1000


def _ask(one: Engine, waits: list[float], ended: threading.Event) -> None:
    """How long a small request takes, 200 times a second."""
    while not ended.is_set():
        begin = time.monotonic()
        one.get("/healthz")
        waits.append((time.monotonic() - begin) * 1000)
        time.sleep(0.005)


def restart(path: str, most: int) -> None:
    with engine() as one:
        fill(one, path, most)
        one.wait_taken()
        time.sleep(6)
        one.process.kill()
        one.process.wait()
        begin = time.monotonic()
        one.start()
        one.wait_ready()
        print(
            f"restart: ready {time.monotonic() - begin:.2f} s after SIGKILL with {most:,} events of state, every KPI on"
        )


def memory(path: str, most: int) -> None:
    """`most` customers, one event each, every KPI on."""
    with engine() as one, tempfile.NamedTemporaryFile("wb") as file:
        begin = datetime.now(UTC) - timedelta(days=28)
        for number in range(most):
            told = {"customer": f"U-{number}", "value_stream": f"p{number % 20}", "feature": f"f{number % 5}"}
            moment = (begin + timedelta(seconds=number * 28 * 86400 / most)).isoformat()
            event = {"specversion": "1.0", "id": f"e{number}", "source": "web", "type": "flowmetrics.activity.v1"}
            file.write(orjson.dumps({**event, "time": moment, "data": told}) + b"\n")
        file.flush()
        before = one.cpu_seconds()
        fill(one, file.name, most)
        one.wait_taken()
        time.sleep(6)
        cpu = (one.cpu_seconds() - before) / most * 1e6
        print(f"memory: {one.resident_mib()} MiB resident with {most:,} customers; {cpu:.0f} CPU s per million events")


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    figures = {"collector": collector, "latency": latency, "scrape": scrape, "restart": restart, "memory": memory}
    figures[what](where, int(rest[0]) if rest else {"latency": 100, "memory": 2_000_000}.get(what, 1_000_000))
