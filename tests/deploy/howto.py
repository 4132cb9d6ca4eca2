"""The commands of a how-to page, word for word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from integration.test_readme import Block, blocks
from parts import ROOT

HOW_TO: Final = ROOT / "docs" / "how-to"


def commands(page: str, beginning: str) -> list[Block]:
    """The console commands of a page that begin so, in order."""
    found = [block for block in blocks((HOW_TO / page).read_text()) if block.words.startswith(beginning)]
    assert found, f"{page} has no command that begins with {beginning!r}"
    return found


def here(words: str, places: Mapping[str, Path | str]) -> str:
    """Words with other places in them."""
    for place, other in places.items():
        words = re.sub(re.escape(place) + r"(?![\w-])", str(other), words)
    return words
