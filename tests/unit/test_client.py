"""The client against a server that answers as it is told: what is a receipt, and what is raised."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import pytest

from agents.client import Client, DeliveryError

SOME_REFUSED = {"accepted": 1, "rejected": [{"index": 1, "reason": "not_json", "detail": "the bytes are not JSON"}]}
NONE_TAKEN = {**SOME_REFUSED, "accepted": 0}
FULL = {"accepted": 0, "rejected": [], "error": "the disk is full; make room"}


@contextmanager
def collector(*answers: tuple[int, object]) -> Iterator[tuple[Client, list[bytes]]]:
    """A client of a server that gives these answers in turn, and the bodies that the server got."""
    left, got = list(answers), list[bytes]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(gzip.decompress(self.rfile.read(int(self.headers["Content-Length"]))))
            status, told = left.pop(0)
            body = orjson.dumps(told)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        client = Client(f"http://127.0.0.1:{server.server_port}/events", attempts=1)
        try:
            yield client, got
        finally:
            client.close()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("answer", [(202, SOME_REFUSED), (400, NONE_TAKEN)], ids=["some refused", "none taken"])
def test_a_receipt_with_refusals_is_given_by_deliver_and_raised_by_post(answer: tuple[int, object]) -> None:
    with collector(answer, answer) as (client, got):
        assert client.deliver([b"{}", b"x"]) == answer[1]
        with pytest.raises(DeliveryError, match=r"refused 1 events, the first: .*not_json") as raised:
            client.post([b"{}", b"x"])
        assert raised.value.receipt == answer[1]
    assert got == [b"{}\nx"] * 2


@pytest.mark.parametrize("status", [400, 401, 413])
def test_what_is_no_receipt_is_raised_with_its_status_and_the_reason_given(status: int) -> None:
    with collector((status, FULL)) as (client, _):
        with pytest.raises(DeliveryError, match=f"answered {status}: the disk is full; make room") as raised:
            client.deliver([b"{}"])
        assert raised.value.status == status


def test_a_collector_that_stays_busy_is_asked_again_and_its_last_reason_is_raised() -> None:
    with collector((503, {"error": "busy"}), (503, FULL)) as (client, got):
        with pytest.raises(DeliveryError, match="answered 503: the disk is full; make room"):
            client.deliver([b"{}"])
        assert len(got) == 2


def test_a_collector_that_was_busy_is_asked_again_with_the_same_events() -> None:
    with collector((503, FULL), (202, {"accepted": 1, "rejected": []})) as (client, got):
        assert client.deliver([b"{}"])["accepted"] == 1
        assert got == [b"{}", b"{}"]
        assert client.deliver([]) == {"accepted": 0, "rejected": []}
        assert len(got) == 2, "nothing is sent for nothing"
