"""The same facts contribute as they did, or the number says that histories must be read anew.

`facts.jsonl` is never changed: a list of events in each line. `contributions.json` says what they contributed last, by
a hash for each measure; `python tests/catalogue/test_reading.py` writes it anew.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from flowmetrics.configuration import Configuration
from flowmetrics.kpi import measures
from flowmetrics.kpis import READING, selected
from flowmetrics.steps.track import Track
from flowmetrics.testing import Driver

CONFIGURATION: Final = Configuration(eligible={"search": {"segment": ("enterprise",)}})
FACTS: Final = Path(__file__).with_name("facts.jsonl")
CONTRIBUTIONS: Final = Path(__file__).with_name("contributions.json")


def contributions() -> dict[str, str]:
    """Measure → a hash of everything that the facts contribute to it."""
    told = defaultdict(list)
    for story, line in enumerate(FACTS.read_bytes().splitlines()):
        driver = Driver(CONFIGURATION)
        driver.deliver([json.dumps(event).encode() for event in json.loads(line)])
        driver.advance(2**52)
        track = Track(CONFIGURATION, selected(CONFIGURATION), driver.table)
        for key in sorted(driver.histories):
            for found in track.contributions(key, driver.histories).values():
                for number, cell, amount in found:
                    measure, *labels = driver.table.series(number)
                    told[measure].append([story, key, labels, cell, amount])
    return {name: hashlib.sha256(json.dumps(sorted(told[name])).encode()).hexdigest()[:16] for name in sorted(told)}


def now() -> dict[str, Any]:
    """What belongs into the file."""
    return {"reading": READING, "contributions": contributions()}


def test_the_same_facts_contribute_as_they_did_or_the_number_of_the_reading_is_raised() -> None:
    before, after = json.loads(CONTRIBUTIONS.read_text()), now()
    common = before["contributions"].keys() & after["contributions"].keys()
    moved = sorted(name for name in common if before["contributions"][name] != after["contributions"][name])
    assert not moved or after["reading"] > before["reading"], "raise flowmetrics.kpis.READING"
    assert after == before, f"write {CONTRIBUTIONS.name} anew: python {Path(__file__).name}"


def test_the_facts_contribute_to_every_measure() -> None:
    assert {measure.name for measure in measures(selected(CONFIGURATION))} == contributions().keys()


if __name__ == "__main__":
    CONTRIBUTIONS.write_text(json.dumps(now(), indent=2) + "\n")
