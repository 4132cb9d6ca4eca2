"""The details behind the page, over HTTP: who is behind a number, why one is read as it is, the work item by item.

They name people and work, which the metrics never do. So they are guarded as the intake is: where `http.token_file`
is configured, they take the same token. Ids under pseudonyms stay pseudonyms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from agents.local.asking import behind, explained, work
from agents.local.engine import directory_of
from agents.local.journal import Snapshot
from agents.published import clock_us
from agents.token import is_shown
from flowmetrics.behind import Question
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError
from flowmetrics.instants import duration_us
from flowmetrics.kpis import selected
from flowmetrics.steps.track import ENTITIES

KINDS: Final = tuple(entity.prefix for entity in ENTITIES)
ASKED_MAX: Final = 8
"""Questions that wait for each other; more are told to come back."""
_ELSEWHERE: Final = (
    "On Kafka histories are spread over all workers, so no page can list them: flowmetrics explain KIND KEY reads one."
)


class Details:
    """The routes of details. One question is answered at a time, so that they take a core at the most."""

    def __init__(self, configuration: Configuration, token: str | None, headers: Mapping[str, str]) -> None:
        self._configuration = configuration
        self._kpis = {kpi.name: kpi for kpi in selected(configuration)}
        self._token = token
        self._headers = headers
        self._turn = asyncio.Lock()
        self._waiting = 0

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/api/items", self._items)
        router.add_get("/api/explain/{kind}/{key:.+}", self._explain)
        router.add_get("/api/work", self._work)

    async def _items(self, request: web.Request) -> web.Response:
        labels = dict(request.query)
        kpi = self._kpis.get(labels.pop("kpi", ""))
        if kpi is None:
            return self._problem(404, f"there is no such KPI; known are {', '.join(self._kpis)}")
        try:
            question = Question(kpi, labels, self._configuration, clock_us())
        except ValueError as error:
            return self._problem(400, str(error))
        return await self._answered(request, lambda: behind(question))

    async def _explain(self, request: web.Request) -> web.Response:
        kind, key = request.match_info["kind"], request.match_info["key"]
        if kind not in KINDS:
            return self._problem(404, f"there is no kind {kind}; known are {', '.join(KINDS)}")

        def answer() -> dict[str, Any]:
            with Snapshot(directory_of(self._configuration.broker)) as journal:
                return {"lines": list(explained(f"{kind}:{key}", self._configuration, journal))}

        return await self._answered(request, answer)

    async def _work(self, request: web.Request) -> web.Response:
        try:
            window_us = duration_us(request.query.get("window", "30d"))
        except ValueError as error:
            return self._problem(400, str(error))
        if not 0 < window_us <= self._configuration.horizon_us:
            return self._problem(400, "a window is longer than nothing, and not longer than the horizon")
        stream, now = request.query.get("value_stream", ""), clock_us()
        return await self._answered(request, lambda: work(stream, self._configuration, now, window_us))

    async def _answered(self, request: web.Request, answer: Callable[[], dict[str, Any]]) -> web.Response:
        if self._token is not None and not is_shown(request.headers.get("Authorization", ""), self._token):
            told = "what names work and people takes the token of http.token_file"
            return self._problem(401, told, {"WWW-Authenticate": "Bearer"})
        if not self._configuration.broker.startswith("local://"):
            return self._problem(501, _ELSEWHERE)
        if self._waiting >= ASKED_MAX:
            return self._problem(503, "too many questions wait; ask again", {"Retry-After": "2"})
        self._waiting += 1
        try:
            async with self._turn:
                return self._json(200, await asyncio.to_thread(answer))
        except OperationError as error:
            return self._problem(404, str(error))
        finally:
            self._waiting -= 1

    def _problem(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
        return self._json(status, {"error": text}, headers)

    def _json(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
        told = {**self._headers, **(headers or {})}
        return web.Response(status=status, body=orjson.dumps(body), content_type="application/json", headers=told)
