"""The mapping format: what rows become."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmetrics.errors import Reason, Rejection
from flowmetrics.events import Event
from flowmetrics.sources.rows import RowMapping, parse_mapping

EXAMPLES = Path(__file__).parents[2] / "examples"

ITEM = """\
events:
  - type: flowmetrics.item.v1
    when: kind == "item"
    id: ${event_id}
    source: shop
    time: {from: at, format: iso}
    sequence: ${seq}
    data: {item: "${id}", value_stream: shop, item_type: defect, state: "${attrs.state}", team: "${attrs.team}"}
"""
ROW = {"kind": "item", "event_id": "e1", "at": "2025-03-02T10:00:00Z", "seq": 7, "id": 17, "attrs": {"state": "Done"}}

RESPONSE = """\
events:
  - type: flowmetrics.response.v1
    source: survey
    time: {from: at, format: epoch}
    data:
      respondent: ${who}
      value_stream: shop
      survey: nps
      score: ${score}
      partial: ${partial}
      sentiment: ${sentiment}
"""


def mapping(text: str = ITEM, **replaced: str) -> RowMapping:
    for old, new in replaced.items():
        text, count = re.subn(rf"^( +){old}: .*$", rf"\g<1>{new}", text, flags=re.MULTILINE)
        assert count == 1, old
    return parse_mapping(text, "map.yaml")


def only(answers: list[bytes | Rejection]) -> dict[str, object]:
    (answer,) = answers
    assert isinstance(answer, bytes), answer
    event: dict[str, object] = msgspec.json.decode(answer)
    return event


def refused(answers: list[bytes | Rejection]) -> Rejection:
    (answer,) = answers
    assert isinstance(answer, Rejection), answer
    return answer


def fields(row: Mapping[str, object], text: str = RESPONSE) -> dict[str, object]:
    found = only(parse_mapping(text, "map.yaml").events({"who": "ann", "at": 0, **row}, "1"))["data"]
    assert isinstance(found, dict)
    return found


def test_a_row_becomes_a_cloud_event_that_the_decoder_takes() -> None:
    event = only(mapping().events(ROW, "1"))
    assert event == {
        "specversion": "1.0",
        "id": "e1",
        "source": "shop",
        "type": "flowmetrics.item.v1",
        "time": "2025-03-02T10:00:00Z",
        "sequence": 7,
        "data": {"item": "17", "value_stream": "shop", "item_type": "defect", "state": "Done"},
    }
    msgspec.convert(event, Event)


def test_a_row_for_which_no_condition_holds_makes_nothing() -> None:
    assert mapping().events({**ROW, "kind": "note"}, "1") == []


def test_a_row_may_make_several_events_in_the_order_of_the_mapping() -> None:
    text = ITEM + ITEM.removeprefix("events:\n").replace("defect", "risk")
    kinds = [msgspec.json.decode(e)["data"]["item_type"] for e in parse_mapping(text, "m").events(ROW, "1")]
    assert kinds == ["defect", "risk"]


def test_the_default_id_is_stable_and_differs_by_position_content_and_entry() -> None:
    text = re.sub(r"\n    id: .*", "", ITEM)
    twice = parse_mapping(text + text.removeprefix("events:\n"), "m")

    def ids(row: Mapping[str, object], position: str) -> list[str]:
        return [msgspec.json.decode(event)["id"] for event in twice.events(row, position)]

    first = ids(ROW, "1")
    assert first == ids(dict(reversed(ROW.items())), "1")
    assert re.fullmatch("[0-9a-f]{32}", first[0])
    assert len({*first, *ids(ROW, "2"), *ids({**ROW, "seq": 8}, "1")}) == 6


def test_a_template_keeps_the_type_of_the_value_and_text_around_it_makes_a_text() -> None:
    assert only(mapping().events(ROW, "1"))["sequence"] == 7
    assert only(mapping(sequence="sequence: 1${seq}").events(ROW, "1"))["sequence"] == "17"


@pytest.mark.parametrize("team", [None, "", float("nan")])
def test_an_absent_value_leaves_its_field_out(team: object) -> None:
    row = {**ROW, "attrs": {"state": "Done", "team": team}}
    assert "team" not in fields(row, ITEM.replace("when", "#"))
    assert "team" not in fields(row, ITEM.replace("when", "#").replace("${attrs.team}", "team ${attrs.team}!"))


def test_an_absent_sequence_is_left_out_and_an_absent_id_refuses_the_row() -> None:
    assert "sequence" not in only(mapping().events({**ROW, "seq": None}, "1"))
    assert refused(mapping().events({**ROW, "event_id": ""}, "1")).reason is Reason.MISSING_FIELD
    assert refused(mapping(source="source: ${a.b}").events(ROW, "1")).reason is Reason.MISSING_FIELD


def test_a_column_whose_name_holds_dots_or_spaces_is_found() -> None:
    text = RESPONSE.replace("${who}", "${Asked of.Name}")
    assert fields({"Asked of.Name": "bob"}, text)["respondent"] == "bob"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"score": 8.0}, 8),
        ({"score": "8"}, 8),
        ({"score": " 8 "}, 8),
        ({"score": Decimal(8)}, 8),
        ({"score": "eight"}, "eight"),
        ({"score": 8.5}, 8.5),
    ],
)
def test_a_number_becomes_an_integer_where_the_event_wants_one_else_it_stays(
    row: dict[str, object], expected: object
) -> None:
    score = fields(row)["score"]
    assert (score, type(score)) == (expected, type(expected))


def test_texts_become_booleans_and_numbers_and_numbers_become_texts_as_the_field_wants() -> None:
    data = fields({"who": 42.0, "score": 1, "partial": "TRUE", "sentiment": "-0.5"})
    assert data["respondent"] == "42"
    assert data["partial"] is True
    assert data["sentiment"] == -0.5


def test_a_null_score_is_left_out_for_the_decoder_to_refuse() -> None:
    assert "score" not in fields({"score": None})


def test_lists_and_names_with_values_are_filled_from_the_row_without_what_is_absent() -> None:
    text = """\
events:
  - type: flowmetrics.customer.v1
    source: crm
    time: {from: at, format: epoch}
    data: {customer: "${who}", aliases: ["${mail}", "${phone}"], consent: {mail: "${opt_in}", post: false}}
"""
    data = fields({"mail": "a@example.com", "opt_in": "true"}, text)
    assert data["aliases"] == ["a@example.com"]
    assert data["consent"] == {"mail": True, "post": False}


def test_a_constant_is_the_text_that_is_written_where_the_field_is_a_text() -> None:
    assert fields({}, RESPONSE.replace("survey: nps", "survey: no"))["survey"] == "no"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/map.yaml")), ids=lambda path: path.parent.name)
def test_each_example_is_a_mapping(path: Path) -> None:
    parse_mapping(path.read_text(), path.name)


def test_a_value_that_json_cannot_hold_refuses_the_row_and_not_the_file() -> None:
    assert refused(mapping().events({**ROW, "id": "\ud800"}, "1")).reason is Reason.WRONG_TYPE
    assert refused(mapping().events({**ROW, "seq": 2**80}, "1")).reason is Reason.WRONG_TYPE


def test_a_row_that_is_nested_without_end_is_refused() -> None:
    nested: object = []
    for _ in range(5000):
        nested = [nested]
    text = re.sub(r"\n    id: .*", "", ITEM)
    answer = refused(parse_mapping(text, "m").events({**ROW, "attrs": {"state": "x", "team": nested}}, "1"))
    assert answer.reason is Reason.WRONG_TYPE


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.timedeltas()
    | st.decimals()
    | st.sampled_from(["2025-03-02T10:00:00+01:00", "1e9", "true", "item", "${id}", "%s"])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6)
NAMES = st.sampled_from(["kind", "at", "seq", "id", "attrs", "attrs.state", "who", "score"]) | st.text()
ANYTHING = parse_mapping(
    """\
events:
  - type: flowmetrics.item.v1
    when: kind == "item" or id < seq or not attrs.state
    source: a${id}
    sequence: ${seq}
    time: {from: at}
    data: {item: "${id}", value_stream: "${attrs}", state: "${attrs.state}", blocked: "${kind}"}
  - type: flowmetrics.response.v1
    when: not id in attrs or score >= 3
    source: s
    time: {from: at, format: epoch}
    data: {respondent: "${id}", value_stream: s, survey: "x${who}", score: "${score}", asked_at: "${at}"}
  - type: flowmetrics.touchpoint.v1
    id: ${id}
    source: s
    time: {from: at, format: "%Y", zone: Asia/Seoul}
    data: {customer: "${id}", value_stream: s, journey: "${who}", touchpoint: t, value: "${score}"}
  - type: flowmetrics.customer.v1
    when: glob(id, "*") or kind != attrs
    source: s
    time: {from: at, format: date}
    data: {customer: "${id}", aliases: "${attrs}", consent: {a: "${kind}"}}
""",
    "map.yaml",
)


@given(st.dictionaries(NAMES, VALUES), st.text())
def test_no_row_ever_raises(row: dict[str, object], position: str) -> None:
    for event in ANYTHING.events(row, position):
        assert isinstance(event, Rejection) or isinstance(msgspec.json.decode(event), dict)
