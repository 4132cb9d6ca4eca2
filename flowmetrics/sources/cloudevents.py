"""Native events: structured CloudEvents 1.0 JSON, decoded in one pass and judged by the stored arrival stamp.

The decoder is the fast path. When it refuses, `_diagnose` reads the same bytes slowly to find the reason; the two
never disagree, because the slow path only chooses among refusals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import structs

from flowmetrics.configuration import Survey
from flowmetrics.errors import Reason, Rejection, nearest
from flowmetrics.events import EVENT_TYPES, Event, ResponseEvent, ResponseFields, sequence_number
from flowmetrics.instants import instant_of, instant_text
from flowmetrics.limits import AHEAD_US_MAX, EVENT_BYTES_MAX, NESTING_MAX, TEXT_CHARACTERS_MAX
from flowmetrics.source import Timed

_decode: Final = msgspec.json.Decoder(Event).decode
_MISSING: Final = re.compile(r"missing required field `(\w+)`")
_ENVELOPE: Final = ("specversion", "id", "source", "type")
_SEQUENCE_MAX: Final = 2**63
_SHALLOW_BYTES: Final = 2 * NESTING_MAX
"""JSON of so many bytes cannot be nested too deep: each level takes two."""
_CUT: Final = 200
"""Characters of a wrong word that a detail repeats."""
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?')


class CloudEvents:
    """The source of native events; `surveys` are the scales that answers are held against.

    >>> from flowmetrics.source import FAR_FUTURE
    >>> line = b'{"specversion":"1.0","id":"1","source":"s","type":"flowmetrics.item.v1",' + (
    ...     b'"time":"2025-01-01T00:00:00Z","data":{"item":"A-1","value_stream":"shop"}}')
    >>> CloudEvents({}).read(line, FAR_FUTURE).reason.value
    'missing_field'
    """

    def __init__(self, surveys: Mapping[str, Survey]) -> None:
        self._surveys = surveys

    def read(self, body: bytes, arrived_at: int) -> Timed | Rejection:
        """The event with its instant, or the first reason of the closed list that applies."""
        if len(body) > _SHALLOW_BYTES and (excess := _excess(body)):
            return excess
        try:
            event: Event = _decode(body)
            if not body.isascii():
                body.decode()  # the decoder does not look into fields that it skips
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _diagnose(body, str(error))
        if len(body) > TEXT_CHARACTERS_MAX:
            event = _shortened(event)
        moment = event.time
        if moment.tzinfo is None:
            return Rejection(Reason.TIME_WITHOUT_OFFSET, f"time {moment.isoformat()} has no offset; add Z or +hh:mm")
        try:
            at = instant_of(moment)
        except OverflowError:
            return Rejection(Reason.BAD_TIME, f"time {moment.isoformat()} is outside the calendar")
        wrong = None
        if not 0 <= at <= arrived_at + AHEAD_US_MAX or event.sequence is not None:
            wrong = _off_bounds(event, at, arrived_at)
        if wrong is None and type(event) is ResponseEvent:
            wrong = self._off_scale(event.data)
        return (at, event) if wrong is None else wrong

    def _off_scale(self, answer: ResponseFields) -> Rejection | None:
        survey = self._surveys.get(answer.survey)
        if survey is None:
            hint = nearest(answer.survey[:_CUT], self._surveys)
            return Rejection(Reason.UNKNOWN_SURVEY, f"survey {_cut(answer.survey)} is not configured.{hint}")
        if not survey.low <= answer.score <= survey.high:
            scale = f"{survey.low} to {survey.high}"
            return Rejection(Reason.SCORE_OFF_SCALE, f"score {answer.score} is off the scale {scale}")
        return None


def _shortened(event: Event) -> Event:
    """The event with its texts cut to what histories keep; `title` is cut further where it is kept."""
    fields = {name: _cut_text(value) for name, value in structs.asdict(event.data).items()}
    told = structs.replace(event.data, **fields)
    return structs.replace(event, id=_cut_text(event.id), source=_cut_text(event.source), data=told)


def _cut_text(value: Any) -> Any:
    if isinstance(value, list):
        return [*map(_cut_text, value)]
    return value[:TEXT_CHARACTERS_MAX] if isinstance(value, str) else value


def _off_bounds(event: Event, at: int, arrived_at: int) -> Rejection | None:
    if at < 0:
        return Rejection(Reason.BAD_TIME, f"time {event.time.isoformat()} is before 1970")
    if at > arrived_at + AHEAD_US_MAX:
        arrived = instant_text(arrived_at)
        return Rejection(
            Reason.TOO_FAR_AHEAD, f"time {event.time.isoformat()} is over an hour after its arrival at {arrived}"
        )
    if event.sequence is not None and not _is_sequence(event.sequence):
        return Rejection(Reason.WRONG_TYPE, f"sequence {_cut(event.sequence)} is not an integer")
    return None


def _is_sequence(sequence: int | str) -> bool:
    try:
        return -_SEQUENCE_MAX <= sequence_number(sequence) < _SEQUENCE_MAX
    except ValueError:
        return False


def _diagnose(body: bytes, message: str) -> Rejection:
    """Why the decoder, which said `message`, refused these bytes."""
    try:
        event = msgspec.json.decode(body.decode())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Rejection(Reason.NOT_JSON, f"the bytes are not JSON: {error}")
    return _envelope_fault(event) or _field_fault(event, message)


def _envelope_fault(event: object) -> Rejection | None:
    if not isinstance(event, dict):
        return Rejection(Reason.NOT_CLOUDEVENT, "a CloudEvent is a JSON object")
    for name in _ENVELOPE:
        if not isinstance(event.get(name), str) or not event[name]:
            return Rejection(Reason.NOT_CLOUDEVENT, f'the CloudEvents attribute "{name}" must be a non-empty string')
    if event["specversion"] != "1.0":
        return Rejection(Reason.NOT_CLOUDEVENT, f"specversion {_cut(event['specversion'])} is not 1.0")
    if event["type"] not in EVENT_TYPES:
        hint = nearest(event["type"][:_CUT], EVENT_TYPES)
        return Rejection(Reason.UNKNOWN_TYPE, f"type {_cut(event['type'])} is not known.{hint}")
    return None


def _field_fault(event: dict[str, object], message: str) -> Rejection:
    if event.get("time") is None:
        return Rejection(Reason.MISSING_FIELD, 'the field "time" is missing')
    if "`$.time`" in message:
        return Rejection(Reason.BAD_TIME, f"time {_cut(event['time'])} is not an RFC 3339 time")
    missing = _MISSING.search(message)
    if missing:
        return Rejection(Reason.MISSING_FIELD, f'the field "{missing[1]}" is missing')
    if "length >= 1" in message:
        return Rejection(Reason.MISSING_FIELD, f"a required field is empty: {message[:_CUT]}")
    return Rejection(Reason.WRONG_TYPE, message[:_CUT])


def _excess(body: bytes) -> Rejection | None:
    if len(body) > EVENT_BYTES_MAX:
        return Rejection(Reason.TOO_LARGE, f"{len(body)} bytes; at most {EVENT_BYTES_MAX} are taken")
    if body.count(b"[") + body.count(b"{") > NESTING_MAX and _nesting(body) > NESTING_MAX:
        return Rejection(Reason.NOT_JSON, f"nested deeper than {NESTING_MAX} levels")
    return None


def _nesting(body: bytes) -> int:
    """How deep the brackets of a text are nested, those inside of strings left out."""
    depth = deepest = 0
    for byte in _STRINGS.sub(b"", body):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _cut(word: object) -> str:
    return repr(word)[:_CUT]
