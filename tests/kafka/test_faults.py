"""A real broker, three workers, kills and pauses while events flow: every number that is shown is true."""

from __future__ import annotations

import os
import shutil

import pytest
from chaos import run

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (shutil.which("java") and shutil.which("mvn")),
        reason="Kafka needs java and mvn: what runs on Kafka is left out",
    ),
]


def test_after_kills_and_pauses_every_series_is_shown_once_and_true() -> None:
    run({"kill": 8, "stop": 3, "move": 2, "restart": 1}, seed=int(os.environ.get("CHAOS_SEED", "1")), rate=300.0)
