"""The seven real logs of ../shared/data with their answers, the engine's replay of them, and how both are compared.

The answers are those of `scripts/truth.py` beside the logs; its docstring defines each number. The logs are not part
of the project: they lie in ../shared beside the repository, or where FLOWMETRICS_SHARED says.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from agents.files import read_events
from agents.replay import Replay, json_lines
from agents.settings import load_configuration
from flowmetrics.configuration import Configuration
from flowmetrics.errors import Rejection
from flowmetrics.families import Family
from flowmetrics.sources.rows import RowMapping, parse_mapping

Answers: TypeAlias = dict[str, Any]

ROOT: Final = Path(__file__).parent.parent
DATA: Final = Path(os.environ.get("FLOWMETRICS_SHARED", ROOT.parent / "shared")) / "data"
LEFT_OUT: Final = "left out: the real logs in ../shared/data are not on this machine"

PERCENTILES: Final = (50, 90, 95)
"""Those in the answers, and in the configurations of the examples."""


class Published:
    """What is published at one instant; `text` is all of it as `flowmetrics replay --format json` prints it."""

    def __init__(self, at: str, families: list[Family]) -> None:
        lines: list[bytes] = []
        json_lines([(at, families)], lines.append)
        self.text = b"".join(lines)
        self._values = {
            (family.name.removeprefix("flowmetrics_"), frozenset(sample.labels)): sample.value
            for family in families
            for sample in family.samples
        }

    def value(self, metric: str, **labels: str) -> float | None:
        """The one value under exactly these labels, `value_stream` among them; None where it is absent."""
        return self._values.get((metric, frozenset(labels.items())))

    def total(self, metric: str, **labels: str) -> float:
        """The sum of all values under labels that include these; there must be one."""
        values = [
            value for (name, under), value in self._values.items() if name == metric and under >= labels.items()
        ]
        assert values, f"{metric} with {labels} is not published"
        return sum(values)


@dataclass(frozen=True)
class Log:
    """One real log, its answers, and the example that reads it."""

    name: str

    @property
    def path(self) -> Path:
        return DATA / "logs" / f"{self.name}.jsonl.gz"

    @property
    def map_path(self) -> Path:
        return ROOT / "examples" / self.name / "map.yaml"

    @property
    def configuration_path(self) -> Path:
        return ROOT / "examples" / self.name / "flowmetrics.yaml"

    @cached_property
    def truth(self) -> Answers:
        answers: Answers = json.loads((DATA / "truth" / f"{self.name}.json").read_bytes())
        return answers

    @cached_property
    def mapping(self) -> RowMapping:
        return parse_mapping(self.map_path.read_text(encoding="utf-8"), str(self.map_path))

    @cached_property
    def configuration(self) -> Configuration:
        return load_configuration(str(self.configuration_path))

    @cached_property
    def events(self) -> list[bytes]:
        """What the mapping makes of all rows, in the order of the file."""
        events = list(read_events(self.path, self.mapping))
        refused = [event for event in events if isinstance(event, Rejection)]
        assert not refused, refused[:3]
        return [event for event in events if isinstance(event, bytes)]


def open_log(name: str) -> Log:
    """A real log; the test is left out where the logs are not on this machine."""
    if not DATA.is_dir():
        pytest.skip(LEFT_OUT)
    return Log(name)


@dataclass(frozen=True)
class Replayed:
    """What was published at each instant, and how many events were refused, by reason."""

    at: Mapping[str, Published]
    rejected: Counter[str]


def replay(configuration: Configuration, events: Iterable[bytes], ats: Sequence[str]) -> Replayed:
    """One pass over the events, read at every instant."""
    run = Replay(configuration, ats)
    return Replayed({at: Published(at, families) for at, families in run.readings(events)}, run.rejected)


class Comparison:
    """Figures held against their answers, all of them, so that a failure shows the whole extent of it.

    >>> check = Comparison()
    >>> check.exact("wip", 8.0, 8)
    >>> check.exact("wip", 9.0, 8)
    >>> check.close("p50", 101.0, 100.0)
    >>> check.figures, check.differences
    (3, ['wip: published 9.0, true 8'])
    """

    def __init__(self) -> None:
        self.figures = 0
        self.differences: list[str] = []

    def exact(self, what: str, published: float | None, true: float | None) -> None:
        """The same number, or both absent."""
        self._note(what, published, true, published == true)

    def equal(self, what: str, published: float | None, true: float | None) -> None:
        """The same number but for the last digits of a division, or both absent."""
        self._note(what, published, true, published == true or _within(published, true, 1e-12))

    def close(self, what: str, published: float | None, true: float | None, or_within: float = 0.0) -> None:
        """Within 1 %, or within an absolute distance; or both absent."""
        self._note(what, published, true, published == true or _within(published, true, 0.01, or_within))

    def finish(self) -> None:
        """Fail with every difference; comparing nothing at all is a failure too."""
        assert self.figures, "nothing was compared"
        shown = "\n".join(self.differences[:40])
        assert not self.differences, f"{len(self.differences)} of {self.figures} figures are wrong\n{shown}"

    def _note(self, what: str, published: float | None, true: float | None, agree: bool) -> None:
        self.figures += 1
        if not agree:
            self.differences.append(f"{what}: published {published}, true {true}")


def _within(published: float | None, true: float | None, relative: float, absolute: float = 0.0) -> bool:
    if published is None or true is None:
        return False
    return abs(published - true) <= max(relative * abs(true), absolute)
