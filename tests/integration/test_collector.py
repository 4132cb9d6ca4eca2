"""`POST /events` of the real engine: every form, every answer, every reason, and reading back what was refused."""

from __future__ import annotations

import gzip
import http.client
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import orjson
import pytest
from engine import EngineProcess, Event, chunks, done, event, lines, rejected, until

Make: TypeAlias = Callable[..., EngineProcess]
JSON, LINES = "application/json", "application/x-ndjson"
ONE, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
REQUEST_BYTES, EVENT_BYTES = 16 * 1024 * 1024, 256 * 1024


def bent(**changes: Any) -> bytes:
    """An event that is done, with other attributes; None leaves one out."""
    whole = {**done("bent"), **changes}
    return orjson.dumps({name: value for name, value in whole.items() if value is not None})


def answer(**changes: Any) -> bytes:
    """An answer to a survey with other data."""
    data = {"respondent": "ann", "value_stream": "shop", "survey": "nps", "score": 9, **changes}
    return orjson.dumps(event("response", **data))


def moment(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


REASONS: dict[str, Callable[[], bytes]] = {
    "not_json": lambda: b'{"specversion": "1.0",',
    "not_cloudevent": lambda: bent(specversion="0.3"),
    "unknown_type": lambda: bent(type="flowmetrics.thing.v1"),
    "missing_field": lambda: bent(data={"item": "A-1", "value_stream": "shop"}),
    "wrong_type": lambda: bent(data={"item": 17, "value_stream": "shop", "state": "Done"}),
    "bad_time": lambda: bent(time="yesterday"),
    "time_without_offset": lambda: bent(time="2025-03-01T00:00:00"),
    "too_far_ahead": lambda: bent(time=moment(hours=1, minutes=1)),
    "score_off_scale": lambda: answer(score=11),
    "unknown_survey": lambda: answer(survey="smiles"),
    "too_large": lambda: bent(data={"item": "A", "value_stream": "s", "state": "Done", "title": "x" * EVENT_BYTES}),
}
"""Every reason of the closed list but `bad_signature`: that of signed sources, which this version does not have."""


# --- forms -----------------------------------------------------------------------------------------------------------

FORMS: list[tuple[str, str, Callable[[list[Event]], bytes]]] = [
    ("one event", JSON, lambda events: orjson.dumps(events[0])),
    ("one event, pretty", JSON, lambda events: orjson.dumps(events[0], option=orjson.OPT_INDENT_2)),
    ("one event with a charset", f"{JSON}; charset=utf-8", lambda events: b" \r\n" + orjson.dumps(events[0])),
    ("an array", JSON, orjson.dumps),
    ("a pretty array", JSON, lambda events: b"\n" + orjson.dumps(events, option=orjson.OPT_INDENT_2)),
    ("a CloudEvent", ONE, lambda events: orjson.dumps(events[0])),
    ("a batch of CloudEvents", BATCH, orjson.dumps),
    ("a batch with a charset", f"{BATCH}; charset=UTF-8", orjson.dumps),
    ("lines", LINES, lines),
    ("lines without the last break", LINES, lambda events: lines(events).rstrip()),
    ("lines with blank ones between", LINES, lambda events: b"\n" + lines(events).replace(b"\n", b"\r\n \r\n")),
]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("kind", "write"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_events_in_every_form_are_accepted_and_counted(
    shared: EngineProcess,
    request: pytest.FixtureRequest,
    kind: str,
    write: Callable[[list[Event]], bytes],
    packed: bool,
) -> None:
    stream = request.node.name
    events = [done(f"{stream} {n}", stream) for n in range(3)]
    body = write(events)
    several = body.count(b"specversion")
    got = shared.send(gzip.compress(body) if packed else body, kind, **({"Content_Encoding": "gzip"} if packed else {}))
    assert (got.status, got.headers["Content-Type"].split(";")[0]) == (202, JSON)
    assert got.json == {"accepted": several, "rejected": []}
    shared.shows(lambda page: page.velocity(stream), several)


def test_an_event_that_is_sent_again_in_another_form_counts_once(shared: EngineProcess) -> None:
    events = [done("again 1", "again"), done("again 2", "again")]
    shared.post(*events)
    assert shared.send(orjson.dumps(events[::-1], option=orjson.OPT_INDENT_2), BATCH).json["accepted"] == 2
    shared.post(*events, done("again 3", "again"))
    assert shared.shows(lambda page: page.velocity("again"), 3)


def test_a_gzip_body_of_several_members_loses_none(shared: EngineProcess) -> None:
    parts = [[done(f"member {n}", "members")] for n in range(3)]
    body = b"".join(gzip.compress(lines(part)) for part in parts)
    got = shared.send(body, LINES, Content_Encoding="gzip")
    assert (got.status, got.json) == (202, {"accepted": 3, "rejected": []})
    shared.shows(lambda page: page.velocity("members"), 3)


def test_a_body_sent_in_chunks_without_a_length_is_taken(shared: EngineProcess) -> None:
    body = lines([done(f"chunk {n}", "chunked") for n in range(500)])
    to = urlsplit(shared.url)
    connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=20)
    try:
        connection.request("POST", "/events", iter(chunks(body, 1000)), {"Content-Type": LINES}, encode_chunked=True)
        assert orjson.loads(connection.getresponse().read()) == {"accepted": 500, "rejected": []}
    finally:
        connection.close()
    shared.shows(lambda page: page.velocity("chunked"), 500)


@pytest.mark.parametrize(("kind", "body"), [(JSON, b"[]"), (BATCH, b" [ ] "), (LINES, b""), (LINES, b"\n\r\n")])
def test_a_batch_of_nothing_is_accepted_as_nothing(shared: EngineProcess, kind: str, body: bytes) -> None:
    got = shared.send(body, kind)
    assert (got.status, got.json) == (202, {"accepted": 0, "rejected": []})


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_is_answered_with_its_place_and_a_detail(shared: EngineProcess, reason: str) -> None:
    got = shared.send(REASONS[reason](), ONE)
    assert got.status == 400
    assert got.json["accepted"] == 0
    (refusal,) = got.json["rejected"]
    assert set(refusal) == {"index", "reason", "detail"}
    assert (refusal["index"], refusal["reason"], bool(refusal["detail"])) == (0, reason, True)


def test_each_reason_is_counted_and_kept_for_reading_back_with_the_bytes_as_they_came(engine: EngineProcess) -> None:
    bodies = {reason: make_body() for reason, make_body in REASONS.items()}
    for body in bodies.values():
        assert engine.send(body, ONE).status == 400
    page = engine.shows(lambda page: page.total("events_rejected_total"), len(bodies))
    assert {page("events_rejected_total", reason=reason) for reason in bodies} == {1}
    engine.stop()
    kept = rejected(engine.run("rejected"))
    assert [reason for reason, _ in kept] == list(REASONS)
    assert dict(kept) == {reason: body.decode()[:EVENT_BYTES] for reason, body in bodies.items()}


@pytest.mark.parametrize("kind", [JSON, LINES])
def test_the_rest_of_a_batch_is_accepted_and_what_is_refused_is_named_by_its_place(
    shared: EngineProcess, kind: str
) -> None:
    stream = f"mixed {kind}"
    wrong = [REASONS[reason]() for reason in REASONS if reason not in ("not_json", "too_large")]
    bodies = [part for n, bad in enumerate(wrong) for part in (orjson.dumps(done(f"{stream} {n}", stream)), bad)]
    got = shared.send(b"[" + b",".join(bodies) + b"]" if kind == JSON else b"\n".join(bodies), kind)
    assert (got.status, got.json["accepted"]) == (202, len(wrong))
    assert got.reasons == [
        (2 * n + 1, reason) for n, reason in enumerate(r for r in REASONS if r not in ("not_json", "too_large"))
    ]
    shared.shows(lambda page: page.velocity(stream), len(wrong))


def test_a_line_that_is_not_json_leaves_its_neighbours_alone(shared: EngineProcess) -> None:
    good = [orjson.dumps(done(f"neighbour {n}", "neighbours")) for n in range(2)]
    got = shared.send(b"\n".join([good[0], b"{", b"\xff\xfe", REASONS["too_large"](), good[1]]), LINES)
    assert (got.status, got.json["accepted"]) == (202, 2)
    assert got.reasons == [(1, "not_json"), (2, "not_json"), (3, "too_large")]
    shared.shows(lambda page: page.velocity("neighbours"), 2)


NOT_JSON = (b"", b"[", b"[1,", b"[{]", b"hello", b"\xff", b"[\xff]", b'{"a":1}{"b":2}', b"\x00")


@pytest.mark.parametrize("body", NOT_JSON, ids=repr)
def test_a_body_that_is_not_json_is_one_refusal(shared: EngineProcess, body: bytes) -> None:
    got = shared.send(body)
    assert (got.status, got.json["accepted"], got.reasons) == (400, 0, [(0, "not_json")])


def test_every_body_that_is_not_json_is_counted_and_kept(engine: EngineProcess) -> None:
    for body in NOT_JSON:
        assert engine.send(body).status == 400
    engine.shows(lambda page: page("events_rejected_total", reason="not_json"), len(NOT_JSON))
    engine.stop()
    kept = [("not_json", body.decode("utf-8", "replace")) for body in NOT_JSON]
    assert rejected(engine.run("rejected")) == kept


@pytest.fixture(scope="module")
def battered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine that is sent what nobody should send."""
    with EngineProcess(tmp_path_factory.mktemp("battered")) as running:
        yield running.ready()


DEEP = b"[" * 5000 + b"]" * 5000
HOSTILE = {
    "deep objects": lambda: b'{"x":' * 5000,
    "open arrays": lambda: b"[" * 100_000,
    "a deep array": lambda: b"[" + DEEP + b"]",
    "a deep field": lambda: bent(x="@").replace(b'"@"', DEEP),
    "a field just deep enough": lambda: bent(x="@").replace(b'"@"', b"[" * 960 + b"]" * 960),
    "the end of time": lambda: bent(time="9999-12-31T23:59:59-23:59"),
    "the begin of time": lambda: bent(time="0001-01-01T00:00:00+23:59"),
    "a nul": lambda: bent(id="\x00", data={"item": "\x00", "value_stream": "\x00", "state": "\x00"}),
    "breaks of lines": lambda: bent(source="\u2028\x7f", data={"item": "\n", "value_stream": "\r\n", "state": "\x1f"}),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_is_answered_and_the_next_sender_is_served(
    battered: EngineProcess, body: Callable[[], bytes]
) -> None:
    assert battered.send(body()).status in (202, 400)
    stream = f"after {battered.metrics().total('events_accepted_total')}"
    battered.post(done(stream, stream))
    battered.shows(lambda page: page.velocity(stream), 1)
    assert battered.get("/readyz").status == 200


def test_after_hostile_bodies_the_state_is_read_again_by_engine_and_commands(battered: EngineProcess) -> None:
    battered.stop()
    for _ in range(2):
        battered.run("audit").well()
        battered.run("rejected").well()
        battered.ready()
        battered.stop()


# --- HTTP ------------------------------------------------------------------------------------------------------------


def refusal(status: int, got: Any, *words: str) -> None:
    """A refusal of the request as a whole: the same body, with a sentence that says what to do."""
    assert got.status == status, got.text
    told = got.json
    assert set(told) == {"accepted", "rejected", "error"}
    assert (told["accepted"], told["rejected"]) == (0, [])
    for word in words:
        assert word in told["error"]


def test_a_request_of_16_mib_is_taken_and_a_larger_one_is_not(shared: EngineProcess) -> None:
    one = lines([done("large", "large")])
    whole = one + b" " * (REQUEST_BYTES - len(one) - 1) + b"\n"
    assert shared.send(whole, LINES).json == {"accepted": 1, "rejected": []}
    refusal(413, shared.send(whole + b"\n", LINES), str(REQUEST_BYTES))
    refusal(413, shared.send(gzip.compress(whole + b"\n"), LINES, Content_Encoding="gzip"), "unpacked")
    refusal(413, shared.send(gzip.compress(b" " * 10 * REQUEST_BYTES), LINES, Content_Encoding="gzip"), "unpacked")
    assert shared.send(gzip.compress(whole), LINES, Content_Encoding="gzip").json["accepted"] == 1
    shared.shows(lambda page: page.velocity("large"), 1)


def test_a_body_in_an_unknown_encoding_is_refused_with_what_is_known(shared: EngineProcess) -> None:
    refusal(415, shared.send(lines([done("br")]), LINES, Content_Encoding="br"), '"br"', "gzip")
    assert shared.send(lines([done("id", "identity")]), LINES, Content_Encoding="identity").status == 202


def test_a_body_of_another_content_type_is_refused_with_what_is_known(shared: EngineProcess) -> None:
    refusal(415, shared.send(lines([done("csv")]), "text/csv"), "text/csv", JSON)
    refusal(415, shared.send(lines([done("xml")]), "application/xml"), "application/xml", JSON)


@pytest.mark.parametrize("body", [b"", b"hello", gzip.compress(b"[]")[:-4], gzip.compress(b"[]")[:5]])
def test_a_body_that_is_not_whole_gzip_is_refused_and_nothing_of_it_is_taken(
    shared: EngineProcess, body: bytes
) -> None:
    refusal(400, shared.send(body, Content_Encoding="gzip"), "gzip")


def test_a_gzip_body_cut_in_the_middle_is_refused_as_a_whole(shared: EngineProcess) -> None:
    body = gzip.compress(lines([done(f"cut {n}", "cut") for n in range(1000)]))
    refusal(400, shared.send(body[: len(body) // 2], LINES, Content_Encoding="gzip"), "gzip")
    refusal(400, shared.send(body + b"and more", LINES, Content_Encoding="gzip"), "gzip")
    assert shared.metrics().velocity("cut") is None


def test_other_methods_and_paths_are_told_apart(shared: EngineProcess) -> None:
    assert shared.ask("PUT", "/events", b"{}").status == 405
    assert shared.ask("POST", "/metrics", b"{}").status == 405
    assert shared.get("/nothing").status == 404
    assert shared.get("/%00").status == 404
    assert shared.get("/..%2f..%2fpyproject.toml").status == 404
    assert shared.get("/healthz").text == "alive\n"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine that asks for a token."""
    directory: Path = tmp_path_factory.mktemp("guarded")
    (directory / "token").write_text("s3cret-token\n")
    with EngineProcess(directory, f'http: {{listen: "127.0.0.1:0", token_file: {directory / "token"}}}') as running:
        yield running.ready()


@pytest.mark.parametrize(
    "shown", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Bearer s3cret-token2", "Basic czNjcmV0LXRva2Vu",
              "s3cret-token", "Bearer S3CRET-TOKEN", "Bearer s3cret-toke\u00f1", "Bearer \xff"],
)  # fmt: skip
def test_without_the_token_nothing_is_taken(guarded: EngineProcess, shown: str | None) -> None:
    got = guarded.send(lines([done("secret", "secret")]), LINES, **({} if shown is None else {"Authorization": shown}))
    refusal(401, got, "Authorization: Bearer")
    assert got.headers["WWW-Authenticate"].startswith("Bearer")
    assert "s3cret" not in got.text
    assert guarded.metrics().velocity("secret") is None


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_token_events_are_taken(guarded: EngineProcess, scheme: str) -> None:
    stream = f"open {scheme}"
    got = guarded.send(lines([done(stream, stream)]), LINES, Authorization=f"{scheme} s3cret-token")
    assert got.status == 202
    guarded.shows(lambda page: page.velocity(stream), 1)


def test_metrics_health_and_page_need_no_token(guarded: EngineProcess) -> None:
    assert [guarded.get(path).status for path in ("/metrics", "/healthz", "/readyz", "/", "/api/catalogue")] == [
        200
    ] * 5


def test_a_token_file_that_is_missing_or_empty_stops_the_start(make: Make, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for name in ("missing", "empty"):
        engine = make(f'http: {{listen: "127.0.0.1:0", token_file: {tmp_path / name}}}')
        engine.spawn()
        assert until(lambda engine=engine: not engine.runs, "the start is refused")  # type: ignore[misc]
        assert engine.ended() == 2
        assert str(tmp_path / name) in engine.said


def test_a_sender_that_goes_away_in_the_middle_leaves_nothing_and_harms_nobody(shared: EngineProcess) -> None:
    to = urlsplit(shared.url)
    body = lines([done(f"gone {n}", "gone") for n in range(10)])
    for _ in range(5):
        with socket.create_connection((to.hostname, to.port), timeout=20) as connection:
            head = f"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: {LINES}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[:-100])
    shared.post(done("stays", "gone"))
    assert shared.shows(lambda page: page.velocity("gone"), 1)


# --- reading back ----------------------------------------------------------------------------------------------------


def test_what_was_refused_is_taken_after_the_fix_and_the_rest_stays(make: Make) -> None:
    engine = make().ready()
    smiles = [event("response", respondent=f"r{n}", value_stream="shop", survey="smiles", score=n) for n in (1, 2, 3)]
    assert engine.send(orjson.dumps([*smiles, done("good")])).reasons == [(n, "unknown_survey") for n in range(3)]
    assert engine.send(b"hello").reasons == [(0, "not_json")]
    engine.shows(lambda page: page.total("events_rejected_total"), 4)
    engine.stop()

    kept = engine.run("rejected").well().rows
    assert [(row["number"], row["reason"]) for row in kept] == [
        (1, "unknown_survey"), (2, "unknown_survey"), (3, "unknown_survey"), (4, "not_json"),
    ]  # fmt: skip
    assert [orjson.loads(row["event"]) for row in kept[:3]] == smiles
    assert kept[3]["event"] == "hello"
    assert all({"arrived_at", "detail"} <= set(row) for row in kept)

    assert "0 of 4" in engine.run("rejected", "--replay").well().err
    engine.configure("surveys: {smiles: {scale: [1, 3], top: 1}}")
    assert "3 of 4" in engine.run("rejected", "--replay").well().err
    assert rejected(engine.run("rejected")) == [("not_json", "hello")]
    assert "0 of 1" in engine.run("rejected", "--replay").well().err
    engine.run("audit").well()
    engine.ready()
    labels = {"value_stream": "shop", "touchpoint": "all", "segment": "all", "window": "1d"}
    engine.shows(lambda page: page("smiles_responses", **labels), 3)
    assert engine.metrics()("smiles_ratio", **labels) == pytest.approx(1 / 3)
    assert engine.metrics().velocity() == 1


def test_refusals_are_counted_over_a_restart(make: Make) -> None:
    engine = make().ready()
    assert engine.send(b"hello").status == 400
    engine.stop()
    engine.ready()
    engine.shows(lambda page: page("events_rejected_total", reason="not_json"), 1)
    assert engine.send(b"hello").status == 400
    engine.shows(lambda page: page("events_rejected_total", reason="not_json"), 2)
    engine.kill()
    engine.ready()
    engine.shows(lambda page: page("events_rejected_total", reason="not_json"), 2)


def test_what_was_refused_can_be_read_back_while_the_engine_runs(engine: EngineProcess) -> None:
    assert engine.send(b"hello").status == 400
    assert rejected(engine.run("rejected")) == [("not_json", "hello")]


def test_the_account_is_whole_every_delivery_is_accepted_or_refused(shared: EngineProcess) -> None:
    shared.post(done("earlier", "earlier"))
    before = shared.shows(lambda page: page.velocity("earlier"), 1)
    good = [done(f"account {n}", "account", source="account") for n in range(300)]
    bodies = [orjson.dumps(one) for one in good]
    bodies[::3] = [b"nonsense"] * 100
    got = shared.send(b"\n".join(bodies), LINES)
    assert (got.json["accepted"], len(got.json["rejected"])) == (200, 100)
    shared.shows(lambda page: page.accepted("account"), 200)
    refused = before.total("events_rejected_total") + 100
    shared.shows(lambda page: page.total("events_rejected_total"), refused)
