"""`POST /events`: what is in a request becomes single deliveries; the answer comes after the durable append."""

from __future__ import annotations

import asyncio
import hmac
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec
import orjson
from aiohttp import web

from agents.local.intake import Busy, Intake, Receipt
from flowmetrics.errors import OperationError, Reason, Rejection
from flowmetrics.limits import REQUEST_BYTES_MAX

_LINES: Final = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
RETRY_SECONDS: Final = 1


class Collector:
    """The handler; `token` is the bearer token that senders must show, or None for an open door."""

    def __init__(self, intake: Intake, token: str | None) -> None:
        self._intake = intake
        self._token = token

    async def post(self, request: web.Request) -> web.Response:
        """202 when something was accepted, 400 when nothing was; 401, 413, 415 and 503 as HTTP means them."""
        if self._token is not None:
            shown = request.headers.get("Authorization", "")
            if not hmac.compare_digest(shown.encode(), f"Bearer {self._token}".encode()):
                return _problem(
                    401, "send the configured token as Authorization: Bearer …", {"WWW-Authenticate": "Bearer"}
                )
        body = await _body(request)
        if isinstance(body, web.Response):
            return body
        bodies = _deliveries(body, request.content_type)
        if isinstance(bodies, Rejection):
            return _answer(Receipt(0, [(0, bodies)]))
        try:
            receipt = await asyncio.wrap_future(self._intake.take(bodies))
        except (Busy, OperationError) as error:
            reason = self._intake.failure or (error if isinstance(error, OperationError) else None)
            text = str(reason) if reason else "too much is waiting to be written; send it again"
            return _problem(503, text, {"Retry-After": str(RETRY_SECONDS)})
        return _answer(receipt)


async def _body(request: web.Request) -> bytes | web.Response:
    """The bytes of a request, unpacked, or the response that refuses them."""
    too_large = f"a request holds at most {REQUEST_BYTES_MAX} bytes, unpacked; send it in parts"
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        return _problem(413, too_large)
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding == "gzip":
        try:
            unpack = zlib.decompressobj(wbits=31)
            body = unpack.decompress(body, REQUEST_BYTES_MAX + 1)
        except zlib.error as error:
            return _problem(400, f"the body is not gzip: {error}")
        if not unpack.eof and len(body) <= REQUEST_BYTES_MAX:
            return _problem(400, "the gzip body ends too early; send it again")
    elif encoding != "identity":
        return _problem(415, f'Content-Encoding "{encoding}" is not known; send gzip or none')
    return _problem(413, too_large) if len(body) > REQUEST_BYTES_MAX else body


def _deliveries(body: bytes, content_type: str) -> Sequence[bytes] | Rejection:
    """The single events in a body, each as its own bytes."""
    if content_type in _LINES:
        return [line for line in body.split(b"\n") if line.strip()]
    if not body.lstrip(b" \t\r\n").startswith(b"["):
        return [body.strip()]
    try:
        return [bytes(raw) for raw in _ARRAY.decode(body)]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Rejection(Reason.NOT_JSON, f"the array is not JSON: {error}")


def _answer(receipt: Receipt) -> web.Response:
    rejected = [{"index": i, "reason": r.reason.value, "detail": r.detail} for i, r in receipt.rejected]
    body = orjson.dumps({"accepted": receipt.accepted, "rejected": rejected})
    status = 400 if rejected and not receipt.accepted else 202
    return web.Response(status=status, body=body, content_type="application/json")


def _problem(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    body = orjson.dumps({"accepted": 0, "rejected": [], "error": text})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
