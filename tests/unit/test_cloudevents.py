"""Native events: each reason of the closed list, what is taken, and that no bytes whatever make the reader raise."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowmetrics.configuration import DEFAULT_SURVEYS
from flowmetrics.errors import Reason, Rejection
from flowmetrics.events import EVENT_CLASSES, EVENT_TYPES, CustomerFields, Event
from flowmetrics.instants import HOUR_US, instant_text, parse_instant
from flowmetrics.limits import EVENT_BYTES_MAX, TEXT_CHARACTERS_MAX
from flowmetrics.source import FAR_FUTURE
from flowmetrics.sources.cloudevents import CloudEvents

SOURCE = CloudEvents(DEFAULT_SURVEYS)
NOW = parse_instant("2025-03-02T00:00:00Z")
ITEM = {"item": "A-1", "value_stream": "shop", "state": "Done"}
ANSWER = {"respondent": "ann", "value_stream": "shop", "survey": "nps", "score": 9}
ENVELOPE = {"specversion": "1.0", "id": "1", "source": "s", "time": "2025-03-01T00:00:00Z"}
ABSENT = object()


def body(kind: str = "item", data: object = ITEM, **envelope: object) -> bytes:
    """An event as JSON; a value of ABSENT leaves the attribute out."""
    event: dict[str, object] = {**ENVELOPE, "type": f"flowmetrics.{kind}.v1", "data": data, **envelope}
    return json.dumps({name: value for name, value in event.items() if value is not ABSENT}).encode()


def read(text: bytes, arrived_at: int = NOW) -> tuple[int, Event]:
    """What is accepted: the instant and the event."""
    answer = SOURCE.read(text, arrived_at)
    assert not isinstance(answer, Rejection), answer
    return answer


def refused(text: bytes, arrived_at: int = NOW) -> Rejection:
    """What is refused."""
    answer = SOURCE.read(text, arrived_at)
    assert isinstance(answer, Rejection), answer
    return answer


def without(data: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in names}


REFUSED: dict[str, list[tuple[bytes, str]]] = {
    "not_json": [
        (b"", "not JSON"),
        (b"   ", "not JSON"),
        (b"{", "not JSON"),
        (b"hello", "not JSON"),
        (body() + b" x", "not JSON"),
        (body()[:-1] + b",}", "not JSON"),
        (b"{'id': 1}", "not JSON"),
        (body().replace(b'"A-1"', b'"\xff\xfe"'), ""),
        (body().replace(b'"A-1"', b'"\\ud800"'), "not JSON"),
        (body(data={**ITEM, "state": 1}).replace(b"1}", b"NaN}"), "not JSON"),
    ],
    "not_cloudevent": [
        (b"null", "object"),
        (b"7", "object"),
        (b'"text"', "object"),
        (b"[]", "object"),
        (b"[" + body() + b"]", "object"),
        (b"{}", '"specversion"'),
        (body(specversion=ABSENT), '"specversion"'),
        (body(specversion="0.3"), "1.0"),
        (body(specversion=1.0), '"specversion"'),
        (body(id=ABSENT), '"id"'),
        (body(id=""), '"id"'),
        (body(id=7), '"id"'),
        (body(source=ABSENT), '"source"'),
        (body(source=""), '"source"'),
        (body(source=None), '"source"'),
        (body(type=ABSENT), '"type"'),
        (body(type=["flowmetrics.item.v1"]), '"type"'),
    ],
    "unknown_type": [
        (body("thing"), "flowmetrics.thing.v1"),
        (body(type="flowmetrics.item.v2"), 'Did you mean "flowmetrics.item.v1"?'),
        (body(type="Flowmetrics.Item.v1"), "not known"),
        (body(type="com.github.push"), "not known"),
    ],
    "missing_field": [
        (body(time=ABSENT), '"time"'),
        (body(time=None), '"time"'),
        (body(data=ABSENT), '"data"'),
        (body(data={}), '"item"'),
        (body(data=without(ITEM, "state")), '"state"'),
        (body(data={**ITEM, "item": ""}), "item"),
        (body("response", without(ANSWER, "score")), '"score"'),
        (body("erase", {}), '"person"'),
        (body("business", {"value_stream": "shop", "measure": "leads"}), '"amount"'),
    ],
    "wrong_type": [
        (body(data=None), "object"),
        (body(data=[ITEM]), "object"),
        (body(data={**ITEM, "item": 17}), "$.data.item"),
        (body(data={**ITEM, "value_stream": None}), "$.data.value_stream"),
        (body(data={**ITEM, "blocked": "yes"}), "$.data.blocked"),
        (body("activity", {"customer": "ann", "value_stream": "shop", "actor": "robot"}), "robot"),
        (body("response", {**ANSWER, "score": 8.5}), "$.data.score"),
        (body("response", {**ANSWER, "score": "8"}), "$.data.score"),
        (body("response", {**ANSWER, "score": True}), "$.data.score"),
        (body("response", {**ANSWER, "sentiment": 1.5}), "$.data.sentiment"),
        (body("response", {**ANSWER, "asked_at": "then"}), "$.data.asked_at"),
        (body(sequence="first"), "first"),
        (body(sequence=1.5), "$.sequence"),
        (body(sequence=2**63), str(2**63)),
        (body(sequence="9" * 5000), "sequence"),
    ],
    "bad_time": [
        (body(time="yesterday"), "yesterday"),
        (body(time=""), "RFC 3339"),
        (body(time=1740909600), "1740909600"),
        (body(time="2025-03-01"), "2025-03-01"),
        (body(time="2025-02-30T00:00:00Z"), "2025-02-30"),
        (body(time="2025-03-01T24:00:00Z"), "24:00"),
        (body(time="1969-12-31T23:59:59Z"), "before 1970"),
        (body(time="0001-01-01T00:00:00+23:59"), ""),
    ],
    "time_without_offset": [(body(time="2025-03-01T00:00:00"), "add Z"), (body(time="2025-03-01 00:00:00.5"), "add Z")],
    "too_far_ahead": [
        (body(time=instant_text(NOW + HOUR_US + 1)), "over an hour"),
        (body(time="9999-12-31T00:00:00Z"), "over an hour"),
    ],
    "score_off_scale": [
        (body("response", {**ANSWER, "score": 11}), "0 to 10"),
        (body("response", {**ANSWER, "score": -1}), "0 to 10"),
        (body("response", {**ANSWER, "survey": "csat", "score": 0}), "1 to 5"),
        (body("response", {**ANSWER, "score": 10**30}), "0 to 10"),
    ],
    "unknown_survey": [
        (body("response", {**ANSWER, "survey": "npz"}), 'Did you mean "nps"?'),
        (body("response", {**ANSWER, "survey": "NPS"}), "not configured"),
    ],
    "too_large": [(body(data={**ITEM, "title": "x" * EVENT_BYTES_MAX}), str(EVENT_BYTES_MAX))],
}
"""Reason → bodies with a word that the detail must have. `bad_signature` is for signed sources, which come later."""


def test_every_reason_of_the_closed_list_is_tried_here_but_that_of_signed_sources() -> None:
    assert set(REFUSED) == {reason.value for reason in Reason} - {"bad_signature"}


@pytest.mark.parametrize(("reason", "text", "word"), [(r, t, w) for r, some in REFUSED.items() for t, w in some])
def test_what_is_wrong_is_refused_with_its_reason_and_a_detail_that_helps(reason: str, text: bytes, word: str) -> None:
    rejection = refused(text)
    assert (rejection.reason.value, word in rejection.detail) == (reason, True), rejection.detail[:500]


@pytest.mark.parametrize("more", [0, 1, 100_000])
def test_a_text_longer_than_histories_keep_is_cut_and_nothing_else_of_the_event_changes(more: int) -> None:
    kept, told = "x" * TEXT_CHARACTERS_MAX, "x" * (TEXT_CHARACTERS_MAX + more)
    _, event = read(body(data={**ITEM, "state": told, "blocked": True, "title": "t"}, id=told, sequence=7))
    assert event == read(body(data={**ITEM, "state": kept, "blocked": True, "title": "t"}, id=kept, sequence=7))[1]
    _, event = read(body("customer", {"customer": "ann", "aliases": [told, "bob"], "consent": {"mail": True}}))
    assert event.data == CustomerFields("ann", aliases=[kept, "bob"], consent={"mail": True})


def test_every_type_of_the_contract_is_known() -> None:
    kinds = "item request activity customer response touchpoint change deployment incident business erase"
    assert set(EVENT_TYPES) == {f"flowmetrics.{kind}.v1" for kind in kinds.split()}
    assert len(EVENT_CLASSES) == len(EVENT_TYPES)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("item", {"item": "A-1", "value_stream": "shop", "state": "Done"}),
        ("request", {"request": "R-1", "value_stream": "shop", "state": "Open"}),
        ("activity", {"customer": "ann", "value_stream": "shop"}),
        ("customer", {"customer": "ann"}),
        ("response", {"respondent": "ann", "value_stream": "shop", "survey": "nps", "score": 9}),
        ("touchpoint", {"customer": "ann", "value_stream": "shop", "journey": "buy", "touchpoint": "cart"}),
        ("change", {"id": "1", "value_stream": "shop"}),
        ("deployment", {"id": "1", "value_stream": "shop"}),
        ("incident", {"id": "1", "value_stream": "shop"}),
        ("business", {"value_stream": "shop", "measure": "leads", "amount": 3}),
        ("erase", {"person": "ann"}),
    ],
)
def test_the_required_fields_of_a_type_are_enough_and_each_is_required(kind: str, data: dict[str, Any]) -> None:
    at, event = read(body(kind, data))
    assert at == NOW - 24 * HOUR_US
    assert {name: getattr(event.data, name) for name in data} == data
    for name in data:
        assert refused(body(kind, without(data, name))).reason is Reason.MISSING_FIELD


@pytest.mark.parametrize(
    ("time", "wanted"),
    [
        ("2025-03-01T10:00:00Z", "2025-03-01T10:00:00Z"),
        ("2025-03-01t10:00:00z", "2025-03-01T10:00:00Z"),
        ("2025-03-01T19:00:00+09:00", "2025-03-01T10:00:00Z"),
        ("2025-03-01T10:00:00.123456Z", "2025-03-01T10:00:00.123456Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("2024-02-29T23:59:59-00:30", "2024-03-01T00:29:59Z"),
    ],
)
def test_a_time_is_read_with_its_offset(time: str, wanted: str) -> None:
    assert instant_text(read(body(time=time))[0]) == wanted


def test_an_event_may_be_an_hour_ahead_of_its_arrival_and_no_more() -> None:
    text = body(time=instant_text(NOW))
    assert read(text, NOW - HOUR_US)[0] == NOW
    assert refused(text, NOW - HOUR_US - 1).reason is Reason.TOO_FAR_AHEAD
    assert read(text, FAR_FUTURE)[0] == NOW


def test_an_event_of_exactly_the_largest_size_is_taken() -> None:
    text = body(data={**ITEM, "title": ""})
    text = text.replace(b'"title": ""', b'"title": "' + b"x" * (EVENT_BYTES_MAX - len(text)) + b'"')
    assert len(text) == EVENT_BYTES_MAX
    assert read(text)
    assert refused(text + b" ").reason is Reason.TOO_LARGE


@pytest.mark.parametrize("sequence", [0, -1, 7, "7", "-7", 2**63 - 1, None, ABSENT])
def test_a_sequence_is_an_integer_or_the_text_of_one(sequence: object) -> None:
    assert read(body(sequence=sequence))


def test_unknown_fields_and_attributes_are_ignored_whatever_they_hold() -> None:
    more = {"subject": "x", "datacontenttype": "text/plain", "dataschema": 7, "traceparent": {"deep": [1, 2]}}
    _, event = read(body(data={**ITEM, "colour": {"red": [None, 1.5]}}, **more))
    assert event.data == read(body())[1].data


@pytest.mark.parametrize("depth", [900, 5_000, 40_000])
@pytest.mark.parametrize("place", ["alone", "beside", "in data", "as time", "unfinished"])
def test_however_deep_a_body_is_nested_it_is_accepted_or_refused(place: str, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    text = {
        "alone": deep,
        "beside": body()[:-1] + b', "x": ' + deep + b"}",
        "in data": body()[:-2] + b', "x": ' + deep + b"}}",
        "as time": body(time="@").replace(b'"@"', deep),
        "unfinished": b'{"x":' * depth,
    }[place]
    SOURCE.read(text, NOW)


def nested(depth: int) -> bytes:
    return body()[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}"


def test_the_same_bytes_get_the_same_answer_however_deep_the_caller_stands() -> None:
    """What intake accepts, the engine and the commands must be able to read: each has another depth of stack."""

    def from_below(frames: int, text: bytes) -> bool:
        if frames:
            return from_below(frames - 1, text)
        return isinstance(SOURCE.read(text, NOW), Rejection)

    for depth in range(50, 1000, 25):
        text = nested(depth)
        assert from_below(0, text) == from_below(100, text) == from_below(300, text), depth


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_the_ends_of_the_calendar_are_refused_and_do_not_raise(time: str) -> None:
    assert refused(body(time=time)).reason in (Reason.BAD_TIME, Reason.TOO_FAR_AHEAD)
    SOURCE.read(body(time=time), FAR_FUTURE)


def test_a_detail_stays_short_however_long_the_word_is_that_is_wrong() -> None:
    long = "9" * 200_000
    for text in (body(type=long), body(time=long), body(sequence=long), body("response", {**ANSWER, "survey": long})):
        assert len(refused(text).detail) < 2_000


def test_a_body_that_is_not_utf_8_is_refused_wherever_the_bad_bytes_are() -> None:
    """RFC 8259: JSON between systems is UTF-8. What is stored must be readable by every later reader."""
    for name in (b"subject", b"title"):
        text = body(data={**ITEM, "@": 1}).replace(b'"@": 1', b'"' + name + b'": "\xff"')
        assert refused(text).reason is Reason.NOT_JSON
    assert refused(body()[:-1] + b', "subject": "\xff"}').reason is Reason.NOT_JSON


# --- every byte string -----------------------------------------------------------------------------------------------

_words = st.sampled_from(
    ["", "1.0", "1", "s", "shop", "Done", "nps", "flowmetrics.item.v1", "flowmetrics.response.v1", "x",
     "2025-03-01T00:00:00Z", "2025-03-01T00:00:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
     "9" * 5000]
)  # fmt: skip
_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | _words
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
)
_names = sorted({"specversion", "id", "source", "type", "time", "sequence", "data", *ITEM, *ANSWER, "blocked", "title"})
_objects = st.dictionaries(st.sampled_from(_names), _values, max_size=6)
_mutations = st.tuples(st.sampled_from(_names), _values)


@st.composite
def almost_events(draw: st.DrawFn) -> bytes:
    """An event of which some parts were replaced, left out, or cut off."""
    kind, data = draw(st.sampled_from([("item", ITEM), ("response", ANSWER)]))
    event: dict[str, Any] = {**ENVELOPE, "type": f"flowmetrics.{kind}.v1", "data": dict(data)}
    for name, value in draw(st.lists(_mutations, max_size=3)):
        if name in event or name == "sequence":
            event[name] = value
        elif isinstance(event["data"], dict):
            event["data"][name] = value
    text = json.dumps(event).encode()
    cut = draw(st.integers(0, len(text)))
    return draw(st.sampled_from([text, text[:cut], text[:cut] + draw(st.binary(max_size=3)) + text[cut:]]))


def judged(text: bytes, arrived_at: int) -> None:
    """It is an event that says what the decoder reads, or a rejection that names a reason."""
    answer = SOURCE.read(text, arrived_at)
    if isinstance(answer, Rejection):
        assert isinstance(answer.reason, Reason)
        assert answer.detail
        assert answer.detail.encode(), "it can be written"
        return
    at, event = answer
    assert isinstance(event, EVENT_CLASSES)
    assert 0 <= at <= arrived_at + HOUR_US
    assert event == msgspec.json.decode(text, type=Event), "nothing that the decoder refuses is accepted"
    assert msgspec.json.encode(event)


@given(st.binary(max_size=200), st.sampled_from([0, NOW, FAR_FUTURE]))
@example(b"\x00", NOW)
@example(b"\xef\xbb\xbf" + body(), NOW)
def test_any_bytes_are_an_event_or_a_rejection_and_never_raise(text: bytes, arrived_at: int) -> None:
    judged(text, arrived_at)


@given(_objects.map(lambda event: json.dumps(event).encode()), st.sampled_from([NOW, FAR_FUTURE]))
def test_any_json_object_is_an_event_or_a_rejection_and_never_raises(text: bytes, arrived_at: int) -> None:
    judged(text, arrived_at)


@given(almost_events(), st.sampled_from([0, NOW, FAR_FUTURE]))
def test_a_damaged_event_is_an_event_or_a_rejection_and_never_raises(text: bytes, arrived_at: int) -> None:
    judged(text, arrived_at)


@given(almost_events())
def test_judging_again_gives_the_same_answer(text: bytes) -> None:
    assert SOURCE.read(text, NOW) == CloudEvents(DEFAULT_SURVEYS).read(text, NOW)
