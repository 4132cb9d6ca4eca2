"""Another configuration over a directory: what is shown meanwhile, what is stored, and what ends it.

The real journal and runner, and at the end the real process over very many customers.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TypeAlias

import msgspec
import orjson
import pytest
from engine import EngineProcess, Metrics, command, event, until
from worlds import DAY, HOUR, T0, Event, line, text

from agents.local import runner as runner_module
from agents.local.journal import FILE, Journal
from agents.local.runner import Runner
from flowmetrics.configuration import Configuration, Survey
from flowmetrics.errors import OperationError
from flowmetrics.families import Family
from flowmetrics.limits import HORIZON_US_MIN
from flowmetrics.testing import Driver, flat

Make: TypeAlias = Callable[..., EngineProcess]

A = Configuration(horizon_us=HORIZON_US_MIN, kpis=("active_*", "stickiness*", "flow_*"))
B = replace(A, timezone="Asia/Seoul", windows_us=(2 * DAY,))
C = replace(A, kpis=("flow_*", "retention*"), percentiles=(10,))

_numbers = count()


def activity(after: int, who: str) -> Event:
    return {
        "specversion": "1.0",
        "id": str(next(_numbers)),
        "source": "s",
        "type": "flowmetrics.activity.v1",
        "time": text(T0 + after),
        "data": {"customer": who, "value_stream": "shop"},
    }


PEOPLE = [activity(hour * HOUR, who) for who in "abcdefg" for hour in (0, 13, 20)]
LATER = [activity(21 * HOUR, "a"), activity(22 * HOUR, "g"), activity(9 * HOUR, "new")]


@pytest.fixture(autouse=True)
def _small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "SWEEP_HISTORIES", 2)
    monkeypatch.setattr(runner_module, "DROPPED_SEGMENTS", 1)


@contextmanager
def opened(directory: Path, configuration: Configuration, tzdata: str = "2025.1") -> Iterator[Runner]:
    """The engine over what is stored, a day after T0."""
    journal = Journal(directory)
    try:
        yield Runner(configuration, journal, tzdata, T0 + DAY)
    finally:
        journal.close()


def take(runner: Runner, events: Sequence[Event] = ()) -> None:
    runner.journal.append([line(event) for event in events], T0 + DAY)
    while runner.step(T0 + DAY):
        pass


def build(runner: Runner, portions: int = 1000) -> None:
    while portions and runner.build():
        portions -= 1


def figures(runner: Runner) -> dict[str, float]:
    return flat(runner.families(T0 + DAY))


def in_memory(configuration: Configuration, events: Sequence[Event]) -> dict[str, float]:
    driver = Driver(configuration, T0 + DAY)
    driver.deliver([line(event) for event in events])
    driver.advance(T0 + DAY)
    return driver.values()


def begun(directory: Path, *, portions: int = 1) -> None:
    """A directory with PEOPLE under A, in which B is being built."""
    with opened(directory, A) as runner:
        take(runner, PEOPLE)
        runner.store_panes()
    with opened(directory, B) as runner:
        build(runner, portions)
        assert 0 < runner.progress < 1


def own(families: Sequence[Family]) -> tuple[float, float]:
    """Epoch and progress as the engine tells them."""
    told = flat(families)
    return told["flowmetrics_engine_epoch{}"], told["flowmetrics_engine_epoch_progress_ratio{}"]


# --- which epoch is shown -----------------------------------------------------------------------------------------


def test_the_former_epoch_is_shown_and_counts_until_the_next_one_is_complete(tmp_path: Path) -> None:
    with opened(tmp_path, A) as runner:
        assert own(runner.engine_families()) == (1, 1)
        take(runner, PEOPLE)
    with opened(tmp_path, B) as runner:
        known, before, told = [*PEOPLE], -1.0, [*LATER]
        while runner.progress < 1:
            assert figures(runner) == in_memory(A, known)
            epoch, progress = own(runner.engine_families())
            assert (epoch, before <= progress < 1) == (1, True)
            known += (some := [told.pop()] if told else [])
            take(runner, some)
            assert figures(runner) == in_memory(A, known)
            assert not list(runner.audit())
            before = progress
            runner.build()
        assert not told
        assert figures(runner) == in_memory(B, known)
        assert not list(runner.audit())
        assert own(runner.engine_families()) == (2, 1)
        build(runner)
        assert runner.journal.former([]) == [] or runner.journal.former([]) == [2]
    with opened(tmp_path, B) as runner:
        assert figures(runner) == in_memory(B, known)
        assert not runner.build()


def test_a_restart_goes_on_with_the_sweep_where_it_was(tmp_path: Path) -> None:
    begun(tmp_path)
    with opened(tmp_path, B) as runner:
        before = runner.progress
        assert before > 0
        take(runner, LATER)
        runner.store_panes()
    with opened(tmp_path, B) as runner:
        assert runner.progress == before
        assert figures(runner) == in_memory(A, [*PEOPLE, *LATER])
        build(runner)
        assert (runner.epoch, figures(runner)) == (2, in_memory(B, [*PEOPLE, *LATER]))
        assert not list(runner.audit())


def test_a_third_configuration_ends_the_building_of_the_second_over_the_first(tmp_path: Path) -> None:
    begun(tmp_path, portions=2)
    with opened(tmp_path, C) as runner:
        assert runner.progress == 0
        take(runner, LATER)
        assert figures(runner) == in_memory(A, [*PEOPLE, *LATER])
        runner.store_panes()
        build(runner)
        assert (runner.epoch, figures(runner)) == (3, in_memory(C, [*PEOPLE, *LATER]))
        assert not list(runner.audit())
        assert runner.journal.former([]) == []  # there is nothing that C reads


def test_the_first_configuration_comes_back_and_nothing_else_happens(tmp_path: Path) -> None:
    begun(tmp_path, portions=2)
    with opened(tmp_path, A) as runner:
        assert own(runner.engine_families()) == (1, 1)
        assert figures(runner) == in_memory(A, PEOPLE)
        take(runner, LATER)
        build(runner)
        assert (runner.epoch, figures(runner)) == (1, in_memory(A, [*PEOPLE, *LATER]))
        assert not list(runner.audit())
    with opened(tmp_path, B) as runner:
        assert runner.progress == 0
        build(runner)
        assert (runner.epoch, figures(runner)) == (3, in_memory(B, [*PEOPLE, *LATER]))


def test_another_time_zone_database_is_another_epoch_and_the_audit_does_not_ask_what_facts_call_for(
    tmp_path: Path,
) -> None:
    with opened(tmp_path, A) as runner:
        take(runner, PEOPLE)
        runner.store_panes()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute(
            "UPDATE meta SET value = ? WHERE name = 'configuration'",
            [msgspec.msgpack.encode("{timezone: Asia/Seoul, kpis: [active_*, stickiness*, flow_*], horizon: 31d}")],
        )  # the same text is read otherwise now
    with opened(tmp_path, A, "2026.1") as runner:
        assert runner.progress == 0
        assert not list(runner.audit())
        build(runner)
        assert (runner.epoch, figures(runner)) == (2, in_memory(A, PEOPLE))
        assert not list(runner.audit())


def test_a_version_that_counts_more_begins_an_epoch_in_which_the_past_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = replace(A, kpis=("*",))
    with monkeypatch.context() as former:
        former.setattr("flowmetrics.kpis.RETENTION_KPIS", ())
        with opened(tmp_path, everything) as runner:
            take(runner, PEOPLE)
            runner.store_panes()
    with opened(tmp_path, everything) as runner:
        assert runner.progress == 0
        build(runner)
        assert (runner.epoch, figures(runner)) == (2, in_memory(everything, PEOPLE))
        assert not list(runner.audit())


def test_a_key_about_the_process_begins_no_epoch(tmp_path: Path) -> None:
    with opened(tmp_path, A) as runner:
        take(runner, PEOPLE)
    with opened(tmp_path, replace(A, hot_entities_max=1, listen="127.0.0.1:1")) as runner:
        assert own(runner.engine_families()) == (1, 1)


def test_what_shaped_the_stored_is_read_from_the_log_also_while_an_epoch_is_built(tmp_path: Path) -> None:
    begun(tmp_path)
    wider = replace(B, surveys={**B.surveys, "smile": Survey(1, 5, top=1)})
    with opened(tmp_path, wider) as runner:
        assert runner.progress == 1
        take(runner)
        assert figures(runner) == in_memory(wider, PEOPLE)
        assert not list(runner.audit())
        build(runner)
        assert figures(runner) == in_memory(wider, PEOPLE)


def test_what_shaped_the_stored_is_refused_where_the_log_was_cut_and_the_former_configuration_goes_on(
    tmp_path: Path,
) -> None:
    with opened(tmp_path, A) as runner:
        take(runner, PEOPLE)
        runner.journal.trim(T0 + DAY + 1, runner.position)
    sentence = (
        f"{tmp_path / FILE} was written under a horizon, grain or survey scale that differs, and its log no longer "
        "begins at the first event; restore that configuration, or import into a new directory"
    )
    with pytest.raises(OperationError, match=f"^{re.escape(sentence)}$"), opened(tmp_path, replace(A, horizon_us=DAY)):
        pass
    with opened(tmp_path, A) as runner:
        assert figures(runner) == in_memory(A, PEOPLE)


# --- where the former configuration cannot be told ----------------------------------------------------------------


def test_a_directory_from_before_there_were_epochs_is_read_anew_at_its_start(tmp_path: Path) -> None:
    """Its panes are not taken over; its histories hold contributions, and no epoch."""
    with opened(tmp_path, A) as runner:
        take(runner, PEOPLE)
        runner.store_panes()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        for table, columns in {
            "series": "number INTEGER PRIMARY KEY, series BLOB, shown INTEGER",
            "changes": "id INTEGER PRIMARY KEY, body BLOB",
            "segments": "stream TEXT, day INTEGER, body BLOB, PRIMARY KEY (stream, day)",
        }.items():
            connection.execute(f"DROP TABLE {table}")
            connection.execute(f"CREATE TABLE {table} ({columns})")
        connection.execute("DROP TABLE shown")
        connection.execute("DELETE FROM meta WHERE name IN ('epochs', 'configuration')")
        for key, body in connection.execute("SELECT key, body FROM histories").fetchall():
            older = msgspec.msgpack.encode(msgspec.msgpack.decode(body)[:-2])
            connection.execute("UPDATE histories SET body = ? WHERE key = ?", (older, key))
        connection.execute("PRAGMA user_version=1")
    with opened(tmp_path, A) as runner:
        assert own(runner.engine_families()) == (1, 1)
        assert figures(runner) == in_memory(A, PEOPLE)
        take(runner, LATER)
        assert figures(runner) == in_memory(A, [*PEOPLE, *LATER])
        assert not list(runner.audit())


def test_a_former_configuration_that_nobody_can_read_is_not_shown(tmp_path: Path) -> None:
    begun(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        words = [msgspec.msgpack.encode("resolution: a fortnight")]
        connection.execute("UPDATE meta SET value = ? WHERE name = 'configuration'", words)
    with opened(tmp_path, B) as runner:
        assert runner.progress == 1
        assert figures(runner) == in_memory(B, PEOPLE)
        assert not list(runner.audit())


# --- the process --------------------------------------------------------------------------------------------------

CUSTOMERS = 100_000
KPIS = "kpis: [active_users, flow_velocity]\n"


class Watch:
    """Looks at the page of an engine whose windows change from one to another. It is never empty, nor of both."""

    def __init__(self, engine: EngineProcess, old: str, new: str) -> None:
        self._engine, self._windows = engine, (old, new)
        self.progress: list[float] = []
        self.counted_meanwhile = False
        self.users = -1.0

    def __call__(self, before: int, posted: int) -> bool:
        """Look once; whether the new window is there. `before` were active before, and `posted` more are now."""
        page = self._engine.metrics()
        assert self._engine.get("/readyz").status == 200
        (shown,) = (users for window in self._windows if (users := page.users(window=window)) is not None)
        is_new = page.users(window=self._windows[1]) is not None
        progress = page("engine_epoch_progress_ratio")
        assert progress is not None
        assert shown in range(before, before + posted + 1)
        assert shown >= self.users
        assert [*self.progress, progress] == sorted([*self.progress, progress])
        assert is_new == (progress == 1)
        self.users = shown
        self.progress.append(progress)
        self.counted_meanwhile |= posted > 0 and shown == before + posted and not is_new
        return is_new


def test_the_old_windows_count_on_until_the_new_ones_are_there_and_the_page_is_never_empty(make: Make) -> None:
    """A machine that lets the engine run and not the test may hide the old windows: then there is another time."""
    engine = make(f"{KPIS}windows: [1d]\n")
    path = engine.directory / "past.jsonl"
    past = (event("activity", ago=3600, customer=f"c{n}", value_stream="shop") for n in range(CUSTOMERS))
    path.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in past))
    engine.run("import", path).well()
    engine.ready().shows(lambda page: page.users(), CUSTOMERS)

    for days, active in zip(range(2, 7), count(CUSTOMERS, 2), strict=False):
        engine.stop()
        engine.configure(f"{KPIS}windows: [{days}d]\n")
        engine.ready()
        look = Watch(engine, f"{days - 1}d", f"{days}d")
        look(active, 0)
        new = [event("activity", customer=f"{who}{days}", value_stream="shop") for who in ("a", "z")]
        engine.post(*new, event("activity", customer="c7", value_stream="shop"))
        until(lambda look=look, active=active: look(active, 2), f"the window of {days} days is there", 120)
        engine.shows(lambda page, days=days: page.users(window=f"{days}d"), active + 2)
        assert engine.metrics()("engine_epoch") == days
        assert f"epoch {days} is complete" in engine.said
        if look.counted_meanwhile:
            break
    assert look.counted_meanwhile
    assert f"the next epoch is built, and epoch {days - 1} shown" in engine.said
    engine.stop()
    assert "agree" in engine.run("audit").well().err


def test_the_live_page_lists_the_kpis_that_are_shown(make: Make) -> None:
    def listed() -> list[str]:
        return [kpi["name"] for kpi in engine.get("/api/catalogue").json["kpis"]]

    engine = make("kpis: [flow_velocity]\n").ready()
    engine.post(event("item", item="A", value_stream="shop", state="Done"))
    engine.shows(Metrics.velocity, 1)
    assert listed() == ["flow_velocity"]
    engine.stop()
    engine.configure("kpis: [flow_velocity, flow_load]\n")
    engine.ready().shows(lambda page: page.load("active"), 0)
    until(lambda: listed() == ["flow_velocity", "flow_load"], "the page lists what is shown")


def test_the_audit_says_which_epoch_it_is_about_while_the_next_is_built(tmp_path: Path) -> None:
    settings = f"broker: local://{tmp_path / 'data'}\nhorizon: 31d\n"
    config, past = tmp_path / "f.yaml", tmp_path / "past.jsonl"
    config.write_text(settings)
    past.write_bytes(b"".join(line(one) + b"\n" for one in PEOPLE))
    command("import", past, "--config", config, cwd=tmp_path).well()
    assert "epoch" not in command("audit", "--config", config, cwd=tmp_path).well().err
    config.write_text(f"{settings}timezone: Asia/Seoul\n")
    audited = command("audit", "--config", config, cwd=tmp_path).well()
    assert "audited is epoch 1, under the former one" in audited.err
    assert "agree" in audited.err
