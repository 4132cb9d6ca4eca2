"""What is counted of labels that fold into the overflow label: each once, whatever dies in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from worlds import HOUR, T0, line, text

from agents.local.journal import Journal
from agents.local.runner import Runner
from flowmetrics.configuration import Configuration

TIGHT: Final = Configuration(labels_max=10)
FEATURES: Final = 30


@contextmanager
def opened(directory: Path) -> Iterator[Runner]:
    journal = Journal(directory)
    try:
        yield Runner(TIGHT, journal, "2025.1", T0 + HOUR)
    finally:
        journal.close()


def used(number: int) -> bytes:
    told = {"customer": "ann", "value_stream": "shop", "feature": f"f{number:02}"}
    return line(
        {
            "specversion": "1.0",
            "id": str(number),
            "source": "s",
            "type": "flowmetrics.activity.v1",
            "time": text(T0),
            "data": told,
        }
    )


def folded(runner: Runner) -> float:
    (family,) = [one for one in runner.engine_families() if one.name == "flowmetrics_label_overflow_total"]
    return sum(sample.value for sample in family.samples)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("looked", [False, True])
def test_a_label_set_that_was_folded_is_counted_once(tmp_path: Path, stored: bool, looked: bool) -> None:
    with opened(tmp_path) as runner:
        for number in range(FEATURES):
            runner.journal.append([used(number)], T0)
            while runner.step(T0 + HOUR):
                pass
            if looked:
                folded(runner)
        seen = folded(runner)
        if stored:
            runner.store_panes()
    assert seen > 0
    with opened(tmp_path) as runner:
        assert folded(runner) == seen
