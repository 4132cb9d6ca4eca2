"""The command line as people type it: help with examples, exit codes, and what each command prints."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from engine import COMMAND, EngineProcess, Event, Finished, command, done, free_port, lines, rejected, until
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from agents import commands
from agents.lock import DirectoryLock
from flowmetrics import __version__
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError

Make: TypeAlias = Callable[..., EngineProcess]

COMMANDS = (
    "demo",
    "run",
    "top",
    "import",
    "replay",
    "backfill",
    "audit",
    "explain",
    "rejected",
    "move",
    "adopt",
    "generate",
    "validate",
    "completion",
)
NOON = "2025-03-01T12:00:00Z"
MAP = """
events:
  - type: flowmetrics.item.v1
    source: board
    time: {from: at, format: iso}
    data: {item: "${key}", value_stream: shop, item_type: "${type}", state: "${state}"}
"""


def told(kind: str, time: str, number: int, **data: object) -> Event:
    """A native event with everything given."""
    name = f"flowmetrics.{kind}.v1"
    return {"specversion": "1.0", "id": str(number), "source": "s", "type": name, "time": time, "data": data}


def a_morning() -> list[Event]:
    """The worked examples of flow time and requests: one bug in three hours, one ticket in two."""
    bug = {"item": "A-1", "value_stream": "shop"}
    ticket = {"request": "R-1", "value_stream": "shop", "channel": "email"}
    return [
        told("item", "2025-03-01T08:00:00Z", 1, **bug, state="Backlog", item_type="Bug", title="It is slow"),
        told("item", "2025-03-01T09:00:00Z", 2, **bug, state="Ready"),
        told("item", "2025-03-01T11:00:00Z", 3, **bug, state="In Progress"),
        told("item", NOON, 4, **bug, state="Done"),
        told("request", "2025-03-01T08:00:00Z", 5, **ticket, state="Open", customer="ann"),
        told("request", "2025-03-01T10:00:00Z", 6, **ticket, state="Solved"),
        told("activity", "2025-03-01T10:30:00Z", 7, customer="ann", value_stream="shop", feature="search"),
        told("response", "2025-03-01T10:40:00Z", 8, respondent="ann", value_stream="shop", survey="nps", score=10),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a morning of events, in which commands are typed."""
    (tmp_path / "events.jsonl").write_bytes(lines(a_morning()))
    return tmp_path


def run(folder: Path, *words: str | Path) -> Finished:
    return command(*words, cwd=folder)


def values(finished: Finished, name: str, **labels: str) -> dict[str, float]:
    """The value at each instant of one series that replay printed as JSON."""
    wanted = (f"flowmetrics_{name}", {"value_stream": "shop", **labels})
    return {row["at"]: row["value"] for row in finished.well().rows if (row["name"], row["labels"]) == wanted}


# --- help and wrong use ----------------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").well().out == f"flowmetrics, version {__version__}\n"


def test_help_names_every_command_and_where_to_start(tmp_path: Path) -> None:
    text = run(tmp_path, "--help").well().out
    assert "Start here" in text
    assert re.findall(r"^  (\w+)  ", text.partition("Commands:")[2], re.M) == sorted(COMMANDS)
    assert run(tmp_path, "-h").well().out == text
    assert not any(tmp_path.iterdir()), "help writes nothing"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_shows_an_example_that_can_be_typed(tmp_path: Path, name: str) -> None:
    text = run(tmp_path, name, "--help").well().out
    assert text.startswith(f"Usage: flowmetrics {name}")
    examples = re.findall(rf"^ +(flowmetrics {name}.*)$", text.partition("Example")[2], re.M)
    assert examples
    known = set(re.findall(r"--[a-z]+", text))
    assert {word for example in examples for word in re.findall(r"--[a-z]+", example)} <= known


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete_commands(tmp_path: Path, shell: str) -> None:
    assert "_FLOWMETRICS_COMPLETE" in run(tmp_path, "completion", shell).well().out


def test_the_tab_key_completes_a_command_in_a_real_bash(tmp_path: Path) -> None:
    ask = (
        'eval "$(flowmetrics completion bash)"; COMP_WORDS=(flowmetrics val); COMP_CWORD=1; '
        '_flowmetrics_completion flowmetrics; echo "${COMPREPLY[@]}"'
    )
    place = f"{COMMAND.parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True, env={"PATH": place})
    assert done.stdout == "validate\n"


WRONG_USE: dict[str, tuple[list[str], str]] = {
    "no such command": (["fly"], "No such command 'fly'"),
    "no such option of flowmetrics itself": (["--fast"], "No such option: --fast"),
    "a word too many": (["run", "fast"], "unexpected extra argument (fast)"),
    "an option without its value": (["run", "--config"], "'--config' requires an argument"),
    "demo at no place": (["demo", "--listen", "8080"], "--listen must be host:port such as 127.0.0.1:8080"),
    "demo without a past": (["demo", "--days", "0"], "0 is not in the range"),
    "replay without --at": (["replay", "events.jsonl"], "Missing option '--at'"),
    "replay without a file": (["replay", "--at", NOON], "Missing argument 'FILES...'"),
    "replay at no time": (["replay", "events.jsonl", "--at", "noon"], '--at "noon" is not an RFC 3339 time'),
    "replay at a time without an offset": (["replay", "events.jsonl", "--at", "2025-03-01T12:00:00"], "offset"),
    "replay after the calendar": (["replay", "events.jsonl", "--at", "9999-12-31T23:59:59Z"], "before 9900"),
    "replay in an unknown format": (["replay", "events.jsonl", "--at", NOON, "--format", "xml"], "'xml' is not one of"),
    "replay of a file that is not there": (["replay", "event.jsonl", "--at", NOON], 'Did you mean "events.jsonl"?'),
    "replay of a directory": (["replay", "full", "--at", NOON], "full is a directory; name the files in it."),
    "import without a file": (["import"], "Missing argument 'FILES...'"),
    "import of a file that is not there": (["import", "nowhere.csv"], "nowhere.csv does not exist; check the path."),
    "import of a directory": (["import", "full"], "full is a directory; name the files in it."),
    "import of an unknown kind": (["import", "flowmetrics.exe"], "flowmetrics.exe is of no kind that can be read"),
    "a mapping that is not there": (["import", "events.jsonl", "--map", "map.yml"], "map.yml does not exist"),
    "a mapping that is a directory": (["import", "events.jsonl", "--map", "full"], "full is a directory"),
    "a mapping that is no text": (["import", "events.jsonl", "--map", "flowmetrics.exe"], "save it as UTF-8"),
    "a configuration that is not there": (["audit", "--config", "nowhere.yaml"], "nowhere.yaml does not exist"),
    "a configuration that is a directory": (["run", "--config", "full"], "full cannot be read: Is a directory."),
    "explain of an unknown kind": (["explain", "team", "A-1"], "'team' is not one of 'item', 'request', 'customer'"),
    "explain without a key": (["explain", "item"], "Missing argument 'KEY'"),
    "validate without a file": (["validate"], "name a file to check"),
    "validate of a directory": (["validate", "events.jsonl", "full"], "full is a directory; name the files in it."),
    "generate of nothing": (["generate"], "Missing argument '{docs|"),
    "generate of something unknown": (["generate", "poems"], "'poems' is not one of 'docs', "),
    **{f"no such option of {name}": ([name, "--fast"], "No such option: --fast") for name in COMMANDS},
}


@pytest.mark.parametrize(("words", "told"), WRONG_USE.values(), ids=WRONG_USE)
def test_wrong_use_ends_with_two_and_one_clear_sentence(folder: Path, words: list[str], told: str) -> None:
    (folder / "flowmetrics.exe").write_bytes(b"\x7fELF\xff")
    (folder / "full").mkdir()
    finished = run(folder, *words).failed(2, told)
    assert finished.err.startswith(("Usage: ", "Error: ")) or finished.err.count("\n") == 1
    assert finished.out == ""
    assert not (folder / "flowmetrics-data").exists(), "a command that was typed wrong writes nothing"


READERS = (["audit"], ["rejected"], ["rejected", "--replay"], ["explain", "item", "A-1"])


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_a_command_that_reads_a_data_directory_makes_none_where_there_is_none(folder: Path, words: list[str]) -> None:
    (folder / "a file").touch()
    (folder / "full").mkdir()
    for name, told in (("nowhere", "there is no nowhere;"), ("full", "full is no data directory;"),
                       ("a file", "a file is no data directory;")):  # fmt: skip
        (folder / "flowmetrics.yaml").write_text(f"broker: local://./{name}\n")
        assert run(folder, *words).failed(1, told, "under `broker`").err.count("\n") == 1
    assert not any((folder / "full").iterdir())
    assert not (folder / "nowhere").exists()


@pytest.mark.parametrize("words", [["run"], ["import", "events.jsonl"]], ids=" ".join)
def test_a_command_that_writes_a_data_directory_takes_no_file_for_one(folder: Path, words: list[str]) -> None:
    (folder / "flowmetrics.yaml").write_text("broker: local://./events.jsonl\n")
    assert run(folder, *words).failed(1, "events.jsonl is a file; name a directory").err.count("\n") == 1
    (folder / "other").mkdir()
    (folder / "other" / "flowmetrics.db").write_text("of another program")
    (folder / "flowmetrics.yaml").write_text("broker: local://./other\n")
    assert run(folder, *words).failed(1, "flowmetrics.db is damaged", "move it away").err.count("\n") == 1


def test_generate_says_what_is_in_its_way(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "kpis").touch()
    run(tmp_path, "generate", "docs").failed(1, "docs/kpis: File exists; move it away")


def test_a_configuration_in_the_current_directory_is_used_and_its_mistakes_stop_every_command(folder: Path) -> None:
    (folder / "flowmetrics.yaml").write_text("windows: [1d]\nhorizn: 90d\n")
    for words in (
        ["run"],
        ["audit"],
        ["rejected"],
        ["import", "events.jsonl"],
        ["replay", "events.jsonl", "--at", NOON],
    ):
        run(folder, *words).failed(2, 'flowmetrics.yaml:2:1: "horizn"', 'Did you mean "horizon"?')
    (folder / "flowmetrics.yaml").write_text("windows: [2d]\n")
    finished = run(folder, "replay", "events.jsonl", "--at", NOON)
    assert values(finished, "flow_velocity_items", item_type="all", window="2d") == {NOON: 1}
    assert values(finished, "flow_velocity_items", item_type="all", window="1d") == {}


# --- replay ----------------------------------------------------------------------------------------------------------


def test_replay_prints_an_object_a_line_with_the_instant_as_it_was_given(folder: Path) -> None:
    ats = ("2025-03-01T11:59:59Z", "2025-03-01T21:00:00+09:00", "2025-03-03T12:00:00Z")
    finished = run(folder, "replay", "events.jsonl", *(word for at in ats for word in ("--at", at)))
    assert all(list(row) == ["at", "name", "labels", "value"] for row in finished.well().rows)
    assert {row["at"] for row in finished.rows} == set(ats)
    day, bug = {"window": "1d"}, {"item_type": "defect"}
    assert values(finished, "flow_velocity_items", **day, **bug) in (
        {ats[0]: 0, ats[1]: 1, ats[2]: 0},
        {ats[1]: 1, ats[2]: 0},
    )
    assert values(finished, "flow_load_items", **bug, state="active") == dict(zip(ats, (1, 0, 0), strict=True))
    (flow_time,) = values(finished, "flow_time_seconds", **day, **bug, percentile="p50").values()
    assert flow_time == pytest.approx(3 * 3600, rel=0.01)
    assert values(finished, "requests_resolved", channel="email", window="1d") == dict(
        zip(ats, (1, 1, 0), strict=False)
    )
    assert values(finished, "active_users", window="7d") == dict.fromkeys(ats, 1)
    assert values(finished, "nps_responses", touchpoint="all", segment="all", window="7d") == dict.fromkeys(ats, 1)
    assert "8 events read" in finished.err
    assert not (folder / "flowmetrics-data").exists(), "nothing is stored"


def test_replay_does_not_care_for_order_repetition_files_or_packing(folder: Path) -> None:
    events = a_morning()
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines(events[::-2])))
    (folder / "b.ndjson").write_bytes(lines(events[::2] + events[:3]))
    (folder / "c.json").write_bytes(lines(events))
    ats = ["--at", NOON, "--at", "2025-03-01T09:30:00Z"]
    plain = run(folder, "replay", "events.jsonl", *ats).well()
    mixed = run(folder, "replay", "b.ndjson", "c.json", "a.jsonl.gz", "events.jsonl", *ats).well()
    assert sorted(plain.out.splitlines()) == sorted(mixed.out.splitlines())


def test_replay_prints_openmetrics_that_reads_back_as_the_same_values(folder: Path) -> None:
    ats = ["--at", NOON, "--at", "2025-03-02T06:00:00Z"]
    text = run(folder, "replay", "events.jsonl", *ats, "--format", "openmetrics").well().out
    assert text.endswith("# EOF\n")
    read = [
        (sample.name, tuple(sorted(sample.labels.items())), float(sample.timestamp), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    moments = {NOON: 1740830400.0, "2025-03-02T06:00:00Z": 1740895200.0}
    rows = run(folder, "replay", "events.jsonl", *ats).well().rows
    assert sorted(read) == sorted(
        (row["name"], tuple(sorted(row["labels"].items())), moments[row["at"]], row["value"]) for row in rows
    )


def test_replay_says_on_standard_error_what_it_left_out(folder: Path) -> None:
    path = folder / "events.jsonl"
    path.write_bytes(path.read_bytes() + b"nonsense\n{}\n" + lines([told("thing", NOON, 99)]))
    finished = run(folder, "replay", path, "--at", NOON).well()
    assert "8 events read; refused: 1 not_cloudevent, 1 not_json, 1 unknown_type" in finished.err
    assert values(finished, "flow_velocity_items", item_type="all", window="1d") == {NOON: 1}


def test_replay_of_a_mapped_csv_says_the_same_as_the_native_events(folder: Path) -> None:
    (folder / "map.yaml").write_text(MAP)
    rows = [one for one in a_morning() if one["type"] == "flowmetrics.item.v1"]
    cells = [f"A-1,{one['data'].get('item_type', '')},{one['data']['state']},{one['time']}" for one in rows]
    (folder / "board.csv").write_text("\n".join(["key,type,state,at", *cells]))
    mapped = run(folder, "replay", "board.csv", "--map", "map.yaml", "--at", NOON)
    native = run(folder, "replay", "events.jsonl", "--at", NOON)
    for name in ("flow_velocity_items", "flow_time_seconds", "flow_efficiency_ratio"):
        wanted = [row for row in native.rows if row["name"] == f"flowmetrics_{name}"]
        assert [row for row in mapped.well().rows if row["name"] == f"flowmetrics_{name}"] == wanted != []


def test_replay_into_a_pipe_that_closes_ends_without_a_word(folder: Path) -> None:
    ats = " ".join(f"--at 2025-03-{day:02d}T00:00:00Z" for day in range(1, 29))
    line = f"'{COMMAND}' replay events.jsonl {ats} | head -1"
    finished = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=folder, capture_output=True, check=False)
    assert finished.stdout.count(b"\n") == 1
    assert b"Traceback" not in finished.stderr
    assert b"Exception" not in finished.stderr


def test_a_damaged_file_fails_with_one_and_its_name(folder: Path) -> None:
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(lines(a_morning() * 100))[:-200])
    run(folder, "replay", "cut.jsonl.gz", "--at", NOON).failed(1, "cut.jsonl.gz")
    run(folder, "import", "cut.jsonl.gz").failed(1, "cut.jsonl.gz")


# --- validate --------------------------------------------------------------------------------------------------------


def test_validate_is_content_with_good_files_of_every_kind(folder: Path) -> None:
    (folder / "map.yaml").write_text(MAP)
    (folder / "good.yaml").write_text("windows: [1d, 7d]\n")
    (folder / "board.csv").write_text(f"key,type,state,at\nA-1,Bug,Done,{NOON}\n")
    assert "all well" in run(folder, "validate", "good.yaml", "map.yaml", "events.jsonl").well().err
    run(folder, "validate", "board.csv", "--map", "map.yaml").well()
    assert not (folder / "flowmetrics-data").exists()


def test_validate_names_every_mistake_of_every_file(folder: Path) -> None:
    (folder / "bad.yaml").write_text("widnows: [1d]\nresolution: 7m\n")
    (folder / "map.yaml").write_text(MAP.replace("flowmetrics.item.v1", "flowmetrics.itm.v1"))
    (folder / "bad.jsonl").write_bytes(lines(a_morning()[:1]) + b"nonsense\n" + lines([told("item", "noon", 9)]))
    finished = run(folder, "validate", "bad.yaml", "map.yaml", "bad.jsonl", "events.jsonl")
    finished.failed(
        1,
        'bad.yaml:1:1: "widnows"',
        "bad.yaml:2:13: ",
        "map.yaml:3:11",
        "    widnows: [1d]",
        "    ^",
        "flowmetrics.itm.v1",
    )
    finished.failed(1, "bad.jsonl: event 2: not_json", "bad.jsonl: event 3: ", "not all well: 5 mistakes in 4 files")
    assert "events.jsonl" not in finished.err
    assert finished.out == ""


def test_validate_holds_answers_against_the_surveys_of_the_configuration(folder: Path) -> None:
    answer = told("response", NOON, 1, respondent="ann", value_stream="shop", survey="smiles", score=3)
    (folder / "answers.jsonl").write_bytes(lines([answer]))
    run(folder, "validate", "answers.jsonl").failed(1, "unknown_survey")
    (folder / "flowmetrics.yaml").write_text("surveys: {smiles: {scale: [1, 3], top: 1}}\n")
    run(folder, "validate", "answers.jsonl").well()


def test_validate_prints_a_json_schema_for_editors(folder: Path) -> None:
    schema: dict[str, Any] = json.loads(run(folder, "validate", "--schema").well().out)
    assert schema["$schema"].endswith("2020-12/schema")
    assert {"broker", "http", "windows", "value_streams", "surveys"} <= schema["properties"].keys()


# --- a data directory ------------------------------------------------------------------------------------------------


def test_explain_shows_facts_contributions_and_the_kpis_that_read_them(folder: Path) -> None:
    run(folder, "import", "events.jsonl").well()
    item = run(folder, "explain", "item", "A-1").well().out
    assert item.startswith("item:A-1\n")
    facts = [line for line in item.splitlines() if "2025-03-01T" in line and " = " in line]
    assert [re.search(r"'(.+)' = (\w+)", line).groups() for line in facts] == [  # type: ignore[union-attr]
        ("Backlog", "new"), ("Ready", "waiting"), ("In Progress", "active"), ("Done", "done"),
    ]  # fmt: skip
    assert "start first_committed, reopen_gap exclude" in item
    for metric in (
        "flowmetrics_flow_time_seconds",
        "flowmetrics_flow_velocity_items",
        "flowmetrics_flow_efficiency_ratio",
    ):
        assert metric in item
    request = run(folder, "explain", "request", "R-1").well().out
    assert "'Solved' = done" in request
    assert "flowmetrics_requests_resolved" in request
    customer = run(folder, "explain", "customer", "ann").well().out
    assert "search" in customer
    assert "nps 10" in customer
    assert "flowmetrics_active_users" in customer


def test_explain_of_what_is_not_known_fails_with_one(folder: Path) -> None:
    run(folder, "import", "events.jsonl").well()
    run(folder, "explain", "item", "a-1").failed(1, "item:a-1", "case-sensitive")
    run(folder, "explain", "request", "A-1").failed(1, "request:A-1")


def test_explain_reads_the_past_under_the_present_configuration(folder: Path) -> None:
    run(folder, "import", "events.jsonl").well()
    (folder / "flowmetrics.yaml").write_text('value_streams: {"*": {states: {active: [Done]}, start: created}}\n')
    item = run(folder, "explain", "item", "A-1").well().out
    assert "'Done' = active" in item
    assert "'Ready' = new" in item, "no pattern matches, so nothing changes"
    assert "start created" in item
    assert "flow_load" in item


def test_audit_finds_nothing_after_an_import_and_the_difference_after_tampering(folder: Path) -> None:
    import sqlite3

    (folder / "events.jsonl").write_bytes(lines([done("A-1"), done("A-2")]))
    run(folder, "import", "events.jsonl").well()
    assert "agree" in run(folder, "audit").well().err
    with sqlite3.connect(folder / "flowmetrics-data" / "flowmetrics.db") as file:
        file.execute("DELETE FROM segments")
    file.close()
    run(folder, "audit").failed(1, "called for", "do not agree")


# --- import while somebody holds the directory ------------------------------------------------------------------------


def board(path: Path) -> Path:
    """A table of two items that are done, of one at no time, and of one far ahead."""
    times = (NOON, "2025-03-01T13:00:00Z", "never", "2525-03-01T12:00:00Z")
    path.write_text("\n".join(["key,type,state,at", *(f"B-{n},Bug,Done,{at}" for n, at in enumerate(times))]))
    (path.parent / "map.yaml").write_text(MAP)
    return path


def test_an_import_while_the_engine_runs_is_sent_to_it_and_gives_the_same_numbers(make: Make) -> None:
    running, stopped = (make("horizon: 36500d\nwindows: [36500d]") for _ in range(2))
    running.ready()
    for engine in (running, stopped):
        path = engine.directory / "events.jsonl"
        path.write_bytes(lines(a_morning()) + b"nonsense\n" + b'"' + b"x" * 17_000_000 + b'"\n' + lines([done("A-2")]))
        told = engine.run("import", path).well().err
        assert told.splitlines()[-1] == "9 events are in the log; refused: 1 not_json, 1 too_large"
        assert (f"sent to it at {engine.url}\n" in told) == (engine is running), told
    assert [reason for reason, _ in rejected(running.run("rejected"))] == ["not_json", "too_large"]
    page = running.shows(lambda page: page.velocity(window="36500d"), 2)
    assert page.total("events_rejected_total") == 2
    assert stopped.ready().metrics().kpis() == page.kpis()
    assert stopped.metrics().total("events_rejected_total") == 2
    running.stop()
    running.run("audit").well()


def test_what_a_mapping_refuses_is_counted_and_said_not_to_be_kept_when_the_engine_runs(engine: EngineProcess) -> None:
    path = board(engine.directory / "board.csv")
    told = engine.run("import", path, "--map", engine.directory / "map.yaml").well().err
    assert "2 events are in the log; refused: 1 bad_time, 1 too_far_ahead (1 by the mapping: " in told
    assert [reason for reason, _ in rejected(engine.run("rejected"))] == ["too_far_ahead"]
    path.write_text("key,type,state,at\nB-3,Bug,Done,never\n")
    engine.run("import", path, "--map", engine.directory / "map.yaml").failed(1, "`flowmetrics validate` shows why")
    engine.stop()
    engine.run("import", path, "--map", engine.directory / "map.yaml").failed(1, "`flowmetrics rejected` shows why")
    assert [reason for reason, _ in rejected(engine.run("rejected"))] == ["too_far_ahead", "bad_time"]


def test_an_import_shows_the_token_of_the_configuration_and_is_told_when_it_is_wrong(
    make: Make, tmp_path: Path
) -> None:
    token, path = tmp_path / "token", tmp_path / "events.jsonl"
    token.write_text("right\n")
    path.write_bytes(lines(a_morning()))
    engine = make(f'http: {{listen: "127.0.0.1:0", token_file: {token}}}').ready()
    assert "8 events are in the log" in engine.run("import", path).well().err
    token.write_text("wrong\n")
    engine.run("import", path).failed(1, "answered 401", "http.token_file", "0 events are in the log", "safe to import")
    token.unlink()
    engine.run("import", path).failed(2, "http.token_file", "cannot be read")


def test_an_import_waits_for_an_engine_that_does_not_answer_yet(engine: EngineProcess) -> None:
    path = engine.directory / "events.jsonl"
    path.write_bytes(lines(a_morning()))
    engine.signal(signal.SIGSTOP)
    waiting = subprocess.Popen(
        [COMMAND, "import", path, "--config", engine.config], cwd=engine.directory, stderr=subprocess.PIPE
    )
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.communicate(timeout=3)  # longer than it waits for one answer
        engine.signal(signal.SIGCONT)
        _, told = waiting.communicate(timeout=20)
    finally:
        engine.signal(signal.SIGCONT)
        waiting.kill()
        waiting.wait()
    assert waiting.returncode == 0
    assert b"8 events are in the log" in told


def test_an_import_goes_on_over_a_kill_and_a_restart_of_the_engine(make: Make) -> None:
    engine = make(port=free_port()).ready()
    path = engine.directory / "events.jsonl"
    path.write_bytes(lines(done(f"A-{n}", ago=60 + n / 1000) for n in range(120_000)))
    log = engine.directory / "import.txt"
    with log.open("wb") as said:
        going = subprocess.Popen(
            [COMMAND, "import", path, "--config", engine.config], cwd=engine.directory, stderr=said
        )
    try:
        until(lambda: "sent to it at" in log.read_text(), "it begins to send")
        going.send_signal(signal.SIGSTOP)  # wherever it is
        assert going.poll() is None, "the import ended too early for this test"
        engine.kill()
        engine.ready()
        going.send_signal(signal.SIGCONT)
        assert going.wait(60) == 0, log.read_text()
    finally:
        going.kill()
        going.wait()
    assert "120000 events are in the log\n" in log.read_text()
    engine.shows(lambda page: page.velocity(), 120_000, 60)


def test_an_import_into_a_directory_whose_engine_does_not_answer_fails_and_says_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.commands.local.HOLDER_SECONDS_MAX", 0.0)
    data, path = folder / "data", folder / "events.jsonl"
    configuration = Configuration(broker=f"local://{data}")
    with DirectoryLock(data, "run") as lock:
        with pytest.raises(OperationError, match=r"held by process \d+ .*, which does not answer yet; stop it"):
            commands.import_files([path], None, configuration)
        lock.serves(f"http://127.0.0.1:{free_port()}")
        with pytest.raises(OperationError, match=r"does not answer at http://127\.0\.0\.1:\d+; stop it"):
            commands.import_files([path], None, configuration)
    commands.import_files([path], None, configuration)


def test_a_directory_that_another_command_holds_is_refused_and_the_holder_named(folder: Path) -> None:
    data = folder / "flowmetrics-data"
    run(folder, "import", "events.jsonl").well()
    with DirectoryLock(data, "audit"):
        for words in (["import", "events.jsonl"], ["run"], ["audit"]):
            run(folder, *words).failed(1, f"held by process {os.getpid()} (flowmetrics audit); stop it")
        run(folder, "explain", "item", "A-1").well()
    run(folder, "import", "events.jsonl").well()


# --- generate --------------------------------------------------------------------------------------------------------


def test_generated_pages_are_fresh_until_one_is_changed_lost_or_foreign(tmp_path: Path) -> None:
    run(tmp_path, "generate", "docs", "--check").failed(1, "run flowmetrics generate docs")
    assert not any(tmp_path.iterdir()), "a check writes nothing"
    run(tmp_path, "generate", "docs").well()
    pages = sorted((tmp_path / "docs" / "kpis").glob("*.md"))
    assert len(pages) > 15
    assert run(tmp_path, "generate", "docs", "--check").well().err == ""
    first = {page: page.read_bytes() for page in pages}
    run(tmp_path, "generate", "docs").well()
    assert {page: page.read_bytes() for page in pages} == first

    pages[1].write_text("changed")
    pages[2].unlink()
    (tmp_path / "docs" / "engine-metrics.md").write_text("changed")
    (pages[0].parent / "of-yesterday.md").write_text("a KPI that is gone")
    told = run(tmp_path, "generate", "docs", "--check").failed(1).err
    assert all(name in told for name in (pages[1].name, pages[2].name, "of-yesterday.md", "docs/engine-metrics.md"))
    assert pages[3].name not in told


# --- the demo --------------------------------------------------------------------------------------------------------


@contextmanager
def demo(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The command with what it says; it must leave nothing in its folder for temporary files."""
    temporary, log = folder / "tmp", folder / "log.txt"
    temporary.mkdir()
    with log.open("wb") as said:
        process = subprocess.Popen(
            [COMMAND, "demo", "--seed", "3", *words],
            cwd=folder, stdout=said, stderr=said, env={**os.environ, "TMPDIR": str(temporary)},
        )  # fmt: skip
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text(), log.read_text()
    assert list(temporary.iterdir()) == []


def test_the_demo_serves_a_company_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo(tmp_path, "--listen", "127.0.0.1:0", "--days", "2") as (process, log):
        url = until(lambda: re.search(r"live page +(http://\S+)/", log.read_text()), "it says where to look")[1]
        assert "imports its last 2 days" in log.read_text()
        engine = EngineProcess(tmp_path / "unused")
        engine.url = url
        until(lambda: engine.get("/readyz").status == 200, "it is ready")
        assert (engine.metrics().users("checkout") or 0) > 5, "its past is there from the first page on"
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0, log.read_text()
    assert "nothing of it is kept" in log.read_text()


def test_the_demo_can_be_stopped_while_it_imports_its_past(tmp_path: Path) -> None:
    with demo(tmp_path, "--listen", "127.0.0.1:0", "--days", "365") as (process, log):
        until(lambda: "imports its last 365 days" in log.read_text(), "it imports")
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0, log.read_text()
    assert "live page" not in log.read_text()
    assert log.read_text().endswith("nothing of it is kept\n")


def test_the_demo_says_that_its_port_is_taken_before_it_imports_anything(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with demo(tmp_path, "--listen", listen) as (process, log):
            assert process.wait(15) == 1
    assert f"cannot listen on {listen}" in log.read_text()
    assert "imports" not in log.read_text()


# --- progress --------------------------------------------------------------------------------------------------------


def on_a_terminal(folder: Path, *words: str) -> str:
    """What a command says on standard error where that is a terminal."""
    reader, writer = pty.openpty()
    subprocess.run([COMMAND, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=writer, check=True, timeout=60)
    os.close(writer)
    said = b""
    with suppress(OSError):  # how the end of a terminal is told
        while some := os.read(reader, 65536):
            said += some
    os.close(reader)
    return said.decode()


@pytest.mark.parametrize("words", [("import", "events.jsonl"), ("replay", "events.jsonl", "--at", NOON), ("audit",)])
def test_long_work_shows_how_far_it_is_on_a_terminal_and_nowhere_else(folder: Path, words: tuple[str, ...]) -> None:
    run(folder, "import", "events.jsonl").well()
    assert "100%" in on_a_terminal(folder, *words)
    assert "%" not in run(folder, *words).well().err


def test_a_backfill_shows_how_far_it_is_on_a_terminal_and_nowhere_else(folder: Path) -> None:
    span = ("--from", "2025-03-01T08:00:00Z", "--to", NOON, "--retention", "36500d", "--openmetrics")
    said = on_a_terminal(folder, "backfill", "events.jsonl", *span, "one.txt")
    assert "reading" in said
    assert "computing" in said
    assert "100%" in said
    assert "%" not in run(folder, "backfill", "events.jsonl", *span, "two.txt").well().err
