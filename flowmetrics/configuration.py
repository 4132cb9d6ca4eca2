"""What a configuration says, as frozen values; how native words are read as flow states and item types.

The text of `flowmetrics.yaml` becomes these values in `flowmetrics.settings`. Each key is `read` (a change applies to
the past as well, from the histories) or `write` (it shaped what was stored).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property
from typing import Final, TypeVar

from flowmetrics.instants import DAY_US, MINUTE_US, SECOND_US, Calendar

V = TypeVar("V")

ALL: Final = "all"
"""The label value of a total."""
NONE: Final = "none"
"""The label value of what was not said."""
UNMAPPED: Final = "unmapped"
"""The item type that no pattern matches, or that was not said."""


def label_of(told: str | None) -> str:
    """The label value of a word that was told: `none` for nothing, and never the word that stands for a total.

    >>> label_of("email"), label_of(None), label_of("all")
    ('email', 'none', 'all_')
    """
    return f"{told}_" if told == ALL else told or NONE


class FlowState(enum.IntEnum):
    """The states of the Flow Framework, in the order that breaks ties between simultaneous facts."""

    UNMAPPED = 0
    NOTE = 1
    NEW = 2
    WAITING = 3
    ACTIVE = 4
    IGNORE = 5
    DONE = 6
    CANCELLED = 7


class Memo(dict[str, V]):
    """Answers remembered by word, up to a bound; `memo[word]` computes what is not there.

    >>> Memo(str.upper)["a"]
    'A'
    """

    REMEMBERED_MAX: Final = 10_000

    def __init__(self, answer: Callable[[str], V]) -> None:
        super().__init__()
        self._answer = answer

    def __missing__(self, word: str) -> V:
        if len(self) >= self.REMEMBERED_MAX:
            self.clear()
        answer = self[word] = self._answer(word)
        return answer


def first_match(patterns: Iterable[tuple[str, V]], otherwise: V, case: bool) -> Callable[[str], V]:
    """Glob patterns in order as a function: the answer of the first that matches a word.

    >>> first_match([("*bug*", "defect"), ("*", "feature")], "none", case=False)("Big BUG")
    'defect'
    """
    rules = [(re.compile(translate(p if case else p.lower())), answer) for p, answer in patterns]

    def answer_of(word: str) -> V:
        subject = word if case else word.lower()
        return next((answer for pattern, answer in rules if pattern.match(subject)), otherwise)

    return Memo(answer_of).__getitem__


DEFAULT_STATES: Final[Mapping[str, tuple[str, ...]]] = {
    "done": (
        "done", "closed", "resolved", "completed", "complete", "finished", "fixed", "merged", "released",
        "deployed", "shipped", "solved", "accepted", "completed/*",
    ),
    "cancelled": (
        "cancelled", "canceled", "won't do", "wont do", "won't fix", "wontfix", "rejected", "abandoned",
        "withdrawn", "duplicate", "invalid", "obsolete", "removed", "declined",
    ),
    "waiting": (
        "waiting", "ready", "ready *", "to do", "todo", "selected*", "committed", "blocked", "on hold",
        "on-hold", "hold", "pending", "queued", "*queue*", "*waiting*", "awaiting*", "wait", "*/wait*", "stuck",
        "paused",
    ),
    "active": (
        "active", "in progress", "in-progress", "in_progress", "inprogress", "started", "doing", "working",
        "development", "in development", "developing", "coding", "review", "in review", "code review", "testing",
        "in testing", "qa", "test", "in test", "verifying", "assigned", "accepted/*", "deploying", "reopened",
    ),
    "new": (
        "new", "open", "opened", "created", "backlog", "idea", "ideas", "draft", "proposed", "triage",
        "submitted", "requested", "reported", "icebox",
    ),
    "note": ("commented", "comment", "note", "labeled", "unlabeled", "edited", "viewed"),
}  # fmt: skip
"""Common words of trackers and help desks. A stream that gives `states` gives all of them."""

DEFAULT_ITEM_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "defect": ("defect", "bug", "*bug*", "*incident*", "fault", "problem", "regression", "hotfix", "fix"),
    "risk": ("risk", "security*", "*vulnerabilit*", "compliance", "audit", "privacy"),
    "debt": ("debt", "*debt*", "chore", "refactor*", "maintenance", "cleanup", "upgrade", "dependencies"),
    "feature": ("feature", "*feature*", "story", "user story", "*story*", "epic", "task", "sub-task", "subtask",
                "enhancement", "improvement", "requirement", "issue"),
}  # fmt: skip

CUSTOMER_AHEAD_US: Final = 40 * DAY_US
"""Retention over days 30 to 36 is known at the end of the 37th day, which may be 25 hours long."""

ITEM_TYPES: Final = ("feature", "defect", "risk", "debt")
"""The four flow items; always shown, also at zero."""


EXPECTED: Final = ("flow_time", "request_resolution")
"""The KPIs of which a service level may be expected."""


@dataclass(frozen=True)
class ValueStream:
    """How facts that name a value stream are read."""

    states: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: DEFAULT_STATES)
    item_types: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: DEFAULT_ITEM_TYPES)
    start: str = "first_committed"
    reopen_gap: str = "exclude"

    @cached_property
    def state(self) -> Callable[[str], FlowState]:
        """The flow state of a tool's own state name."""
        words = ((p, FlowState[state.upper()]) for state, patterns in self.states.items() for p in patterns)
        return first_match(words, FlowState.UNMAPPED, case=False)

    @cached_property
    def item_type(self) -> Callable[[str], str]:
        """The flow item type of a tool's own type name; `unmapped` where none matches or none was said."""
        words = ((p, kind) for kind, patterns in self.item_types.items() for p in patterns)
        return first_match([("", UNMAPPED), *words], UNMAPPED, case=False)

    @cached_property
    def clock(self) -> frozenset[FlowState]:
        """The states in which flow time runs."""
        created = {FlowState.NEW} if self.start == "created" else set()
        gap = {FlowState.DONE} if self.reopen_gap == "include" else set()
        return frozenset({FlowState.WAITING, FlowState.ACTIVE} | created | gap)

    @cached_property
    def load(self) -> frozenset[FlowState]:
        """The states that count as work in progress."""
        return self.clock - {FlowState.DONE}


@dataclass(frozen=True, slots=True)
class Survey:
    """The scale of a survey, and how its score is read.

    `top` set: the share of the best `top` values. `better` set: the mean, in that direction. Neither: promoters
    less detractors, on a scale of 0 to 10.
    """

    low: int
    high: int
    top: int | None = None
    better: str | None = None


DEFAULT_SURVEYS: Final[Mapping[str, Survey]] = {
    "nps": Survey(0, 10),
    "enps": Survey(0, 10),
    "csat": Survey(1, 5, top=2),
    "ces": Survey(1, 7, better="high"),
}


@dataclass(frozen=True, slots=True)
class TimeToValue:
    """Which milestone starts the clock, which ends it, and the shares that are asked for."""

    start: str = "signed_up"
    value: str = "value_reached"
    within_us: tuple[int, ...] = (7 * DAY_US, 30 * DAY_US)


@dataclass(frozen=True, slots=True)
class Threshold:
    """An amount with its unit: a percentage (`%`), or points of a score."""

    amount: float
    unit: str


OFF: Final = "off"
"""The severity of an alert that is left out."""


@dataclass(frozen=True, slots=True)
class RuleOverride:
    """What an operator says of the alert of a KPI; None is as declared."""

    minimum: Threshold | None = None
    better: str | None = None
    samples: int | None = None
    severity: str | None = None
    owner: str | None = None
    hold_us: int | None = None
    keep_us: int | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """A service level expectation: this percentage is done within this time."""

    within_us: int
    share: Threshold


@dataclass(frozen=True)
class Configuration:
    """A whole configuration; the defaults are those of the public contract. Durations are microseconds."""

    broker: str = "local://./flowmetrics-data"
    listen: str = "127.0.0.1:8080"
    token_file: str | None = None
    kpis: tuple[str, ...] = ("*",)
    windows_us: tuple[int, ...] = (DAY_US, 7 * DAY_US, 30 * DAY_US)
    resolution_us: int = 5 * MINUTE_US
    percentiles: tuple[int, ...] = (50, 85, 95)
    horizon_us: int = 400 * DAY_US
    timezone: str = "UTC"
    value_streams: tuple[tuple[str, ValueStream], ...] = (("*", ValueStream()),)
    surveys: Mapping[str, Survey] = field(default_factory=lambda: DEFAULT_SURVEYS)
    time_to_value: TimeToValue = TimeToValue()
    eligible: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    expectations: Mapping[str, Expectation] = field(default_factory=dict)
    rules: Mapping[str, RuleOverride] = field(default_factory=dict)
    alerts_owner: str = "flowmetrics"
    engine_owner: str | None = None
    runbooks_url: str = "docs/runbooks"
    dashboards_url: str | None = None
    labels_max: int = 2000
    labels_overflow: str = "other"
    pseudonym_key_file: str | None = None
    log_retention_us: int = 400 * DAY_US
    logging_format: str = "auto"
    logging_level: str = "info"
    hot_entities_max: int = 100_000
    topics_prefix: str = "flowmetrics"
    topics_partitions: int = 6
    topics_replication: int = 0
    kafka_security: str = "none"
    kafka_mechanism: str = "SCRAM-SHA-512"
    kafka_user: str | None = None
    kafka_password_file: str | None = None
    kafka_ca_file: str | None = None
    kafka_certificate_file: str | None = None
    kafka_key_file: str | None = None
    kafka_store: str = "flowmetrics-store"
    kafka_session_us: int = 10 * SECOND_US

    @cached_property
    def calendar(self) -> Calendar:
        """The days of the configured time zone."""
        return Calendar(self.timezone)

    @cached_property
    def declared_streams(self) -> tuple[str, ...]:
        """The value streams named without a wildcard: shown from the start, with counts of zero."""
        return tuple(name for name, _ in self.value_streams if not set(name) & set("*?["))

    @cached_property
    def stream(self) -> Callable[[str], ValueStream]:
        """How facts that name a value stream are read: the first pattern that matches, else the defaults."""
        return first_match(self.value_streams, ValueStream(), case=True)

    @cached_property
    def grain_us(self) -> int:
        """The grain of stored activity: 5 minutes, or the resolution where that is no multiple of it."""
        five_us = 5 * MINUTE_US
        return self.resolution_us if self.resolution_us % five_us else five_us

    @cached_property
    def same_day(self) -> Callable[[int, int], bool]:
        """Whether two slots of stored activity lie in one local day."""
        grain_us, day = self.grain_us, self.calendar.day
        day_slots = 2 * DAY_US // grain_us
        if self.timezone == "UTC":
            return lambda slot, other: slot // day_slots == other // day_slots
        return lambda slot, other: day(slot // 2 * grain_us) == day(other // 2 * grain_us)

    @cached_property
    def silence_us(self) -> int:
        """A person silent for longer begins anew: what they contributed before lies outside every reading."""
        return self.horizon_us + CUSTOMER_AHEAD_US

    @property
    def longest_us(self) -> int:
        """The longest window: over it retention is read."""
        return max(self.windows_us)

    def pane(self, instant: int) -> int:
        """The pane that holds an instant: pane p is the time (p - 1, p] in units of the resolution."""
        return -(-instant // self.resolution_us)

    def panes(self, us: int) -> int:
        """How many panes a duration takes; durations that are read are multiples of the resolution."""
        return us // self.resolution_us
