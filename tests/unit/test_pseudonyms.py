"""Ids of persons: what becomes a pseudonym and what stays as it was, and which events tell of somebody erased."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import World, line, worlds

from flowmetrics.configuration import DEFAULT_SURVEYS
from flowmetrics.errors import Reason, Rejection
from flowmetrics.events import EVENT_TYPES
from flowmetrics.instants import DAY_US, HOUR_US, instant_text, parse_instant
from flowmetrics.limits import EVENT_BYTES_MAX
from flowmetrics.source import FAR_FUTURE
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.sources.pseudonyms import Erased, Pseudonyms, discreet
from flowmetrics.testing import Driver

KEY: Final = b"a key of sixteen bytes and more"
HIDING: Final = Pseudonyms(KEY)
SOURCE: Final = CloudEvents(DEFAULT_SURVEYS)
NOON: Final = parse_instant("2025-03-01T12:00:00Z")
ANN: Final = HIDING.of("ann")
BOB: Final = HIDING.of("bob")

TOLD: Final[Mapping[str, dict[str, Any]]] = {
    "item": {"item": "A-1", "value_stream": "shop", "state": "Done", "customer": "ann"},
    "request": {"request": "R-1", "value_stream": "shop", "state": "Open", "customer": "ann", "person": "ann"},
    "activity": {"customer": "ann", "value_stream": "shop", "feature": "ann"},
    "customer": {"customer": "ann", "aliases": ["bob", "ann", "zoë"], "account": "bob"},
    "response": {"respondent": "ann", "value_stream": "shop", "survey": "nps", "score": 9, "response": "ann-1"},
    "touchpoint": {"customer": "ann", "value_stream": "shop", "journey": "j", "touchpoint": "t", "value": 1e2},
    "change": {"id": "1", "value_stream": "shop"},
    "deployment": {"id": "1", "value_stream": "shop"},
    "incident": {"id": "1", "value_stream": "shop"},
    "business": {"value_stream": "shop", "measure": "sales", "amount": 12345678901234567890.5},
    "erase": {"person": "ann"},
}
HIDDEN: Final[Mapping[str, dict[str, Any]]] = {
    "request": {"customer": ANN},
    "activity": {"customer": ANN},
    "customer": {"customer": ANN, "aliases": [BOB, ANN, HIDING.of("zoë")]},
    "response": {"respondent": ANN},
    "touchpoint": {"customer": ANN},
    "erase": {"person": ANN},
}
"""What differs afterwards, by type."""


def event(kind: str, at: int = NOON, /, **changed: Any) -> dict[str, Any]:
    told = {**TOLD[kind], **changed}
    return {
        "specversion": "1.0",
        "id": "ann",
        "source": "crm",
        "type": f"flowmetrics.{kind}.v1",
        "time": instant_text(at),
        "subject": "ann",
        "data": {name: value for name, value in told.items() if value is not ...},
    }


def hidden(body: bytes) -> tuple[bytes, object]:
    return HIDING.hide(body, SOURCE.read(body, FAR_FUTURE))


def kept(told: object) -> bytes:
    """What may be stored of an event that is refused."""
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    stored, answer = hidden(body)
    assert isinstance(answer, Rejection)
    return stored


# --- pseudonyms ---------------------------------------------------------------------------------------------------


def test_a_pseudonym_can_be_computed_by_anybody_who_has_the_key_and_by_nobody_else() -> None:
    assert HIDING.of("zoë") == hmac.new(KEY, "zoë".encode(), hashlib.sha256).hexdigest()[:32]
    assert Pseudonyms(KEY + b"!").of("zoë") != HIDING.of("zoë") != HIDING.of("zoe")
    assert Pseudonyms(KEY + b"!").mark != HIDING.mark == Pseudonyms(bytes(KEY)).mark


@pytest.mark.parametrize("kind", TOLD)
def test_the_ids_of_persons_are_replaced_and_every_other_attribute_stays(kind: str) -> None:
    stored, answer = hidden(json.dumps(event(kind)).encode())
    assert json.loads(stored) == event(kind, **HIDDEN.get(kind, {}))
    assert not isinstance(answer, Rejection)
    assert not isinstance(SOURCE.read(stored, FAR_FUTURE), Rejection)


def test_every_type_of_event_is_known() -> None:
    assert {f"flowmetrics.{kind}.v1" for kind in TOLD} == EVENT_TYPES.keys()


def test_what_is_not_replaced_stays_byte_for_byte() -> None:
    head = b'{"specversion":"1.0","id":"1","source":"s","type":"flowmetrics.activity.v1","time":"2025-03-01T00:00:00Z",'
    body = head + b'"data":{"customer":"ann","value_stream":"sh\\u006fp","more":[1.0, 1E3,  12345678901234567890123]}}'
    assert hidden(body)[0] == body.replace(b'"ann"', f'"{ANN}"'.encode())


@pytest.mark.parametrize("written", [b'"ann"', b'"\\u0061nn"', b'"bob","customer":"ann"', b' \n "ann" \r\n'])
def test_an_id_has_one_pseudonym_however_it_is_written(written: bytes) -> None:
    body = json.dumps(event("activity")).encode().replace(b'"customer": "ann"', b'"customer":' + written)
    stored, answer = hidden(body)
    assert json.loads(stored)["data"]["customer"] == ANN
    assert b"bob" not in stored
    assert not isinstance(answer, Rejection)


def test_a_name_of_a_field_may_be_written_with_escapes() -> None:
    body = json.dumps(event("activity")).encode().replace(b'"customer"', b'"cust\\u006fmer"')
    assert json.loads(hidden(body)[0])["data"]["customer"] == ANN


def test_a_request_of_nobody_in_particular_stays_one() -> None:
    for nobody in (None, "", ...):
        assert json.loads(hidden(json.dumps(event("request", customer=nobody)).encode())[0]) == event(
            "request", customer=nobody
        )


def test_an_id_that_nobody_has_stays_refused() -> None:
    assert json.loads(kept(event("customer", aliases=["bob", ""])))["data"]["aliases"] == [BOB, ""]


def test_an_event_that_only_pseudonyms_make_too_large_is_refused() -> None:
    body = json.dumps(event("customer", aliases=["b"] * 12_000)).encode()
    assert len(body) < EVENT_BYTES_MAX
    stored, answer = hidden(body)
    assert isinstance(answer, Rejection)
    assert answer.reason is Reason.TOO_LARGE
    assert b'"ann"' not in stored[stored.index(b'"data"') :]


@given(worlds("people"))
def test_the_same_figures_come_out_under_pseudonyms(world: World) -> None:
    plain, hiding = Driver(world.configuration), Driver(world.configuration)
    lines = [line(one) for one in world.events]
    plain.deliver(lines)
    hiding.deliver([HIDING.hide(body, plain.source.read(body, FAR_FUTURE))[0] for body in lines])
    for now in world.nows:
        plain.advance(now)
        hiding.advance(now)
        assert hiding.values() == plain.values()


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"customer ann",
        b'{"customer":"ann"',
        b'["ann"]',
        b'"ann"',
        json.dumps(event("activity")).encode() + b" x",
        {**event("activity"), "data": ["ann"]},
        {**event("activity"), "data": None},
        {**event("activity"), "type": "flowmetrics.activty.v1"},
        {**event("activity"), "type": ["ann"]},
        {name: value for name, value in event("activity").items() if name != "type"},
        {name: value for name, value in event("activity").items() if name != "data"},
        event("activity", customer=17),
        event("activity", customer={"id": "ann"}),
        event("activity", customer="", custmer="ann"),
        event("activity", customer=None, custmer="ann"),
        event("activity", customer=..., custmer="ann"),
        event("response", respondent=..., customer="ann"),
        event("erase", person=..., customer="ann"),
        event("customer", aliases=["bob", 17]),
        event("customer", aliases={"ann": True}),
        b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        {**event("activity"), "more": "x" * EVENT_BYTES_MAX},
    ],
)
def test_nothing_is_kept_of_a_refused_event_in_which_ids_cannot_be_told_from_the_rest(body: object) -> None:
    assert kept(body) == b""


@pytest.mark.parametrize(
    "told",
    [
        {**event("activity"), "time": None},
        {**event("activity"), "time": "soon"},
        {**event("activity"), "specversion": "2.0"},
        {**event("erase"), "time": "2025-03-01T00:00:00"},
        event("response", score=11),
        event("response", survey="ann"),
        event("customer", kind="ann"),
        event("item", state=...),
    ],
)
def test_a_refused_event_is_kept_with_its_ids_replaced(told: dict[str, Any]) -> None:
    kind = told["type"].split(".")[1]
    assert json.loads(kept(told)) == {**told, "data": {**told["data"], **HIDDEN.get(kind, {})}}


@pytest.mark.parametrize(
    "told",
    [
        b"ann {",
        b'{"type":"ann\xff"}',
        {**event("activity"), "type": "ann"},
        {**event("activity"), "type": 'it\'s "ann"'},
        {**event("activity"), "type": "x" * 190 + "' \"ann"},
        {**event("activity"), "type": "flowmetrics.erase.v1"},
        {"id": "ann", "source": "ann", "type": "ann", "specversion": "ann"},
        {**event("activity", customer=17), "time": "ann"},
        event("activity", customer={"ann": "ann"}),
        event("activity", customer=..., actor="ann"),
        event("response", respondent=17, survey="ann"),
        event("customer", customer=17, consent={"ann": "ann"}),
    ],
)
def test_a_detail_without_its_event_quotes_nothing_of_it(told: object) -> None:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    answer = SOURCE.read(body, FAR_FUTURE)
    assert isinstance(answer, Rejection)
    assert kept(body) == b""
    assert "ann" not in discreet(answer).detail
    assert discreet(answer).reason is answer.reason


@pytest.mark.parametrize(
    ("detail", "left"),
    [
        ('the field "customer" is missing', 'the field "customer" is missing'),
        ('the CloudEvents attribute "id" must be text', 'the CloudEvents attribute "id" must be text'),
        ('a.csv:7: seen "ann" is not a time of the format iso', "a.csv:7: seen …"),
        ("Expected `str`, got `int` - at `$.data.customer`", "Expected `str`, got `int` - at `$.data.customer`"),
    ],
)
def test_a_detail_keeps_the_words_that_are_ours(detail: str, left: str) -> None:
    assert discreet(Rejection(Reason.BAD_TIME, detail)).detail == left


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner)).map(json.dumps))
def test_hiding_never_raises(body: bytes | str) -> None:
    text = body if isinstance(body, bytes) else body.encode()
    assert kept(text) == b""


# --- who is erased ------------------------------------------------------------------------------------------------

ERASED: Final = Erased({"ann": NOON})


@pytest.mark.parametrize(
    ("told", "gone"),
    [
        (event("customer"), True),
        (event("customer", NOON + 1), False),
        (event("customer", customer="bob"), False),
        (event("response"), True),
        (event("response", NOON + 1), False),
        (event("touchpoint"), True),
        (event("touchpoint", NOON + 1), False),
        (event("activity"), True),
        (event("activity", actor="bot"), True),
        (event("activity", NOON + 12 * HOUR_US - 1), True),
        (event("activity", NOON + 12 * HOUR_US), False),
        (event("activity", NOON - 400 * DAY_US), True),
        (event("activity", customer="bob"), False),
        (event("activity", customer="ann2", feature="ann"), False),
        (event("erase"), False),
        (event("request"), False),
        (event("item"), False),
    ],
)
def test_of_a_person_everything_goes_that_the_erasure_hides(told: dict[str, Any], gone: bool) -> None:
    assert ERASED.tells(line(told)) is gone


def test_lines_keep_their_places_and_those_that_stay_their_bytes() -> None:
    lines = [line(event("activity", customer=who)) for who in ("bob", "ann", "eve", "ann")]
    lines[2] = lines[2].replace(b'"eve"', b'  "\\u0065ve"')
    assert ERASED.blanked(b"\n".join(lines)) == b"\n".join([lines[0], b"", lines[2], b""])
    assert ERASED.blanked(ERASED.blanked(lines[1])) == b""
    assert ERASED.blanked(lines[0]) is lines[0]


@pytest.mark.parametrize("persons", [1, Erased.NEEDLES_MAX, Erased.NEEDLES_MAX + 1, 1000])
@pytest.mark.parametrize("who", ["ann", "zoë", 'a "b"', "a\\b", "a/b", "\u2028", "😀", "tab\t", " "])
@pytest.mark.parametrize("write", [json.dumps, lambda told: msgspec.json.encode(told).decode()])
def test_an_id_is_found_however_it_is_written(who: str, persons: int, write: Callable[[object], str]) -> None:
    erased = Erased({who: NOON, **{f"p{n}": NOON for n in range(persons - 1)}})
    assert erased.blanked(write(event("activity", customer=who)).encode()) == b""
    assert erased.blanked(write(event("activity", customer=who)).replace("/", "\\/").encode()) == b""


@pytest.mark.parametrize(
    ("told", "arrived_at", "gone"),
    [
        ({**event("activity"), "time": "soon"}, NOON, True),
        ({**event("activity"), "time": "soon"}, NOON + DAY_US, False),
        ({**event("activity"), "time": "2025-03-01T00:00:00"}, NOON, True),
        ({**event("activity"), "time": None}, NOON, True),
        ({**event("activity"), "time": "0001-01-01T00:00:00+23:00"}, NOON, True),
        (event("customer", NOON + DAY_US), NOON, True),
        (event("customer", NOON + DAY_US), NOON + 1, False),
        (event("customer", customer="bob", aliases=["eve", "ann"]), NOON, True),
        (event("customer", customer=["ann"]), NOON, True),
        (event("customer", customer={"ann": 1}, aliases=17), NOON, False),
        (event("request", state=...), NOON, True),
        ({**event("response"), "type": "thing"}, NOON, True),
        ({**event("response"), "type": ["thing"]}, NOON, True),
        ({**event("erase"), "time": "soon"}, NOON, False),
        ({**event("activity"), "data": ["ann"]}, NOON, False),
        (["ann"], NOON, False),
        ("ann", NOON, False),
    ],
)
def test_a_refused_event_goes_that_names_an_erased_person(told: object, arrived_at: int, gone: bool) -> None:
    assert ERASED.names(json.dumps(told).encode(), arrived_at) is gone


@pytest.mark.parametrize("body", [b"", b'{"customer":"ann"', b'"ann" \xff', b"[" * 100_000 + b'"ann"'])
def test_what_cannot_be_decoded_names_nobody(body: bytes) -> None:
    assert not ERASED.names(body, NOON)
    assert not ERASED.tells(body)
