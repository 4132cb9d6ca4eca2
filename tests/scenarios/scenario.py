"""Scenario files: a story of events with what the page must show, the same for every runtime.

    title: A reopened item leaves velocity and comes back      a sentence without its full stop
    why: What was finished is not, while it is open again.     optional, what a reader should know
    configuration: {windows: [1d, 7d]}                         optional, keys of flowmetrics.yaml
    steps:
      - at: 2025-03-03T09:00:00Z                               the clock moves; it never goes back
        events:                                                arrive now, and happened now unless they say `time`
          - {item: A-1, state: Doing}                          the first word says what it is, and of what or whom
        shows:
          flow_load_items{item_type=unmapped, state=active}: 1
      - restart: killed                                        or `in order`
      - repeat: everything                                     all accepted events are sent again, last first
      - worker: joins                                          or `leaves`; only a runtime with several has one

What a step says happens in the order in which it is written. An event is the data of the public contract in one line,
with `time`, `id`, `source` and `sequence` of its envelope where they matter; `value_stream` is `shop` unless said, and
null for none. A text in place of an event is sent as it is. Events that must be refused are told by their reasons, in
order: `refused: [bad_time]`.

Under `shows` a series is named without `flowmetrics_`; value_stream is `shop` unless said, and item_type, channel,
segment and touchpoint are `all`. Its value is

    3          exactly that
    0.667      that, to the digits written
    2/3        exactly that
    36h        within 1 %, as percentiles are
    absent     no such series
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from flowmetrics.configuration import ALL, Configuration
from flowmetrics.errors import Reason, nearest
from flowmetrics.events import EVENT_TYPES
from flowmetrics.instants import SECOND_US, duration_us, instant_text, parse_instant
from flowmetrics.kpis import catalogue
from flowmetrics.settings import read_settings
from flowmetrics.sources.marked_yaml import Marked, read_yaml

HERE: Final = Path(__file__).parent
STREAM: Final = "shop"
SOURCE: Final = "scenario"

NAMED_BY: Final = {
    "item": "item",
    "request": "request",
    "activity": "customer",
    "customer": "customer",
    "response": "response",
    "touchpoint": "touchpoint",
    "business": "measure",
    "erase": "person",
}
"""The first word of an event → the field that its value goes into."""
ENVELOPE: Final = ("id", "source", "time", "sequence")
_DATA: Final = {
    kind: msgspec.structs.fields(EVENT_TYPES[f"flowmetrics.{kind}.v1"])[-1].type.__struct_fields__ for kind in NAMED_BY
}
PREFIX: Final = "flowmetrics_"
OMITTED: Final = {"value_stream": STREAM, "item_type": ALL, "channel": ALL, "segment": ALL, "touchpoint": ALL}
"""Labels that need not be written, and what they are then."""
_WORDS: Final = ("at", "events", "refused", "repeat", "restart", "worker", "shows")
_SERIES: Final = re.compile(r"([a-z][a-z0-9_]*)(?:\{(.*)\})?")
_RATIO: Final = re.compile(r"(-?\d+)/([1-9]\d*)")
_NUMBER: Final = re.compile(r"-?\d+(?:\.(\d+))?")


@dataclass(frozen=True)
class At:
    """The clock moves."""

    instant: int


@dataclass(frozen=True)
class Send:
    """Events arrive together, and some are refused."""

    bodies: tuple[bytes, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Repeat:
    """Everything that was accepted is sent again."""


@dataclass(frozen=True)
class Restart:
    """The engine ends, in order or not, and starts again."""

    killed: bool


@dataclass(frozen=True)
class Staff:
    """A second worker joins or leaves."""

    joins: bool


@dataclass(frozen=True)
class Wanted:
    """What one series must show; `holds` judges its value, which is None where the series is absent."""

    name: str
    labels: Mapping[str, str]
    text: str
    line: int
    holds: Callable[[float | None], bool]


@dataclass(frozen=True)
class Shows:
    """The page must show these."""

    series: tuple[Wanted, ...]


Action: TypeAlias = At | Send | Repeat | Restart | Staff | Shows


@dataclass(frozen=True)
class Scenario:
    """One file."""

    name: str
    title: str
    configuration: Configuration
    actions: tuple[Action, ...]

    @property
    def begin(self) -> int:
        """Where the clock stands at first."""
        return next(action.instant for action in self.actions if isinstance(action, At))


def scenarios() -> list[Scenario]:
    """Every scenario file of this folder. Raises ConfigurationError."""
    return [read(path.read_text(), path.name) for path in sorted(HERE.glob("*.yaml"))]


def read(text: str, name: str) -> Scenario:
    """The scenario of a text; `name` is the file's, for errors. Raises ConfigurationError with file and line."""
    said = read_yaml(text, name).entries(
        {"title": "title", "why": "why", "configuration": "configuration", "steps": "steps"}, ("title", "steps")
    )
    title = said["title"].text()
    if " " not in title or title.endswith("."):
        raise said["title"].mistake("title must be a sentence without its full stop, such as: A reopened item leaves")
    if "why" in said:
        said["why"].text()
    configuration = _configuration(said.get("configuration"), text)
    return Scenario(name, title, configuration, tuple(_Steps(said["steps"], configuration).actions()))


def _configuration(said: Marked | None, text: str) -> Configuration:
    """The configuration, read from its place in the file so that its mistakes are shown at their lines."""
    if said is None:
        return Configuration()
    start, end = said.node.start_mark, said.node.end_mark
    return read_settings("\n" * start.line + " " * start.column + text[start.index : end.index], said.name)


class _Steps:
    """The steps of a file as they are read, one after the other."""

    def __init__(self, steps: Marked, configuration: Configuration) -> None:
        self._steps = steps
        self._metrics = _metrics(configuration)
        self._now: int | None = None
        self._sent = 0

    def actions(self) -> Iterator[Action]:
        """What happens, in order."""
        for step in self._steps.elements():
            said = step.entries({word: f"{step.what}.{word}" for word in _WORDS})
            if not said:
                raise step.mistake(f"{step.what} says nothing; write {', '.join(_WORDS)}")
            if self._now is None and next(iter(said)) != "at":
                raise step.mistake("the first step must begin with when it is: add at: 2025-03-03T09:00:00Z")
            if "refused" in said and "events" not in said:
                raise said["refused"].mistake("refused stands beside the events that are refused; add events")
            yield from self._step(said)

    def _step(self, said: Mapping[str, Marked]) -> Iterator[Action]:
        for word, value in said.items():
            match word:
                case "at":
                    yield At(self._moved(value))
                case "events":
                    yield Send(tuple(map(self._body, value.elements())), tuple(_reasons(said.get("refused"))))
                case "repeat":
                    _choice(value, "everything")
                    yield Repeat()
                case "restart":
                    yield Restart(_choice(value, "killed", "in order") == "killed")
                case "worker":
                    yield Staff(_choice(value, "joins", "leaves") == "joins")
                case "shows":
                    yield Shows(tuple(_wanted(series, one, self._metrics) for series, one in value.pairs().items()))

    def _moved(self, said: Marked) -> int:
        try:
            at = parse_instant(said.text())
        except ValueError as error:
            raise said.mistake(str(error)) from None
        if self._now is not None and at < self._now:
            raise said.mistake(f"the clock stands at {instant_text(self._now)} and never goes back; write a later time")
        self._now = at
        return at

    def _body(self, said: Marked) -> bytes:
        """An event in one line as the event that is sent; a text as it is."""
        if not said.is_mapping:
            return said.text().encode()
        told = said.pairs()
        kind = next(iter(told), "")
        if kind not in NAMED_BY:
            raise said.mistake(f'an event begins with {", ".join(NAMED_BY)}, not "{kind}".{nearest(kind, NAMED_BY)}')
        fields = _DATA[kind]
        for word in (*told,)[1:]:
            if word not in (*fields, *ENVELOPE):
                raise told[word].mistake(f'{kind} has no field "{word}".{nearest(word, (*fields, *ENVELOPE))}')
        assert self._now is not None
        self._sent += 1
        envelope = {word: told.pop(word).text() for word in ENVELOPE if word in told}
        stream = {"value_stream": STREAM} if "value_stream" in fields else {}
        values = {NAMED_BY[kind] if word == kind else word: _plain(value) for word, value in told.items()}
        return msgspec.json.encode(
            {
                "specversion": "1.0",
                "id": str(self._sent),
                "source": SOURCE,
                "type": f"flowmetrics.{kind}.v1",
                "time": instant_text(self._now),
                **envelope,
                "data": {word: value for word, value in {**stream, **values}.items() if value is not None},
            }
        )


def _choice(said: Marked, *words: str) -> str:
    word = said.text()
    if word not in words:
        raise said.mistake(f'{said.what} is {" or ".join(words)}, not "{word}".{nearest(word, words)}')
    return word


def _reasons(said: Marked | None) -> Iterator[str]:
    reasons = [reason.value for reason in Reason]
    for each in said.elements() if said else ():
        yield _choice(each, *reasons)


def _plain(said: Marked) -> Any:
    """A value as YAML reads it."""
    if said.is_list:
        return [_plain(each) for each in said.elements()]
    if said.is_mapping:
        return {word: _plain(each) for word, each in said.pairs().items()}
    return said.scalar()


def _metrics(configuration: Configuration) -> dict[str, tuple[str, ...]]:
    """The labels of every metric of a KPI."""
    kpis = catalogue(configuration)
    named = [(name, kpi.labels) for kpi in kpis for name in (kpi.metric, *(each.name for each in kpi.companions))]
    return {name.removeprefix(PREFIX): ("value_stream", *labels) for name, labels in named}


def _wanted(series: str, said: Marked, metrics: Mapping[str, tuple[str, ...]]) -> Wanted:
    match = _SERIES.fullmatch(series)
    if match is None:
        raise said.mistake(f'"{series}" names no series; write one such as flow_velocity_items{{window=7d}}')
    name, pairs = match[1], [pair.partition("=") for pair in re.split(r",\s*", match[2] or "") if pair]
    if name not in metrics:
        raise said.mistake(f'"{name}" is no metric of a KPI.{nearest(name, metrics)}')
    labels = {label: value for label, _, value in pairs}
    for label in labels:
        if label not in metrics[name]:
            raise said.mistake(f'{name} has {", ".join(metrics[name])}, not "{label}".{nearest(label, metrics[name])}')
    for label in metrics[name]:
        if label not in labels and label not in OMITTED:
            raise said.mistake(f'{name} has no "{label}"; add it, as in {name}{{{label}=…}}')
    text = said.text()
    holds = judge(text)
    if holds is None:
        raise said.mistake(
            f'"{text}" is no value; write a number, a share such as 2/3, a duration such as 2h, or absent'
        )
    omitted = {label: OMITTED[label] for label in metrics[name] if label not in labels}
    return Wanted(f"{PREFIX}{name}", {**omitted, **labels}, text, said.node.start_mark.line + 1, holds)


def judge(text: str) -> Callable[[float | None], bool] | None:
    """Whether a value is as a text says; None where the text says no value.

    >>> [judge("0.67")(2 / 3), judge("0.67")(0.68), judge("2h")(7230.0), judge("3")(None)]
    [True, False, True, False]
    """
    if text == "absent":
        return lambda value: value is None
    if ratio := _RATIO.fullmatch(text):
        return _near(int(ratio[1]) / int(ratio[2]), 1e-12)
    if number := _NUMBER.fullmatch(text):
        digits = number[1]
        return _near(float(text), 0.5000001 * 10 ** -len(digits) if digits else 0.0)
    try:
        seconds = duration_us(text) / SECOND_US
    except ValueError:
        return None
    return _near(seconds, 0.01 * seconds)


def _near(wanted: float, by: float) -> Callable[[float | None], bool]:
    return lambda value: value is not None and abs(value - wanted) <= by
