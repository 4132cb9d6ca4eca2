"""Workers as processes over one broker, and their pages as one: no series may be on two of them."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import urllib3
from engine import EngineProcess, Event, lines, until

SESSION_SECONDS: Final = 6
"""The shortest that a broker allows by default."""


class Worker(EngineProcess):
    """`flowmetrics run` on Kafka, with a store of its own."""

    broker = ""
    session_seconds = SESSION_SECONDS

    def __init__(self, directory: Path, broker: str, settings: str) -> None:
        self.broker = broker
        super().__init__(directory, settings)

    def configure(self, settings: str, listen: str = "127.0.0.1:0") -> None:
        """Write the configuration; it counts from the next start."""
        kafka = f"kafka: {{session: {self.session_seconds}s, store: {self.directory / 'store'}}}\n"
        self.config.write_text(f'broker: kafka://{self.broker}\nhttp: {{listen: "{listen}"}}\n{kafka}{settings}')

    def answers(self, events: Iterable[Event]) -> int:
        """How a post of events is answered; 0 when it is not."""
        try:
            return self.send(lines(events), "application/x-ndjson").status
        except urllib3.exceptions.TimeoutError:
            return 0

    def series(self, wanted: re.Pattern[str] | None = None) -> dict[str, float]:
        """The KPI series on its page, or those that are wanted, by name with labels; nothing where it does not
        answer."""
        try:
            text = self.get("/metrics").text
        except urllib3.exceptions.HTTPError:
            return {}
        rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in rows if (wanted or KPI).match(name)}

    def state(self) -> str:
        """Whether it runs, is ready, and how far it is behind."""
        if not self.runs:
            return "ended"
        try:
            lag = re.findall(r"^flowmetrics_(?:partition_lag|consumer_lag).*", self.get("/metrics").text, re.MULTILINE)
            return "\n".join([self.get("/readyz").text.strip(), *lag])
        except urllib3.exceptions.HTTPError as error:
            return f"does not answer: {error}"


KPI: Final = re.compile(
    r"flowmetrics_(?!kpi_|engine_|build_|events_|event_|consumer_|last_|label_|unmapped|conflicting|histories_|partition_)"
)


class Fleet:
    """Some workers over one broker; `settings` are those of all."""

    def __init__(self, folder: Path, broker: str, settings: str) -> None:
        self._folder = folder
        self._broker = broker
        self._settings = settings
        self.workers: list[Worker] = []
        self.stopped: set[int] = set()

    def add(self) -> Worker:
        """Start one more."""
        worker = Worker(self._folder / f"worker-{len(self.workers)}", self._broker, self._settings)
        self.workers.append(worker)
        worker.spawn()
        worker.listening()
        return worker

    def pages(self, wanted: re.Pattern[str] | None = None) -> dict[str, float]:
        """All KPI series, or those that are wanted, of workers that run. Fails where two show the same one."""
        together: dict[str, float] = {}
        for number, worker in enumerate(self.workers):
            if worker.runs and number not in self.stopped:
                page = worker.series(wanted)
                twice = page.keys() & together.keys()
                assert not twice, f"on two pages: {sorted(twice)[:5]}"
                together |= page
        return together

    def velocity(self) -> float:
        """The items done that those that run show together."""
        return sum(worker.metrics().velocity() or 0.0 for worker in self.workers if worker.runs)

    def told(self) -> str:
        """What each worker says of itself, and the end of its log."""
        return "\n".join(
            f"--- worker {number}: {worker.state()}\n{worker.said_ever[-3000:]}"
            for number, worker in enumerate(self.workers)
        )

    def ready(self, seconds: float = 60.0) -> None:
        """Wait until all workers that run are ready at one time: one that joins takes the others' partitions away."""
        running = [worker for worker in self.workers if worker.runs]
        until(lambda: all(worker.get("/readyz").status == 200 for worker in running), "all are ready", seconds)

    def stop(self, number: int) -> None:
        """SIGSTOP."""
        self.workers[number].signal(signal.SIGSTOP)
        self.stopped.add(number)

    def go_on(self, number: int) -> None:
        """SIGCONT."""
        self.stopped.discard(number)
        self.workers[number].signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill what runs."""
        for worker in self.workers:
            worker.kill()


@contextmanager
def fleet(folder: Path, broker: str, settings: str, size: int) -> Iterator[Fleet]:
    """Some workers, ready at first, killed at the end."""
    workers = Fleet(folder, broker, settings)
    try:
        for _ in range(size):
            workers.add()
        workers.ready()
        yield workers
    finally:
        workers.end()
