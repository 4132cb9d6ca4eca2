"""The how-to pages on operating: which commands they have, word for word."""

from __future__ import annotations

import re
from typing import Final

from integration.test_readme import Block, blocks
from parts import ROOT

HOW_TO: Final = ROOT / "docs" / "how-to"
PAGES: Final = ("alertmanager.md", "kubernetes.md", "one-machine.md", "security.md", "upgrade.md")
"""Those on operating; that on backups needs an engine that runs, and is tried in `test_backup.py`."""
_CONSOLE: Final = re.compile(r"^```console\n.*?^```\n", re.M | re.S)


def typed(page: str) -> list[Block]:
    """The commands of a page that begin with `$`, in order."""
    return blocks("".join(_CONSOLE.findall((HOW_TO / page).read_text())))
