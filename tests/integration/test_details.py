"""The details behind the page, of a running engine: who is behind a number, why, and who may ask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import pytest
from aiohttp.test_utils import make_mocked_request
from engine import Answer, EngineProcess, done, event, until

from agents.details import Details
from flowmetrics.configuration import Configuration

Make: TypeAlias = Callable[..., EngineProcess]
TOTAL = {"kpi": "flow_velocity", "item_type": "all", "window": "1d"}


def behind(engine: EngineProcess, stream: str, **asked: str) -> Any:
    """Who is behind a number of a value stream."""
    answer = engine.get(f"/api/items?{urlencode({**TOTAL, **asked, 'value_stream': stream})}")
    assert answer.status == 200, answer.text
    return answer.json


def names(told: Any) -> list[str]:
    return sorted(row["name"] for row in told["rows"])


def test_the_items_behind_a_count_are_as_many_as_it_says_and_carry_title_and_state(shared: EngineProcess) -> None:
    shared.post(done("A-1", "count", title="Pay by card", item_type="Bug"), done("A-2", "count", item_type="Story"))
    shared.post(done("B-1", "other"), event("item", item="A-3", value_stream="count", state="Doing"))
    shared.shows(lambda page: (page.velocity("count"), page.velocity("other")), (2.0, 1.0))
    told = until(lambda: (t := behind(shared, "count"))["total"] == 2 and t, "both are committed")
    assert names(told) == ["A-1", "A-2"]
    assert told["complete"]
    assert told["amounts"] == {"items_done": 2}
    assert {row["name"]: (row["kind"], row["title"], row["state"]) for row in told["rows"]} == {
        "A-1": ("item", "Pay by card", "Done"),
        "A-2": ("item", None, "Done"),
    }
    assert names(behind(shared, "count", item_type="defect")) == ["A-1"]
    assert names(behind(shared, "count", kpi="flow_load", state="active")) == ["A-3"]
    assert behind(shared, "nowhere")["rows"] == []


def test_an_item_that_was_reopened_is_no_longer_behind_what_is_done(shared: EngineProcess) -> None:
    shared.post(done("R-1", "again"))
    until(lambda: names(behind(shared, "again")) == ["R-1"], "it is done")
    shared.post(event("item", item="R-1", value_stream="again", state="Doing", ago=1))
    until(lambda: names(behind(shared, "again")) == [], "it is not done")


def test_the_customers_behind_active_users_and_answers_are_told_with_their_scores(shared: EngineProcess) -> None:
    shared.post(*(event("activity", customer=f"c{n}", value_stream="people") for n in range(3)))
    shared.post(event("response", respondent="c1", value_stream="people", survey="nps", score=3))
    shared.shows(lambda page: page.users("people"), 3.0)
    told = until(lambda: (t := behind(shared, "people", kpi="active_users"))["total"] == 3 and t, "all are committed")
    assert names(told) == ["c0", "c1", "c2"]
    labels = {"kpi": "nps", "touchpoint": "all", "segment": "all"}
    (row,) = until(lambda: behind(shared, "people", **labels)["rows"], "the answer is committed")
    assert (row["name"], row["said"][0]["value"]) == ("c1", 3)


def test_more_than_two_hundred_are_counted_and_the_first_two_hundred_told(shared: EngineProcess) -> None:
    shared.post(*(done(f"M-{n}", "many") for n in range(230)))
    told = until(lambda: (t := behind(shared, "many"))["total"] == 230 and t, "all are committed")
    assert (len(told["rows"]), told["rows_max"], told["amounts"]) == (200, 200, {"items_done": 230})


def test_why_is_told_over_http_and_by_the_command_while_the_engine_runs(shared: EngineProcess) -> None:
    key = "odd/key ?ä"
    shared.post(done(key, "why"))
    until(lambda: names(behind(shared, "why")) == [key], "it is committed")
    lines = shared.get(f"/api/explain/item/{quote(key)}").json["lines"]
    assert lines[0] == f"item:{key}"
    assert any("items_done" in line for line in lines)
    assert shared.run("explain", "item", key).well().out.splitlines() == lines


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/api/items?kpi=flow_tyme", 404, "flow_time"),
        ("/api/items", 404, "there is no such KPI"),
        ("/api/items?kpi=flow_time&window=soon", 400, "is not a duration"),
        ("/api/explain/team/A-1", 404, "known are item, request, customer"),
        ("/api/explain/item/nobody", 404, "nothing is known of item:nobody"),
    ],
)
def test_what_cannot_be_answered_says_why(shared: EngineProcess, path: str, status: int, told: str) -> None:
    answer = shared.get(path)
    assert answer.status == status
    assert told in answer.json["error"]
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def shown(engine: EngineProcess, path: str, token: str) -> Answer:
    return engine.ask("GET", path, headers={"Authorization": f"Bearer {token}"})


def test_who_may_not_send_events_learns_no_names(make: Make, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret-token\n")
    engine = make(f'http: {{listen: "127.0.0.1:0", token_file: {tmp_path / "token"}}}').ready()
    for path in ("/api/items?kpi=flow_velocity&window=1d", "/api/explain/item/A-1"):
        for answer in (engine.get(path), shown(engine, path, "wrong")):
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert "s3cret" not in answer.text
        assert shown(engine, path, "s3cret-token").status in {200, 404}
    assert engine.get("/api/catalogue").status == 200, "numbers are for everybody"


def test_pseudonyms_stay_pseudonyms(make: Make, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    engine = make(f"privacy: {{pseudonym_key_file: {tmp_path / 'key'}}}").ready()
    engine.post(event("activity", customer="ann@x.org", value_stream="shop"))
    (row,) = until(lambda: behind(engine, "shop", kpi="active_users")["rows"], "the visit is committed")
    assert "ann" not in row["name"]
    assert engine.get(f"/api/explain/customer/{row['name']}").status == 200
    assert engine.get("/api/explain/customer/ann@x.org").status == 404
    engine.run("explain", "customer", "ann@x.org").well()


async def test_on_kafka_the_answer_says_what_to_do_instead() -> None:
    details = Details(Configuration(broker="kafka://localhost:9092"), None, {})
    answer = await details._items(make_mocked_request("GET", "/api/items?kpi=flow_velocity&window=1d"))
    assert answer.status == 501
    assert b"flowmetrics explain" in (answer.body or b"")


def test_questions_beside_a_stream_of_events_do_not_hold_up_the_page(shared: EngineProcess) -> None:
    for n in range(5):
        shared.post(*(done(f"S-{n}-{k}", "busy") for k in range(300)))
        told = behind(shared, "busy")
        assert told["total"] % 300 == 0, "a snapshot holds whole checkpoints only"
        assert shared.get("/healthz").status == 200
    until(lambda: behind(shared, "busy")["total"] == 1500, "all are committed")
