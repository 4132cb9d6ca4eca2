"""A broker for the tests of this folder; where there is neither Java nor Maven they are left out, and say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from broker import Broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that runs through all tests, which keep to prefixes of their own."""
    if not (shutil.which("java") and shutil.which("mvn")):
        pytest.skip("Kafka needs java and mvn: what runs on Kafka is left out")
    running = Broker(tmp_path_factory.mktemp("broker"))
    running.start()
    yield running
    running.stop()
