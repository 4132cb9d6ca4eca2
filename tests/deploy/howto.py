"""The how-to pages: which commands they have, word for word."""

from __future__ import annotations

import re
from typing import Final

from integration.test_readme import Block, blocks
from parts import ROOT

HOW_TO: Final = ROOT / "docs" / "how-to"
_CONSOLE: Final = re.compile(r"^```console\n.*?^```\n", re.M | re.S)


def pages() -> list[str]:
    """The pages that have commands to be typed."""
    return sorted(path.name for path in HOW_TO.glob("*.md") if _CONSOLE.search(path.read_text()))


def typed(page: str) -> list[Block]:
    """The commands of a page that begin with `$`, in order."""
    return blocks("".join(_CONSOLE.findall((HOW_TO / page).read_text())))
