"""The kinds of values that configuration keys take: how each is read, described to editors, and written again."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar
from zoneinfo import available_timezones

from flowmetrics.configuration import ALL, NONE, UNMAPPED, Threshold
from flowmetrics.errors import nearest
from flowmetrics.instants import DAY_US, MINUTE_US, duration_text, duration_us
from flowmetrics.limits import LABEL_CHARACTERS_MAX
from flowmetrics.yaml_text import Spot, WrongValueError, quoted

T = TypeVar("T")

Schema: TypeAlias = Mapping[str, object]

DURATION_US_MAX: Final = 36_500 * DAY_US
"""A hundred years: beyond it the calendar of the machine ends."""

SCALE_STEPS_MAX: Final = 100
"""A survey asks people; each step of its scale is a bin of its own."""

_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,8})")
_MACHINE_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """`read` takes a value from the file, `schema` tells editors about it, `plain` writes it as YAML would hold it."""

    read: Callable[[Spot], T]
    schema: Schema
    plain: Callable[[T], object]


def _as_it_is(value: object) -> object:
    return value


WORD: Final = Kind(Spot.text, {"type": ["string", "number", "boolean"]}, str)
"""Any word as it is written: `200` and `yes` are words too."""


def matching(pattern: str, right: str) -> Kind[str]:
    """A word of one form; `right` ends the sentence "… must be"."""
    form = re.compile(pattern)

    def read(spot: Spot) -> str:
        text = spot.text()
        if form.fullmatch(text) is None:
            raise WrongValueError(f"{spot.what} must be {right}, not {quoted(text)}")
        return text

    return Kind(read, {"type": ["string", "number", "boolean"], "pattern": f"^(?:{pattern})$"}, str)


def choice(options: Collection[str]) -> Kind[str]:
    """One of a few words."""

    def read(spot: Spot) -> str:
        text = spot.text()
        if text not in options:
            raise WrongValueError(
                f"{spot.what} takes {', '.join(options)}, not {quoted(text)}.{nearest(text, options)}"
            )
        return text

    return Kind(read, {"enum": list(options)}, str)


def integer(low: int, high: int) -> Kind[int]:
    """A whole number within bounds."""

    def read(spot: Spot) -> int:
        text = spot.text()
        if not _INTEGER.fullmatch(text) or not low <= int(text) <= high:
            raise WrongValueError(f"{spot.what} must be a whole number from {low} to {high}, not {quoted(text)}")
        if spot.tag != "int":
            raise WrongValueError(f"{spot.what} is the text {quoted(text)}; write the number without quotes")
        return int(text)

    return Kind(read, {"type": "integer", "minimum": low, "maximum": high}, _as_it_is)


def _duration(spot: Spot) -> int:
    text = spot.text()
    try:
        us = duration_us(text)
    except ValueError:
        right = "a whole number and s, m, h, d or w, such as 30d"
        raise WrongValueError(f"{spot.what} must be {right}, not {quoted(text)}") from None
    if not 0 < us <= DURATION_US_MAX:
        most = duration_text(DURATION_US_MAX)
        raise WrongValueError(f"{spot.what} must be longer than 0s and at most {most}, not {quoted(text)}")
    return us


DURATION: Final = Kind(_duration, {"type": "string", "pattern": "^[0-9]{1,9}[smhdw]$"}, duration_text)
"""A duration in microseconds, written as `5m`."""


def duration(low_us: int, high_us: int) -> Kind[int]:
    """A duration within bounds."""

    def read(spot: Spot) -> int:
        us = _duration(spot)
        if not low_us <= us <= high_us:
            bounds = f"from {duration_text(low_us)} to {duration_text(high_us)}"
            raise WrongValueError(f"{spot.what} must be {bounds}, not {quoted(spot.text())}")
        return us

    return Kind(read, DURATION.schema, duration_text)


_THRESHOLD: Final = r"([0-9]{1,6}(?:\.[0-9]{1,6})?)( ?%| points?)"


def _threshold(spot: Spot) -> Threshold:
    text = spot.text()
    match = re.fullmatch(_THRESHOLD, text)
    if match is None or not float(match[1]):
        lacks = "has no unit" if re.fullmatch(r"[0-9.]+", text) else "is no threshold"
        raise WrongValueError(f"{spot.what} is {quoted(text)}, which {lacks}; write one such as 30% or 8 points")
    return Threshold(float(match[1]), "%" if match[2].endswith("%") else "points")


def _threshold_text(threshold: Threshold) -> str:
    return f"{threshold.amount:.12g}{'%' if threshold.unit == '%' else ' points'}"


THRESHOLD: Final = Kind(_threshold, {"type": "string", "pattern": f"^{_THRESHOLD}$"}, _threshold_text)
"""An amount above zero that says its unit."""


def _share(spot: Spot) -> Threshold:
    share = _threshold(spot)
    if share.unit != "%" or share.amount >= 100:
        raise WrongValueError(f"{spot.what} must be a percentage below 100%, not {quoted(spot.text())}")
    return share


SHARE: Final = Kind(_share, THRESHOLD.schema, _threshold_text)
"""A percentage below a hundred."""


def _resolution(spot: Spot) -> int:
    us = _duration(spot)
    if 15 * MINUTE_US % us:
        raise WrongValueError(
            f"{spot.what} must divide 15 minutes, as 1s, 1m, 5m and 15m do, not {quoted(spot.text())}"
        )
    return us


RESOLUTION: Final = Kind(_resolution, DURATION.schema, duration_text)


def _time_zone(spot: Spot) -> str:
    name = spot.text()
    zones = available_timezones() - _MACHINE_ZONES
    if name not in zones:
        raise WrongValueError(
            f"{spot.what} must be an IANA name such as Asia/Seoul, not {quoted(name)}.{nearest(name, zones)}"
        )
    return name


TIME_ZONE: Final = Kind(_time_zone, {"type": "string"}, str)

_HOST_PORT: Final = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}"
_BROKER: Final = rf"local://(?:/|\./).+|kafka://{_HOST_PORT}(?:,{_HOST_PORT})*"
_SCHEMES: Final = ("local", "kafka")


def _broker(spot: Spot) -> str:
    text = spot.text()
    if re.fullmatch(_BROKER, text) and all(int(port) < 65536 for port in _kafka_ports(text)):
        return text
    scheme, mark, _ = text.partition("://")
    hint = nearest(scheme, _SCHEMES) if mark and scheme not in _SCHEMES else ""
    right = "local:///path, local://./path or kafka://host:9092,host2:9092"
    raise WrongValueError(f"{spot.what} must be {right}, not {quoted(text)}.{hint}")


def _kafka_ports(broker: str) -> list[str]:
    return re.findall(r":([0-9]+)(?:,|$)", broker) if broker.startswith("kafka://") else []


BROKER: Final = Kind(_broker, {"type": "string", "pattern": f"^(?:{_BROKER})$"}, str)


def _listen(spot: Spot) -> str:
    text = spot.text()
    if not re.fullmatch(_HOST_PORT, text) or int(text.rpartition(":")[2]) > 65535:
        raise WrongValueError(f"{spot.what} must be host:port such as 127.0.0.1:8080, not {quoted(text)}")
    return text


LISTEN: Final = Kind(_listen, {"type": ["string", "number"], "pattern": f"^{_HOST_PORT}$"}, str)


def _overflow(spot: Spot) -> str:
    text = spot.text()
    if text in (ALL, NONE, UNMAPPED):
        raise WrongValueError(f"{spot.what} is {quoted(text)}, which has a meaning of its own; write one such as other")
    if len(text) > LABEL_CHARACTERS_MAX:
        raise WrongValueError(f"{spot.what} is {quoted(text)}; write at most {LABEL_CHARACTERS_MAX} characters")
    return text


OVERFLOW: Final = Kind(_overflow, WORD.schema, str)


def _scale(spot: Spot) -> tuple[int, int]:
    step = integer(-1_000_000, 1_000_000)
    ends = [end.attempt(step.read) for end in spot.elements()]
    if len(ends) != 2:
        raise WrongValueError(f"{spot.what} must be its lowest and its highest score, such as [1, 5]")
    low, high = ends
    if low is None or high is None:
        raise WrongValueError
    if not low < high <= low + SCALE_STEPS_MAX:
        right = f"run from a lower to a higher score over at most {SCALE_STEPS_MAX} steps"
        raise WrongValueError(f"{spot.what} must {right}, not {quoted(f'[{low}, {high}]')}")
    return low, high


SCALE: Final = Kind(
    _scale, {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}, lambda ends: list(ends)
)
"""The lowest and the highest score of a survey."""


def list_of(element: Kind[T], unique: bool = False, empty: bool = False) -> Kind[tuple[T, ...]]:
    """A list, not empty unless said; `unique` refuses a value that is given twice, however it is written."""

    def read(spot: Spot) -> tuple[T, ...]:
        values: list[T] = []
        elements = spot.elements()
        if not elements and not empty:
            raise WrongValueError(f"{spot.what} is empty; give it one value or more, or remove it")
        for each in elements:
            value = each.attempt(element.read)
            if unique and value in values:
                spot.walk.mistake(each, f"{each.what} gives {quoted(each.text())} again; keep one")
            if value is not None:
                values.append(value)
        return tuple(values)

    schema = {"type": "array", "items": element.schema, **({} if empty else {"minItems": 1})}
    return Kind(read, schema, lambda values: [element.plain(value) for value in values])


def one_or_more(element: Kind[T]) -> Kind[tuple[T, ...]]:
    """A value, or a list of them."""
    several = list_of(element)

    def read(spot: Spot) -> tuple[T, ...]:
        return several.read(spot) if spot.tag == "seq" else (element.read(spot),)

    return Kind(read, {"anyOf": [element.schema, several.schema]}, several.plain)


def map_of(name: Kind[str], value: Kind[T], example: str) -> Kind[Mapping[str, T]]:
    """Names with values, in the order of the file; at least one. `example` is one that is right."""

    def read(spot: Spot) -> Mapping[str, T]:
        entries = spot.entries()
        if not entries:
            raise WrongValueError(f"{spot.what} is empty; give it keys such as {example}, or remove it")
        values: dict[str, T] = {}
        for _, key_spot, value_spot in entries:
            key, read_value = key_spot.attempt(name.read), value_spot.attempt(value.read)
            if key is not None and read_value is not None:
                values[key] = read_value
        return values

    schema: dict[str, Any] = {
        "type": "object",
        "propertyNames": name.schema,
        "additionalProperties": value.schema,
        "minProperties": 1,
    }
    return Kind(read, schema, lambda values: {key: value.plain(each) for key, each in values.items()})
