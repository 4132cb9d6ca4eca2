"""A Prometheus and an Alertmanager beside an engine, while somebody looks: the demo, and the tests of the whole.

    engine ◀── scraped ── Prometheus ── alerts ──▶ Alertmanager ── notifications ──▶ Receiver

Each listens on a port of this machine that the system chose, keeps what it stores in a folder that somebody else
removes, and ends with the process that started it.
"""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
import yaml

from agents.program import Program
from flowmetrics.errors import OperationError

_ALERTMANAGERS: Final = ("alertmanager", "prometheus-alertmanager")
"""What the program is called, and what Debian calls it."""

Notification: TypeAlias = dict[str, Any]
"""What Alertmanager posts to a webhook: `status`, `receiver`, `alerts` with their labels and annotations …"""


def installed() -> tuple[str, str] | None:
    """The programs Prometheus and Alertmanager; None where one of them is not on the PATH."""
    prometheus = shutil.which("prometheus")
    alertmanager = next(filter(None, map(shutil.which, _ALERTMANAGERS)), None)
    return (prometheus, alertmanager) if prometheus and alertmanager else None


class Receiver:
    """Takes what Alertmanager notifies of by webhook, at the path of the receiver, and hands each to `told`."""

    def __init__(self, told: Callable[[Notification], None]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                told(orjson.loads(body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nobody reads who asked when."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Watch:
    """What watches an engine. `folder` holds `rules.yaml`, `blocks/` and the logs of both programs."""

    folder: Path
    prometheus: Program
    alertmanager: Program

    def aim(self, targets: Sequence[str], **labels: str) -> None:
        """Scrape these addresses from now on, under these labels; Prometheus reads them from a file."""
        new = self.folder / "targets.new"
        new.write_bytes(orjson.dumps([{"targets": targets, "labels": labels}]))
        new.rename(self.folder / "targets.json")


@contextmanager
def watching(folder: Path, routes: dict[str, Any], rules: str, targets: Sequence[str], scrape: str) -> Iterator[Watch]:
    """Both programs over a folder, until left; `blocks/` in it may hold history.

    `routes` is the configuration of Alertmanager, `rules` a file of rules, `scrape` how often, such as `1s`.
    Raises OperationError where one does not start, or is not installed.
    """
    programs = installed()
    if programs is None:
        raise OperationError("Prometheus and Alertmanager are not on the PATH; install them, or do without")
    (folder / "alertmanager.yaml").write_text(yaml.safe_dump(routes))
    (folder / "rules.yaml").write_text(rules)
    alertmanager = Program(
        lambda address: [
            programs[1], f"--config.file={folder / 'alertmanager.yaml'}", f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address={address}", "--cluster.listen-address=",
        ],
        folder / "alertmanager.log",
    )  # fmt: skip
    prometheus = Program(
        lambda address: [
            programs[0], f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'blocks'}",
            "--storage.tsdb.retention.time=400d", f"--web.listen-address={address}",
        ],
        folder / "prometheus.log",
    )  # fmt: skip
    watch = Watch(folder, prometheus, alertmanager)
    watch.aim(targets)
    try:
        alertmanager.start()
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(_configuration(folder, alertmanager.address, scrape)))
        prometheus.start()
        yield watch
    finally:
        prometheus.stop()
        alertmanager.stop()


def _configuration(folder: Path, alertmanager: str, scrape: str) -> dict[str, Any]:
    files = {"files": [str(folder / "targets.json")], "refresh_interval": scrape}
    return {
        "global": {"scrape_interval": scrape, "scrape_timeout": scrape, "evaluation_interval": scrape},
        "rule_files": [str(folder / "rules.yaml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [{"job_name": "flowmetrics", "file_sd_configs": [files]}],
    }
