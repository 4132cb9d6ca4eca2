"""The Chromium of this machine, in which the page is tried and its pictures are taken."""

from __future__ import annotations

import shutil
from typing import Final

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")


def installed() -> str | None:
    """Its program; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)
