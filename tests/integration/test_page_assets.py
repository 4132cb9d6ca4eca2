"""The live page in a real browser, against a small engine that says what the test tells it to say."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Locator, Page, expect

import agents.page
from flowmetrics.kpi import Unit
from flowmetrics.words import humanise

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOLDER = Path(agents.page.__file__).parent
POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"
HOSTILE = "<img src=x onerror=\"document.body.dataset.owned='yes'\">"
DAY = 86_400.0


def kpi(name: str, metric: str, unit: str, labels: list[str], group: str, better: str = "lower") -> dict[str, Any]:
    """An entry of the catalogue."""
    question = f"What about {name.replace('_', ' ')}?"
    known = {"name": name, "metric": metric, "question": question, "unit": unit, "better": better}
    return known | {"labels": labels, "group": group}


CATALOGUE = {
    "version": "0.1.0",
    "kpis": [
        kpi("flow_time", "flowmetrics_flow_time_seconds", "seconds", ["item_type", "window", "percentile"], "Flow"),
        kpi("flow_velocity", "flowmetrics_flow_velocity_items", "items", ["item_type", "window"], "Flow", "higher"),
        kpi("flow_efficiency", "flowmetrics_flow_efficiency_ratio", "ratio", ["item_type", "window"], "Flow", "higher"),
        kpi("requests_open", "flowmetrics_requests_open", "requests", ["channel"], "Requests"),
        kpi("adoption", "flowmetrics_adoption_ratio", "ratio", ["feature", "window"], "Adoption", "higher"),
        kpi("nps", "flowmetrics_nps_score", "score", ["touchpoint", "segment", "window"], "Surveys", "higher"),
    ],
}


def series(name: str, value: float | None, *, stream: str = "checkout", **more: Any) -> dict[str, Any]:
    """One value as a reading carries it; labels are the keywords that are no description."""
    described = {key: more.pop(key, None) for key in ("lower", "upper", "samples", "sufficient")}
    return {"kpi": name, "labels": {"value_stream": stream, **more}, "value": value, **described}


def flow_time(value: float | None, percentile: str = "p50", window: str = "7d", **more: Any) -> dict[str, Any]:
    """A value of the flow time of all items."""
    return series("flow_time", value, item_type="all", window=window, percentile=percentile, **more)


class Engine:
    """What the page talks to: its files, a catalogue, a history and a stream of readings."""

    def __init__(self) -> None:
        self.catalogue: dict[str, Any] = CATALOGUE
        self.history: list[dict[str, Any]] = []
        self.worker = "one"
        self.listening_to = "one"
        self.asked: list[str] = []
        self.up = True
        self.url = ""
        self._streams: set[web.StreamResponse] = set()
        self._ready = (True, "")
        self.stands_since: float | None = None
        """Of when the last reading is; None for one that is of now."""

    def knows(self, *values: dict[str, Any]) -> None:
        """The history is these values, each a minute old."""
        self.knows_points(*((value, [[time.time() - 60, value["value"]]]) for value in values))

    def knows_points(self, *lines: tuple[dict[str, Any], list[list[float | None]]]) -> None:
        """The history is these lines."""
        self.history = [{k: v for k, v in one.items() if k != "value"} | {"points": points} for one, points in lines]

    def now_ready(self, ready: bool, reason: str = "") -> None:
        """What the next readings say of the engine."""
        self._ready = (ready, reason)

    async def read(self, *values: dict[str, Any]) -> None:
        """Sends a reading to every page that listens."""
        while not self._streams:
            await asyncio.sleep(0.01)
        for stream in list(self._streams):
            with suppress(ConnectionError):  # a tab that was reloaded a moment ago
                await stream.write(self._reading(*values))

    def go_down(self) -> None:
        """Ends every stream and answers 503 until `up` is set again."""
        self.up = False
        self._streams.clear()

    def _reading(self, *values: dict[str, Any]) -> bytes:
        ready, reason = self._ready
        now = time.time()
        told = {
            "worker": self.listening_to,
            "at": self.stands_since or now,
            "now": now,
            "ready": ready,
            "reason": reason,
            "values": values,
        }
        return f"event: reading\ndata: {json.dumps(told)}\n\n".encode()

    def app(self) -> web.Application:
        """The routes, each page under the policy that the real server sets."""
        app = web.Application()
        app.on_response_prepare.append(self._guard)
        app.router.add_get("/", self._index)
        app.router.add_get("/api/catalogue", self._catalogue)
        app.router.add_get("/api/history", self._history)
        app.router.add_get("/api/live", self._live)
        app.router.add_static("/", FOLDER)
        return app

    async def _guard(self, request: web.Request, response: web.StreamResponse) -> None:
        self.asked.append(request.path)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Cache-Control"] = "no-cache"

    async def _index(self, _: web.Request) -> web.FileResponse:
        return web.FileResponse(FOLDER / "index.html")

    async def _catalogue(self, _: web.Request) -> web.Response:
        return web.json_response(self.catalogue | {"worker": self.worker}, status=200 if self.up else 503)

    async def _history(self, _: web.Request) -> web.Response:
        return web.json_response({"worker": self.worker, "series": self.history}, status=200 if self.up else 503)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        if not self.up:
            return web.Response(status=503)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await stream.prepare(request)
        self._streams.add(stream)
        try:
            await stream.write(self._reading())
            while stream in self._streams:
                await asyncio.sleep(0.02)
        finally:
            self._streams.discard(stream)
        return stream


@pytest_asyncio.fixture(loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    """An engine on a free port."""
    fake = Engine()
    runner = web.AppRunner(fake.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield fake
    fake.go_down()
    await runner.cleanup()


class Complaints(list[str]):
    """What the browser complained about while a page was open."""

    def watch(self, page: Page) -> None:
        """Notes errors, warnings and broken policies of the page."""
        page.on("console", lambda m: self.append(m.text) if m.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.append(str(error)))


@pytest.fixture
def complaints() -> Complaints:
    """The complaints of the page of this test."""
    return Complaints()


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, complaints: Complaints) -> AsyncIterator[Page]:
    """A fresh tab, its complaints noted."""
    context = await browser.new_context(viewport={"width": 1200, "height": 900}, locale="en-GB")
    tab = await context.new_page()
    tab.set_default_timeout(10_000)
    complaints.watch(tab)
    yield tab
    await context.close()


async def opened(page: Page, engine: Engine, query: str = "") -> Page:
    """The page once it is live."""
    await page.goto(engine.url + query)
    await expect(page.locator("body")).to_have_attribute("data-state", "live")
    return page


def card(page: Page, name: str) -> Locator:
    """The card of a KPI."""
    return page.locator(f'[data-kpi="{name}"]')


def primary(page: Page, name: str) -> Locator:
    """The large value of a KPI."""
    return card(page, name).locator("[data-value]")


async def test_a_value_is_shown_with_its_question_its_metric_and_a_unit_that_people_use(
    engine: Engine, page: Page
) -> None:
    engine.knows(flow_time(3.2 * DAY), flow_time(6 * DAY, "p85"), flow_time(9 * DAY, "p95"))
    await opened(page, engine)
    await expect(card(page, "flow_time").locator("h3")).to_have_text("What about flow time?")
    await expect(card(page, "flow_time").locator("code")).to_have_text("flowmetrics_flow_time_seconds")
    await expect(primary(page, "flow_time")).to_have_attribute("data-value", str(int(3.2 * DAY)))
    await expect(primary(page, "flow_time")).to_have_text("3.2\u00a0d")
    await expect(card(page, "flow_time").locator(".figure .name")).to_have_text(["p50", "p85", "p95"])
    await expect(card(page, "flow_time").locator("canvas")).to_be_visible()


async def test_a_reading_changes_the_value_that_is_shown(engine: Engine, page: Page) -> None:
    engine.knows(series("requests_open", 12, channel="all"))
    await opened(page, engine)
    await expect(primary(page, "requests_open")).to_have_text("12")
    await engine.read(series("requests_open", 13, channel="all"))
    await expect(primary(page, "requests_open")).to_have_text("13")
    await expect(primary(page, "requests_open")).to_have_attribute("data-value", "13")


async def test_a_series_that_appears_later_gets_its_card_without_a_reload(engine: Engine, page: Page) -> None:
    await opened(page, engine)
    await expect(card(page, "requests_open")).to_have_count(0)
    await engine.read(series("requests_open", 0, channel="all"))
    await expect(primary(page, "requests_open")).to_have_text("0")
    await expect(page.locator('[data-absent="requests_open"]')).to_have_count(0)


async def test_what_has_no_data_is_named_as_such_and_never_shown_as_zero(engine: Engine, page: Page) -> None:
    engine.knows(series("requests_open", 12, channel="all"))
    await opened(page, engine)
    await expect(card(page, "flow_time")).to_have_count(0)
    line = page.locator('section:has([data-absent="flow_time"]) .none')
    await expect(line).to_have_text(re.compile("^no data yet: flow time, flow velocity, flow efficiency$"))
    assert await page.locator('[data-value="0"]').count() == 0


async def test_a_fresh_engine_says_how_data_gets_in(engine: Engine, page: Page) -> None:
    await opened(page, engine)
    await expect(page.locator("#notice")).to_contain_text("POST /events")
    await expect(page.locator("[data-absent]")).to_have_count(len(CATALOGUE["kpis"]))


async def test_a_value_that_vanishes_leaves_no_number_behind(engine: Engine, page: Page) -> None:
    labels = {"item_type": "all", "window": "7d"}
    engine.knows(series("flow_efficiency", 0.42, **labels))
    await opened(page, engine)
    await expect(primary(page, "flow_efficiency")).to_have_text("42\u00a0%")
    await engine.read(series("flow_efficiency", None, **labels))
    await expect(card(page, "flow_efficiency").locator(".figure")).to_contain_text("no data now")
    await expect(primary(page, "flow_efficiency")).to_have_count(0)


async def test_a_score_comes_with_its_bounds_its_answers_and_a_warning_when_they_are_few(
    engine: Engine, page: Page
) -> None:
    labels = {"touchpoint": "all", "segment": "all", "window": "7d"}
    engine.knows(series("nps", -31.0, lower=-60.0, upper=4.0, samples=12, sufficient=False, **labels))
    await opened(page, engine)
    await expect(primary(page, "nps")).to_have_text("−31")
    note = card(page, "nps").locator(".note")
    await expect(note).to_contain_text("too few samples")
    await expect(note).to_contain_text("95\u00a0%: −60 to +4")
    await expect(note).to_contain_text("12 answers")
    await engine.read(series("nps", -30.0, lower=-40.0, upper=-20.0, samples=120, sufficient=True, **labels))
    await expect(note).not_to_contain_text("too few samples")


async def test_the_total_comes_first_and_no_more_than_eight_lines_are_drawn(engine: Engine, page: Page) -> None:
    names = ["all", *(f"type-{n}" for n in range(1, 13))]
    engine.knows(*(series("flow_velocity", n + 1, item_type=name, window="7d") for n, name in enumerate(names)))
    await opened(page, engine)
    await expect(primary(page, "flow_velocity")).to_have_attribute("data-value", "1")
    drawn = card(page, "flow_velocity").locator(".legend > ul > li")
    await expect(drawn.locator(".name")).to_have_text(names[:8])
    await expect(card(page, "flow_velocity").locator("summary")).to_have_text("5 more, not drawn")


async def test_what_moved_leads_to_its_runbook(engine: Engine, page: Page) -> None:
    runbook = "https://runbooks.example/FlowTimeDrift.md"
    told = {"next_step": "Look.", "alert": "FlowTimeDrift", "runbook": runbook}
    engine.catalogue = CATALOGUE | {"kpis": [one | told for one in CATALOGUE["kpis"]]}
    engine.knows(flow_time(1 * DAY) | {"state": "drifting"})
    await opened(page, engine)
    await expect(card(page, "flow_time").locator(".advice")).to_have_text("Look. Runbook of FlowTimeDrift")
    await expect(card(page, "flow_time").locator(".advice a")).to_have_attribute("href", runbook)


async def test_value_stream_and_window_are_chosen_and_kept_in_the_address(engine: Engine, page: Page) -> None:
    engine.knows(flow_time(1 * DAY), flow_time(2 * DAY, window="1d"), flow_time(5 * DAY, stream="billing"))
    await opened(page, engine)
    await expect(page.get_by_label("value stream")).to_have_value("billing")
    await expect(primary(page, "flow_time")).to_have_text("5\u00a0d")
    await page.get_by_label("value stream").select_option("checkout")
    await expect(primary(page, "flow_time")).to_have_text("1\u00a0d")
    await page.get_by_label("window").select_option("1d")
    await expect(primary(page, "flow_time")).to_have_text("2\u00a0d")
    await page.reload()
    await expect(primary(page, "flow_time")).to_have_text("2\u00a0d")


async def test_a_kpi_without_data_in_the_chosen_window_says_which_window_has_some(engine: Engine, page: Page) -> None:
    engine.knows(flow_time(1 * DAY, window="30d"), series("flow_velocity", 3, item_type="all", window="7d"))
    await opened(page, engine)
    await expect(page.locator('[data-absent="flow_time"]')).to_have_text("flow time (only for 30d)")


async def test_another_item_type_is_one_choice_away(engine: Engine, page: Page) -> None:
    defect = series("flow_time", 2 * DAY, item_type="defect", window="7d", percentile="p50")
    engine.knows(flow_time(1 * DAY), defect)
    await opened(page, engine)
    await expect(primary(page, "flow_time")).to_have_text("1\u00a0d")
    await card(page, "flow_time").get_by_label("item type").select_option("defect")
    await expect(primary(page, "flow_time")).to_have_text("2\u00a0d")


async def test_a_hostile_label_is_shown_as_text(engine: Engine, page: Page, complaints: Complaints) -> None:
    engine.knows(
        series("adoption", 0.5, stream=HOSTILE, feature=HOSTILE, window=HOSTILE),
        series("adoption", 0.6, stream=HOSTILE, feature="search", window=HOSTILE),
        series("flow_time", 5.0, stream=HOSTILE, item_type=HOSTILE, window=HOSTILE, percentile=HOSTILE),
        series("flow_time", 5.0, stream=HOSTILE, item_type="defect", window=HOSTILE, percentile=HOSTILE),
        series("nps", 5.0, stream=HOSTILE, touchpoint="all", segment=HOSTILE, window=HOSTILE),
    )
    engine.now_ready(True)
    await page.goto(engine.url)
    await expect(card(page, "adoption").locator(".figure.primary .name")).to_have_text(HOSTILE)
    await card(page, "adoption").locator(".chart").hover()
    await expect(card(page, "adoption").locator(".tip")).to_contain_text(HOSTILE)
    engine.now_ready(False, HOSTILE)
    await engine.read()
    await expect(page.locator("#state")).to_have_text(f"catching up: {HOSTILE}")
    assert await page.locator("img").count() == 0
    assert await page.locator("body").get_attribute("data-owned") is None
    assert complaints == []


async def test_no_request_leaves_the_origin_of_the_page(engine: Engine, page: Page, complaints: Complaints) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    engine.knows(flow_time(1 * DAY))
    await opened(page, engine)
    await engine.read(flow_time(2 * DAY))
    await expect(primary(page, "flow_time")).to_have_text("2\u00a0d")
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith((engine.url, "data:"))] == []
    assert complaints == [], "a broken Content-Security-Policy would be said here"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
async def test_light_and_dark_wide_and_narrow_show_everything_without_a_complaint(
    engine: Engine, page: Page, complaints: Complaints, scheme: Any, width: int
) -> None:
    long_name = "a-name-that-somebody-typed-without-thinking-of-anybody-who-has-to-read-it"
    engine.knows(
        flow_time(1 * DAY), *(series("adoption", 0.1, feature=name, window="7d") for name in ("one", long_name))
    )
    await page.emulate_media(color_scheme=scheme)
    await page.set_viewport_size({"width": width, "height": 800})
    await opened(page, engine)
    await expect(card(page, "adoption").locator("canvas")).to_be_visible()
    assert len(await page.screenshot(full_page=True)) > 10_000
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", background)[:3])) > 380
    assert light == (scheme == "light")
    assert complaints == []


async def test_an_engine_that_is_not_ready_is_said_to_catch_up_and_why(engine: Engine, page: Page) -> None:
    engine.now_ready(False, "reading the log")
    await page.goto(engine.url)
    await expect(page.locator("#state")).to_have_text("catching up: reading the log")
    await expect(page.locator("body")).to_have_attribute("data-state", "catching-up")
    engine.now_ready(True)
    await engine.read()
    await expect(page.locator("#state")).to_have_text("live")


async def test_an_engine_that_is_ready_and_shows_nothing_says_why(engine: Engine, page: Page) -> None:
    engine.now_ready(True, "a partition cannot be read to its end")
    await page.goto(engine.url)
    await expect(page.locator("#state")).to_have_text("held back: a partition cannot be read to its end")
    await expect(page.locator("#notice")).to_contain_text("Events are accepted and not lost.")
    engine.now_ready(True)
    await engine.read()
    await expect(page.locator("#state")).to_have_text("live")


async def test_after_a_lost_connection_the_history_is_fetched_anew(engine: Engine, page: Page) -> None:
    engine.knows(series("requests_open", 12, channel="all"))
    await opened(page, engine)
    engine.go_down()
    await expect(page.locator("#state")).to_have_text("disconnected, retrying")
    await expect(page.locator("body")).to_have_attribute("data-state", "disconnected")
    await expect(page.locator("#notice")).to_contain_text("not current")
    await expect(primary(page, "requests_open")).to_have_text("12")
    engine.knows(series("requests_open", 99, channel="all"))
    engine.up = True
    await expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=20_000)
    await expect(primary(page, "requests_open")).to_have_text("99")
    await expect(page.locator("#notice")).to_be_hidden()


async def test_a_page_never_mixes_what_two_workers_behind_one_address_tell(engine: Engine, page: Page) -> None:
    engine.worker, engine.listening_to = "two", "one"  # the history of one worker, the readings of another one
    engine.knows(series("requests_open", 12, channel="all"))
    await page.goto(engine.url)
    await expect(page.locator("#notice")).to_contain_text("another worker answered")
    await expect(page.locator("body")).to_have_attribute("data-state", "disconnected")
    assert await page.locator("[data-value]").count() == 0
    engine.listening_to = "two"
    await expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=20_000)
    await expect(primary(page, "requests_open")).to_have_text("12")
    engine.listening_to = "one"
    await engine.read(series("requests_open", 99, channel="all"))
    await expect(page.locator("body")).to_have_attribute("data-state", "disconnected")
    await expect(primary(page, "requests_open")).to_have_text("12")


async def test_a_worker_that_starts_again_needs_no_other_page(engine: Engine, page: Page) -> None:
    await opened(page, engine)
    engine.go_down()
    await expect(page.locator("body")).to_have_attribute("data-state", "disconnected")
    engine.worker = engine.listening_to = "another process"
    engine.up = True
    await expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=20_000)
    assert engine.asked.count("/page.js") == 1


async def test_where_workers_share_the_value_streams_the_page_says_that_it_shows_a_part(
    engine: Engine, page: Page
) -> None:
    engine.knows(flow_time(1 * DAY), flow_time(2 * DAY, stream="billing"))
    await opened(page, engine)
    await expect(page.locator(".part")).to_have_count(0)
    engine.catalogue = CATALOGUE | {"details": "elsewhere"}
    await opened(page, engine)
    await expect(page.locator(".part")).to_have_text("This worker shows 2 value streams; other workers show others.")
    await expect(page.locator(".part")).to_be_visible()


async def test_silence_of_more_than_fifteen_seconds_is_called_stale(engine: Engine, page: Page) -> None:
    await page.clock.install()
    engine.knows(series("requests_open", 12, channel="all"))
    await opened(page, engine)
    await page.clock.run_for(5_000)
    await expect(page.locator("body")).to_have_attribute("data-state", "live")
    await page.clock.run_for(12_000)
    await expect(page.locator("body")).to_have_attribute("data-state", "stale")
    await engine.read()
    await expect(page.locator("body")).to_have_attribute("data-state", "live")


async def test_an_engine_that_stands_still_is_called_stale_though_its_server_answers(
    engine: Engine, page: Page
) -> None:
    engine.knows(series("requests_open", 12, channel="all"))
    await opened(page, engine)
    engine.stands_since = time.time() - 60
    await engine.read()
    await expect(page.locator("#state")).to_have_text("stale: no reading for more than 15 s")
    await expect(page.locator("#heard")).to_contain_text(re.compile("6. s ago"))
    engine.stands_since = None
    await engine.read()
    await expect(page.locator("body")).to_have_attribute("data-state", "live")


async def test_another_catalogue_after_a_reconnection_loads_the_page_anew(engine: Engine, page: Page) -> None:
    await opened(page, engine)
    engine.catalogue = CATALOGUE | {"version": "0.2.0"}
    engine.go_down()
    engine.up = True
    await expect(page.locator("#version")).to_have_text("0.2.0", timeout=20_000)
    assert engine.asked.count("/page.js") == 2


async def test_the_chart_is_read_out_with_the_keyboard(engine: Engine, page: Page) -> None:
    begun = time.time() - 600
    engine.knows_points((flow_time(None), [[begun, 1 * DAY], [begun + 300, 4 * DAY]]))
    await opened(page, engine)
    await expect(card(page, "flow_time").locator("canvas")).to_be_visible()
    await card(page, "flow_time").locator(".chart").focus()
    await page.keyboard.press("Home")
    await expect(page.locator("#spoken")).to_contain_text("1\u00a0d")
    await page.keyboard.press("End")
    await expect(page.locator("#spoken")).to_contain_text("4\u00a0d")
    await page.keyboard.press("Escape")
    await expect(card(page, "flow_time").locator(".tip")).to_be_hidden()


COLUMNS_WITH_INK = """chart => {
  const canvas = chart.querySelector("canvas"), over = chart.querySelector(".u-over").getBoundingClientRect();
  const scale = canvas.width / canvas.getBoundingClientRect().width, left = canvas.getBoundingClientRect().left;
  const {data, width, height} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const inked = x => { for (let y = 0; y < height; y++) {
    const k = (y * width + x) * 4;
    if (data[k + 3] > 128 && data[k] < 60 && data[k + 1] > 80 && data[k + 1] < 150 && data[k + 2] > 140) return true;
  } return false; };
  return [...Array(12).keys()].map(n => inked(Math.round((over.left - left + over.width * (n + 0.5) / 12) * scale)));
}"""


async def test_no_line_is_drawn_across_a_time_without_data(engine: Engine, page: Page) -> None:
    begun = time.time() - 1200  # ██████──────██████ : a value, nothing from a third to two thirds, a value
    engine.knows_points((flow_time(None), [[begun, 1 * DAY], [begun + 400, None], [begun + 800, 1 * DAY]]))
    await page.emulate_media(color_scheme="light")
    await opened(page, engine)
    await expect(card(page, "flow_time").locator("canvas")).to_be_visible()
    inked = await card(page, "flow_time").locator(".chart").evaluate(COLUMNS_WITH_INK)
    assert inked == [True] * 4 + [False] * 4 + [True] * 4


INK_AT = """(chart, heights) => {
  const canvas = chart.querySelector("canvas"), over = chart.querySelector(".u-over").getBoundingClientRect();
  const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
  const {data, width} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const left = Math.round((over.left - box.left) * scale), right = Math.round((over.right - box.left) * scale);
  const style = getComputedStyle(document.body);
  const names = {line: "--line-1", other: "--line-2", limit: "--bad", grid: "--grid"};
  const probe = document.body.appendChild(document.createElement("i"));
  const colours = Object.entries(names).map(([name, variable]) => {
    probe.style.color = style.getPropertyValue(variable);
    return [name, getComputedStyle(probe).color.match(/\\d+/g).slice(0, 3).map(Number)];
  });
  probe.remove();
  const near = (a, b) => a.every((part, i) => Math.abs(part - b[i]) < 8);
  return heights.map(height => {
    const found = new Set(), middle = Math.round((over.top - box.top + over.height * (1 - height)) * scale);
    for (let y = middle - 1; y <= middle + 1; y++) for (let x = left + 20; x < right - 20; x++) {
      const k = (y * width + x) * 4, alpha = data[k + 3], ink = [data[k], data[k + 1], data[k + 2]];
      const [name] = alpha ? colours.find(([, colour]) => near(ink, colour)) ?? [] : [];
      if (name && name !== "grid") found.add(`${name} ${alpha > 150 ? "line" : "band"}`);
    }
    return [...found].sort();
  });
}"""


async def test_what_is_usual_is_a_line_with_a_band_up_to_the_limit(engine: Engine, page: Page) -> None:
    usual = {"usual": 1.9 * DAY, "weeks": 4, "band_high": 2.9 * DAY}  # between the lines of the grid
    engine.knows(flow_time(1 * DAY) | usual)
    await page.emulate_media(color_scheme="light")
    await opened(page, engine)
    await expect(card(page, "flow_time").locator("canvas")).to_be_visible()
    top = 2.9 * 1.08  # the limit is in the picture, though no value came near it
    heights = [days / top for days in (1.6, 1.9, 2.4, 2.9, 3.05)]
    under, at, within, limit, above = await card(page, "flow_time").locator(".chart").evaluate(INK_AT, heights)
    assert (under, within, above) == ([], ["line band"], [])
    assert "line line" in at
    assert "limit line" in limit


async def test_each_of_a_few_lines_has_its_usual_and_of_many_the_first(engine: Engine, page: Page) -> None:
    def usual(days: float) -> dict[str, float]:
        return {"usual": days * DAY, "weeks": 4, "band_high": (days + 1) * DAY}

    engine.knows(flow_time(0.1 * DAY) | usual(1), flow_time(0.2 * DAY, "p85") | usual(3))
    await page.emulate_media(color_scheme="light")
    await opened(page, engine)
    await expect(card(page, "flow_time").locator("canvas")).to_be_visible()
    chart, heights = card(page, "flow_time").locator(".chart"), [days / (4 * 1.08) for days in (1.6, 3.4)]
    assert await chart.evaluate(INK_AT, heights) == [["line band"], ["other band"]]
    engine.knows(*(flow_time(0.1 * n * DAY, f"p{n}") | usual(n) for n in (1, 2, 3, 4)))
    await page.reload()
    await expect(card(page, "flow_time").locator("canvas")).to_be_visible()
    assert await chart.evaluate(INK_AT, [days / (2 * 1.08) for days in (1.6,)]) == [["line band"]]


WORDS = {
    "seconds": {0: "0 s", 0.25: "250 ms", 3.21: "3.2 s", 42: "42 s", 250: "4 m 10 s", 3599.7: "1 h", 15_000: "4 h 10 m",
                86_399: "1 d", 276_480: "3.2 d", 1e7: "116 d"},
    "ratio": {0: "0 %", 0.0001: "<0.1 %", 0.425: "42.5 %", 0.99999: ">99.9 %", 1: "100 %"},
    "score": {0: "0", 31.44: "+31.4", -8: "−8", 0.01: "0"},
    "items": {0: "0", 7: "7", 1204: "1,204", 2_345_678: "2.346M"},
}  # fmt: skip


@pytest.mark.parametrize("unit", WORDS)
async def test_numbers_are_written_the_way_people_say_them(engine: Engine, page: Page, unit: str) -> None:
    await page.goto(engine.url)
    script = "async ([unit, all]) => { const u = await import('/units.js'); return all.map(n => u.humanise(n, unit)); }"
    said = await page.evaluate(script, [unit, list(WORDS[unit])])
    assert [humanise(number, Unit(unit)) for number in WORDS[unit]] == list(WORDS[unit].values())
    assert [text.replace("\u00a0", " ") for text in said] == list(WORDS[unit].values())


async def test_a_point_a_second_for_a_day_stays_bounded_and_keeps_extremes_and_gaps(engine: Engine, page: Page) -> None:
    await page.goto(engine.url)
    script = """async () => {
      const {Series, POINTS_MAX} = await import('/store.js');
      const series = new Series("flow_time", {});
      let most = 0;
      for (let at = 0; at < 86400; at++) {
        series.add(at, at === 20000 ? 1e6 : at >= 40000 && at < 40010 ? null : at % 7, POINTS_MAX);
        most = Math.max(most, series.times.length);
      }
      const rising = series.times.every((at, i) => i === 0 || at > series.times[i - 1]);
      const gaps = series.values.filter(v => v === null).length, peak = Math.max(...series.values);
      const widest = Math.max(...series.times.slice(1).map((at, i) => at - series.times[i]));
      return {most, limit: POINTS_MAX, peak, gaps, widest, rising, ends: [series.times[0], series.times.at(-1)]};
    }"""
    kept = await page.evaluate(script)
    assert kept["most"] <= kept["limit"] + 1
    assert kept["peak"] == 1e6
    assert kept["gaps"] >= 1
    assert kept["ends"] == [0, 86_399]
    assert kept["widest"] < 86_400 / 100, "what is older is coarser, but evenly so"
    assert kept["rising"]


async def test_thinning_never_lets_a_value_hold_where_there_was_none(engine: Engine, page: Page) -> None:
    await page.goto(engine.url)
    script = """async () => {
      const {Series} = await import('/store.js');
      let seed = 7;
      const dice = n => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
      const truth = [], series = new Series("flow_time", {});
      for (let at = 0; at < 5000; at++) {
        truth.push(dice(9) === 0 ? null : dice(5) ? truth.at(-1) ?? 1 : dice(1000));
        series.add(at, truth[at], 200);
      }
      const held = at => series.values[series.indexAt(at)] ?? null;
      return truth.filter((value, at) => value === null && held(at) !== null).length;
    }"""
    assert await page.evaluate(script) == 0


async def test_points_are_lined_up_on_one_time_and_hold_until_the_next(engine: Engine, page: Page) -> None:
    await page.goto(engine.url)
    script = """async () => {
      const {Series, columns} = await import('/store.js');
      const made = points => points.reduce((s, [at, v]) => (s.add(at, v, 2000), s), new Series("k", {}));
      return columns([made([[0, 1], [20, null], [30, 3]]), made([[10, 5]])], 5, 40);
    }"""
    assert await page.evaluate(script) == [[5, 10, 20, 30, 40], [1, 1, None, 3, 3], [None, 5, 5, 5, 5]]


async def test_every_file_that_the_page_names_is_there_and_none_lies_elsewhere() -> None:
    sources = [path for path in FOLDER.iterdir() if path.suffix in {".html", ".js", ".css"}]
    named = {name for path in sources for name in re.findall(r'(?:src|href|from)[= ]"([^"#]+)"', path.read_text())}
    files = {name for name in named if not name.startswith("data:") and name != "metrics"}
    assert {"page.js", "page.css", "./vendor/uPlot.esm.js"} <= files
    assert [name for name in files if not (FOLDER / name).is_file()] == []
    assert "innerHTML" not in "".join(path.read_text() for path in sources)
