"""What all tests begin with: how long Hypothesis searches (`ci` by default, a fifth of it with
FLOWMETRICS_HYPOTHESIS=few, twenty times as long with long), and that Ctrl-C means something."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from agents.past import Past

EXAMPLES = 100

for name, times in (("few", 0.2), ("ci", 1), ("long", 20)):
    settings.register_profile(
        name,
        max_examples=int(EXAMPLES * times),
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile(os.environ.get("FLOWMETRICS_HYPOTHESIS", "ci"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a script ignores Ctrl-C for what it runs in the background, and whatever is started from there would, too
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Garbage is collected again after a test in which an engine or a command turned that off, as it has its process
    for itself."""
    yield
    gc.unfreeze()
    gc.enable()


@pytest.fixture
def pasts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Past]]:
    """Every past that a test opens is closed after it, which Python 3.13 asks for."""
    opened: list[Past] = []
    init = Past.__init__

    def noted(self: Past, *words: object) -> None:
        init(self, *words)  # type: ignore[arg-type]
        opened.append(self)

    monkeypatch.setattr(Past, "__init__", noted)
    yield opened
    for past in opened:
        past.close()
