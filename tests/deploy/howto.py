"""The how-to pages on operating: which commands they have, word for word."""

from __future__ import annotations

import re
from typing import Final

from integration.test_readme import Block, blocks
from parts import ROOT

HOW_TO: Final = ROOT / "docs" / "how-to"
BACKUP: Final = "backup-and-restore.md"
"""It needs an engine that runs, and is tried in `test_backup.py`."""
_CONSOLE: Final = re.compile(r"^```console\n.*?^```\n", re.M | re.S)


def page_text(page: str) -> str:
    """What a page says."""
    return (HOW_TO / page).read_text()


def typed(page: str) -> list[Block]:
    """The commands of a page that begin with `$`, in order."""
    return blocks("".join(_CONSOLE.findall(page_text(page))))


PAGES: Final = tuple(sorted(path.name for path in HOW_TO.glob("*.md") if path.name != BACKUP and typed(path.name)))
"""Every other page with commands."""
