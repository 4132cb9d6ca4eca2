"""The ids of persons in native events: replaced by pseudonyms on the way in, and found again when a person is erased.

A pseudonym is the first 128 bits of HMAC-SHA-256(key, id) in hexadecimal digits: the same id under the same key has the
same one for ever, and without the key nobody can tell whose it is. Everything else of an event stays as it was.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from flowmetrics.errors import Reason, Rejection
from flowmetrics.events import EVENT_TYPES, EraseEvent
from flowmetrics.instants import DAY_US, instant_of
from flowmetrics.limits import EVENT_BYTES_MAX
from flowmetrics.source import Timed

KEY_BYTES_MIN: Final = 16
_PSEUDONYM_BYTES: Final = 16

_PERSON: Final = {
    "flowmetrics.activity.v1": "customer",
    "flowmetrics.customer.v1": "customer",
    "flowmetrics.touchpoint.v1": "customer",
    "flowmetrics.response.v1": "respondent",
    "flowmetrics.erase.v1": "person",
}
"""The field that names the person of whom an event of a type tells."""
_ALSO: Final = {"flowmetrics.customer.v1": ("aliases",), "flowmetrics.request.v1": ("customer",)}
"""The fields that may name persons besides."""
_FIELDS: Final = {kind: (*((_PERSON[kind],) if kind in _PERSON else ()), *_ALSO.get(kind, ())) for kind in EVENT_TYPES}
_ALL_FIELDS: Final = {field for fields in _FIELDS.values() for field in fields}
_ERASE: Final = str(EraseEvent.__struct_config__.tag)

_encode: Final = msgspec.json.Encoder().encode
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text: Final = msgspec.json.Decoder(str).decode
_ids: Final = msgspec.json.Decoder(str | list[str] | None).decode
_ILLEGIBLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError)

_QUOTED: Final = re.compile(r"""((?:field|attribute) "\w+")|["'].*""", re.DOTALL)
"""The words of ours that a detail quotes, or all from the first word on that may be the event's."""


class Pseudonyms:
    """The pseudonyms under one key.

    >>> Pseudonyms(b"sixteen bytes or more").of("ann")
    'a73f7456b484757da6fc00fcf2efc4ed'
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, person: str) -> str:
        """The pseudonym of a person's id."""
        told = person.encode("utf-8", "surrogateescape")
        return hmac.digest(self._key, told, "sha256")[:_PSEUDONYM_BYTES].hex()

    @property
    def mark(self) -> str:
        """What tells one key from another, and says nothing about it: the pseudonym of the id that nobody has."""
        return self.of("")

    def hide(self, body: bytes, answer: Timed | Rejection) -> tuple[bytes, Timed | Rejection]:
        """What may be stored of an event, and `answer`, which its source gave.

        Nothing (`b""`) may be stored of a refused event in which the ids cannot be told from the rest. An accepted one
        is refused if it becomes too large.
        """
        hidden = self._hidden(body)
        if 0 < len(hidden) <= EVENT_BYTES_MAX or isinstance(answer, Rejection):
            return hidden, answer
        return hidden, Rejection(Reason.TOO_LARGE, f"with pseudonyms for its ids it is over {EVENT_BYTES_MAX} bytes")

    def _hidden(self, body: bytes) -> bytes:
        if len(body) > EVENT_BYTES_MAX:
            return b""
        try:
            event = _object(body)
            told, kind = _object(event["data"]), _text(event["type"])
            for field in _FIELDS[kind]:
                if field in told:
                    told[field] = msgspec.Raw(_encode(self._replaced(_ids(told[field]))))
            if kind in _PERSON and not _ids(told[_PERSON[kind]]):
                return b""
        except _ILLEGIBLE:
            return b""
        event["data"] = msgspec.Raw(_encode(told))
        return _encode(event)

    def _replaced(self, ids: str | list[str] | None) -> object:
        """Nobody has the empty id: it stays, so that it is refused where a person must be named."""
        if isinstance(ids, list):
            return [self.of(person) if person else person for person in ids]
        return self.of(ids) if ids else ids


def discreet(rejection: Rejection) -> Rejection:
    """A rejection without what its detail may quote from an event.

    >>> discreet(Rejection(Reason.UNKNOWN_TYPE, "type 'ann' is not known.")).detail
    'type …'
    >>> discreet(Rejection(Reason.MISSING_FIELD, 'the field "customer" is missing')).detail
    'the field "customer" is missing'
    """
    return Rejection(rejection.reason, _QUOTED.sub(lambda match: match[1] or "…", rejection.detail))


class _Told(NamedTuple):
    """What is asked of an event here; `at` is None where it has no instant that can be read."""

    kind: object
    data: Mapping[str, Any]
    at: int | None


class Erased:
    """Which events tell of erased persons, up to their erasures; `until` has the instant of each by id.

    Of activity the whole UTC day of the erasure is gone, as it is hidden in the histories.
    """

    NEEDLES_MAX: Final = 16
    """So many ids are looked for one by one; for more it is cheaper to decode every line."""

    def __init__(self, until: Mapping[str, int]) -> None:
        self._until = until
        self._needles = [_encode(person) for person in until] if len(until) <= self.NEEDLES_MAX else [b""]

    def blanked(self, lines: bytes) -> bytes:
        """Lines of the log with an empty one for each event of an erased person; the others as they were."""
        if not self._may_name(lines):
            return lines
        return b"\n".join([b"" if self.tells(line) else line for line in lines.split(b"\n")])

    def tells(self, line: bytes) -> bool:
        """Whether an accepted event tells of an erased person, and not only that they are erased."""
        told = _told(line) if self._may_name(line) else None
        if told is None or told.at is None or told.kind == _ERASE:
            return False
        return self._concerns(told.kind, told.data.get(_PERSON.get(str(told.kind), "")), told.at)

    def names(self, body: bytes, arrived_at: int) -> bool:
        """Whether a refused event names an erased person anywhere; it counts as told when it came, if not before."""
        told = _told(body) if self._may_name(body) else None
        if told is None or told.kind == _ERASE:
            return False
        at = arrived_at if told.at is None else min(told.at, arrived_at)
        return any(self._concerns(told.kind, person, at) for person in _named(told.data))

    def _concerns(self, kind: object, person: object, at: int) -> bool:
        until = self._until.get(person) if isinstance(person, str) else None
        if until is None:
            return False
        return at <= until or (kind == "flowmetrics.activity.v1" and at // DAY_US == until // DAY_US)

    def _may_name(self, text: bytes) -> bool:
        """Cheap, and never wrongly no: an id that is written otherwise has an escape in it."""
        return b"\\" in text or any(needle in text for needle in self._needles)


def _told(body: bytes) -> _Told | None:
    """An event, as far as it can be read; None where it is no object with data."""
    try:
        event = msgspec.json.decode(body)
        kind, data = event.get("type"), event["data"]
    except (*_ILLEGIBLE, AttributeError):
        return None
    return _Told(kind, data, _instant(event.get("time"))) if isinstance(data, dict) else None


def _instant(time: object) -> int | None:
    try:
        moment = msgspec.convert(time, datetime)
        return instant_of(moment)
    except (msgspec.ValidationError, TypeError):  # TypeError: it has no offset
        return None


def _named(data: Mapping[str, Any]) -> Iterator[object]:
    for field in _ALL_FIELDS & data.keys():
        if isinstance(data[field], list):
            yield from data[field]
        else:
            yield data[field]
