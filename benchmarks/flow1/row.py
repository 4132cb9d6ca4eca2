"""What one engine reached, as a line of JSON and as a row of the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

import orjson

HEADINGS: Final = (
    "engine", "date", "events", "events/s", "CPU s per million", "peak RSS MB", "broker CPU s per million", "correct",
    "state", "remark",
)  # fmt: skip
UNNOTICED_SECONDS: Final = 1.0
"""So much CPU of others says nothing: the engine's own start and end are seen with gaps."""


@dataclass(frozen=True)
class Row:
    """`correct` is None where the engine could not be installed, and nothing is known; `remark` says why."""

    engine: str
    date: str
    events: int
    events_per_s: float | None = None
    cpu_s_per_million: float | None = None
    peak_rss_mb: int | None = None
    correct: bool | None = None
    broker_cpu_s_per_million: float | None = None
    """Over the whole run, start and end included."""
    other_cpu_s: float | None = None
    """What everybody else on the machine used meanwhile."""
    wall_s: float | None = None
    state: str = ""
    """Where the engine keeps its state so that a crash does not lose it."""
    remark: str = ""

    @property
    def disturbed(self) -> bool:
        """Whether others used more than a tenth of a core."""
        return (self.other_cpu_s or 0) > max(UNNOTICED_SECONDS, 0.1 * (self.wall_s or 0))

    def json(self) -> bytes:
        """One line; no figure is exact to more than a tenth of a percent."""
        figures = {
            name: float(f"{value:.4g}") if type(value) is float else value for name, value in asdict(self).items()
        }
        return orjson.dumps(figures, option=orjson.OPT_APPEND_NEWLINE)

    def cells(self) -> list[str]:
        """Under `HEADINGS`."""
        remarks = [self.remark, f"disturbed: others used {self.other_cpu_s or 0:.0f} CPU s in {self.wall_s or 0:.0f} s"]
        return [
            self.engine,
            self.date,
            f"{self.events:,}",
            _number(self.events_per_s, ",.0f"),
            _number(self.cpu_s_per_million, ".1f"),
            _number(self.peak_rss_mb, ","),
            _number(self.broker_cpu_s_per_million, ".1f"),
            {True: "yes", False: "no", None: ""}[self.correct],
            self.state,
            "; ".join(filter(None, remarks if self.disturbed else remarks[:1])),
        ]


def table(rows: Iterable[Row]) -> str:
    """All rows, as the page of benchmarks has them."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in lines)


def today() -> str:
    """The date of a measurement."""
    return datetime.now(UTC).date().isoformat()


def wrong_in_short(wrong: Sequence[str]) -> str:
    """The first of what is wrong, in one line, and how many there are."""
    return f"WRONG, {len(wrong)} such as {' '.join(wrong[0].split())}" if wrong else ""


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
