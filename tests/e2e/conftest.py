"""One history for all tests of this folder: to backfill it takes most of the time."""

from __future__ import annotations

from pathlib import Path

import pytest
from stage import backfilled


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the blocks of the last weeks of the shop, and its rules."""
    return backfilled(tmp_path_factory.mktemp("history"))
