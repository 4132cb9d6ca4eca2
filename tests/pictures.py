"""The pictures of the README: the demo in a real Chromium, minutes after its slump began. `make pictures` runs it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import chromium
import urllib3
from engine import COMMAND, free_port
from playwright.async_api import Browser, Page, async_playwright, expect

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
FLAGS = [*chromium.FLAGS, "--hide-scrollbars"]
SLUMPED = b'"state":"drifting"'
PATIENCE_SECONDS = 900.0


def wait_for_the_slump(url: str) -> None:
    """Wait until the page tells of it; the past has to be read first."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            if urllib3.request("GET", f"{url}/api/now", retries=False).data.count(SLUMPED) > 8:
                return
        except urllib3.exceptions.HTTPError:
            pass
        time.sleep(2)
    raise SystemExit("no slump was seen in time")


async def opened(browser: Browser, url: str, width: int, height: int, dark: bool) -> Page:
    page = await browser.new_page(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", locale="en-GB"
    )
    await page.goto(f"{url}/?stream=checkout&window=7d&span=35d")
    await expect(page.locator(".summary li").first).to_be_visible(timeout=60_000)
    await page.wait_for_timeout(6_000)  # the past of the charts
    return page


async def take(url: str) -> None:
    """Every picture."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium.installed(), args=FLAGS)
        for name, dark in (("page-light", False), ("page-dark", True)):
            page = await opened(browser, url, 1200, 850, dark)
            await page.screenshot(path=FOLDER / f"{name}.png")
        await page.locator("#group-work").scroll_into_view_if_needed()
        page = await opened(browser, url, 1200, 480, dark=False)
        await page.evaluate("document.querySelector('#group-work').scrollIntoView()")
        await page.locator('[data-picture="work-done"] circle').first.wait_for(timeout=60_000)
        await page.evaluate("document.querySelector('#group-work').scrollIntoView()")
        await page.wait_for_timeout(1_000)
        await page.screenshot(path=FOLDER / "work.png")
        page = await opened(browser, url, 390, 800, dark=True)
        await page.screenshot(path=FOLDER / "phone.png")
        await browser.close()


def main() -> None:
    """Start the demo, wait, take the pictures, and end it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    url = sys.argv[1] if len(sys.argv) > 1 else ""
    demo = None
    if not url:
        listen = f"127.0.0.1:{free_port()}"
        url, demo = f"http://{listen}", subprocess.Popen([COMMAND, "demo", "--listen", listen])
    try:
        wait_for_the_slump(url)
        asyncio.run(take(url))
    finally:
        if demo is not None:
            demo.terminate()
            demo.wait()


if __name__ == "__main__":
    main()
