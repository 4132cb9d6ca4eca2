"""The bench side by side, with few events and ours alone: it runs, says what it must, and notices a wrong number."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import orjson
import pytest

from benchmarks.flow1 import __main__ as flow1
from benchmarks.flow1 import ours
from benchmarks.flow1.oracle import Told, read, rows_of

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("brokers")]
"""The bench starts its own broker; where that cannot be, this is left out."""

Row: TypeAlias = dict[str, Any]

EVENTS = 2000
WORDS = ["--engines", "flowmetrics", "--events", str(EVENTS)]
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
KEYS = {"engine", "events", "events_per_s", "cpu_s_per_million", "peak_rss_mb", "correct"}
"""Of the public contract."""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of events, where the bench looks for it; what it writes is beside it."""
    monkeypatch.setattr(flow1, "FOLDER", tmp_path)
    monkeypatch.setattr(flow1, "RESULTS", tmp_path / "results.jsonl")
    path = tmp_path / f"flow1-{EVENTS}.jsonl"
    write(path, sorted(rows(Random(1)), key=lambda row: row["event_time"]))
    return path


def rows(random: Random) -> Iterator[Row]:
    """What `generate.py` writes, for which numpy is needed: the steps of items, and activity."""
    items = EVENTS // 10
    for number in range(items):
        told = {"kind": "item", "item_id": f"WI-{number}", "product": f"product-{number % 3}", "source": "tracker"}
        told |= {"type": ("feature", "defect")[number % 2], "attrs": {"team": "a"}}
        hour = random.uniform(0, 52 * 24)
        for state in ("created", "started", "done"):
            yield {**told, "event_id": f"{number} {state}", "state": state, "event_time": text(hour)}
            hour += random.uniform(0.1, 72)
    for number in range(EVENTS - 3 * items):
        told = {"kind": "activity", "user_id": f"U-{random.randrange(300)}", "product": f"product-{number % 3}"}
        told |= {"event_id": f"a {number}", "action": "login", "source": "web"}
        yield {**told, "event_time": text(random.uniform(0, 60 * 24))}


def text(hour: float) -> str:
    """An instant so many hours after the first."""
    return (FIRST + timedelta(hours=hour)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write(path: Path, rows: list[Row]) -> None:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def result(path: Path) -> Row:
    """The one line of JSON."""
    (line,) = (path.parent / "results.jsonl").read_bytes().splitlines()
    row: Row = orjson.loads(line)
    return row


def test_the_bench_writes_the_line_that_the_contract_names_and_ends_well_where_all_is_right(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flow1.main(WORDS) == 0
    row = result(path)
    assert row.keys() >= KEYS
    assert (row["engine"], row["events"], row["correct"]) == ("flowmetrics", EVENTS, True)
    assert min(row["events_per_s"], row["cpu_s_per_million"], row["peak_rss_mb"]) > 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("1 of 1 correct"), "its figure comes last"


def test_the_bench_fails_and_says_what_is_wrong_where_a_row_is_not_what_was_counted_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_before_a_change(path: Path) -> Told:
        told = read(path)
        *others, last = rows_of(path)
        changed = next(row for row in reversed(others) if row.get("state") == "done")
        changed["state"] = "started"
        write(path, [*others, last])
        return told

    monkeypatch.setattr(flow1, "read", read_before_a_change)
    monkeypatch.setattr(ours, "PAGE_SECONDS", 5.0)
    assert flow1.main(WORDS) == 1
    row = result(path)
    assert row["correct"] is False
    assert "flow_velocity_items" in row["remark"]
