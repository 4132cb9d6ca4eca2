"""The HTTP side: /metrics, /events, /healthz, /readyz and the live page, in one small server."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import orjson
from aiohttp import web

from agents import filling
from agents.collector import Collector
from agents.details import Details
from agents.live import LiveFeed
from agents.local.engine import directory_of
from agents.past import Past
from agents.published import Published, Served, clock_us
from agents.token import token_of
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError
from flowmetrics.exposition import CONTENT_TYPE
from flowmetrics.instants import HOUR_US
from flowmetrics.limits import REQUEST_BYTES_MAX
from flowmetrics.steps.read import Points

log = logging.getLogger(__name__)

PAGE: Final = Path(__file__).parent / "page"
HEARTBEAT_SECONDS: Final = 4.0
SHUTDOWN_SECONDS: Final = 2.0
FILL_LOOK_SECONDS: Final = 5.0
FILL_AGAIN_SECONDS: Final = (60.0, 3600.0)
"""How long to wait after the past could not be read: at first, and at most."""
_POLICY: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
}


def _is_news(record: logging.LogRecord) -> bool:
    """A client that goes away in the middle of an answer is not worth a traceback."""
    return not (record.exc_info and isinstance(record.exc_info[1], ConnectionError))


class Server:
    """Serves an engine. Raises OperationError where the address is taken."""

    def __init__(self, configuration: Configuration, engine: Served) -> None:
        self._configuration = configuration
        self._engine = engine
        self._packed = (b"", b"")

    async def start(self) -> str:
        """Listen; the address that was bound, which matters for port 0."""
        logging.getLogger("aiohttp.server").addFilter(_is_news)
        loop = asyncio.get_running_loop()
        shown = self._engine.published
        self._helper = ThreadPoolExecutor(1, "page")
        self._past = Past(folder_of(self._configuration))
        self._feed = LiveFeed(self._configuration, loop, lambda: (shown.ready, shown.reason), self._past, self._helper)
        shown.listeners.append(self._publish)
        app = web.Application(client_max_size=REQUEST_BYTES_MAX)
        token = token_of(self._configuration)
        collector = Collector(self._engine.intake, token)
        app.router.add_post("/events", collector.post)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/api/catalogue", self._catalogue)
        app.router.add_get("/api/history", self._history)
        app.router.add_get("/api/now", self._now)
        app.router.add_get("/api/live", self._live)
        app.router.add_get("/api/past", self._hours)
        Details(self._configuration, token, _POLICY).add_to(app.router)
        app.router.add_get("/{file:.*}", self._page)
        self._runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=SHUTDOWN_SECONDS, access_log=None)
        await self._runner.setup()
        site = web.SockSite(self._runner, bound(self._configuration.listen))
        await site.start()
        self._tasks = [asyncio.create_task(self._heartbeat()), asyncio.create_task(self._fill_past())]
        address = self._runner.addresses[0]
        return f"http://{f'[{address[0]}]' if ':' in address[0] else address[0]}:{address[1]}"

    async def stop(self) -> None:
        """Stop listening and let go of every client."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._engine.published.listeners.remove(self._publish)
        self._feed.close()
        await self._runner.cleanup()
        await asyncio.to_thread(self._helper.shutdown)
        self._past.close()

    def _publish(self, at: int, points: Points) -> None:
        """Take a reading, from the engine's thread."""
        if self._engine.published.kpis:
            self._feed.show(self._engine.published.kpis)
        self._feed.publish(at, points)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            self._feed.beat()

    async def _fill_past(self) -> None:
        """Read the past of the KPIs out of the log, where it is there and the past is not known."""
        if not self._configuration.broker.startswith("local://"):
            return  # no worker has the whole log
        folder, settled_at = folder_of(self._configuration), 0
        again, longest = FILL_AGAIN_SECONDS
        while True:
            await asyncio.sleep(FILL_LOOK_SECONDS)
            if self._engine.published.ready:
                with contextlib.suppress(
                    OperationError
                ):  # of the journal; the engine itself says what is wrong with it
                    if await asyncio.to_thread(filling.is_due, folder, self._past, clock_us() // HOUR_US, settled_at):
                        if await filling.run(self._configuration):
                            self._feed.renew()
                        else:
                            log.warning("the past of the page could not be read; it is tried again in %d s", again)
                            await asyncio.sleep(again)
                            again = min(2 * again, longest)
                    settled_at = await asyncio.to_thread(filling.log_end, folder)

    async def _metrics(self, request: web.Request) -> web.Response:
        shown: Published = self._engine.published
        headers = {"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding"}
        if "gzip" not in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=shown.current, headers=headers)
        while self._packed[0] is not (page := shown.current):
            self._packed = (page, await asyncio.to_thread(gzip.compress, page, 1))
        return web.Response(body=self._packed[1], headers={**headers, "Content-Encoding": "gzip"})

    async def _healthz(self, request: web.Request) -> web.Response:
        if self._engine.alive:
            return web.Response(text="alive\n")
        return web.Response(status=503, text=f"{self._engine.failure or self._engine.intake.failure}\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        shown = self._engine.published
        if shown.ready and self._engine.alive:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"{self._engine.failure or self._engine.intake.failure or shown.reason}\n")

    async def _catalogue(self, request: web.Request) -> web.Response:
        return web.Response(body=self._feed.catalogue(), content_type="application/json", headers=_POLICY)

    async def _now(self, request: web.Request) -> web.Response:
        body = await asyncio.to_thread(self._feed.now)
        return web.Response(body=body, content_type="application/json", headers=_POLICY)

    async def _history(self, request: web.Request) -> web.Response:
        body = await asyncio.to_thread(self._feed.history)
        response = web.Response(body=body, content_type="application/json", headers=_POLICY)
        response.enable_compression()
        return response

    async def _hours(self, request: web.Request) -> web.Response:
        kpi, stream = request.query.get("kpi", ""), request.query.get("value_stream", "")
        lines = await asyncio.to_thread(self._past.lines, kpi, stream)
        response = web.Response(body=orjson.dumps({"lines": lines}), content_type="application/json", headers=_POLICY)
        response.enable_compression()
        return response

    async def _live(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={**_POLICY, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        listener = self._feed.listen()
        try:
            while (reading := await listener.get()) is not None:
                await response.write(b"event: reading\ndata: " + reading + b"\n\n")
        except ConnectionError:
            pass  # the browser went away
        finally:
            self._feed.leave(listener)
        return response

    async def _page(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["file"] or "index.html"
        path = (PAGE / name.replace("\0", "")).resolve()
        if PAGE not in path.parents or path.suffix not in _TYPES or not path.is_file():
            return web.Response(
                status=404, text="there is no such page; the live page is at /, metrics are at /metrics\n"
            )
        return web.Response(body=path.read_bytes(), content_type=_TYPES[path.suffix], charset="utf-8", headers=_POLICY)


async def serve(configuration: Configuration, engine: Served, started: asyncio.Future[str] | None = None) -> None:
    """Serve until SIGTERM, SIGINT or the end of the engine. Raises what ended the engine, if it failed."""
    server = Server(configuration, engine)
    address = await server.start()
    engine.serves(address)
    if started is not None:
        started.set_result(address)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    while engine.alive and not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.2)
    await server.stop()
    failure = engine.failure or engine.intake.failure
    if failure is not None:
        raise failure


def folder_of(configuration: Configuration) -> Path:
    """Where an engine of this configuration keeps its files."""
    local = configuration.broker.startswith("local://")
    return directory_of(configuration.broker) if local else Path(configuration.kafka_store)


def bound(listen: str) -> socket.socket:
    """A socket at HOST:PORT. Raises OperationError where somebody else is there."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, int(port)))
    except OSError as error:
        listener.close()
        raise OperationError(
            f"cannot listen on {host}:{port}: {error.strerror}; stop what does, or change http.listen (demo: --listen)"
        ) from None
    return listener
