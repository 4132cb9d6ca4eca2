"""Every key of `flowmetrics.yaml`, declared once: its place, how it is read, what a change of it takes, what it says.

Reader, JSON Schema, reference page, `effective` and fingerprints all follow from `KEYS`. A part of a path in angle
brackets stands for names of one's own.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, TypeAlias, Union

from flowmetrics.configuration import EXPECTED, ITEM_TYPES, OFF, Configuration, FlowState
from flowmetrics.instants import MINUTE_US, SECOND_US
from flowmetrics.limits import SERIES_MAX
from flowmetrics.setting_kinds import (
    BROKER,
    DURATION,
    LISTEN,
    OVERFLOW,
    RESOLUTION,
    SCALE,
    SHARE,
    THRESHOLD,
    TIME_ZONE,
    WORD,
    Kind,
    choice,
    duration,
    integer,
    list_of,
    map_of,
    matching,
    one_or_more,
)


class Change(enum.Enum):
    """What a change of a key takes."""

    RUN = "run"
    """It is about the process, not the figures: the next start."""
    READ = "read"
    """It applies to the past as well: a new epoch, read from the histories."""
    WRITE = "write"
    """It shaped what was stored: a rebuild from the log."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key. `fields` are its attributes on its owner: the configuration, or what the name in its path stands for.

    Without fields the owner is the value. `default` is shown where the default configuration has none to show.
    """

    path: str
    fields: tuple[str, ...]
    kind: Kind[Any]
    change: Change
    says: str
    default: str = ""

    def of(self, owner: object) -> Any:
        """The value of this key on its owner."""
        return attrgetter(*self.fields)(owner) if self.fields else owner


@dataclass(frozen=True, slots=True)
class Names:
    """Names of one's own: how one is read, and what they stand for in a configuration."""

    kind: Kind[str]
    each: Callable[[Configuration], Iterable[tuple[str, Any]]]


NAMES: Final[Mapping[str, Names]] = {
    "<pattern>": Names(WORD, lambda configuration: configuration.value_streams),
    "<name>": Names(
        matching("[a-z][a-z0-9_]*", "lower-case letters, digits and _, beginning with a letter"),
        lambda configuration: configuration.surveys.items(),
    ),
    "<feature>": Names(WORD, lambda configuration: configuration.eligible.items()),
    "<kpi>": Names(WORD, lambda configuration: configuration.rules.items()),
    "<expected>": Names(choice(EXPECTED), lambda configuration: configuration.expectations.items()),
}

_PATTERNS: Final = list_of(WORD)
_MAPPED: Final = list_of(WORD, empty=True)
_STATES: Final = map_of(
    choice([state.name.lower() for state in FlowState if state is not FlowState.UNMAPPED]), _MAPPED, "done: [Closed]"
)
_ITEM_TYPES: Final = map_of(choice(ITEM_TYPES), _MAPPED, "defect: [Bug]")
_PREFIX: Final = matching("[A-Za-z0-9._-]{1,200}", "letters, digits, dots, _ and - as in a Kafka topic")
_ATTRIBUTES: Final = ("segment", "plan", "account", "kind")
_RUN, _READ, _WRITE = Change.RUN, Change.READ, Change.WRITE

KEYS: Final = (
    Key(
        "broker", ("broker",), BROKER, _RUN,
        "Where events and state are kept: a directory of this machine, or Kafka brokers.",
    ),
    Key(
        "http.listen", ("listen",), LISTEN, _RUN,
        "Host and port of metrics, page, events and health.",
    ),
    Key(
        "http.token_file", ("token_file",), WORD, _RUN,
        "A file with the bearer token that `POST /events` asks for.",
        "none: everybody who reaches the port may send",
    ),
    Key(
        "kpis", ("kpis",), _PATTERNS, _READ,
        "Patterns of the names of the KPIs that are computed.",
    ),
    Key(
        "windows", ("windows_us",), list_of(DURATION, unique=True), _READ,
        "The rolling windows; each is a multiple of the resolution.",
    ),
    Key(
        "resolution", ("resolution_us",), RESOLUTION, _READ,
        "The width of a pane; it divides 15 minutes. "
        "A change to or from a width that is no multiple of 5 minutes is a `write`.",
    ),
    Key(
        "percentiles", ("percentiles",), list_of(integer(1, 100), unique=True), _READ,
        "The percentiles that are shown of durations.",
    ),
    Key(
        "horizon", ("horizon_us",), DURATION, _WRITE,
        "Nothing older is read, and activity older than that is not kept; at least 31 days and the longest window.",
    ),
    Key(
        "timezone", ("timezone",), TIME_ZONE, _READ,
        "The IANA time zone of calendar days.",
    ),
    Key(
        "value_streams.<pattern>.item_types", ("item_types",), _ITEM_TYPES, _READ,
        "For each of feature, defect, risk and debt the patterns of the tool's own types; the first that matches wins.",
        "common tool words",
    ),
    Key(
        "value_streams.<pattern>.states", ("states",), _STATES, _READ,
        "For each of new, waiting, active, done, cancelled, ignore and note the patterns of the tool's own states; "
        "the first that matches wins, and those given replace the default ones as a whole.",
        "common tool words",
    ),
    Key(
        "value_streams.<pattern>.start", ("start",), choice(("first_committed", "created")), _READ,
        "What starts flow time: the first entry into waiting or active, or creation.",
    ),
    Key(
        "value_streams.<pattern>.reopen_gap", ("reopen_gap",), choice(("exclude", "include")), _READ,
        "Whether flow time of a reopened item leaves out the time it sat in done.",
    ),
    Key(
        "surveys.<name>.scale", ("low", "high"), SCALE, _WRITE,
        "The lowest and the highest score that is accepted.",
        "nps, enps: [0, 10]; csat: [1, 5]; ces: [1, 7]",
    ),
    Key(
        "surveys.<name>.top", ("top",), integer(1, 100), _READ,
        "The score is the share of answers in the best so many steps of the scale.",
        "csat: 2",
    ),
    Key(
        "surveys.<name>.better", ("better",), choice(("high", "low")), _READ,
        "The score is the mean answer, and this way is better; "
        "without `top` and `better` it is promoters less detractors on a scale of [0, 10].",
        "ces: high",
    ),
    Key(
        "time_to_value.from", ("time_to_value.start",), WORD, _READ,
        "The milestone that starts the clock.",
    ),
    Key(
        "time_to_value.to", ("time_to_value.value",), WORD, _READ,
        "The milestone that ends it.",
    ),
    Key(
        "time_to_value.within", ("time_to_value.within_us",), list_of(DURATION, unique=True), _READ,
        "The times in which value should be reached.",
    ),
    Key(
        "eligible.<feature>", (), map_of(choice(_ATTRIBUTES), one_or_more(WORD), "segment: enterprise"), _READ,
        "Who could use a feature: for each of segment, plan, account and kind a pattern or a list of them.",
        "none: all who are active in the value stream",
    ),
    Key(
        "expectations.<expected>.within", ("within_us",), DURATION, _READ,
        "A service level expectation of flow_time or request_resolution: how long it may take.",
        "none: no share is shown, and no budget burns",
    ),
    Key(
        "expectations.<expected>.share", ("share",), SHARE, _READ,
        "The share that should be done within that time, such as 85%; the rest is the budget.",
        "none",
    ),
    Key(
        "alerts.owner", ("alerts_owner",), WORD, _RUN,
        "The `owner` label of alerts that name no other.",
    ),
    Key(
        "alerts.runbooks", ("runbooks_url",), WORD, _RUN,
        "The address under which the pages of `docs/runbooks` are read; alerts link to them.",
    ),
    Key(
        "alerts.dashboards", ("dashboards_url",), WORD, _RUN,
        "The address of Grafana, such as https://grafana.example.org; alerts link to its boards.",
        "none: links begin at the root of whatever shows them",
    ),
    Key(
        "alerts.engine.owner", ("engine_owner",), WORD, _RUN,
        "The `owner` label of alerts about the engine itself.",
        "that of the other alerts",
    ),
    Key(
        "alerts.rules.<kpi>.minimum", ("minimum",), THRESHOLD, _RUN,
        "The least change that is told: a percentage of the baseline such as 30%, or for a survey points such as "
        "8 points (of a share, percentage points).",
        "as the page of the KPI says",
    ),
    Key(
        "alerts.rules.<kpi>.better", ("better",), choice(("higher", "lower")), _RUN,
        "Which way the KPI should move: a change the other way is told.",
        "as the page of the KPI says",
    ),
    Key(
        "alerts.rules.<kpi>.samples", ("samples",), integer(1, 1_000_000), _RUN,
        "How many samples must lie under a value that is told.",
        "as the page of the KPI says",
    ),
    Key(
        "alerts.rules.<kpi>.severity", ("severity",), choice(("page", "ticket", "info", OFF)), _RUN,
        "Whom the alert reaches, of a budget that burns at most; off leaves it out.",
        "as the page of the KPI says",
    ),
    Key(
        "alerts.rules.<kpi>.owner", ("owner",), WORD, _RUN,
        "The `owner` label of the alert.",
        "that of all alerts",
    ),
    Key(
        "alerts.rules.<kpi>.for", ("hold_us",), DURATION, _RUN,
        "How long a change must last before it is told.",
        "as the page of the KPI says",
    ),
    Key(
        "alerts.rules.<kpi>.keep_firing_for", ("keep_us",), DURATION, _RUN,
        "How long a change must be over before that is told.",
        "as the page of the KPI says",
    ),
    Key(
        "labels.max_per_metric", ("labels_max",), integer(1, SERIES_MAX), _READ,
        "How many label sets a metric may have in a value stream.",
    ),
    Key(
        "labels.overflow", ("labels_overflow",), OVERFLOW, _READ,
        "The label value that the rest shares.",
    ),
    Key(
        "privacy.pseudonym_key_file", ("pseudonym_key_file",), WORD, _RUN,
        "A file with the key by which ids of people become pseudonyms before they are stored.",
        "none: ids are stored as sent",
    ),
    Key(
        "log.retention", ("log_retention_us",), DURATION, _RUN,
        "How long accepted events are kept; a rebuild reaches back no further.",
    ),
    Key(
        "logging.format", ("logging_format",), choice(("auto", "json", "console")), _RUN,
        "How `flowmetrics run` tells what happens: a JSON object a line, or words; "
        "auto is words on a terminal, JSON elsewhere.",
    ),
    Key(
        "logging.level", ("logging_level",), choice(("debug", "info", "warning", "error")), _RUN,
        "What is told: this and worse.",
    ),
    Key(
        "memory.hot_entities", ("hot_entities_max",), integer(1, 1_000_000_000 - 1), _RUN,
        "How many histories are kept in memory, of a KiB each; the others wait in the store.",
    ),
    Key(
        "topics.prefix", ("topics_prefix",), _PREFIX, _RUN,
        "What the names of the Kafka topics begin with.",
    ),
    Key(
        "topics.partitions", ("topics_partitions",), integer(1, 1000), _RUN,
        "How many partitions each topic has. Numbers do not depend on it, but an engine keeps it: for another one "
        "name another topics.prefix and import the events again.",
    ),
    Key(
        "topics.replication", ("topics_replication",), integer(0, 32), _RUN,
        "On how many brokers each topic is kept; 0 means three, or all where there are fewer.",
    ),
    Key(
        "kafka.security", ("kafka_security",), choice(("none", "tls", "sasl", "sasl_tls")), _RUN,
        "What Kafka asks for: nothing, a certificate, or a name and password, in the clear or over TLS.",
    ),
    Key(
        "kafka.mechanism", ("kafka_mechanism",), choice(("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")), _RUN,
        "How name and password are shown.",
    ),
    Key("kafka.user", ("kafka_user",), WORD, _RUN, "The name shown to Kafka.", "none"),
    Key("kafka.password_file", ("kafka_password_file",), WORD, _RUN, "A file with the password.", "none"),
    Key(
        "kafka.ca_file", ("kafka_ca_file",), WORD, _RUN,
        "The certificates by which brokers are known.",
        "those of the system",
    ),
    Key("kafka.certificate_file", ("kafka_certificate_file",), WORD, _RUN, "The certificate shown to Kafka.", "none"),
    Key("kafka.key_file", ("kafka_key_file",), WORD, _RUN, "The key of that certificate.", "none"),
    Key(
        "kafka.store", ("kafka_store",), WORD, _RUN,
        "The folder of a worker's cache of its partitions; each worker on a machine needs one of its own.",
    ),
    Key(
        "kafka.session", ("kafka_session_us",), duration(6 * SECOND_US, 30 * MINUTE_US), _RUN,
        "How long a worker may be silent before its partitions go to others; brokers allow 6s to 30m.",
    ),
)  # fmt: skip

Tree: TypeAlias = Mapping[str, Union["Tree", Key]]


def _tree() -> Tree:
    tree: dict[str, Any] = {}
    for key in KEYS:
        *parents, last = key.path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = key
    return tree


TREE: Final = _tree()
"""The keys by the parts of their paths."""


def named(tree: Tree) -> str | None:
    """The part in angle brackets where a branch holds names of one's own; None where it holds keys."""
    return next((word for word in tree if word in NAMES), None)
