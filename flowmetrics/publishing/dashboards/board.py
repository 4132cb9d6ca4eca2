"""A board as a value: sections of panels with queries, free of what Grafana calls things.

`boards` says what is on which board; `grafana` writes one down for Grafana.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 24
"""Columns of the grid of a board."""


class Shape(enum.Enum):
    """How a panel shows the answers of its queries."""

    LINES = "lines"
    AREAS = "areas"
    NUMBERS = "numbers"
    TABLE = "table"


class Style(enum.Enum):
    """What a query means to the reader, and so how it is drawn."""

    TRUSTED = "trusted"
    PLAIN = "plain"
    """Thin and grey: true, but too little lies under it to lean on."""
    USUAL = "usual"
    EDGE = "edge"
    """One end of a range; the range between two edges is filled."""
    LIMIT = "limit"
    """The value at which an alert fires."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How the colour of a number goes with it: red from `red` upwards, or below it where low is bad.

    From `yellow` on to there it is yellow; None for a number that is either good or bad.
    """

    red: float
    yellow: float | None = None
    low_is_bad: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """One query, and what its answers are called: a legend of lines, the title of a column.

    `unit` is Grafana's word, "" for that of the panel. Without `thresholds` its number is in the colour of text.
    """

    expression: str
    name: str
    style: Style = Style.TRUSTED
    unit: str = ""
    thresholds: Thresholds | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """Where to go from here."""

    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A rectangle of a board. `description` may have Markdown.

    `cell_links` lead on from the cells of a column of a table. `kpi` is the name of the KPI that it is about, if any.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    shape: Shape = Shape.LINES
    width: int = WIDTH // 2
    height: int = 8
    links: tuple[Link, ...] = ()
    cell_links: tuple[tuple[str, Link], ...] = ()
    kpi: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Panels under one heading, laid out from left to right."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice of the reader. `query` lists what there is; `chosen` is the first choice, "" for the first in order.

    With `several` more than one may be chosen, and all are at first.
    """

    name: str
    title: str
    query: str
    chosen: str = ""
    several: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """A page of Grafana. `below` is the name of the board one level further down, "" where there is none."""

    name: str
    title: str
    question: str
    variables: tuple[Variable, ...]
    sections: tuple[Section, ...]
    below: str = ""
    since: str = "now-30d"
    any_filter: bool = False
    """Whether the reader may filter by any label."""

    @property
    def uid(self) -> str:
        """The end of its address in Grafana: `/d/UID`."""
        return f"flowmetrics-{self.name}"
