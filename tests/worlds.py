"""Small adversarial worlds: few names, few instants that collide, and everything that events can say about them.

An event is a dict that `line` turns into a native CloudEvent. Instants are drawn from a pool around T0, the midnight
that Sao Paulo skipped in 2018: the same second, edges of panes, midnights of three zones, edges of windows and
horizons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import msgspec
from hypothesis import strategies as st

from flowmetrics.configuration import Configuration, Survey, TimeToValue, ValueStream

Event: TypeAlias = dict[str, Any]

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
T0: Final = 1_541_300_400 * SECOND
"""2018-11-04T03:00:00Z: the first instant of that day in Sao Paulo, whose clocks went from 00:00 to 01:00."""

# --- configurations -----------------------------------------------------------------------------------------------

HERE: Final[Mapping[str, tuple[str, ...]]] = {
    "new": ("Backlog",),
    "waiting": ("Ready",),
    "active": ("Doing",),
    "done": ("Done",),
    "cancelled": ("Cancelled",),
    "ignore": ("Paused",),
    "note": ("Comment*",),
}
THERE: Final[Mapping[str, tuple[str, ...]]] = {
    "note": ("commented",),
    "done": ("doing",),
    "active": ("ready",),
    "waiting": ("done", "*"),
    "cancelled": ("never",),
}
ELSEWHERE: Final[Mapping[str, tuple[str, ...]]] = {
    "done": ("Ready", "Cancelled"),
    "ignore": ("Done",),
    "cancelled": ("Backlog",),
    "note": ("Zzz",),
    "active": ("*",),
}
TYPES: Final[Mapping[str, tuple[str, ...]]] = {"risk": ("bug",), "debt": ("FEATURE",)}


def streams(start: str = "first_committed", gap: str = "exclude") -> tuple[tuple[str, ValueStream], ...]:
    return (
        ("A*", ValueStream(states=HERE, start=start, reopen_gap=gap)),
        ("B", ValueStream(states=THERE, item_types=TYPES, start=start, reopen_gap=gap)),
    )


CONFIGURATIONS: Final[Mapping[str, Configuration]] = {
    "defaults": Configuration(),
    "streams": Configuration(value_streams=streams(), timezone="Asia/Seoul"),
    "created": Configuration(
        value_streams=streams("created", "include"),
        resolution_us=SECOND,
        percentiles=(1, 50, 99),
        time_to_value=TimeToValue("onboarded", "value_reached", (DAY, 7 * DAY)),
    ),
    "short": Configuration(
        value_streams=streams(gap="include"),
        horizon_us=60 * DAY,
        resolution_us=15 * MINUTE,
        timezone="America/Sao_Paulo",
        eligible={"f": {"segment": ("p",)}, "h": {"plan": ("x", "y"), "segment": ("p", "q")}},
    ),
    "unlike": Configuration(
        value_streams=(
            ("A*", ValueStream(states=HERE, start="created", reopen_gap="exclude")),
            ("B", ValueStream(states=THERE, item_types=TYPES, start="first_committed", reopen_gap="include")),
            ("*", ValueStream(states=ELSEWHERE, item_types={"defect": ("*",)}, start="created", reopen_gap="include")),
        ),
        horizon_us=60 * DAY,
        windows_us=(HOUR, 7 * DAY),
        timezone="Asia/Kathmandu",
    ),
    "shortest": Configuration(
        value_streams=streams("created"),
        windows_us=(HOUR, 2 * DAY),
        horizon_us=31 * DAY,
        timezone="America/Sao_Paulo",
        eligible={"g": {"plan": ("x",)}},
        surveys={"nps": Survey(0, 10), "csat": Survey(1, 5, top=2), "ease": Survey(0, 10, better="low")},
    ),
}

# --- instants -----------------------------------------------------------------------------------------------------

MOMENTS: Final = (0, 0, 1, SECOND, 299 * SECOND, 300 * SECOND, 301 * SECOND, 15 * MINUTE, HOUR)
"""Offsets that collide within a second, a pane or an hour."""

MIDNIGHTS: Final = (-3 * HOUR, 12 * HOUR, 21 * HOUR, 23 * HOUR, 47 * HOUR)
"""Midnights of UTC, Seoul, UTC, Sao Paulo, Sao Paulo."""

DAYS: Final = (
    1,
    2,
    4,
    6,
    7,
    8,
    14,
    29,
    30,
    31,
    37,
    38,
    40,
    42,
    60,
    62,
    71,
    72,
    90,
    100,
    120,
    121,
    131,
    180,
    400,
    440,
    800,
    900,
)
"""Days at which windows, cohorts, horizons and silences end, and a little after."""


def text(at: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).isoformat()


def line(event: Event) -> bytes:
    return msgspec.json.encode(event)


def offsets(longest: int = 1000 * DAY) -> st.SearchStrategy[int]:
    near = st.sampled_from(MOMENTS) | st.sampled_from(MIDNIGHTS)
    far = st.builds(
        lambda days, rest: days * DAY + rest,
        st.sampled_from([days for days in DAYS if days * DAY < longest - 5 * DAY]),
        st.sampled_from((0, 0, 1, -1, SECOND, -SECOND, -2 * MINUTE, 5 * MINUTE, HOUR, *MIDNIGHTS)),
    )
    return near | far


# --- events -------------------------------------------------------------------------------------------------------

LONG: Final = "x" * 127 + "yz"
"""A word that is too long for a label by one character."""

VALUE_STREAMS: Final = (*6 * ("A1",), "B", "B", "B", "C", "C", f"A{LONG}")
"""Words that collide are drawn often; those that a label cannot be, seldom."""
STATES: Final = ("Backlog", "Ready", "Doing", "Done", "Done", "Cancelled", "Paused", "Commented", "Zzz")
PEOPLE: Final = ("a", "a", "b", "c")
_sequences: Final = st.sampled_from((None, None, None, 0, 1, "2", "10", 9))
_streams: Final = st.sampled_from(VALUE_STREAMS)
_segments: Final = st.sampled_from((*4 * ("p",), *3 * ("q",), "", "all", LONG, f"{LONG}z"))
_features: Final = st.sampled_from((*5 * ("f",), "g", "g", "h", "", "all", LONG))


def told(always: Mapping[str, st.SearchStrategy[Any]], sometimes: Mapping[str, Any]) -> st.SearchStrategy[Event]:
    return st.fixed_dictionaries(dict(always), optional=dict(sometimes))


FIELDS: Final[Mapping[str, st.SearchStrategy[Event]]] = {
    "item": told(
        {"item": st.sampled_from(("I1", "I1", "I2")), "value_stream": _streams, "state": st.sampled_from(STATES)},
        {
            "item_type": st.sampled_from(("Bug", "Feature", "zzz", "")),
            "blocked": st.booleans(),
            "deleted": st.sampled_from((False, False, True)),
            "team": st.sampled_from("xy"),
            "title": st.just("t"),
        },
    ),
    "request": told(
        {
            "request": st.sampled_from(("R1", "R1", "R2", "R3")),
            "value_stream": _streams,
            "state": st.sampled_from(STATES),
        },
        {
            "channel": st.sampled_from((*4 * ("web",), "email", "email", "", "all", LONG, f"{LONG}z")),
            "duplicate_of": st.sampled_from(("", "", "R1", "R2", "R3", "R9")),
            "customer": st.sampled_from(PEOPLE),
        },
    ),
    "activity": told(
        {"customer": st.sampled_from(PEOPLE), "value_stream": _streams},
        {
            "feature": _features,
            "segment": _segments,
            "actor": st.sampled_from(("human", "human", "bot", "internal", "test")),
        },
    ),
    "customer": told(
        {"customer": st.sampled_from(PEOPLE)},
        {
            "value_stream": st.sampled_from((*VALUE_STREAMS, "")),
            "milestone": st.sampled_from(("signed_up", "value_reached", "onboarded")),
            "segment": _segments,
            "plan": st.sampled_from(("x", "y", "z")),
        },
    ),
    "alias": told(
        {"customer": st.sampled_from(PEOPLE), "aliases": st.lists(st.sampled_from(("a", "b", "c", "d")), max_size=2)},
        {"segment": _segments, "value_stream": _streams},
    ),
    "response": told(
        {"respondent": st.sampled_from(PEOPLE), "value_stream": _streams, "survey": st.just("nps")},
        {
            "response": st.sampled_from(("1", "2")),
            "touchpoint": st.sampled_from((*4 * ("u",), "v", "v", "", "all", LONG)),
            "segment": _segments,
            "partial": st.booleans(),
        },
    ),
    "erase": told({"person": st.sampled_from(PEOPLE)}, {}),
    "touchpoint": told(
        {"customer": st.sampled_from(PEOPLE), "value_stream": _streams, "journey": st.just("j")},
        {"touchpoint": st.just("u")},
    ).map(lambda fields: {"touchpoint": "u", **fields}),
    "change": told({"id": st.just("1"), "value_stream": _streams}, {}),
    "deployment": told({"id": st.just("1"), "value_stream": _streams}, {}),
    "incident": told({"id": st.just("1"), "value_stream": _streams}, {}),
    "business": told({"value_stream": _streams, "measure": st.just("leads"), "amount": st.integers(0, 3)}, {}),
}

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "items": ("item",),
    "requests": ("request",),
    "customers": ("activity", "activity", "customer"),
    "surveys": ("response", "response", "response", "alias"),
    "people": ("activity", "customer", "alias", "erase", "response"),
    "returns": ("activity", "activity", "customer", "response"),
    "everything": tuple(FIELDS),
}
"""Which events a world of a kind is made of; small worlds find more and shrink better."""

SILENT: Final = ("items", "requests", "returns")
"""Kinds of worlds in which somebody may be silent for so long that they begin anew."""

RETURNS: Final = (0, 1, 8, 29, 30, 49, 60, 71, 72, 99, 100, 101, 121, 131, 149, 160, 179, 180, 200)
"""Days between which somebody of a small horizon is or is not silent for too long."""


@st.composite
def events(draw: st.DrawFn, kind: str, configuration: Configuration, at: st.SearchStrategy[int]) -> Event:
    what = draw(st.sampled_from(KINDS[kind]))
    data = draw(FIELDS[what])
    if what == "response":
        survey = draw(st.sampled_from(sorted(configuration.surveys)))
        scale = configuration.surveys[survey]
        data = {**data, "survey": survey, "score": draw(st.integers(scale.low, scale.high))}
    sequence = draw(_sequences)
    return {
        "specversion": "1.0",
        "id": draw(st.sampled_from("123456")),
        "source": draw(st.sampled_from("sst")),
        "type": f"flowmetrics.{'customer' if what == 'alias' else what}.v1",
        "time": text(T0 + draw(at)),
        **({} if sequence is None else {"sequence": sequence}),
        "data": data,
    }


@dataclass(frozen=True)
class World:
    """Events, and at which instants to look."""

    settings: str
    events: Sequence[Event]
    nows: Sequence[int]

    @property
    def configuration(self) -> Configuration:
        return CONFIGURATIONS[self.settings]


@st.composite
def worlds(draw: st.DrawFn, kind: str, size: int = 10) -> World:
    settings = draw(st.sampled_from(("short", "shortest") if kind == "returns" else sorted(CONFIGURATIONS)))
    configuration = CONFIGURATIONS[settings]
    longest = 1000 * DAY if kind in SILENT else configuration.horizon_us + 40 * DAY
    days = st.builds(lambda day, rest: day * DAY + rest, st.sampled_from(RETURNS), st.sampled_from((0, 0, 1, SECOND)))
    pool = draw(st.lists(days if kind == "returns" else offsets(longest), min_size=1, max_size=6))
    least = draw(st.integers(1, size))
    facts = draw(st.lists(events(kind, configuration, st.sampled_from(pool)), min_size=least, max_size=size))
    later = st.builds(
        lambda at, more, rest: at + more + rest,
        st.sampled_from(pool),
        st.sampled_from((0, 0, HOUR, DAY, 2 * DAY, 7 * DAY, 8 * DAY, 30 * DAY, 31 * DAY, 60 * DAY)),
        st.sampled_from((0, 0, 1, -1, SECOND, -SECOND, 5 * MINUTE)),
    )
    nows = draw(st.lists(later | offsets(), min_size=1, max_size=3))
    return World(settings, facts, sorted(T0 + now for now in nows))


@dataclass(frozen=True)
class Delivery:
    """One way in which a world may reach the engine: for each look, the batches that come before it."""

    batches: Sequence[Sequence[Sequence[Event]]]


@st.composite
def deliveries(draw: st.DrawFn, world: World) -> Delivery:
    """Any order, some twice, any split into batches, some only after the clock has moved on."""
    looks = len(world.nows)
    arrivals: list[list[Event]] = [[] for _ in range(looks)]
    for event in draw(st.permutations(world.events)):
        first = draw(st.integers(0, looks - 1))
        arrivals[first].append(event)
        if draw(st.booleans()) and draw(st.booleans()):
            arrivals[draw(st.integers(first, looks - 1))].append(event)
    return Delivery([split(arrived, draw(st.integers(1, 4))) for arrived in arrivals])


def split(arrived: Sequence[Event], size: int) -> list[Sequence[Event]]:
    return [arrived[i : i + size] for i in range(0, len(arrived), size)]
