"""A real Prometheus for tests: it scrapes engines, evaluates rules, answers queries, and may begin with a history."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3
from engine import free_port, until


class Prometheus:
    """A Prometheus that runs."""

    def __init__(self, url: str, pool: urllib3.PoolManager) -> None:
        self.url, self._pool = url, pool

    def ask(self, path: str, **parameters: Any) -> Any:
        """What the HTTP API answers; fails where it says that the question is wrong."""
        answer = self._pool.request("GET", f"{self.url}/api/v1/{path}?{urlencode(parameters, doseq=True)}")
        told = json.loads(answer.data)
        assert told["status"] == "success", (parameters, told)
        return told["data"]

    def query(self, expression: str) -> dict[str, float]:
        """The value of each series of an instant query, by its labels as JSON."""
        found = self.ask("query", query=expression)["result"]
        return {json.dumps(one["metric"], sort_keys=True): float(one["value"][1]) for one in found}

    def one(self, expression: str) -> float | None:
        """The value of the only series of a query, None where there is none."""
        values = list(self.query(expression).values())
        assert len(values) < 2, values
        return values[0] if values else None

    def targets(self) -> list[dict[str, Any]]:
        """What it says of its targets."""
        found: list[dict[str, Any]] = self.ask("targets")["activeTargets"]
        return found


def tool(name: str) -> str:
    """Where a program is."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"left out: {name} is not installed on this machine")
    return found


@contextmanager
def prometheus(
    directory: Path,
    *targets: str,
    rules: Iterable[Path] = (),
    interval: str = "1s",
    labels: Mapping[str, str] | None = None,
) -> Iterator[Prometheus]:
    """A Prometheus with its data in a directory, which scrapes each HOST:PORT and evaluates files of rules.

    The directory may hold the data of an earlier one. Each target gets `labels`.
    """
    program = tool("prometheus")
    directory.mkdir(exist_ok=True)
    static = json.dumps([{"targets": targets, "labels": labels or {}}])
    (directory / "prometheus.yml").write_text(
        f"global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}\n"
        f"rule_files: {json.dumps([str(path) for path in rules])}\n"
        f"scrape_configs: [{{job_name: flowmetrics, static_configs: {static}}}]\n"
    )
    url = f"http://127.0.0.1:{free_port()}"
    log = directory / "log.txt"
    with log.open("wb") as told:
        process = subprocess.Popen(
            [program, f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}",
             f"--web.listen-address={url.removeprefix('http://')}", "--storage.tsdb.retention.time=400d"],
            stdin=subprocess.DEVNULL, stdout=told, stderr=told, cwd=directory,
        )  # fmt: skip
    pool = urllib3.PoolManager(retries=False, timeout=30)
    try:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            with suppress(urllib3.exceptions.HTTPError):
                return bool(pool.request("GET", f"{url}/-/ready").status == 200)
            return False

        until(ready, "Prometheus is ready", 30)
        yield Prometheus(url, pool)
    finally:
        pool.clear()
        process.kill()
        process.wait()
