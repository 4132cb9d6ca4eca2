"""The page of a real engine in a real browser: states, the way down from a number, pictures of work, for everybody."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import combinations
from operator import mul
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest
import pytest_asyncio
from engine import EngineProcess, done, event, until
from playwright.async_api import Browser, Page, expect

from agents.past import HOUR_SECONDS, WEEK_HOURS, Past
from flowmetrics.configuration import Configuration
from flowmetrics.kpi import Point
from flowmetrics.kpis import selected
from flowmetrics.steps.read import Points

pytestmark = pytest.mark.asyncio(loop_scope="module")

Make: TypeAlias = Callable[..., EngineProcess]
PATIENCE_MS = 30_000
USUAL = 200.0


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A fresh tab that must not complain."""
    context = await browser.new_context(viewport={"width": 1200, "height": 900}, locale="en-GB")
    tab = await context.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    tab.on("console", lambda m: complaints.append(m.text) if m.type in {"error", "warning"} else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    yield tab
    await context.close()
    assert complaints == []


def of_former_weeks(folder: Path, velocity: float) -> None:
    """Readings of the same time of four weeks, as an engine that ran then would have kept them."""
    kpis = selected(Configuration(kpis=("flow_velocity",)))
    labels = (("value_stream", "shop"), ("item_type", "all"), ("window", "7d"))
    points: Points = {("flow_velocity", "shop"): [(labels, Point(("all", "7d"), velocity, int(velocity)))]}
    past, now_hour = Past(folder), int(time.time()) // HOUR_SECONDS
    past.begin({"shop": 0})
    for weeks in range(1, 5):
        for beside in (0, 1):
            past.keep(now_hour - weeks * WEEK_HOURS + beside, points, kpis)
    past.close()


@pytest.fixture(scope="module")
def slumped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine that usually has done two hundred items, and now three; one is in progress."""
    directory = tmp_path_factory.mktemp("slumped")
    (directory / "data").mkdir()
    of_former_weeks(directory / "data", USUAL)
    with EngineProcess(directory) as running:
        running.ready()
        for n in range(3):
            told = {"item": f"A-{n}", "value_stream": "shop", "title": f"Number {n}"}
            running.post(event("item", ago=7200, state="Doing", **told), event("item", state="Done", **told))
        running.post(event("item", item="A-9", value_stream="shop", state="Doing", title="Still at it"))
        running.shows(lambda page: page.velocity(window="7d"), 3.0)
        until(lambda: b'"suspect"' in running.get("/api/now").body, "it is judged")
        until(lambda: len(running.get("/api/work?value_stream=shop&window=7d").json["finished"]) == 3, "committed")
        yield running


async def opened(page: Page, engine: EngineProcess, query: str = "") -> None:
    await page.goto(f"{engine.url}/{query}")
    await expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=PATIENCE_MS)
    await expect(page.locator('[data-kpi="flow_velocity"]')).to_be_visible()


async def test_what_moved_is_said_above_with_what_is_usual_and_a_next_step_on_its_card(
    slumped: EngineProcess, page: Page
) -> None:
    await opened(page, slumped)
    line = page.locator(".summary li")
    await expect(line).to_have_count(1)
    await expect(line).to_contain_text("suspect shop: flow velocity 3, usual 200, over 7d, since")
    card = page.locator('[data-kpi="flow_velocity"]')
    await expect(card.locator(".figure.primary .state")).to_have_attribute("data-state", "suspect")
    await expect(card.locator(".figure.primary .state")).to_contain_text("usual 200, suspect below")
    await expect(card.locator(".advice")).to_contain_text("Look whether load grew as well")
    runbook = "Runbook of FlowVelocityDrift: docs/runbooks/FlowVelocityDrift.md"
    await expect(card.locator(".advice")).to_contain_text(runbook)
    await expect(page.locator('[data-kpi="flow_load"] .advice')).to_be_hidden()
    mix = page.locator('[data-kpi="flow_distribution"] .metric')
    await expect(mix).to_contain_text("nobody is told of it")
    await expect(mix).to_have_attribute("title", re.compile("A mix is a decision"))


async def test_what_cannot_be_judged_yet_says_why_and_names_nothing_usual(slumped: EngineProcess, page: Page) -> None:
    await opened(page, slumped)
    for name, state, word, means in (
        ("flow_load", "warming", "warming", "three earlier weeks"),
        ("flow_time", "insufficient", "too few samples", "too few samples to judge it"),
    ):
        card = page.locator(f'[data-kpi="{name}"]')
        standing = card.locator(".figure.primary .state")
        await expect(standing).to_have_attribute("data-state", state)
        await expect(standing).to_contain_text(word)
        await expect(standing).to_have_attribute("title", re.compile(means))
        await expect(standing.locator(".usual")).to_have_count(0)
        await expect(card.locator(".advice")).to_be_hidden()


async def test_a_line_of_the_summary_leads_to_its_card_with_the_keyboard(slumped: EngineProcess, page: Page) -> None:
    await opened(page, slumped, "?window=1d")
    await page.locator(".summary a").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#kpi-flow_velocity")).to_be_focused()
    await expect(page.get_by_label("window")).to_have_value("7d")


async def test_from_a_number_to_its_items_to_why_and_back_with_the_keyboard_alone(
    slumped: EngineProcess, page: Page
) -> None:
    await opened(page, slumped)
    number = page.locator('[data-kpi="flow_velocity"] .figure.primary .down')
    await number.focus()
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog.locator("tbody tr")).to_have_count(3)
    await expect(dialog).to_contain_text("3 items")
    await expect(dialog).to_contain_text("Number 0")
    for _ in range(6):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.className") == "link":
            break
    await page.keyboard.press("Enter")
    await expect(dialog.locator(".why")).to_contain_text("items_done")
    await dialog.get_by_role("button", name="back").press("Enter")
    await expect(dialog.locator("tbody tr")).to_have_count(3)
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(number).to_be_focused()


async def test_the_pictures_of_work_have_their_dots_and_a_dot_explains_its_item(
    slumped: EngineProcess, page: Page
) -> None:
    await opened(page, slumped)
    await page.locator("#group-work").scroll_into_view_if_needed()
    await expect(page.locator('[data-picture="work-flow"] polygon.area.done title')).to_have_text(
        "done: 0 at first, 3 now"
    )
    await expect(page.locator('[data-picture="work-done"] circle')).to_have_count(3)
    await expect(page.locator('[data-picture="work-done"] .percentile-name')).to_have_count(3)
    ageing = page.locator('[data-picture="work-open"]')
    await expect(ageing.locator("circle")).to_have_count(1)
    await ageing.locator(".picture").focus()
    await page.keyboard.press("Home")
    await expect(ageing.locator(".note")).to_contain_text("A-9 (unmapped, active)")
    await expect(page.locator("#spoken")).to_contain_text("Still at it")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog").locator(".why")).to_contain_text("item:A-9")


async def test_charts_reach_back_to_before_the_engine_started(slumped: EngineProcess, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await opened(page, slumped)
    assert not any("api/past" in url for url in asked)
    await page.get_by_label("charts show").select_option("35d")
    await expect(page.locator('[data-kpi="flow_velocity"] canvas')).to_be_visible()
    chart = page.locator('[data-kpi="flow_velocity"] .chart')
    await chart.focus()
    for _ in range(100):
        await page.keyboard.press("Home")
        await page.keyboard.press("Shift+ArrowRight")
        await page.keyboard.press("Shift+ArrowRight")
        await page.keyboard.press("Shift+ArrowRight")
        if "200" in await page.locator("#spoken").inner_text():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(await page.locator("#spoken").inner_text())


async def test_where_a_token_is_asked_for_the_page_asks_for_it_once(
    make: Make, tmp_path: Path, browser: Browser
) -> None:
    (tmp_path / "token").write_text("s3cret-token\n")
    engine = make(f'http: {{listen: "127.0.0.1:0", token_file: {tmp_path / "token"}}}').ready()
    posted = engine.send(orjson.dumps(done("A-1")), Authorization="Bearer s3cret-token")
    assert posted.status == 202
    engine.shows(lambda page: page.velocity(window="7d"), 1.0)
    tab = await browser.new_page()
    await opened(tab, engine)
    await expect(tab.locator("section:has(#group-work) .none")).to_contain_text("show the token there")
    await tab.locator('[data-kpi="flow_velocity"] .figure.primary .down').click()
    await tab.get_by_label("token").fill("wrong")
    await tab.get_by_role("button", name="Show", exact=True).click()
    await expect(tab.get_by_label("token")).to_have_value("")
    await tab.get_by_label("token").fill("s3cret-token")
    await tab.get_by_role("button", name="Show", exact=True).click()
    await expect(tab.get_by_role("dialog").locator("tbody tr")).to_have_count(1)
    await tab.keyboard.press("Escape")
    await tab.locator("#group-work").scroll_into_view_if_needed()
    await expect(tab.locator('[data-picture="work-flow"] svg')).to_be_visible(timeout=PATIENCE_MS)
    assert await tab.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    await tab.close()


CONTRAST = """() => {
  const linear = c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const back = element => { for (let at = element; at; at = at.parentElement) {
    const [r, g, b, a = 1] = parse(getComputedStyle(at).backgroundColor);
    if (a > 0) return [r, g, b];
  } return [255, 255, 255]; };
  const told = [];
  for (const element of document.querySelectorAll("body *")) {
    if (!(element instanceof HTMLElement) || !element.checkVisibility()) continue;
    if (element.closest(":disabled, .skip")) continue;
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
    const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(back(element))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) told.push(`${ratio.toFixed(2)} ${element.className} ${element.textContent.slice(0, 30)}`);
  }
  return told;
}"""
NAMES = """() => {
  const told = [];
  const named = e => (e.getAttribute("aria-label") || (e.labels && e.labels.length) || e.textContent.trim()
    || (e.getAttribute("aria-labelledby") && document.getElementById(e.getAttribute("aria-labelledby"))));
  const named_ones = "button, a, select, input, [role=img], [role=region], dialog, section, article";
  for (const e of document.querySelectorAll(named_ones))
    if (e.checkVisibility() && !named(e)) told.push(`no name: ${e.outerHTML.slice(0, 80)}`);
  const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
  told.push(...ids.filter((id, i) => ids.indexOf(id) !== i).map(id => `twice: ${id}`));
  const headings = [...document.querySelectorAll("h1, h2, h3")].filter(e => e.checkVisibility());
  const levels = headings.map(e => Number(e.tagName[1]));
  levels.forEach((level, i) => { if (i && level > levels[i - 1] + 1) told.push(`heading jumps to h${level}`); });
  if (document.querySelectorAll("main").length !== 1 || !document.documentElement.lang) told.push("landmarks");
  return told;
}"""


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_is_legible_everything_has_a_name_and_nothing_sticks_out(
    slumped: EngineProcess, page: Page, scheme: Any, width: int
) -> None:
    await page.emulate_media(color_scheme=scheme)
    await page.set_viewport_size({"width": width, "height": 800})
    await opened(page, slumped)
    await page.locator("#group-work").scroll_into_view_if_needed()
    await expect(page.locator('[data-picture="work-open"] circle')).to_have_count(1)
    assert await page.evaluate(CONTRAST) == []
    assert await page.evaluate(NAMES) == []
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    await page.locator('[data-kpi="flow_velocity"] .figure.primary .down').click()
    await expect(page.get_by_role("dialog").locator("tbody tr")).to_have_count(3)
    assert await page.evaluate(CONTRAST) == []
    assert await page.evaluate(NAMES) == []
    box = await page.get_by_role("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


async def test_focus_is_always_seen_and_the_first_tab_skips_to_the_numbers(slumped: EngineProcess, page: Page) -> None:
    await opened(page, slumped)
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("Skip to the KPIs")).to_be_focused()
    seen = set()
    for _ in range(25):
        await page.keyboard.press("Tab")
        outline, name = await page.evaluate(
            "[getComputedStyle(document.activeElement).outline, document.activeElement.tagName]"
        )
        assert re.search(r"solid [1-9]|[1-9]px solid|auto", outline), (name, outline)
        seen.add(name)
    assert {"SELECT", "A", "BUTTON"} <= seen


async def test_states_are_told_apart_without_colour(slumped: EngineProcess, page: Page) -> None:
    await page.goto(slumped.url)
    marks = await page.evaluate("import('/states.js').then(m => Object.values(m.STATES).map(s => [s.mark, s.word]))")
    assert len({mark for mark, _ in marks}) == len({word for _, word in marks}) == 6


SWATCHES = """async total => {
  const {swatch} = await import("/chart.js");
  return [...Array(8).keys()].map(index => {
    const mark = document.body.appendChild(swatch(index, total));
    const told = [mark.className, getComputedStyle(mark).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)];
    mark.remove();
    return told;
  });
}"""
AREAS = """() => ["new", "waiting", "active", "done"].map(state => {
  const area = document.body.appendChild(document.createElement("i"));
  area.className = `area ${state}`;
  const told = ["area", getComputedStyle(area).fill.match(/\\d+/g).slice(0, 3).map(Number)];
  area.remove();
  return told;
})"""
DEFICIENT = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""How somebody without one kind of cone sees linear RGB (Machado, Oliveira and Fernandes, 2009)."""


@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_lines_of_one_pattern_are_told_apart_whatever_colours_somebody_sees(
    slumped: EngineProcess, page: Page, scheme: Any, total: bool
) -> None:
    await page.emulate_media(color_scheme=scheme)
    await page.goto(slumped.url)
    lines = await page.evaluate(SWATCHES, total)
    assert len({pattern for pattern, _ in lines}) == 3
    told_apart(lines)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_areas_of_the_cumulative_flow_are_told_apart_whatever_colours_somebody_sees(
    slumped: EngineProcess, page: Page, scheme: Any
) -> None:
    await page.emulate_media(color_scheme=scheme)
    await page.goto(slumped.url)
    told_apart(await page.evaluate(AREAS))


def told_apart(marks: Sequence[Any]) -> None:
    """Each two marks, of pattern and colour, have another pattern or colours that nobody takes for one."""
    for name, seen in DEFICIENT.items():
        for (one, ink), (other, other_ink) in combinations(marks, 2):
            apart = math.dist(lab(ink, seen), lab(other_ink, seen))
            assert one != other or apart > 12, f"{name}: {ink} and {other_ink} are {apart:.0f} apart"


def lab(colour: Sequence[int], seen: Sequence[Sequence[float]]) -> list[float]:
    """A colour of sRGB as somebody sees it, in CIELAB: a distance of 2 can be seen side by side."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (x / 255 for x in colour)
    ]
    red, green, blue = (min(1.0, max(0.0, sum(map(mul, row, linear)))) for row in seen)
    xyz = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089,
    )
    x, y, z = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in xyz)
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]
