"""What a KPI is: the question it answers, what entities contribute to it, how it is read, and when it should page.

A KPI is declared once in `flowmetrics.kpis`. From the declaration follow its metrics, help, pages, worked example and
`flowmetrics explain`. Construction refuses silence: a question without a question mark, an alert without a next step.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from flowmetrics.configuration import Configuration
from flowmetrics.entity import Entity, Place
from flowmetrics.view import View


class Unit(enum.Enum):
    """What the value of a KPI counts; the text is the end of its metric name."""

    SECONDS = "seconds"
    ITEMS = "items"
    RATIO = "ratio"
    SCORE = "score"
    USERS = "users"
    REQUESTS = "requests"


class Better(enum.Enum):
    """Which way a KPI should move."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


class Says(NamedTuple):
    """What one contribution says of its entity, besides that it counts: `of(bin, amount)`, in a unit."""

    unit: Unit
    of: Callable[[int, int], float]


@dataclass(frozen=True, slots=True, eq=False)
class Measure:
    """One kind of series: which entities contribute to it, where, and under which labels besides the value stream.

    `facet` is the part of the history that it reads, "" for the whole; `places` is a pure function of its story.
    """

    name: str
    entity: Entity
    labels: tuple[str, ...]
    places: Callable[[Any], Iterable[Place]]
    facet: str = ""
    distinct: bool = False
    """Whether it counts distinct people, who must not be counted twice under a shared overflow label."""
    says: Says | None = None
    only: tuple[tuple[str, str], ...] = ()
    """Labels of the KPI, besides its own, under which alone it is read."""


class Point(NamedTuple):
    """One value of a KPI now. None is "unknown": it is not published, never shown as zero.

    `labels` are those of the KPI besides the value stream; `samples` is how many lie under the value; `part` the
    numerator of a ratio; `lower` and `upper` are 95 % bounds.
    """

    labels: tuple[str, ...]
    value: float | None
    samples: int
    lower: float | None = None
    upper: float | None = None
    part: float | None = None


@dataclass(frozen=True, slots=True)
class Companion:
    """A metric that goes with a KPI under the same labels: its bounds, its counts."""

    name: str
    help: str
    of: Callable[[Point], float | None]


class Severity(enum.Enum):
    """Whom an alert reaches: somebody now, a queue, a dashboard, or nobody (it proves that alerting works)."""

    PAGE = "page"
    TICKET = "ticket"
    INFO = "info"
    NONE = "none"


class Noise(enum.Enum):
    """How chance is told from change, besides the spread of the same time in former weeks."""

    BOUNDS = "bounds"
    """The 95 % bounds of now and of then do not meet."""
    COUNTING = "counting"
    """The value is a count: three standard deviations of the difference of two counts."""
    SPREAD = "spread"
    """Nothing else is known."""


@dataclass(frozen=True, slots=True)
class DriftAlert:
    """Tell somebody when the KPI moves in its bad direction, against the same time one to four weeks ago.

    It must move by `minimum`, by three spreads of the former weeks, and beyond what `noise` explains, with
    `samples_min` of the KPI under it. `minimum` is a share of the baseline, or with `points` in the unit of the KPI:
    only scores may be negative. Of several windows and percentiles the alert reads those nearest to `window` and
    `percentile`, of labels with a total the total, and of others what `only` says, else each value. It must last for
    `hold`, a Prometheus duration, and is over once it was calm for `keep`: for a day, or what is beyond its band by day
    only would be told every day anew.
    """

    next_step: str
    minimum: float = 0.2
    noise: Noise = Noise.BOUNDS
    severity: Severity = Severity.TICKET
    points: bool = False
    window: str = "7d"
    percentile: int = 85
    only: tuple[tuple[str, str], ...] = ()
    hold: str = "2h"
    keep: str = "1d"
    steps: tuple[str, ...] = ()
    """What to do after the next step, in order: sentences of the runbook."""


@dataclass(frozen=True, slots=True)
class BurnAlert:
    """Tell somebody when the budget of a service level expectation is spent too fast, over a long and a short window.

    The KPI is the share that meets the expectation of the KPI `of`; see `Configuration.expectations`. Spent fast it is
    a page, spent slowly a ticket, and neither is more than `severity`. Both must last for `hold`, and be over for
    `keep`.
    """

    of: str
    next_step: str
    steps: tuple[str, ...] = ()
    severity: Severity = Severity.PAGE
    hold: str = "2h"
    keep: str = "2h"


@dataclass(frozen=True, slots=True)
class NoAlert:
    """Why nobody is paged by this KPI."""

    why: str


@dataclass(frozen=True, slots=True)
class Example:
    """A worked example, run as a test: native events, an instant, and what is published then.

    `events` are pairs of RFC 3339 time and "type field=value …"; `values` maps "metric{labels}" to the value.
    """

    story: str
    events: Sequence[tuple[str, str]]
    at: str
    values: Mapping[str, float | None]
    under: Configuration = field(default_factory=Configuration)


Reading: TypeAlias = Callable[[View], Iterable[Point]]


@dataclass(frozen=True, slots=True)
class Kpi:
    """A key performance indicator, declared once."""

    name: str
    group: str
    question: str
    help: str
    unit: Unit
    better: Better
    labels: tuple[str, ...]
    measures: tuple[Measure, ...]
    reading: Reading
    alert: DriftAlert | BurnAlert | NoAlert
    example: Example
    suffix: str | None = None
    companions: tuple[Companion, ...] = ()
    samples_min: int = 30
    moves_with_time: bool = False
    """Whether the value changes with every second, without an event or a new pane."""
    listed: tuple[Measure, ...] = ()
    """The measures whose entities are behind the number, where those are not all that it reads."""
    span_us: Callable[[Configuration], int] = lambda configuration: configuration.horizon_us
    """How far back it reads where it has no window."""
    headline: bool = False
    """Whether it is one of the few numbers that a whole house is read by; it then has an alert."""

    def __post_init__(self) -> None:
        assert self.question.endswith("?"), f"{self.name}: a question ends with a question mark"
        assert self.help.endswith("."), f"{self.name}: help is a sentence"
        said = self.alert.why if isinstance(self.alert, NoAlert) else self.alert.next_step
        assert said.endswith("."), f"{self.name}: say in a sentence what to do, or why nobody is paged"
        told = not isinstance(self.alert, DriftAlert) or self.better is not Better.NEITHER
        assert told, f"{self.name}: an alert says which way is worse, so better is higher or lower"
        assert not self.headline or isinstance(self.alert, DriftAlert), f"{self.name}: a headline has an alert"
        assert self.measures, f"{self.name}: a KPI reads at least one measure"

    @property
    def metric(self) -> str:
        """The full name of the metric."""
        suffix = self.unit.value if self.suffix is None else self.suffix
        return f"flowmetrics_{self.name}_{suffix}" if suffix else f"flowmetrics_{self.name}"

    @property
    def words(self) -> str:
        """The name as it begins the names of its alerts: FlowTime, Nps."""
        return camel(self.name)


def measures(kpis: Iterable[Kpi]) -> tuple[Measure, ...]:
    """What some KPIs count of histories, each once."""
    return tuple(dict.fromkeys(measure for kpi in kpis for measure in kpi.measures))


def camel(name: str) -> str:
    """A name as a word of the name of an alert.

    >>> camel("flow_time")
    'FlowTime'
    """
    return "".join(part.capitalize() for part in name.split("_"))


NORMAL_95: Final = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def wilson(part: float, whole: float) -> tuple[float, float]:
    """95 % bounds of a share (Wilson 1927), for `part` of `whole` > 0.

    >>> [round(bound, 2) for bound in wilson(16, 20)]
    [0.58, 0.92]
    """
    z2 = NORMAL_95**2
    share = part / whole
    middle = (share + z2 / (2 * whole)) / (1 + z2 / whole)
    half = NORMAL_95 / (1 + z2 / whole) * math.sqrt(share * (1 - share) / whole + z2 / (4 * whole * whole))
    return max(0.0, middle - half), min(1.0, middle + half)


def ratio_point(labels: tuple[str, ...], part: int, whole: int) -> Point:
    """A share with its Wilson bounds; unknown where nothing is under it."""
    if whole <= 0:
        return Point(labels, None, 0, part=float(part))
    lower, upper = wilson(min(max(part, 0), whole), whole)
    return Point(labels, part / whole, whole, lower, upper, part=float(part))


CatalogueOf: TypeAlias = Callable[[Configuration], tuple[Kpi, ...]]
