"""The seven real logs of ../shared/data with their answers, the engine's replay of them, and how both are compared.

The answers are those of `scripts/truth.py` beside the logs; its docstring defines each number. The logs are not part
of the project: they lie in ../shared beside the repository, or in the directory that FLOWMETRICS_SHARED names.
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
from flowmetrics.instants import DAY_US
from flowmetrics.sources.rows import RowMapping, parse_mapping

Answers: TypeAlias = dict[str, Any]

ROOT: Final = Path(__file__).parent.parent
DATA: Final = Path(os.environ.get("FLOWMETRICS_SHARED", ROOT.parent / "shared")) / "data"
LEFT_OUT: Final = "left out: the real logs in ../shared/data are not on this machine"

STREAMS: Final[Mapping[str, str]] = {
    "bpic2013_incidents": "volvo-it",
    "receipt": "permits",
    "esni_issues": "esni",
    "alertmanager_releases": "alertmanager",
    "kafka_contributors": "kafka",
    "cdnow_purchases": "cdnow",
    "sfo_survey_2017": "sfo-airport",
}
"""The logs, and the one value stream that the example of each names."""

PERCENTILES: Final = (50, 90, 95)
"""Those of the answers, and of the examples."""


@dataclass(frozen=True)
class Log:
    """One real log, its answers, and the example that reads it."""

    name: str

    @property
    def path(self) -> Path:
        return DATA / "logs" / f"{self.name}.jsonl.gz"

    @property
    def example(self) -> Path:
        return ROOT / "examples" / self.name

    @cached_property
    def truth(self) -> Answers:
        answers: Answers = json.loads((DATA / "truth" / f"{self.name}.json").read_bytes())
        return answers

    @cached_property
    def configuration(self) -> Configuration:
        return load_configuration(str(self.example / "flowmetrics.yaml"))

    @cached_property
    def mapping(self) -> RowMapping:
        path = self.example / "map.yaml"
        return parse_mapping(path.read_text(encoding="utf-8"), str(path))

    @cached_property
    def events(self) -> list[bytes]:
        """What the mapping makes of all rows, in the order of the file."""
        events = list(read_events(self.path, self.mapping))
        refused = [event for event in events if isinstance(event, Rejection)]
        assert not refused, refused[:3]
        return [event for event in events if isinstance(event, bytes)]

    @property
    def whole(self) -> str:
        """The label of the window that holds the whole log: the longest one."""
        return f"{self.configuration.longest_us // DAY_US}d"


def open_log(name: str) -> Log:
    """A real log; the test that asks for it is left out where the logs are not on this machine."""
    if not DATA.is_dir():
        pytest.skip(LEFT_OUT)
    return Log(name)


class Page:
    """What is published at one instant."""

    def __init__(self, at: str, stream: str, families: list[Family]) -> None:
        self.at = at
        self._families = families
        self._stream = ("value_stream", stream)
        self._values = {
            (family.name, frozenset(sample.labels)): sample.value for family in families for sample in family.samples
        }

    @cached_property
    def text(self) -> bytes:
        """All of it as `flowmetrics replay --format json` prints it."""
        lines: list[bytes] = []
        json_lines([(self.at, self._families)], lines.append)
        return b"".join(lines)

    def value(self, metric: str, **labels: str) -> float | None:
        """The value under exactly these labels besides the value stream; None where it is absent."""
        return self._values.get((f"flowmetrics_{metric}", frozenset({self._stream, *labels.items()})))

    def total(self, metric: str, **labels: str) -> float | None:
        """The sum of all values under labels that include these; None where there is no value at all."""
        wanted = {self._stream, *labels.items()}
        values = [v for (name, under), v in self._values.items() if name == f"flowmetrics_{metric}" and under >= wanted]
        return sum(values) if values else None


@dataclass(frozen=True)
class Replayed:
    """What was published at each instant, and how many events were refused, by reason."""

    pages: Mapping[str, Page]
    rejected: Counter[str]


def replay(log: Log, configuration: Configuration, events: Iterable[bytes], ats: Sequence[str]) -> Replayed:
    """One pass over the events of a log, read at every instant."""
    run = Replay(configuration, ats)
    pages = {at: Page(at, STREAMS[log.name], families) for at, families in run.readings(events)}
    return Replayed(pages, run.rejected)


class Comparison:
    """Published figures held against true ones; all of them first, so that a failure shows the whole extent of it.

    >>> check = Comparison()
    >>> check.note("wip", 8.0, 8, within=0), check.note("age p50", 101.5, 100.0, within=1)
    (None, None)
    >>> check.figures, check.differences
    (2, ['age p50: published 101.5, true 100.0'])
    """

    def __init__(self) -> None:
        self.figures = 0
        self.differences: list[str] = []

    def exact(self, page: Page, true: float | None, metric: str, **labels: str) -> None:
        """The same number, or both absent."""
        self.note(_what(page, metric, labels), page.value(metric, **labels), true, within=0)

    def divided(self, page: Page, true: float | None, metric: str, **labels: str) -> None:
        """The same quotient but for its last digits, or both absent."""
        self.note(_what(page, metric, labels), page.value(metric, **labels), true, within=1e-12 * abs(true or 0))

    def total(self, page: Page, true: float, metric: str, **labels: str) -> None:
        """The sum over the labels that are not given."""
        self.note(_what(page, f"sum of {metric}", labels), page.total(metric, **labels), true, within=0)

    def durations(self, page: Page, true: Answers, kpi: str, seconds: float = 0, **labels: str) -> None:
        """How many there are, and each percentile within 1 % or so many seconds; below zero counts as zero."""
        for p in PERCENTILES:
            self.duration(page, true.get(f"p{p}_nr"), true["n"], p, kpi, seconds, **labels)

    def duration(
        self, page: Page, true: float | None, n: int, percentile: int, kpi: str, seconds: float = 0, **labels: str
    ) -> None:
        """One percentile of `n` durations, and `n` itself, of which no number is published where there are none."""
        labels = {**labels, "percentile": f"p{percentile}"}
        self.exact(page, n or None, "kpi_samples", kpi=kpi, **labels)
        known = None if true is None else max(0.0, true)
        published = page.value(f"{kpi}_seconds", **labels)
        self.note(_what(page, f"{kpi}_seconds", labels), published, known, within=max(0.01 * (known or 0), seconds))

    def note(self, what: str, published: float | None, true: float | None, within: float) -> None:
        """One figure; both may be absent."""
        self.figures += 1
        if published is None or true is None:
            agree = published is true
        else:
            agree = abs(published - true) <= within
        if not agree:
            self.differences.append(f"{what}: published {published}, true {true}")

    def finish(self) -> None:
        """Fail with the differences; having compared nothing is a failure too."""
        shown = "\n".join(self.differences[:40])
        assert self.figures, "nothing was compared"
        assert not self.differences, f"{len(self.differences)} of {self.figures} figures are wrong\n{shown}"


def _what(page: Page, metric: str, labels: Mapping[str, str]) -> str:
    return f"{metric} {' '.join(labels.values())} at {page.at}"
