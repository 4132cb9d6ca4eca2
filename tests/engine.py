"""The real `flowmetrics` as a process: start it, post to it, read its page, kill it, start it again.

`EngineProcess` owns a directory with a configuration and the data; each start is a new process on a port that the
system chose, told by the line on standard error. Only processes started here are ever signalled.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, TypeVar

import orjson
import urllib3
from prometheus_client.parser import text_string_to_metric_families

Event: TypeAlias = dict[str, Any]
T = TypeVar("T")

COMMAND: Final = Path(sys.executable).with_name("flowmetrics")
SERVES: Final = re.compile(r"flowmetrics serves (http://\S+)")
START_SECONDS: Final = 30.0
PATIENCE_SECONDS: Final = 20.0
"""How long a condition may take on a busy machine; none takes that long on an idle one."""
STOP_SECONDS: Final = 10.0
"""SIGTERM drains and ends within ten seconds: the public contract."""
POLL_SECONDS: Final = 0.02

_numbers = itertools.count(1)


def until(ask: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """The first answer that is true; fails with `what` when none comes in time."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {seconds:g} s in vain until {what}; the last answer was {answer!r}"
        time.sleep(POLL_SECONDS)


def event(kind: str, *, ago: float = 60.0, name: str | None = None, source: str = "tests", **data: Any) -> Event:
    """A native event of a kind (`item`, `request`, …) that happened `ago` seconds before now."""
    at = datetime.now(UTC) - timedelta(seconds=ago)
    return {
        "specversion": "1.0",
        "id": name or f"{os.getpid()}-{next(_numbers)}",
        "source": source,
        "type": f"flowmetrics.{kind}.v1",
        "time": at.isoformat(),
        "data": data,
    }


def done(item: str, stream: str = "shop", **more: Any) -> Event:
    """An item that is done."""
    return event("item", item=item, value_stream=stream, state="Done", **more)


def lines(events: Iterable[Event]) -> bytes:
    """Events as JSON Lines."""
    return b"".join(orjson.dumps(one) + b"\n" for one in events)


def free_port() -> int:
    """A port on which nobody listens, below those that the system gives to whoever asks for any."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


class Answer:
    """What the engine answered to a request."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def reasons(self) -> list[tuple[int, str]]:
        """Index and reason of what was refused."""
        return [(one["index"], one["reason"]) for one in self.json["rejected"]]


class Metrics:
    """A page of metrics, by name and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        """The value of one series, None where it is absent; `flowmetrics_` need not be written."""
        return self._values.get((f"flowmetrics_{name}", frozenset(labels.items())))

    def velocity(self, stream: str = "shop", window: str = "1d", item_type: str = "all") -> float | None:
        return self("flow_velocity_items", value_stream=stream, window=window, item_type=item_type)

    def load(self, state: str, stream: str = "shop", item_type: str = "feature") -> float | None:
        return self("flow_load_items", value_stream=stream, item_type=item_type, state=state)

    def users(self, stream: str = "shop", window: str = "1d") -> float | None:
        return self("active_users", value_stream=stream, window=window)

    def resolved(self, stream: str = "shop", window: str = "1d", channel: str = "all") -> float | None:
        return self("requests_resolved", value_stream=stream, window=window, channel=channel)

    def accepted(self, source: str = "tests") -> float | None:
        return self("events_accepted_total", source=source)

    def total(self, name: str) -> float:
        """The sum over all series of a name."""
        return sum(value for (each, _), value in self._values.items() if each == f"flowmetrics_{name}")

    def kpis(self) -> dict[str, float]:
        """Everything but what the engine says about itself and what moves with time alone."""
        wanted = ("flowmetrics_flow_", "flowmetrics_requests_", "flowmetrics_active_", "flowmetrics_nps_")
        return {f"{n} {sorted(labels)}": v for (n, labels), v in self._values.items() if n.startswith(wanted)}


def series(name: str, **labels: str) -> str:
    """How `Metrics.kpis` names a series."""
    return f"flowmetrics_{name} {sorted(labels.items())}"


class Finished:
    """A command that ended."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout.decode(), done.stderr.decode()

    @property
    def rows(self) -> list[Any]:
        """Standard output as JSON Lines."""
        return [orjson.loads(line) for line in self.out.splitlines()]

    def well(self) -> Self:
        """Itself, if the exit code is 0."""
        assert self.code == 0, f"exit code {self.code}: {self.err}{self.out}"
        return self

    def failed(self, code: int, *words: str) -> Self:
        """Itself, if it failed with this code and one clear message that has these words."""
        assert self.code == code, f"exit code {self.code}: {self.err}{self.out}"
        assert "Traceback" not in self.err, self.err
        for word in words:
            assert word in self.err, f"{word!r} is not in: {self.err}"
        return self


def command(*words: str | Path, cwd: Path, seconds: float = 180.0, ready: Callable[[], None] | None = None) -> Finished:
    """Run `flowmetrics WORDS` in a directory to its end; `ready` runs in the new process before it."""
    run = subprocess.run(
        [COMMAND, *words], cwd=cwd, capture_output=True, timeout=seconds, check=False, preexec_fn=ready
    )
    return Finished(run)


class EngineProcess:
    """`flowmetrics run` in a directory. A context: what still runs at the end is killed, and must not have stumbled."""

    def __init__(self, directory: Path, settings: str = "", data: Path | None = None, port: int = 0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.data = data or directory / "data"
        self.config = directory / "flowmetrics.yaml"
        self.configure(settings, f"127.0.0.1:{port}")
        self.url = ""
        self.stumbled_well = False
        """Whether a traceback on standard error is expected; it never is, but a test may look at it itself."""
        self._stderr = directory / "stderr.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._code = 0
        self._said_before = 0
        self._pool = urllib3.PoolManager(retries=False, maxsize=4)

    def configure(self, settings: str, listen: str = "127.0.0.1:0") -> None:
        """Write the configuration; it counts from the next start. `settings` may hold an `http:` section of its own."""
        http = "" if re.search(r"^http:", settings, re.M) else f'http: {{listen: "{listen}"}}\n'
        self.config.write_text(f"broker: local://{self.data}\n{http}{settings}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.kill()
        self._pool.clear()
        if error is None:
            assert self.stumbled_well or "Traceback" not in self.said_ever, self.said_ever

    # --- the process ----------------------------------------------------------------------------------------------
    def start(self, ready: Callable[[], None] | None = None) -> Self:
        """Start, and wait until it listens. `ready` runs in the new process before the engine does."""
        self.spawn(ready)
        self.listening()
        return self

    def spawn(self, ready: Callable[[], None] | None = None) -> None:
        """Start, and wait for nothing."""
        assert self._process is None, "it runs already"
        self._said_before = len(self.said_ever)
        with self._stderr.open("ab") as stderr:
            self._process = subprocess.Popen(
                [COMMAND, "run", "--config", self.config],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, preexec_fn=ready,
            )  # fmt: skip

    def listening(self) -> str:
        """Wait until it serves; its address."""

        def address() -> str | None:
            match = SERVES.search(self.said)
            assert match or self.runs, f"it ended with {self.ended()}: {self.said}"
            return match[1] if match else None

        self.url = until(address, "the engine listens", START_SECONDS) or ""
        return self.url

    def ready(self) -> Self:
        """Start if it does not run, and wait until /readyz says so."""
        if self._process is None:
            self.start()
        until(lambda: self.get("/readyz").status == 200, "the engine is ready", START_SECONDS)
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def said(self) -> str:
        """What the present or latest process said on standard output and error."""
        return self.said_ever[self._said_before :]

    @property
    def said_ever(self) -> str:
        return self._stderr.read_text() if self._stderr.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, and wait for nothing."""
        assert self._process is not None
        self._process.send_signal(number)

    def ended(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for its end; the exit code, also when it was asked for before."""
        if self._process is not None:
            self._code = self._process.wait(seconds)
            self._process = None
            self._pool.clear()
        return self._code

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self.ended()

    def stop(self) -> float:
        """SIGTERM; it must end well and in time. The seconds it took."""
        begun = time.monotonic()
        self.signal(signal.SIGTERM)
        code = self.ended(STOP_SECONDS)
        assert code == 0, f"exit code {code}: {self.said}"
        return time.monotonic() - begun

    def run(self, *words: str | Path) -> Finished:
        """Another command over the same configuration and data."""
        return command(*words, "--config", self.config, cwd=self.directory)

    # --- requests -------------------------------------------------------------------------------------------------
    def get(self, path: str) -> Answer:
        """GET a path."""
        return self.ask("GET", path)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request, not repeated. Raises urllib3's errors where the engine is away."""
        got = self._pool.request(method, f"{self.url}{path}", body=body, headers=headers, timeout=PATIENCE_SECONDS)
        return Answer(got.status, got.headers, got.data)

    def send(self, body: bytes, kind: str = "application/json", **headers: str) -> Answer:
        """POST bytes to /events; underscores in names of headers are hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", "/events", body, {"Content-Type": kind, **named})

    def post(self, *events: Event) -> Answer:
        """POST events; all of them must be accepted."""
        answer = self.send(lines(events), "application/x-ndjson")
        assert (answer.status, answer.json) == (202, {"accepted": len(events), "rejected": []})
        return answer

    def metrics(self) -> Metrics:
        """The page of metrics as it is now."""
        return Metrics(self.get("/metrics").text)

    def shows(self, ask: Callable[[Metrics], object], wanted: object, seconds: float = PATIENCE_SECONDS) -> Metrics:
        """Wait until the page shows a value."""
        pages: list[Metrics] = []

        def reached() -> bool:
            pages[:] = [self.metrics()]
            return ask(pages[0]) == wanted

        try:
            until(reached, f"the page shows {wanted!r}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows {ask(pages[0])!r}") from None
        return pages[0]


def rejected(finished: Finished) -> list[tuple[str, str]]:
    """Reason and event of each line of `flowmetrics rejected`."""
    return [(row["reason"], row["event"]) for row in finished.well().rows]


def chunks(events: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Runs of at most `size`."""
    return (events[i : i + size] for i in range(0, len(events), size))
