"""What a line of the log looks like: JSON for machines, words for people, and who must act in both."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import orjson
import pytest

TELL = """\
    import logging
    from agents.logs import configure_logs, share_format

    logging.getLogger("aiokafka").addHandler(logging.StreamHandler())
    logging.getLogger("aiokafka").propagate = False
    configure_logs(form, level)
    share_format("aiokafka")
    ours, theirs = logging.getLogger("agents.kafka.worker"), logging.getLogger("faust.worker")
    ours.debug("nobody reads this")
    ours.info("owns %s", "track-0, tally-1")
    theirs.info("nobody reads this either")
    theirs.warning("two\\nlines")
    ours.error("the disk is full")
    logging.getLogger("aiokafka").error("no broker")
    try:
        {}["key"]
    except KeyError:
        ours.exception("%s failed, and begins again", "track-0")
    raise ValueError("a mistake of ours")
"""


def told(form: str, level: str = "info") -> str:
    """What a process says that logs as above and then dies of a mistake."""
    script = f"form, level = {form!r}, {level!r}\n{textwrap.dedent(TELL)}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in told("json").splitlines()]


def test_each_line_is_one_json_object_with_when_how_grave_who_and_what(lines: list[dict[str, Any]]) -> None:
    assert [(line["level"], line["logger"], line["message"]) for line in lines] == [
        ("info", "agents.kafka.worker", "owns track-0, tally-1"),
        ("warning", "faust.worker", "two\nlines"),
        ("error", "agents.kafka.worker", "the disk is full"),
        ("error", "aiokafka", "no broker"),
        ("error", "agents.kafka.worker", "track-0 failed, and begins again"),
        ("critical", "agents", "flowmetrics itself failed"),
    ]
    assert all(line["time"].endswith("Z") for line in lines)


def test_each_line_names_who_must_act(lines: list[dict[str, Any]]) -> None:
    assert [line["act"] for line in lines] == ["nobody", "nobody", "operator", "nobody", "developers", "developers"]


def test_an_exception_is_told_with_its_traceback_in_the_same_line(lines: list[dict[str, Any]]) -> None:
    assert [line["exception"].splitlines()[-1] for line in lines if "exception" in line] == [
        "KeyError: 'key'",
        "ValueError: a mistake of ours",
    ]


def test_where_nobody_looks_on_auto_is_json() -> None:
    assert all(line.startswith("{") for line in told("auto").splitlines())


def test_a_person_reads_words_and_only_who_must_act_where_somebody_must() -> None:
    first, second, rest, mend, *_ = told("console").splitlines()
    assert first.endswith("Z info owns track-0, tally-1")
    assert second.endswith("Z warning two")
    assert rest == "lines"
    assert mend.endswith("Z error the disk is full act=operator")


def test_the_level_is_for_our_lines_and_no_library_is_louder_than_a_warning() -> None:
    assert ["nobody reads" in told("json", level) for level in ("debug", "error")] == [True, False]
    assert "either" not in told("json", "debug")
    assert "two" not in told("json", "error")
