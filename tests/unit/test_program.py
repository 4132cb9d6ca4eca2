"""A server of others is begun when it says where it listens and answers there, in whatever words its version has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agents.program import Program
from flowmetrics.errors import OperationError

SERVES = """
import http.server, sys
with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
    print(sys.argv[1].replace("PORT", str(server.server_port)), flush=True)
    server.serve_forever()
"""


@pytest.mark.parametrize(
    "line",
    [
        'ts=2026-11-29T09:00:00.000Z caller=tls_config.go:232 level=info component=web msg="Listening on" '
        "address=127.0.0.1:PORT",
        'time=2026-11-30T11:41:00.000Z level=INFO source=tls_config.go:395 msg="Listening on" component=web '
        "address=127.0.0.1:PORT",
        'ts=2026-11-29T09:00:00.000Z caller=tls_config.go:232 level=info msg="Listening on" address=127.0.0.1:PORT',
    ],
    ids=["Prometheus 2", "Prometheus 3", "Alertmanager"],
)
def test_a_program_is_begun_where_its_log_says_that_it_listens(line: str, tmp_path: Path) -> None:
    (tmp_path / "-").mkdir()
    (tmp_path / "-" / "ready").touch()
    program = Program(
        lambda address: ["sh", "-c", 'cd "$1"; exec "$2" -c "$3" "$4"', "sh", tmp_path, sys.executable, SERVES, line],
        tmp_path / "log",
    )
    try:
        program.start()
        assert f" address={program.address}\n" in (tmp_path / "log").read_text()
    finally:
        program.stop()


def test_a_program_that_ends_after_it_listened_is_told_with_its_last_words(tmp_path: Path) -> None:
    words = 'echo "Listening on" address=127.0.0.1:1; sleep 0.2; echo "block 7 is damaged"; exit 1'
    with pytest.raises(OperationError, match="sh did not start; the last that it said was: block 7 is damaged"):
        Program(lambda address: ["sh", "-c", words], tmp_path / "log").start()
