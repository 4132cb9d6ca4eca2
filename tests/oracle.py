"""The truth by brute force: a set of events, an instant and a configuration in, every published KPI out.

Written from the contract and the definitions, not from the engine: no histories, no contributions, no panes that are
kept up to date. Each KPI is one small function over the whole set. Slow on purpose; it only has to be right.

`Configuration` is used for its fields alone; patterns, days and durations are read here anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from flowmetrics.configuration import Configuration, Survey, ValueStream

Values: TypeAlias = dict[str, float]
Row: TypeAlias = tuple[str, float]

SECOND = 1_000_000
DAY = 86_400 * SECOND
ITEM_TYPES = ("feature", "defect", "risk", "debt")
RANKS = ("unmapped", "note", "new", "waiting", "active", "ignore", "done", "cancelled")
CUSTOMER_AHEAD = 40 * DAY
GRAIN = 300 * SECOND
STICKY_DAYS = 30
LABEL_CHARACTERS = 128
RETENTION_DAYS = (1, 7, 30)
Z = 1.959963984540054


def oracle(events: list[dict[str, Any]], now: int, configuration: Configuration) -> Values:
    """Every KPI metric at `now` (microseconds since 1970), as `metric{label="v",…}` → value."""
    world = World(events, now, configuration)
    return {name: value for kpi in KPIS for name, value in kpi(world)}


# --- facts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    """One event that is known: what was told, when, and what settles ties."""

    kind: str
    at: int
    sequence: int
    id: str
    source: str
    body: str
    told: dict[str, Any]

    @property
    def order(self) -> tuple[int, int, str, str, str]:
        return self.at, self.sequence, self.id, self.source, self.body


BODIES: dict[str, tuple[str, ...]] = {
    "item": ("value_stream", "state", "item_type", "team", "parent", "title", "blocked", "deleted"),
    "request": (
        "value_stream", "state", "channel", "customer", "priority", "party", "handle_seconds", "duplicate_of",
    ),
    "response": ("value_stream", "survey", "touchpoint", "segment", "score"),
}  # fmt: skip
"""In which order the fields of a body settle the last tie: two facts of one time, sequence, state, id and source.
The contract says "body"; any fixed order is as good, this is the one in use."""


LABELS = ("value_stream", "channel", "feature", "segment", "touchpoint")
"""The fields whose words become labels: of a word that is too long the beginning is all that is read."""


def fact_of(event: dict[str, Any]) -> Fact:
    told = {name: value for name, value in event["data"].items() if value is not None}
    sequence = event.get("sequence")
    kind = event["type"].removeprefix("flowmetrics.").removesuffix(".v1")
    empty = "" if kind == "response" else None
    return Fact(
        kind,
        instant(event["time"]),
        -1 if sequence is None else int(sequence),
        event["id"],
        event["source"],
        json.dumps([told.get(name, empty) for name in BODIES.get(kind, ())], separators=(",", ":"), ensure_ascii=False),
        {**told, **{name: told[name][:LABEL_CHARACTERS] for name in LABELS if name in told}},
    )


def instant(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def matching(word: str, patterns: Iterable[tuple[str, str]]) -> str | None:
    """The first flow word whose pattern matches, whatever the case."""
    return next((answer for answer, pattern in patterns if fnmatchcase(word.lower(), pattern.lower())), None)


def metric(name: str, stream: str, **labels: str) -> str:
    pairs = [("value_stream", stream), *labels.items()]
    return f"flowmetrics_{name}{{" + ",".join(f'{label}="{value}"' for label, value in pairs) + "}"


def label(told: str | None) -> str:
    """The label of a word: `none` where nothing was said; the word for a total is left to the total."""
    return "all_" if told == "all" else told or "none"


def duration(us: int) -> str:
    unit, text = next(
        (n, t) for n, t in ((DAY, "d"), (3600 * SECOND, "h"), (60 * SECOND, "m"), (SECOND, "s")) if us % n == 0
    )
    return f"{us // unit}{text}"


@dataclass(frozen=True)
class Step:
    """A work item or request after one of its facts. `state` is None until one is told."""

    at: int
    stream: str
    state: str | None
    paused: bool
    blocked: bool
    item_type: str
    channel: str

    @property
    def flow(self) -> str | None:
        return "waiting" if self.state == "active" and self.blocked else self.state


@dataclass(frozen=True)
class Mark:
    """Something that counts once: where, under which label, when, and how long it took."""

    stream: str
    label: str
    at: int
    us: int = 0
    active_us: int = 0


class World:
    """The facts known at `now`, and the few words in which every KPI is written."""

    def __init__(self, events: Sequence[dict[str, Any]], now: int, configuration: Configuration) -> None:
        self.now = now
        self.configuration = configuration
        unique = {json.dumps(event, sort_keys=True): event for event in events}
        self.facts = [fact for fact in map(fact_of, unique.values()) if fact.at <= now]

    # panes and windows

    def pane(self, at: int) -> int:
        return -(-at // self.configuration.resolution_us)

    def inside(self, at: int, width_us: int) -> bool:
        """Whether `at` lies in the window of that width which ends now."""
        end = self.pane(self.now)
        return end - width_us // self.configuration.resolution_us < self.pane(at) <= end

    def retained(self, at: int) -> bool:
        """Whether the pane of `at` is not older than the horizon; it may be ahead of now."""
        return self.pane(at) > self.pane(self.now) - self.configuration.horizon_us // self.configuration.resolution_us

    @property
    def windows(self) -> list[tuple[str, int]]:
        return [(duration(us), us) for us in self.configuration.windows_us]

    @property
    def horizon(self) -> int:
        return self.configuration.horizon_us

    @property
    def declared_streams(self) -> set[str]:
        return {name for name, _ in self.configuration.value_streams if not any(c in name for c in "*?[")}

    # days

    def day(self, at: int) -> date:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
        return moment.astimezone(ZoneInfo(self.configuration.timezone)).date()

    def begin(self, day: date) -> int:
        return first_instant(day, self.configuration.timezone)

    # reading words

    def stream(self, name: str) -> ValueStream:
        return next((s for p, s in self.configuration.value_streams if fnmatchcase(name, p)), ValueStream())

    def state(self, fact: Fact) -> str:
        states = self.stream(fact.told["value_stream"]).states
        return matching(fact.told["state"], ((flow, p) for flow, ps in states.items() for p in ps)) or "unmapped"

    def item_type(self, stream: str, native: str) -> str:
        types = self.stream(stream).item_types
        return (native and matching(native, ((kind, p) for kind, ps in types.items() for p in ps))) or "unmapped"

    # entities

    def named(self, kind: str) -> dict[str, list[Fact]]:
        """The facts of each item or request, in their one order, since the last long silence."""
        groups: dict[str, list[Fact]] = {}
        for fact in self.facts:
            if fact.kind == kind:
                groups.setdefault(fact.told[kind], []).append(fact)
        return {name: since_silence(self.in_order(facts), 2 * self.horizon) for name, facts in groups.items()}

    def in_order(self, facts: Iterable[Fact]) -> list[Fact]:
        return sorted(
            facts,
            key=lambda f: (f.at, f.sequence, RANKS.index(self.state(f)), f.id, f.source, f.body),
        )

    def steps(self, facts: Sequence[Fact]) -> list[Step]:
        return list(self._steps(facts))

    def _steps(self, facts: Sequence[Fact]) -> Iterator[Step]:
        state: str | None = None
        paused, blocked, native, channel = False, False, "", ""
        for i, fact in enumerate(facts):
            told = self.state(fact)
            if told in ("unmapped", "note"):
                state = "new" if i == 0 else state
            elif told == "ignore":
                paused = True
            else:
                state, paused = told, False
            stream = fact.told["value_stream"]
            blocked = fact.told.get("blocked", blocked)
            native = fact.told.get("item_type", native)
            channel = fact.told.get("channel", channel)
            yield Step(fact.at, stream, state, paused, blocked, self.item_type(stream, native), label(channel))

    @cached_property
    def items(self) -> list[list[Step]]:
        return [self.steps(facts) for facts in self.named("item").values() if not latest(facts, "deleted", False)]

    @cached_property
    def requests(self) -> list[tuple[int, list[Step]]]:
        """Creation and steps of the requests that are not duplicates of others."""
        named = self.named("request")
        duplicate_of = {name: latest(facts, "duplicate_of", "") for name, facts in named.items()}

        def leads_to(name: str, survivor: str) -> bool:
            seen: set[str] = set()
            while name not in seen and name != survivor and name in duplicate_of:
                seen.add(name)
                name = duplicate_of[name]
            return name == survivor

        def created_at(name: str) -> int:
            """The earliest word on it or its duplicates, since all of them were silent for long."""
            pooled = [fact for other, facts in named.items() if leads_to(other, name) for fact in facts]
            pooled.sort(key=lambda fact: fact.at)
            return min(named[name][0].at, since_silence(pooled, 2 * self.horizon)[0].at)

        return [(created_at(name), self.steps(facts)) for name, facts in named.items() if not duplicate_of[name]]

    # people

    @cached_property
    def erasures(self) -> list[tuple[set[str], int]]:
        """Whom each erase concerns: everybody linked by what was told up to its time, withdrawn or not."""
        erasures = []
        for erase in (f for f in self.facts if f.kind == "erase"):
            group = {erase.told["person"]}
            links = [{name_of(f), *f.told["aliases"]} for f in self.facts if f.at <= erase.at and f.told.get("aliases")]
            for _ in links:
                group = group.union(*(link for link in links if link & group))
            erasures.append((group, erase.at))
        return erasures

    @cached_property
    def people(self) -> list[list[Fact]]:
        """The facts of each person that count: those of people, not erased, since the last long silence."""
        facts = [
            f
            for f in self.facts
            if f.kind in ("activity", "customer", "response")
            and f.told.get("actor", "human") == "human"
            and not hidden(f, self.erasures)
            and not on_erased_day(f, self.erasures)
        ]
        lives = [
            since_silence(
                sorted((*(f for f in facts if name_of(f) in group), *self.erased(group)), key=lambda f: f.order),
                self.horizon + CUSTOMER_AHEAD,
                self.to_grain,
            )
            for group in groups_of(facts)
        ]
        return [told for life in lives if (told := [f for f in life if f.kind != "erase"])]

    def erased(self, group: set[str]) -> list[Fact]:
        """The latest erase of each name: that somebody was erased is heard of them, and ends a silence."""
        marks = []
        for name in sorted(group):
            at = max((at for names, at in self.erasures if name in names), default=None)
            marks += [f for f in self.facts if f.kind == "erase" and f.at == at][:1]
        return marks

    def to_grain(self, fact: Fact) -> int:
        """When somebody was heard of: exact on an edge of the grain, between two edges no more is kept than that."""
        grain = GRAIN if self.configuration.resolution_us % GRAIN == 0 else self.configuration.resolution_us
        return fact.at - fact.at % grain + (grain // 2 if fact.at % grain else 0)

    def activity(self, person: Sequence[Fact]) -> list[Fact]:
        return [f for f in person if f.kind == "activity"]

    # what every count shares

    def shown(self, marks: Sequence[Mark], declared: Sequence[str]) -> Iterator[tuple[str, str, list[Mark]]]:
        """Value stream, label and marks of what is shown: the declared labels, and others that have a mark."""
        alive = [mark for mark in marks if self.retained(mark.at)]
        for stream in self.declared_streams | {mark.stream for mark in alive}:
            here = [mark for mark in alive if mark.stream == stream]
            for label in {*declared, *(mark.label for mark in here)}:
                yield stream, label, [mark for mark in here if label in (mark.label, "all")]


@lru_cache(10_000)
def first_instant(day: date, zone: str) -> int:
    """The first instant that exists of a local day; zones change at quarters of an hour."""
    at = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * SECOND - DAY
    while (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).astimezone(ZoneInfo(zone)).date() < day:
        at += 900 * SECOND
    return at


def since_silence(
    facts: Sequence[Fact], longest: int, when: Callable[[Fact], int] = lambda fact: fact.at
) -> list[Fact]:
    """Somebody or something silent for longer begins anew."""
    begin = 0
    for i in range(1, len(facts)):
        if when(facts[i]) - when(facts[i - 1]) > longest:
            begin = i
    return list(facts[begin:])


def latest(facts: Sequence[Fact], name: str, otherwise: Any) -> Any:
    """The value of a field told last; an absent field means unchanged."""
    return next((fact.told[name] for fact in reversed(facts) if name in fact.told), otherwise)


def name_of(fact: Fact) -> str:
    name: str = fact.told["respondent" if fact.kind == "response" else "customer"]
    return name


def hidden(fact: Fact, erasures: Sequence[tuple[set[str], int]]) -> bool:
    return any(fact.at <= at and name_of(fact) in group for group, at in erasures if fact.kind in PERSONAL)


def on_erased_day(fact: Fact, erasures: Sequence[tuple[set[str], int]]) -> bool:
    """Activity is told apart by UTC day only, so an erase hides that of its whole day."""
    return fact.kind == "activity" and any(
        fact.at // DAY <= at // DAY and name_of(fact) in group for group, at in erasures
    )


PERSONAL = ("activity", "customer", "response", "touchpoint")


def groups_of(facts: Iterable[Fact]) -> list[set[str]]:
    """Who is one person: names joined by the latest list of aliases of either."""
    facts = [f for f in facts if f.kind in PERSONAL]
    lists = sorted((f for f in facts if "aliases" in f.told), key=lambda f: (*f.order[:4], f.told["aliases"]))
    told = {name_of(f): f.told["aliases"] for f in lists}
    groups = [{name} for name in {name_of(f) for f in facts} | {a for aliases in told.values() for a in aliases}]
    for name, aliases in told.items():
        for alias in aliases:
            joined = [g for g in groups if name in g or alias in g]
            groups = [g for g in groups if g not in joined] + [set().union(*joined)]
    return groups


# --- the clock of a work item -------------------------------------------------------------------------------------


def done_began(steps: Sequence[Step]) -> int | None:
    """The index of the step with which the current unbroken run of done began; None when it is not done now."""
    if steps[-1].state != "done":
        return None
    begin = len(steps) - 1
    while begin > 0 and steps[begin - 1].state == "done":
        begin -= 1
    return begin


def spent(world: World, steps: Sequence[Step], until: int) -> int | None:
    """Microseconds on the clock up to the instant of the last step or `until`; None when it never started."""
    total, started = 0, False
    for i, step in enumerate(steps):
        stream = world.stream(step.stream)
        created = stream.start == "created"
        started = started or created or step.flow in ("waiting", "active")
        end = steps[i + 1].at if i + 1 < len(steps) else until
        runs = (
            step.flow in ("waiting", "active")
            or (step.flow == "new" and created)
            or (step.flow == "done" and stream.reopen_gap == "include")
        )
        if started and runs and not step.paused:
            total += end - step.at
    return total if started else None


def spent_active(steps: Sequence[Step], until: int) -> int:
    ends = [*(step.at for step in steps[1:]), until]
    return sum(
        end - step.at for step, end in zip(steps, ends, strict=True) if step.flow == "active" and not step.paused
    )


def completions(world: World) -> list[tuple[Mark, bool]]:
    """One mark for each item that is done now, and whether its flow time could be measured."""
    marks = []
    for steps in world.items:
        begin = done_began(steps)
        if begin is not None:
            at = steps[begin].at
            before = steps[:begin]
            clock = spent(world, before, at) if before else None
            if clock is None and world.stream(steps[begin].stream).start == "created":
                clock = 0
            marks.append(
                (
                    Mark(
                        steps[begin].stream,
                        steps[begin].item_type,
                        at,
                        clock or 0,
                        spent_active(before, at) if before else 0,
                    ),
                    clock is not None,
                )
            )
    return marks


# --- readings that KPIs share -------------------------------------------------------------------------------------


def counts(world: World, name: str, label: str, marks: Sequence[Mark], declared: Sequence[str]) -> Iterator[Row]:
    for stream, value, here in world.shown(marks, declared):
        for window, width in world.windows:
            n = sum(world.inside(mark.at, width) for mark in here)
            yield metric(name, stream, **{label: value}, window=window), float(n)


def level(world: World, name: str, label: str, marks: Sequence[Mark], declared: Sequence[str]) -> Iterator[Row]:
    for stream, value, here in world.shown(marks, declared):
        n = sum(world.inside(mark.at, world.horizon) for mark in here)
        yield metric(name, stream, **{label: value}), float(n)


def nearest_rank(values: Iterable[float], percentile: int) -> float:
    ranked = sorted(values)
    return ranked[(percentile * len(ranked) + 99) // 100 - 1]


def percentiles(world: World, values: Sequence[float], name: Callable[[str], str]) -> Iterator[Row]:
    if values:
        for percentile in world.configuration.percentiles:
            yield name(f"p{percentile}"), nearest_rank(values, percentile)


# --- the flow of work ---------------------------------------------------------------------------------------------


def flow_time(world: World) -> Iterator[Row]:
    marks = [mark for mark, measured in completions(world) if measured]
    for stream, item_type, here in world.shown(marks, ["all"]):
        for window, width in world.windows:
            values = [mark.us / SECOND for mark in here if world.inside(mark.at, width)]
            yield from percentiles(
                world,
                values,
                lambda p, s=stream, t=item_type, w=window: metric(  # type: ignore[misc]
                    "flow_time_seconds", s, item_type=t, window=w, percentile=p
                ),
            )


def flow_velocity(world: World) -> Iterator[Row]:
    marks = [mark for mark, _ in completions(world)]
    return counts(world, "flow_velocity_items", "item_type", marks, [*ITEM_TYPES, "all"])


def flow_distribution(world: World) -> Iterator[Row]:
    marks = [mark for mark, _ in completions(world)]
    for stream, item_type, here in world.shown(marks, [*ITEM_TYPES, "all"]):
        for window, width in world.windows:
            whole = sum(world.inside(mark.at, width) for mark in marks if mark.stream == stream)
            part = sum(world.inside(mark.at, width) for mark in here)
            if whole:
                yield metric("flow_distribution_ratio", stream, item_type=item_type, window=window), part / whole


def flow_efficiency(world: World) -> Iterator[Row]:
    marks = [mark for mark, measured in completions(world) if measured]
    for stream, item_type, here in world.shown(marks, ["all"]):
        for window, width in world.windows:
            inside = [mark for mark in here if world.inside(mark.at, width)]
            whole = sum(mark.us for mark in inside)
            if whole:
                name = metric("flow_efficiency_ratio", stream, item_type=item_type, window=window)
                yield name, sum(mark.active_us for mark in inside) / whole


def in_progress(world: World) -> list[tuple[Mark, str]]:
    """The items in progress that are not older than the horizon."""
    return [(mark, state) for mark, state in unfinished(world) if world.inside(mark.at, world.horizon)]


def unfinished(world: World) -> list[tuple[Mark, str]]:
    """A mark at the virtual start of each item in progress now, and its flow state."""
    marks = []
    for steps in world.items:
        step = steps[-1]
        states = load_states(world, step.stream)
        if step.flow in states and not step.paused:
            start = world.now - (spent(world, steps, world.now) or 0)
            marks.append((Mark(step.stream, step.item_type, start), step.flow or ""))
    return marks


def load_states(world: World, stream: str) -> tuple[str, ...]:
    return ("new",) * (world.stream(stream).start == "created") + ("waiting", "active")


def flow_load(world: World) -> Iterator[Row]:
    found = in_progress(world)
    finished = {mark.stream for mark, _ in completions(world) if world.retained(mark.at)}
    streams = world.declared_streams | finished | {mark.stream for mark, _ in found}
    for stream in streams:
        here = [(mark.label, state) for mark, state in found if mark.stream == stream]
        for item_type in {*ITEM_TYPES, "all", *(label for label, _ in here)}:
            for state in {*load_states(world, stream), *(state for _, state in here)}:
                n = sum(item_type in (label, "all") and state == s for label, s in here)
                yield metric("flow_load_items", stream, item_type=item_type, state=state), float(n)


def items_beyond_horizon(world: World) -> Iterator[Row]:
    marks = [Mark(mark.stream, mark.label, mark.at + world.horizon) for mark, _ in unfinished(world)]
    return level(world, "items_beyond_horizon", "item_type", marks, [*ITEM_TYPES, "all"])


def item_age(world: World) -> Iterator[Row]:
    for stream, item_type, here in world.shown([mark for mark, _ in in_progress(world)], ["all"]):
        yield from percentiles(
            world,
            [(world.now - mark.at) / SECOND for mark in here],
            lambda p, s=stream, t=item_type: metric(  # type: ignore[misc]
                "item_age_seconds", s, item_type=t, percentile=p
            ),
        )


def items_reopened(world: World) -> Iterator[Row]:
    marks = [
        Mark(step.stream, step.item_type, step.at)
        for steps in world.items
        for before, step in pairwise(steps)
        if before.state == "done" and step.state in ("new", "waiting", "active")
    ]
    return counts(world, "items_reopened", "item_type", marks, [*ITEM_TYPES, "all"])


# --- requests -----------------------------------------------------------------------------------------------------


def resolved(world: World, created: int, steps: Sequence[Step], index: int) -> Mark:
    """A mark for the solution that is the step of that index: how long it took, without the time it was paused."""
    at = steps[index].at
    paused = sum(after.at - step.at for step, after in pairwise(steps[: index + 1]) if step.paused)
    return Mark(steps[index].stream, steps[index].channel, at, at - created - paused)


def resolutions(world: World) -> tuple[list[Mark], list[Mark]]:
    """The first and the full resolution of every request that has one."""
    first, full = [], []
    for created, steps in world.requests:
        if steps[-1].state != "cancelled":
            ever = next((i for i, step in enumerate(steps) if step.state == "done"), None)
            begin = done_began(steps)
            first += [resolved(world, created, steps, ever)] if ever is not None else []
            full += [resolved(world, created, steps, begin)] if begin is not None else []
    return first, full


def request_resolution(world: World) -> Iterator[Row]:
    for kind, marks in zip(("first", "full"), resolutions(world), strict=True):
        for stream, channel, here in world.shown(marks, ["all"]):
            for window, width in world.windows:
                yield from percentiles(
                    world,
                    [mark.us / SECOND for mark in here if world.inside(mark.at, width)],
                    lambda p, s=stream, c=channel, k=kind, w=window: metric(  # type: ignore[misc]
                        "request_resolution_seconds", s, channel=c, kind=k, window=w, percentile=p
                    ),
                )


def requests_resolved(world: World) -> Iterator[Row]:
    return counts(world, "requests_resolved", "channel", resolutions(world)[1], ["all"])


def open_requests(world: World) -> list[Mark]:
    """A mark at the creation of each request that is open now."""
    return [
        Mark(steps[-1].stream, steps[-1].channel, created)
        for created, steps in world.requests
        if steps[-1].state in ("new", "waiting", "active") and not steps[-1].paused
    ]


def requests_open(world: World) -> Iterator[Row]:
    """How many are open, also zero, wherever requests are open or resolved."""
    found = [mark for mark in open_requests(world) if world.inside(mark.at, world.horizon)]
    solved = [mark for mark in resolutions(world)[1] if world.retained(mark.at)]
    for stream in world.declared_streams | {mark.stream for mark in [*found, *solved]}:
        here = [mark.label for mark in found if mark.stream == stream]
        for channel in {"all", *here, *(mark.label for mark in solved if mark.stream == stream)}:
            n = sum(channel in (label, "all") for label in here)
            yield metric("requests_open", stream, channel=channel), float(n)


def requests_beyond_horizon(world: World) -> Iterator[Row]:
    marks = [Mark(mark.stream, mark.label, mark.at + world.horizon) for mark in open_requests(world)]
    return level(world, "requests_beyond_horizon", "channel", marks, ["all"])


# --- value --------------------------------------------------------------------------------------------------------


def attribute(person: Sequence[Fact], name: str) -> str:
    """What was told last of a person; answers carry a segment of their own, which says nothing about the person."""
    words = [((*f.order[:4], f.told[name]), f.told[name]) for f in person if f.kind != "response" and name in f.told]
    return str(max(words)[1]) if words else ""


def segment_of(person: Sequence[Fact]) -> str:
    return label(attribute(person, "segment"))


def journeys(world: World) -> list[tuple[str, str, int | None, int | None]]:
    """Value stream, segment, start and value instant of each person in each value stream they have milestones in."""
    names = world.configuration.time_to_value
    found = []
    for person in world.people:
        milestones = [f for f in person if f.told.get("milestone") in (names.start, names.value)]
        streams = {f.told["value_stream"] for f in milestones if f.told.get("value_stream")}
        streams = streams or {f.told["value_stream"] for f in world.activity(person)} or {"none"}
        for stream in streams if milestones else ():
            here = [f for f in milestones if f.told.get("value_stream") in (None, "", stream)]
            start, value = (
                min((f.at for f in here if f.told["milestone"] == name), default=None)
                for name in (names.start, names.value)
            )
            found.append((stream, segment_of(person), start, value))
    return found


def time_to_value(world: World) -> Iterator[Row]:
    marks = [
        Mark(stream, segment, value, max(0, value - start))
        for stream, segment, start, value in journeys(world)
        if start is not None and value is not None
    ]
    for stream, segment, here in world.shown(marks, ["all"]):
        for window, width in world.windows:
            yield from percentiles(
                world,
                [mark.us / SECOND for mark in here if world.inside(mark.at, width)],
                lambda p, s=stream, g=segment, w=window: metric(  # type: ignore[misc]
                    "time_to_value_seconds", s, segment=g, window=w, percentile=p
                ),
            )


def value_before_start(world: World) -> Iterator[Row]:
    marks = [
        Mark(stream, segment, value)
        for stream, segment, start, value in journeys(world)
        if start is not None and value is not None and value < start
    ]
    return counts(world, "value_before_start_users", "segment", marks, ["all"])


def value_reached(world: World) -> Iterator[Row]:
    for within in world.configuration.time_to_value.within_us:
        marks = [
            Mark(stream, segment, start + within, int(value is not None and value <= start + within))
            for stream, segment, start, value in journeys(world)
            if start is not None
        ]
        for stream, segment, here in world.shown(marks, ["all"]):
            mature = [mark.us for mark in here if world.inside(mark.at, world.horizon)]
            if mature:
                name = metric("value_reached_ratio", stream, segment=segment, within=duration(within))
                yield name, sum(mature) / len(mature)


# --- activity, adoption, retention --------------------------------------------------------------------------------


def used(world: World, person: Sequence[Fact]) -> dict[str, list[int]]:
    """When a person was active, by value stream."""
    instants: dict[str, list[int]] = {}
    for fact in world.activity(person):
        instants.setdefault(fact.told["value_stream"], []).append(fact.at)
    return instants


def active_users(world: World) -> Iterator[Row]:
    marks = [
        Mark(stream, "", max(instants)) for person in world.people for stream, instants in used(world, person).items()
    ]
    for stream, _, here in world.shown(marks, [""]):
        for window, width in world.windows:
            n = sum(world.inside(mark.at, width) for mark in here)
            yield metric("active_users", stream, window=window), float(n)


def stickiness(world: World) -> Iterator[Row]:
    today = world.day(world.now)
    days: dict[str, list[int]] = {}
    for person in world.people:
        for stream, instants in used(world, person).items():
            active = {day for day in map(world.day, instants) if today - timedelta(days=STICKY_DAYS) < day}
            if active:
                days.setdefault(stream, []).append(len(active))
    for stream, each in days.items():
        yield metric("stickiness_ratio", stream), sum(each) / STICKY_DAYS / len(each)


def adoption(world: World) -> Iterator[Row]:
    for stream in {f.told["value_stream"] for p in world.people for f in p if f.told.get("value_stream")}:
        last = [last_uses(world, person, stream) for person in world.people]
        features = {f for uses in last for f, at in uses.items() if world.inside(at, world.horizon)}
        configured = {f for f in world.configuration.eligible if eligible(world, stream, f, world.horizon)}
        for feature in features - set(world.configuration.eligible) | configured:
            yield from adoption_of(world, stream, feature, last)


def adoption_of(world: World, stream: str, feature: str, last: Sequence[dict[str, int]]) -> Iterator[Row]:
    for window, width in world.windows:
        among = eligible(world, stream, feature, width)
        adopted = [i for i in among if feature in last[i] and world.inside(last[i][feature], width)]
        labels = {"feature": feature, "window": window}
        yield metric("adopted_users", stream, **labels), float(len(adopted))
        yield metric("eligible_users", stream, **labels), float(len(among))
        if among:
            yield metric("adoption_ratio", stream, **labels), len(adopted) / len(among)


def last_uses(world: World, person: Sequence[Fact], stream: str) -> dict[str, int]:
    """The last use of each feature in a value stream."""
    here = [f for f in world.activity(person) if f.told["value_stream"] == stream and f.told.get("feature")]
    return {f.told["feature"]: f.at for f in here}


def eligible(world: World, stream: str, feature: str, width: int) -> list[int]:
    """The people, by position, among whom a feature is adopted: those of its rule, else who is active in the window."""
    rule = world.configuration.eligible.get(feature)
    if rule is None:
        return [
            i
            for i, person in enumerate(world.people)
            if any(world.inside(at, width) for at in used(world, person).get(stream, []))
        ]
    return [
        i
        for i, person in enumerate(world.people)
        if any(
            world.inside(fact.at, world.horizon)
            for fact in [*world.activity(person), *(f for f in person if f.kind == "customer")]
            if fact.told.get("value_stream") == stream
        )
        and all(any(fnmatchcase(attribute(person, name), p) for p in patterns) for name, patterns in rule.items())
    ]


MODES = ("on", "on_or_after", "bracket")


def retention(world: World) -> Iterator[Row]:
    longest = max(world.configuration.windows_us)
    for mode in MODES:
        for n in RETENTION_DAYS:
            marks = [
                kept(world, stream, instants, mode, n)
                for person in world.people
                for stream, instants in used(world, person).items()
            ]
            for stream, _, here in world.shown(marks, [""]):
                mature = [mark.us for mark in here if world.inside(mark.at, longest)]
                if here:
                    labels = {"mode": mode, "period": f"d{n}"}
                    yield metric("retention_mature_users", stream, **labels), float(len(mature))
                    if mature:
                        yield metric("retention_ratio", stream, **labels), sum(mature) / len(mature)


def kept(world: World, stream: str, instants: Sequence[int], mode: str, n: int) -> Mark:
    """A mark when the cohort day of a person is old enough; 1 when they came back."""
    first = world.day(min(instants))
    last = n + 6 if mode == "bracket" else n
    days = [(day - first).days for day in map(world.day, instants)]
    back = any(n <= day if mode == "on_or_after" else n <= day <= last for day in days)
    return Mark(stream, "", world.begin(first + timedelta(days=last + 1)), int(back))


# --- surveys ------------------------------------------------------------------------------------------------------


def answers(world: World, survey: str) -> list[tuple[str, str, str, int, int]]:
    """Value stream, touchpoint, segment, instant and score of every voice: the latest answer of a person there."""
    voices = []
    for person in world.people:
        responses = {f.told.get("response") or f.id: f for f in person if f.kind == "response"}
        latest_at: dict[tuple[str, str], Fact] = {}
        for fact in sorted(responses.values(), key=lambda f: f.order):
            if fact.told["survey"] == survey:
                for touchpoint in (label(fact.told.get("touchpoint")), "all"):
                    latest_at[fact.told["value_stream"], touchpoint] = fact
        voices += [
            (stream, touchpoint, label(fact.told.get("segment")), fact.at, fact.told["score"])
            for (stream, touchpoint), fact in latest_at.items()
        ]
    return voices


def surveys(world: World) -> Iterator[Row]:
    for survey, scale in world.configuration.surveys.items():
        alive = [voice for voice in answers(world, survey) if world.retained(voice[3])]
        labels = {(stream, touchpoint, s) for stream, touchpoint, segment, *_ in alive for s in (segment, "all")}
        for stream, touchpoint, segment in labels:
            for window, width in world.windows:
                scores = [
                    score
                    for a, b, c, at, score in alive
                    if (a, b) == (stream, touchpoint) and segment in (c, "all") and world.inside(at, width)
                ]
                named = {"touchpoint": touchpoint, "segment": segment, "window": window}
                yield metric(f"{survey}_responses", stream, **named), float(len(scores))
                if scores:
                    unit = "score" if scale.top is None else "ratio"
                    for end, value in zip(("", "_lower", "_upper"), scored(scale, scores), strict=True):
                        yield metric(f"{survey}_{unit}{end}", stream, **named), value


def scored(scale: Survey, scores: Sequence[int]) -> tuple[float, float, float]:
    """The score and its 95 % bounds."""
    n = len(scores)
    if scale.top is not None:
        return top_box(sum(score > scale.high - scale.top for score in scores), n)
    if scale.better is not None:
        return mean_score(scale, scores)
    return net_promoters(sum(score >= 9 for score in scores), sum(score <= 6 for score in scores), n)


def net_promoters(promoters: int, detractors: int, n: int) -> tuple[float, float, float]:
    """Adjusted Wald: three answers more, three quarters of one at either end."""
    p, d = (promoters + 0.75) / (n + 3), (detractors + 0.75) / (n + 3)
    half = Z * math.sqrt((p + d - (p - d) ** 2) / (n + 3))
    bounds = (max(-100.0, 100 * (p - d - half)), min(100.0, 100 * (p - d + half)))
    return 100 * (promoters - detractors) / n, *bounds


def top_box(top: int, n: int) -> tuple[float, float, float]:
    """Wilson."""
    p = top / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return p, max(0.0, middle - half), min(1.0, middle + half)


def mean_score(scale: Survey, scores: Sequence[int]) -> tuple[float, float, float]:
    n = len(scores)
    mean = sum(scores) / n
    if n == 1:
        return mean, float(scale.low), float(scale.high)
    half = Z * math.sqrt(sum((score - mean) ** 2 for score in scores) / (n - 1)) / math.sqrt(n)
    return mean, max(float(scale.low), mean - half), min(float(scale.high), mean + half)


KPIS: tuple[Callable[[World], Iterable[Row]], ...] = (
    flow_time,
    flow_velocity,
    flow_distribution,
    flow_efficiency,
    flow_load,
    item_age,
    items_reopened,
    items_beyond_horizon,
    request_resolution,
    requests_resolved,
    requests_open,
    requests_beyond_horizon,
    time_to_value,
    value_before_start,
    value_reached,
    active_users,
    stickiness,
    adoption,
    retention,
    surveys,
)
