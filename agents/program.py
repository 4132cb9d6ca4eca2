"""A server of others that runs beside ours for a while: Prometheus, Alertmanager."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Final

import urllib3

from agents.leash import leashed
from flowmetrics.errors import OperationError

START_SECONDS: Final = 120.0
ANSWER_SECONDS: Final = 10.0
END_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.05
ANY_PORT: Final = "127.0.0.1:0"
_LISTENS: Final = re.compile(r"Listening on.* address=(\S+)")
"""Each version has other quotes and other words in between."""


class Program:
    """A server that says in its log where it listens. It may be killed and started again, and keeps its port."""

    def __init__(self, command: Callable[[str], Sequence[str]], log: Path) -> None:
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ANY_PORT

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.address}"

    def start(self) -> None:
        """Start, and wait until it is ready. Raises OperationError with the last that it said where it does not."""
        with self._log.open("wb") as told:
            command = list(self._command(self.address))
            self._process = leashed(command, told)
        until = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < until:
            if self._ready():
                return
            time.sleep(POLL_SECONDS)
        self.kill()
        last = (self._log.read_text(errors="replace").splitlines() or ["nothing"])[-1]
        raise OperationError(f"{command[0]} did not start; the last that it said was: {last}")

    def _ready(self) -> bool:
        """Whether it has said where it listens, and answers there that it is ready."""
        found = _LISTENS.search(self._log.read_text(errors="replace"))
        if found is None:
            return False
        self.address = found[1]
        try:
            answer = urllib3.request("GET", f"{self.url}/-/ready", retries=False, timeout=ANSWER_SECONDS)
        except urllib3.exceptions.HTTPError:  # it does not yet, or not any more
            return False
        return answer.status == HTTPStatus.OK

    def kill(self) -> None:
        """End it at once, if it runs."""
        self._end(subprocess.Popen.kill)

    def stop(self) -> None:
        """Let it end by itself, if it runs."""
        self._end(subprocess.Popen.terminate)

    def _end(self, tell: Callable[[subprocess.Popen[bytes]], None]) -> None:
        if self._process is not None:
            with self._process, suppress(subprocess.TimeoutExpired):  # whose end kills what is left
                tell(self._process)
                self._process.wait(END_SECONDS)
            self._process = None
