"""The live page of the real engine in a real browser: it shows what was posted, and nothing leaves the origin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeAlias

import pytest
import pytest_asyncio
from engine import EngineProcess, done, event, free_port
from playwright.async_api import Browser, Locator, Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="module")

Make: TypeAlias = Callable[..., EngineProcess]
HOSTILE = "<img src=x onerror=\"document.body.dataset.owned='yes'\">"
PATIENCE_MS = 20_000


class Watched:
    """What a tab asked for and complained about."""

    def __init__(self, page: Page) -> None:
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A fresh tab."""
    context = await browser.new_context(viewport={"width": 1200, "height": 900}, locale="en-GB")
    tab = await context.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    yield tab
    await context.close()


@pytest.fixture
def watched(page: Page) -> Iterator[Watched]:
    """What the tab of this test does; it must not complain."""
    watch = Watched(page)
    yield watch
    assert watch.complaints == [], "a broken Content-Security-Policy would be said here"


async def opened(page: Page, engine: EngineProcess, query: str = "") -> None:
    await page.goto(f"{engine.url}/{query}")
    await expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=PATIENCE_MS)


def primary(page: Page, name: str) -> Locator:
    """The large value of a KPI."""
    return page.locator(f'[data-kpi="{name}"] [data-value]')


async def shows(page: Page, name: str, value: str) -> None:
    await expect(primary(page, name)).to_have_attribute("data-value", value, timeout=PATIENCE_MS)


async def test_cards_show_what_was_posted_and_change_with_the_next_event(
    engine: EngineProcess, page: Page, watched: Watched
) -> None:
    engine.post(*(done(f"A-{n}", item_type="Bug") for n in range(3)))
    engine.post(event("item", item="A-9", value_stream="shop", state="Doing", item_type="Bug"))
    engine.post(*(event("activity", customer=f"c{n}", value_stream="shop") for n in range(5)))
    engine.post(*(event("response", respondent=f"c{n}", value_stream="shop", survey="nps", score=9) for n in range(4)))
    engine.shows(lambda page: (page.velocity(), page.users()), (3, 5))
    await opened(page, engine)
    await shows(page, "flow_velocity", "3")
    await shows(page, "active_users", "5")
    await shows(page, "nps", "100")
    await expect(page.locator('[data-kpi="nps"] .note').first).to_contain_text("4 answers")

    engine.post(done("A-9", ago=1), event("activity", customer="new", value_stream="shop"))
    engine.post(event("response", respondent="c9", value_stream="shop", survey="nps", score=0))
    await shows(page, "flow_velocity", "4")
    await shows(page, "active_users", "6")
    await shows(page, "nps", "60")


async def test_an_empty_engine_is_live_says_how_data_gets_in_and_shows_the_first_event(
    engine: EngineProcess, page: Page, watched: Watched
) -> None:
    await opened(page, engine)
    await expect(page.locator("#notice")).to_contain_text("POST /events")
    assert await page.locator("[data-value]").count() == 0, "unknown is not zero"
    engine.post(done("A-1"))
    await shows(page, "flow_velocity", "1")
    await expect(page.locator("#notice")).to_be_hidden()


async def test_no_request_leaves_the_origin_and_every_answer_carries_the_policy(
    engine: EngineProcess, page: Page, watched: Watched
) -> None:
    answers: list[tuple[str, int, str]] = []
    page.on("response", lambda r: answers.append((r.url, r.status, r.headers.get("content-security-policy", ""))))
    engine.post(done("A-1"))
    await opened(page, engine)
    await shows(page, "flow_velocity", "1")
    engine.post(done("A-2"))
    await shows(page, "flow_velocity", "2")
    assert len(watched.asked) > 5
    assert [url for url in watched.asked if not url.startswith((f"{engine.url}/", "data:"))] == []
    told = [answer for answer in answers if not answer[0].startswith("data:")]
    assert [answer for answer in told if answer[1] != 200 or "default-src 'self'" not in answer[2]] == []


async def test_a_hostile_word_is_shown_as_text(engine: EngineProcess, page: Page, watched: Watched) -> None:
    engine.post(
        done("A-1", HOSTILE, item_type=HOSTILE),
        event("activity", customer=HOSTILE, value_stream=HOSTILE, feature=HOSTILE),
    )
    engine.shows(lambda page: page.velocity(HOSTILE), 1)
    await opened(page, engine)
    await shows(page, "flow_velocity", "1")
    await expect(page.get_by_label("value stream")).to_have_value(HOSTILE)
    assert await page.locator("img").count() == 0
    assert await page.locator("body").get_attribute("data-owned") is None


async def test_the_page_comes_back_by_itself_after_a_kill_with_what_happened_meanwhile(make: Make, page: Page) -> None:
    engine = make(port=free_port()).ready()
    engine.post(done("A-1"))
    await opened(page, engine)
    await shows(page, "flow_velocity", "1")
    engine.kill()
    await expect(page.locator("body")).to_have_attribute("data-state", "disconnected", timeout=PATIENCE_MS)
    await expect(page.locator("#notice")).to_contain_text("not current")
    engine.ready()
    engine.post(done("A-2"), done("A-3"))
    await expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=2 * PATIENCE_MS)
    await shows(page, "flow_velocity", "3")


async def test_every_kpi_of_the_catalogue_has_its_place_on_the_page(engine: EngineProcess, page: Page) -> None:
    names = [kpi["name"] for kpi in engine.get("/api/catalogue").json["kpis"]]
    assert len(names) > 15
    await opened(page, engine)
    shown = await page.locator("[data-absent]").evaluate_all("all => all.map(one => one.dataset.absent)")
    assert sorted(shown) == sorted(names)


async def test_the_files_of_the_page_are_served_as_what_they_are(engine: EngineProcess) -> None:
    kinds = {"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css"}
    for path, kind in kinds.items():
        answer = engine.get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert engine.get("/__init__.py").status == 404
    assert engine.get("/vendor/../../serving.py").status == 404
