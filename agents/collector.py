"""`POST /events`: what is in a request becomes single deliveries; the answer comes after the durable append."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec
import orjson
from aiohttp import web

from agents.receipts import Busy, Intake, Receipt
from agents.token import is_shown
from flowmetrics.errors import OperationError
from flowmetrics.limits import REQUEST_BYTES_MAX

_LINES: Final = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
_JSON: Final = frozenset(
    {
        "application/json",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/octet-stream",
    }
)
"""What holds one event or an array; a request without a Content-Type reads as application/octet-stream."""
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
RETRY_SECONDS: Final = 1


class Collector:
    """The handler; `token` is the bearer token that senders must show, or None for an open door."""

    def __init__(self, intake: Intake, token: str | None) -> None:
        self._intake = intake
        self._token = token

    async def post(self, request: web.Request) -> web.Response:
        """202 when something was accepted, 400 when nothing was; 401, 413, 415 and 503 as HTTP means them."""
        if self._token is not None and not is_shown(request.headers.get("Authorization", ""), self._token):
            return _problem(401, "send the configured token as Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})
        if request.content_type not in _JSON | _LINES:
            known = ", ".join(sorted(_JSON | _LINES))
            return _problem(415, f'Content-Type "{request.content_type}" is not known; send one of {known}')
        body = await _body(request)
        if isinstance(body, web.Response):
            return body
        bodies = _deliveries(body, request.content_type)
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
            body = _unpacked(body)
        except (zlib.error, EOFError) as error:
            return _problem(400, f"the body is not whole gzip: {error}")
    elif encoding != "identity":
        return _problem(415, f'Content-Encoding "{encoding}" is not known; send gzip or none')
    return _problem(413, too_large) if len(body) > REQUEST_BYTES_MAX else body


def _unpacked(body: bytes) -> bytes:
    """The content of all gzip members, or a little more than the limit of it."""
    parts, size = [], 0
    if not body:
        raise EOFError("it is empty")
    while body and size <= REQUEST_BYTES_MAX:
        member = zlib.decompressobj(wbits=31)
        parts.append(member.decompress(body, REQUEST_BYTES_MAX + 1 - size))
        size += len(parts[-1])
        if not member.eof and size <= REQUEST_BYTES_MAX:
            raise EOFError("it ends too early; send it again")
        body = member.unused_data
    return b"".join(parts)


def _deliveries(body: bytes, content_type: str) -> Sequence[bytes]:
    """The single events in a body, each as its own bytes; a body that is none is one delivery, to be refused."""
    if content_type in _LINES:
        return [line for line in body.split(b"\n") if line.strip()]
    if body.lstrip(b" \t\r\n").startswith(b"["):
        try:
            return [bytes(raw) for raw in _ARRAY.decode(body)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [body]
    return [body.strip()]


def _answer(receipt: Receipt) -> web.Response:
    rejected = [{"index": i, "reason": r.reason.value, "detail": r.detail} for i, r in receipt.rejected]
    body = orjson.dumps({"accepted": receipt.accepted, "rejected": rejected})
    status = 400 if rejected and not receipt.accepted else 202
    return web.Response(status=status, body=body, content_type="application/json")


def _problem(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    body = orjson.dumps({"accepted": 0, "rejected": [], "error": text})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
