"""What `flowmetrics top` shows of a running engine: one row a series, in words and in an order; one table for pipes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

import orjson
import urllib3

from flowmetrics.errors import OperationError
from flowmetrics.kpi import Unit
from flowmetrics.words import humanise

MARKS: Final = {
    "drifting": "▲ drifting",
    "suspect": "△ suspect",
    "stale": "✕ stale",
    "insufficient": "○ too few",
    "warming": "◌ warming",
    "ok": "● ok",
    None: "  –",
}
"""A mark and a word for each state; none is for what nobody is told of."""
SORTS: Final = ("state", "KPI", "value stream", "change")
COLUMNS: Final = ("state", "KPI", "value stream", "value", "95 %", "usual", "limit", "change", "samples")
NOTHING_YET: Final = (
    "Nothing to show yet. As soon as events arrive (POST /events, or flowmetrics import), the KPIs appear here."
)
STALE_SECONDS: Final = 15
"""A reading that is older is called stale, as on the page."""
TIMEOUT_SECONDS: Final = 10.0
PART: Final = "This worker shows {} value stream{}; other workers show others."
"""The page says the same."""
_BARS: Final = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Row:
    """One series: its labels, and what is said of it."""

    kpi: str
    labels: Mapping[str, str]
    state: str | None
    value: float
    unit: Unit
    usual: float | None
    samples: int
    is_watched: bool
    next_step: str | None
    bounds: tuple[float, float] | None = None
    limit: float | None = None
    """Where it would be suspect, on its bad side."""
    is_bad_above: bool = True

    @property
    def name(self) -> str:
        """The KPI with those labels that are no total."""
        others = [value for label, value in self.labels.items() if label != "value_stream" and value != "all"]
        return " ".join([self.kpi.replace("_", " "), *others])

    @property
    def value_stream(self) -> str:
        """The value stream that it is of."""
        return self.labels.get("value_stream", "")

    @property
    def change(self) -> float | None:
        """How far it is from what is usual, as a share of that."""
        return (self.value - self.usual) / abs(self.usual) if self.usual else None

    @property
    def cells(self) -> tuple[str, ...]:
        """The row in words, one for each of COLUMNS."""
        change = "" if self.change is None else f"{self.change:+.0%}".replace("-", "−")
        bounds = "" if self.bounds is None else " to ".join(humanise(bound, self.unit) for bound in self.bounds)
        limit = "" if self.limit is None else f"{'>' if self.is_bad_above else '<'} {humanise(self.limit, self.unit)}"
        usual = "" if self.usual is None else humanise(self.usual, self.unit)
        value = humanise(self.value, self.unit)
        samples = f"{self.samples:,}"
        return (MARKS[self.state], self.name, self.value_stream, value, bounds, usual, limit, change, samples)

    def matches(self, words: str) -> bool:
        """Whether each of the words is somewhere in it, whatever its case."""
        text = " ".join(self.cells).lower()
        return all(word in text for word in words.lower().split())


@dataclass(frozen=True, slots=True)
class Reading:
    """What an engine shows: of which time of day, what is wrong with it, "" while it is live, and every series."""

    at: str
    wrong: str
    rows: Sequence[Row]
    is_whole: bool = True
    """Whether no other worker shows more."""

    @property
    def part(self) -> str:
        """That these rows are those of one worker, and other workers show others; "" for all there are."""
        streams = len({row.value_stream for row in self.rows})
        return "" if self.is_whole else PART.format(streams, "" if streams == 1 else "s")


class EngineView:
    """A running engine, over HTTP. Raises OperationError where it does not answer as one."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._pool = urllib3.PoolManager(retries=False, timeout=TIMEOUT_SECONDS)

    def reading(self) -> Reading:
        """What it shows now."""
        catalogue = self._ask("api/catalogue")
        kpis = {kpi["name"]: kpi for kpi in catalogue["kpis"]}
        return replace(reading_of(self._ask("api/now"), kpis), is_whole=catalogue["details"] != "elsewhere")

    def behind(self, row: Row) -> dict[str, Any]:
        """Who is behind the number of a row."""
        return self._ask("api/items", {"kpi": row.kpi, **row.labels})

    def work(self, row: Row) -> list[str]:
        """The cumulative flow of the value stream of a row over its window, in lines."""
        window = row.labels.get("window", "30d")
        told = self._ask("api/work", {"value_stream": row.value_stream, "window": window})
        cut = [] if told["complete"] else ["Some histories were not reached."]
        return cumulative_flow(told["counts"], window) + cut

    def explanation(self, kind: str, name: str) -> list[str]:
        """Why an entity is read as it is, in lines."""
        lines: list[str] = self._ask(f"api/explain/{kind}/{quote(name, safe='')}")["lines"]
        return lines

    def _ask(self, path: str, fields: Mapping[str, str] | None = None) -> dict[str, Any]:
        try:
            answer = self._pool.request("GET", f"{self._url}/{path}", fields=fields, headers=self._headers)
            told: dict[str, Any] = orjson.loads(answer.data)
        except (urllib3.exceptions.HTTPError, orjson.JSONDecodeError) as error:
            raise OperationError(
                f"no flowmetrics answers at {self._url}: start one with flowmetrics run, or name another with --url "
                f"({_short(error)})"
            ) from None
        if answer.status == 401:
            raise OperationError(f"{told['error']}; name its file with --token-file")
        if answer.status != 200:
            raise OperationError(str(told.get("error", f"{self._url}/{path} answered {answer.status}")))
        return told


def reading_of(told: Mapping[str, Any], kpis: Mapping[str, Mapping[str, Any]]) -> Reading:
    """What an engine told of now, with the KPIs of its catalogue by name."""
    wrong = f"stale: no reading for more than {STALE_SECONDS} s" if told["now"] - told["at"] > STALE_SECONDS else ""
    if not told["ready"]:
        wrong = f"catching up: {told['reason'] or 'not ready yet'}"
    elif told["reason"]:
        wrong = f"held back: {told['reason']}"
    rows = [_row(one, kpis[one["kpi"]]) for one in told["series"] if one["kpi"] in kpis]
    return Reading(time.strftime("%H:%M:%S", time.localtime(told["at"])), wrong, rows)


def cumulative_flow(counts: Mapping[str, Sequence[int]], window: str) -> list[str]:
    """How many items were in each state: at the begin of a window, on the way, each to its own scale, and now.

    >>> cumulative_flow({"waiting": [2, 2, 5, 8, 4], "new": [0] * 5}, "7d")
    ['over 7d; done counts from its begin', 'waiting       2  ▂▅▄       4']
    """
    shown = {state: instants for state, instants in counts.items() if any(instants)}
    if not shown:
        return [f"Nothing was in work in {window}."]
    lines = [f"over {window}; done counts from its begin"]
    for state, instants in shown.items():
        bars = "".join(_BARS[count * (len(_BARS) - 1) // max(instants)] for count in instants[::2])
        lines.append(f"{state:8}{instants[0]:>7,}  {bars}{instants[-1]:>8,}")
    return lines


def in_order(rows: Iterable[Row], sort: str, words: str = "", everything: bool = False) -> list[Row]:
    """The rows that match, in an order of SORTS; those that alerts read, or all of them."""
    states = list(MARKS)
    keys = {
        "state": lambda row: (states.index(row.state), -abs(row.change or 0), row.name, row.value_stream),
        "KPI": lambda row: (row.name, row.value_stream),
        "value stream": lambda row: (row.value_stream, row.name),
        "change": lambda row: (-abs(row.change or 0), row.name, row.value_stream),
    }
    return sorted((row for row in rows if (everything or row.is_watched) and row.matches(words)), key=keys[sort])


def table(rows: Sequence[Row]) -> str:
    """The rows as plain text in columns, for pipes."""
    cells = [COLUMNS, *(row.cells for row in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(COLUMNS))]
    aligned = [
        "  ".join(
            cell.rjust(width) if n > 2 else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]
    return "\n".join(line.rstrip() for line in aligned)


def _row(told: Mapping[str, Any], kpi: Mapping[str, Any]) -> Row:
    labels: dict[str, str] = told["labels"]
    cells = kpi["watched"]
    return Row(
        kpi=told["kpi"],
        labels=labels,
        state=told["state"],
        value=told["value"],
        unit=Unit(kpi["unit"]),
        usual=told["usual"],
        samples=told["samples"],
        is_watched=cells is not None and cells.items() <= labels.items(),
        next_step=kpi["next_step"],
        bounds=None if told["lower"] is None or told["upper"] is None else (told["lower"], told["upper"]),
        limit=told["band_low"] if told["band_high"] is None else told["band_high"],
        is_bad_above=told["band_high"] is not None,
    )


def _short(error: Exception) -> str:
    return str(error).rpartition(": ")[2][:80]
