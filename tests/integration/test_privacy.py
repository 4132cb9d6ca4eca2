"""Ids of persons are stored as pseudonyms under a key, and of who is erased nothing stays but that they are.

The first half drives the real journal and runner over a directory, in virtual time; the second real processes.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
import pytest
from engine import EngineProcess, Finished, event, rejected
from worlds import DAY, HOUR, MINUTE, T0, Event, line, text

from agents.local import runner as runner_module
from agents.local.journal import FILE, Fault, Journal, no_fault
from agents.local.runner import Runner
from flowmetrics.configuration import Configuration
from flowmetrics.errors import Reason, Rejection
from flowmetrics.limits import HORIZON_US_MIN, LATENESS_DAYS
from flowmetrics.sources.pseudonyms import Pseudonyms
from flowmetrics.testing import Driver, sample_text

Make: TypeAlias = Callable[..., EngineProcess]

SETTINGS: Final = Configuration(horizon_us=HORIZON_US_MIN)
OTHERWISE: Final = replace(SETTINGS, horizon_us=HORIZON_US_MIN + DAY)
"""Under which everything stored is made anew from the log."""
FORGOTTEN: Final = 2 * HORIZON_US_MIN + (40 + LATENESS_DAYS) * DAY
NOW: Final = 30 * HOUR
USERS: Final = 'flowmetrics_active_users{value_stream="shop",window="30d"}'
VOICES: Final = 'flowmetrics_nps_responses{value_stream="shop",touchpoint="all",segment="all",window="30d"}'


class Died(BaseException):
    """The process is no more."""


def told(kind: str, at: int, **data: object) -> bytes:
    """A line of the log: what happened `at` microseconds after T0."""
    stream = {} if kind in ("customer", "erase") else {"value_stream": "shop"}
    who = data.get("customer") or data.get("respondent")
    name = f"{kind} {at} {len(data)}" + (f" mark-of-{who}" if who else "")
    return line(
        {"specversion": "1.0", "id": name, "source": "s", "type": f"flowmetrics.{kind}.v1", "time": text(T0 + at),
         "data": {**stream, **data}}
    )  # fmt: skip


def activity(at: int, who: str) -> bytes:
    return told("activity", at, customer=who, feature="search")


def answer(at: int, who: str) -> bytes:
    return told("response", at, respondent=who, survey="nps", score=9)


def link(at: int, who: str, *others: str) -> bytes:
    return told("customer", at, customer=who, aliases=list(others), account=f"mark-of-{who}")


def touch(at: int, who: str) -> bytes:
    return told("touchpoint", at, customer=who, journey="j", touchpoint=f"mark-of-{who}")


def erase(at: int, who: str) -> bytes:
    return told("erase", at, person=who)


@contextmanager
def opened(
    directory: Path, settings: Configuration = SETTINGS, at: int = NOW, fault: Fault = no_fault
) -> Iterator[Runner]:
    """The engine over what is stored."""
    journal = Journal(directory, fault)
    try:
        yield Runner(settings, journal, "2025.1", T0 + at)
    finally:
        journal.close()


def take(runner: Runner, *lines: bytes, at: int = NOW) -> None:
    """Append events together, and take them."""
    runner.journal.append(lines, T0 + at)
    settle(runner, at)


def settle(runner: Runner, at: int = NOW) -> None:
    while not runner.caught_up or runner.step(T0 + at):
        runner.step(T0 + at)


def sweep(runner: Runner) -> int:
    """A day has passed: delete what is to be erased. Returns in how many portions."""
    runner.forget()
    portions = 1
    while runner.erase():
        portions += 1
    return portions


def figures(runner: Runner, at: int = NOW) -> dict[str, float]:
    return {sample_text(f.name, sample): sample.value for f in runner.families(T0 + at) for sample in f.samples}


def truth(lines: Sequence[bytes], settings: Configuration = SETTINGS, at: int = NOW) -> dict[str, float]:
    """What an engine publishes that still has every event."""
    driver = Driver(settings)
    driver.deliver(lines)
    driver.advance(T0 + at)
    return driver.values()


def log(runner: Runner) -> list[bytes]:
    journal = runner.journal
    return [line for _, lines in journal.read(journal.first(), journal.end + 1) for line in lines]


def on_disk(directory: Path) -> bytes:
    """The bytes of every file of a data directory, as they are."""
    return b"".join(path.read_bytes() for path in sorted(directory.iterdir()))


def cells(directory: Path) -> Iterator[tuple[str, bytes]]:
    """(table, row) of everything that can be read back, rows as bytes."""
    with closing(sqlite3.connect(directory / FILE)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f"SELECT * FROM {table}"):
                yield table, b" ".join(one if isinstance(one, bytes) else str(one).encode() for one in row)


# --- what goes, and what stays ------------------------------------------------------------------------------------


def test_of_an_erased_person_nothing_stays_in_the_log_but_the_erasure(tmp_path: Path) -> None:
    gone = [activity(HOUR, "ann"), link(HOUR, "ann"), answer(2 * HOUR, "ann"), touch(2 * HOUR, "ann")]
    stay = [activity(HOUR, "eve"), answer(4 * HOUR, "ann"), touch(4 * HOUR, "ann"), activity(22 * HOUR, "ann")]
    later = activity(4 * HOUR, "ann")  # on the same UTC day
    tombstone = erase(3 * HOUR, "ann")
    lines = [stay[0], *gone, later, tombstone, *stay[1:]]
    with opened(tmp_path) as runner:
        take(runner, *lines)
        before = figures(runner)
        assert log(runner) == lines
        sweep(runner)
        assert log(runner) == [stay[0], b"", b"", b"", b"", b"", tombstone, *stay[1:]]
        assert figures(runner) == before == truth(lines)
        assert before[USERS] == 2
    with opened(tmp_path, OTHERWISE) as runner:
        settle(runner)
        assert figures(runner) == truth(lines, OTHERWISE)
        assert "events_rejected" not in str(runner.counters.stored())
        assert not list(runner.audit())


def test_offsets_stay_and_a_row_can_be_read_from_its_middle(tmp_path: Path) -> None:
    lines = [activity(HOUR, who) for who in ("ann", "bob", "ann", "eve")]
    with opened(tmp_path) as runner:
        take(runner, *lines)
        take(runner, erase(2 * HOUR, "ann"))
        take(runner, activity(HOUR, "ann"))
        sweep(runner)
        assert [[line for _, some in runner.journal.read(at, 100) for line in some] for at in (1, 2, 5)] == [
            [lines[1], b"", lines[3], erase(2 * HOUR, "ann"), b""],
            [b"", lines[3], erase(2 * HOUR, "ann"), b""],
            [b""],
        ]
        assert (runner.journal.first(), runner.journal.end, runner.position) == (0, 6, 6)


def test_everybody_to_whom_the_erasure_spread_goes_too(tmp_path: Path) -> None:
    lines = [
        link(HOUR, "bob", "ann"),
        activity(HOUR, "bob"),
        link(2 * HOUR, "bob"),  # withdrawn, and erased all the same
        erase(3 * HOUR, "ann"),
        answer(4 * HOUR, "bob"),
    ]
    with opened(tmp_path) as runner:
        take(runner, *lines)
        sweep(runner)
        assert log(runner) == [b"", b"", b"", lines[3], lines[4]]


def test_an_erasure_that_spreads_only_when_a_link_arrives_late_is_carried_out_too(tmp_path: Path) -> None:
    with opened(tmp_path) as runner:
        take(runner, answer(HOUR, "bob"), erase(3 * HOUR, "ann"))
        sweep(runner)
        assert log(runner)[0]
        take(runner, link(2 * HOUR, "bob", "ann"))
        sweep(runner)
        assert log(runner) == [b"", erase(3 * HOUR, "ann"), b""]


def test_what_is_delivered_again_goes_the_next_day_and_a_second_erasure_reaches_further(tmp_path: Path) -> None:
    first, second = answer(HOUR, "ann"), answer(5 * HOUR, "ann")
    with opened(tmp_path) as runner:
        take(runner, first, erase(3 * HOUR, "ann"), second)
        sweep(runner)
        take(runner, first)
        assert log(runner)[3] == first
        sweep(runner)
        assert log(runner) == [b"", erase(3 * HOUR, "ann"), second, b""]
        take(runner, erase(6 * HOUR, "ann"))
        sweep(runner)
        assert log(runner) == [b"", erase(3 * HOUR, "ann"), b"", b"", erase(6 * HOUR, "ann")]


def test_refused_events_that_name_the_person_go_and_others_stay(tmp_path: Path) -> None:
    def refuse(at: int, *bodies: bytes) -> None:
        runner.journal.append([], T0 + at, [(Rejection(Reason.WRONG_TYPE, ""), body) for body in bodies])

    bad = [b'{"data":{"customer":"ann"}}', b'{"data":{"aliases":["bob","ann"]}}', answer(HOUR, "ann")]
    kept = [b'{"data":{"customer":"eve"}}', b'{"customer":"ann"', b"", erase(HOUR, "ann"), b'{"data":{"item":"ann"}}']
    with opened(tmp_path) as runner:
        refuse(HOUR, *bad, *kept)
        refuse(4 * HOUR, *bad[:2])
        take(runner, erase(3 * HOUR, "ann"))
        sweep(runner)
        assert [body for *_, body in runner.journal.rejected()] == [*kept, *bad[:2]]


def test_an_activity_ahead_on_the_day_of_the_erasure_is_not_kept_until_its_time(tmp_path: Path) -> None:
    ahead = [activity(NOW + 30 * MINUTE, who) for who in ("ann", "eve")]
    with opened(tmp_path) as runner:
        take(runner, erase(NOW, "ann"), *ahead)
        assert len(runner.journal.held(2**62)) == 2
        sweep(runner)
        assert [body for *_, body in runner.journal.held(2**62)] == [ahead[1]]
        assert log(runner) == [erase(NOW, "ann"), b"", ahead[1]]


def test_who_is_forgotten_altogether_is_not_looked_for_any_more(tmp_path: Path) -> None:
    with opened(tmp_path) as runner:
        take(runner, erase(3 * HOUR, "ann"))
        sweep(runner)
        assert [key for key, *_ in runner.journal.erased()] == ["customer:ann"]
        runner.families(T0 + NOW + FORGOTTEN + 1)
        sweep(runner)
        assert not runner.journal.erased()
        assert not list(runner.journal.keys())


# --- nothing of it on the disk ------------------------------------------------------------------------------------

COPIES_MAX: Final = 10
"""SQLite overwrites what is deleted, but where it splits a page it may leave a copy in the unused part, until the page
fills: of one row in some thousand, of one key in some hundred."""


def test_no_byte_of_the_erased_stays_in_the_files_but_their_tombstones(tmp_path: Path) -> None:
    """Enough of them for trees of several levels, overflow pages and a write-ahead log; looked at while it runs."""
    dice = random.Random(1)
    people = [f"person-{n:04}" for n in range(1500)]
    lines = [make(dice.randrange(28 * HOUR), who) for who in people for make in (activity, answer, link, touch)]
    dice.shuffle(lines)
    erased = dice.sample(people, 300)
    with opened(tmp_path) as runner:
        for start in range(0, len(lines), 100):
            take(runner, *lines[start : start + 100])
            refused = (Rejection(Reason.MISSING_FIELD, ""), b'{"data":{"more":"mark-of-%b","customer":"%b"}}')
            who = dice.choice(people).encode()
            runner.journal.append([], T0 + HOUR, [(refused[0], refused[1] % (who, who))])
            runner.store_panes()
        take(runner, *(erase(29 * HOUR, who) for who in erased))
        runner.store_panes()
        found = on_disk(tmp_path)
        assert all(f"mark-of-{who}".encode() in found for who in people)
        before = figures(runner)
        sweep(runner)
        found = on_disk(tmp_path)
        assert len([who for who in erased if f"mark-of-{who}".encode() in found]) <= COPIES_MAX
        assert all(f"mark-of-{who}".encode() in found for who in people if who not in erased)
        assert figures(runner) == before
    found, rows = on_disk(tmp_path), list(cells(tmp_path))
    for who in erased:
        tables = [table for table, row in rows for _ in range(row.count(who.encode()))]
        assert sorted(tables) == ["erased", "histories", "log"]
    assert sum(found.count(who.encode()) for who in erased) <= 3 * len(erased) + COPIES_MAX


def test_a_single_erased_person_leaves_nothing_at_all(tmp_path: Path) -> None:
    lines = [make(HOUR, "person-1") for make in (activity, answer, link, touch)]
    with opened(tmp_path) as runner:
        take(runner, *lines, erase(2 * HOUR, "person-1"))
        sweep(runner)
        assert b"mark-of" not in on_disk(tmp_path)
        assert on_disk(tmp_path).count(b"person-1") == 3


def test_what_another_process_reads_keeps_nobody_waiting(tmp_path: Path) -> None:
    with opened(tmp_path) as runner, closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as reader:
        take(runner, answer(HOUR, "ann"), erase(3 * HOUR, "ann"))
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM log").fetchall()
        began = time.monotonic()
        sweep(runner)
        assert time.monotonic() - began < 25  # Journal waits 30 s where it waits
        assert log(runner)[0] == b""
        assert b"mark-of-ann" in on_disk(tmp_path)
        reader.execute("COMMIT")
        sweep(runner)
        assert b"mark-of-ann" not in on_disk(tmp_path)


# --- the same numbers afterwards ----------------------------------------------------------------------------------


def test_the_tombstone_of_another_id_outlives_the_link_that_is_gone_from_the_log(tmp_path: Path) -> None:
    """The log no longer says that bob is ann, and what he told before the erasure comes again after a rebuild."""
    lines = [link(HOUR, "ann", "bob"), answer(2 * HOUR, "bob"), erase(3 * HOUR, "ann"), answer(4 * HOUR, "eve")]
    with opened(tmp_path) as runner:
        take(runner, *lines)
        sweep(runner)
    with opened(tmp_path, OTHERWISE) as runner:
        settle(runner)
        take(runner, lines[1])
        assert figures(runner)[VOICES] == 1
        assert figures(runner) == truth(lines, OTHERWISE)


def test_a_second_erasure_spreads_over_the_link_that_is_gone_from_the_log(tmp_path: Path) -> None:
    lines = [link(HOUR, "ann", "bob"), erase(2 * HOUR, "ann"), answer(3 * HOUR, "ann"), answer(4 * HOUR, "eve")]
    again = erase(5 * HOUR, "bob")
    with opened(tmp_path) as runner:
        take(runner, *lines)
        sweep(runner)
    with opened(tmp_path, OTHERWISE) as runner:
        settle(runner)
        take(runner, again)
        assert figures(runner)[VOICES] == 1
        assert figures(runner) == truth([*lines, again], OTHERWISE)
        sweep(runner)
        assert log(runner) == [b"", lines[1], b"", lines[3], again]


def test_an_event_that_was_not_taken_yet_stays_until_it_was(tmp_path: Path) -> None:
    """It may link persons, and then the erasure spreads."""
    late = link(HOUR, "ann", "bob")
    with opened(tmp_path) as runner:
        take(runner, erase(3 * HOUR, "ann"))
        runner.journal.append([late], T0 + NOW)
        sweep(runner)
        assert log(runner)[1] == late
        settle(runner)
        take(runner, answer(2 * HOUR, "bob"))
        assert not figures(runner).get(VOICES)
        sweep(runner)
        assert log(runner)[1:] == [b"", b""]


def test_an_event_that_is_due_and_still_held_stays_until_it_was_taken(tmp_path: Path) -> None:
    """More than one batch of them came due at once."""
    ahead = [activity(NOW + MINUTE + n, "eve") for n in range(10_000)]
    late = link(NOW + 2 * MINUTE, "ann", "bob")
    after = NOW + HOUR
    with opened(tmp_path) as runner:
        take(runner, *ahead, late)
        runner.journal.append([erase(NOW + 3 * MINUTE, "ann")], T0 + after)
        runner.step(T0 + after)
        assert len(runner.journal.held(2**62)) == 1
        sweep(runner)
        assert log(runner)[10_000] == late
        take(runner, answer(NOW, "bob"), at=after)
        assert not figures(runner, after).get(VOICES)
        while runner.erase():
            pass
        assert log(runner)[10_000:] == [b"", erase(NOW + 3 * MINUTE, "ann"), b""]


@pytest.mark.parametrize("seed", range(60))
def test_no_figure_tells_whether_and_when_the_log_was_swept(seed: int, tmp_path: Path) -> None:
    """Few people, many links and erasures, everything in any order and some of it twice, rebuilds in between."""
    dice, sent, settings = random.Random(seed), list[bytes](), [SETTINGS]

    def some() -> bytes:
        if sent and dice.random() < 0.25:
            return dice.choice(sent)
        who, at = dice.choice("abcd"), dice.randrange(60) * HOUR // 2
        others = [dice.choice("abcd")] if dice.random() < 0.8 else []
        return dice.choice((activity(at, who), answer(at, who), link(at, who, *others), erase(at, who)))

    runner, journal = None, None
    for _ in range(dice.randint(5, 20)):
        if runner is None or journal is None:
            journal = Journal(tmp_path)
            runner = Runner(settings[0], journal, "2025.1", T0 + NOW)
        what = dice.choice(("deliver", "deliver", "step", "sweep", "restart", "rebuild"))
        if what == "deliver":
            lines = [some() for _ in range(dice.randint(1, 6))]
            sent += lines
            journal.append(lines, T0 + NOW)
        elif what == "step":
            settle(runner)
        elif what == "sweep":
            sweep(runner)
        else:
            if what == "rebuild":
                settings[0] = OTHERWISE if settings[0] is SETTINGS else SETTINGS
            journal.close()
            runner = None
    if runner is not None and journal is not None:
        settle(runner)
        sweep(runner)
        journal.close()
    for last in (SETTINGS, OTHERWISE):
        with opened(tmp_path, last) as runner:
            settle(runner)
            assert figures(runner) == truth(sent, last)
            assert not list(runner.audit())


# --- a little at a time, and whatever dies ------------------------------------------------------------------------


def test_it_is_done_in_portions_between_which_events_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "ERASE_BYTES", 1)
    with opened(tmp_path) as runner:
        for n in range(10):
            take(runner, answer(n * MINUTE, "ann"))
        take(runner, erase(3 * HOUR, "ann"))
        runner.forget()
        counts = []
        while runner.erase():
            counts.append(log(runner).count(b""))
            take(runner, answer(HOUR, "ann"))
        assert counts == [*range(1, 11), 10]
        assert log(runner).count(b"") == 10
        sweep(runner)
        assert log(runner) == [*[b""] * 10, erase(3 * HOUR, "ann"), *[b""] * 11]


def test_an_erasure_that_comes_while_another_is_carried_out_is_carried_out_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "ERASE_BYTES", 1)
    with opened(tmp_path) as runner:
        for at in (HOUR, 4 * HOUR):
            take(runner, answer(at, "ann"))
        take(runner, erase(3 * HOUR, "ann"))
        runner.forget()
        assert runner.erase()
        take(runner, erase(5 * HOUR, "ann"))
        while runner.erase():
            pass
        assert log(runner)[:2] == [b"", answer(4 * HOUR, "ann")]
    with opened(tmp_path) as runner:
        while runner.erase():
            pass
        assert log(runner)[:2] == [b"", b""]


def test_without_an_erasure_nothing_is_looked_through(tmp_path: Path) -> None:
    with opened(tmp_path) as runner:
        take(runner, link(HOUR, "ann", "bob"))
        assert sweep(runner) == 1
        assert not runner.journal.erased()


def test_what_was_not_carried_out_is_at_the_next_start_without_waiting_for_a_day(tmp_path: Path) -> None:
    with opened(tmp_path) as runner:
        take(runner, answer(HOUR, "ann"), erase(3 * HOUR, "ann"))
        assert not runner.erase()
    with opened(tmp_path) as runner:
        while runner.erase():
            pass
        assert log(runner)[0] == b""


def test_a_death_before_any_write_only_repeats_work(tmp_path: Path) -> None:
    lines = [link(HOUR, "ann", "bob"), answer(HOUR, "bob"), erase(3 * HOUR, "ann"), answer(HOUR, "eve")]
    deaths = 0
    for survived in range(1000):
        left = survived

        def fault(_write: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Died

        directory = tmp_path / str(survived)
        with opened(directory) as runner:
            runner.journal.append(lines, T0 + NOW)
            runner.journal.append([], T0, [(Rejection(Reason.WRONG_TYPE, ""), b'{"data":{"customer":"ann"}}')])
        try:
            with opened(directory, fault=fault) as runner:
                settle(runner)
                sweep(runner)
        except Died:
            deaths += 1
        with opened(directory) as runner:
            settle(runner)
            while runner.erase():
                pass
            sweep(runner)
            assert log(runner) == [b"", b"", lines[2], lines[3]]
            assert not list(runner.journal.rejected())
            assert figures(runner) == truth(lines)
            assert not list(runner.audit())
        if deaths == survived:
            assert deaths > 15
            return
    pytest.fail("it never came to an end")


# --- pseudonyms: real processes -----------------------------------------------------------------------------------

KEY: Final = "c0ffee" * 8
ANOTHER: Final = "another key of many bytes"
SCALE: Final = "surveys: {smile: {scale: [0, 10]}}\n"


def hiding(make: Make, key: str | bytes = KEY, settings: str = "") -> EngineProcess:
    """An engine that has a key; it does not run yet."""
    engine = make()
    path = engine.directory / "key"
    path.write_bytes(key if isinstance(key, bytes) else key.encode())
    engine.configure(f"privacy: {{pseudonym_key_file: {path}}}\n{settings}")
    return engine


def of_ann() -> list[Event]:
    """Everything that can be told of her, twelve hours ago and more."""
    ago = {"ago": 12 * 3600.0}
    return [
        event("activity", customer="ann@x.org", value_stream="shop", feature="search", **ago),
        event("customer", customer="ann@x.org", aliases=["ann-phone"], **ago),
        event("touchpoint", customer="ann@x.org", value_stream="shop", journey="j", touchpoint="t", **ago),
        event("request", request="R-1", customer="ann@x.org", value_stream="shop", state="Open", **ago),
        event("response", respondent="ann-phone", value_stream="shop", survey="nps", score=9, **ago),
    ]


def refused_of_ann() -> list[bytes]:
    """What is refused for its own reasons, each in another way."""
    whole = event("activity", customer="ann@x.org", value_stream="shop")
    bodies: list[Any] = [
        b'{"customer":"ann@x.org"',
        {**whole, "type": "flowmetrics.ann@x.org.v1"},
        {**whole, "time": "yesterday"},
        event("activity", customer=["ann@x.org", 1], value_stream="shop"),
        event("activity", user="ann@x.org", value_stream="shop"),
        event("response", respondent="ann@x.org", value_stream="shop", survey="smile", score=9),
    ]
    return [body if isinstance(body, bytes) else orjson.dumps(body) for body in bodies]


def explained(finished: Finished) -> str:
    return finished.well().out


def test_under_a_key_no_true_id_is_anywhere_on_the_disk_whichever_way_it_came(make: Make) -> None:
    engine = hiding(make)
    files = [engine.directory / "more.jsonl", engine.directory / "rows.csv"]
    eve = event("activity", customer="eve@x.org", value_stream="shop", ago=60)
    files[0].write_bytes(orjson.dumps(eve) + b"\n" + b"\n".join(refused_of_ann()) + b"\n")
    files[1].write_text("who,seen\nann@x.org,ann@x.org\n")
    mapping = engine.directory / "map.yaml"
    mapping.write_text(
        "events:\n  - type: flowmetrics.activity.v1\n    source: rows\n    time: {from: seen, format: iso}\n"
        '    data: {customer: "${who}", value_stream: shop}\n'
    )
    engine.run("import", files[0]).well()  # by itself
    engine.run("import", files[1], "--map", mapping).failed(1, "bad_time")
    engine.ready()
    engine.run("import", files[0]).well()  # through the engine
    engine.post(*of_ann())
    answer = engine.send(b"\n".join(refused_of_ann()), "application/x-ndjson")
    assert "ann@x.org" in answer.text  # the sender is told
    engine.shows(lambda page: page.users(), 2.0)
    engine.shows(
        lambda page: page("nps_responses", value_stream="shop", touchpoint="all", segment="all", window="1d"), 1.0
    )
    assert not [word for word in (b"ann@x.org", b"ann-phone", b"eve@x.org") if word in on_disk(engine.data)]
    engine.stop()
    assert not [word for word in (b"ann@x.org", b"ann-phone", b"eve@x.org") if word in on_disk(engine.data)]
    ann = Pseudonyms(KEY.encode()).of("ann@x.org")
    kept = rejected(engine.run("rejected"))
    assert len(kept) == 3 * len(refused_of_ann()) + 1
    assert sorted({(reason, ann in body) for reason, body in kept}) == [
        ("bad_time", False),
        ("bad_time", True),
        ("missing_field", False),
        ("not_json", False),
        ("unknown_survey", True),
        ("unknown_type", False),
        ("wrong_type", False),
    ]


def test_explain_takes_the_id_that_a_user_knows_and_erase_too(make: Make) -> None:
    engine = hiding(make).ready()
    engine.post(*of_ann())
    engine.shows(lambda page: page.users(), 1.0)
    engine.stop()
    assert "search" in explained(engine.run("explain", "customer", "ann@x.org"))
    assert "R-1" in explained(engine.run("explain", "request", "R-1"))
    engine.run("explain", "customer", "ann").failed(1, "nothing is known")
    engine.ready()
    engine.post(event("erase", person="ann-phone", ago=1))
    engine.shows(lambda page: page.users() or 0.0, 0.0)
    engine.stop()
    assert "search" not in explained(engine.run("explain", "customer", "ann@x.org"))
    engine.ready()  # at the start it is erased from the log
    ann = Pseudonyms(KEY.encode()).of("ann@x.org").encode()

    def left() -> list[bytes]:
        with closing(sqlite3.connect(engine.data / FILE)) as connection:
            return [
                line for (body,) in connection.execute("SELECT body FROM log") for line in body.split(b"\n") if line
            ]

    for _ in range(200):
        if len(left()) == 2:
            break
        engine.shows(lambda page: page.users() or 0.0, 0.0)
    assert [ann in line for line in left()] == [True, False]  # the request is not hers alone, and the tombstone


def test_what_was_refused_is_judged_again_under_the_pseudonyms_it_was_stored_with(make: Make) -> None:
    engine = hiding(make).ready()
    engine.send(b"\n".join(refused_of_ann()), "application/x-ndjson")
    engine.stop()
    engine.configure(f"privacy: {{pseudonym_key_file: {engine.directory / 'key'}}}\n{SCALE}")
    engine.run("rejected", "--replay").well()
    assert len(rejected(engine.run("rejected"))) == len(refused_of_ann()) - 1
    assert "smile" in explained(engine.run("explain", "customer", "ann@x.org"))


def test_replay_reads_the_same_with_a_key_and_without(make: Make) -> None:
    plain, hidden = make(), hiding(make)
    figures = []
    for engine in (plain, hidden):
        path = engine.directory / "events.jsonl"
        path.write_bytes(b"\n".join(map(orjson.dumps, of_ann())))
        figures.append(engine.run("replay", path, "--at", "2100-01-01T00:00:00Z").well().out)
    assert figures[0] == figures[1]
    hidden.run("import", hidden.directory / "events.jsonl").well()
    plain.run("import", plain.directory / "events.jsonl").well()
    pages = [engine.ready().metrics() for engine in (plain, hidden)]
    assert pages[0].kpis() == pages[1].kpis()
    assert pages[0].users() == 1


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (None, ("cannot be read", "No such file")),
        ("", ("is empty", "openssl rand")),
        (" \n", ("is empty", "openssl rand")),
        ("fifteen bytes..\n", ("holds 15 bytes", "at least 16")),
    ],
)
@pytest.mark.parametrize("command", [("run",), ("import", "events.jsonl"), ("explain", "customer", "ann")])
def test_a_key_that_is_none_stops_the_start_and_says_what_to_do(
    make: Make, key: str | None, words: tuple[str, ...], command: tuple[str, ...]
) -> None:
    engine = hiding(make)
    (engine.directory / "events.jsonl").write_bytes(orjson.dumps(of_ann()[0]))
    engine.run("import", engine.directory / "events.jsonl").well()
    (engine.directory / "key").write_text(key or "")
    if key is None:
        (engine.directory / "key").unlink()
    engine.run(*command).failed(2, "privacy.pseudonym_key_file", str(engine.directory / "key"), *words)


def test_a_key_that_is_a_directory_cannot_be_read(make: Make) -> None:
    engine = hiding(make)
    engine.configure(f"privacy: {{pseudonym_key_file: {engine.directory}}}\n")
    engine.run("run").failed(2, "cannot be read", "Is a directory")


def test_a_key_is_the_same_with_a_line_break_after_it_and_may_be_any_bytes(make: Make) -> None:
    engine = hiding(make, bytes(range(128, 160)) + b"\r\n").ready()
    engine.post(*of_ann())
    engine.stop()
    (engine.directory / "key").write_bytes(bytes(range(128, 160)))
    assert "search" in explained(engine.run("explain", "customer", "ann@x.org"))


@pytest.mark.parametrize(("before", "after"), [(KEY, ANOTHER), (KEY, None), (None, ANOTHER)])
def test_a_directory_keeps_to_the_key_it_was_begun_with(make: Make, before: str | None, after: str | None) -> None:
    """Else one person would be two."""
    engine = hiding(make, before) if before else make()
    (engine.directory / "events.jsonl").write_bytes(orjson.dumps(of_ann()[0]))
    engine.run("import", engine.directory / "events.jsonl").well()
    config = engine.config.read_text()
    engine.configure("")
    if after:
        (engine.directory / "key").write_text(after)
        engine.configure(f"privacy: {{pseudonym_key_file: {engine.directory / 'key'}}}\n")
    said = f"was written under {'another' if before else 'no'} privacy.pseudonym_key_file"
    for words in (("run",), ("import", engine.directory / "events.jsonl"), ("explain", "customer", "ann@x.org")):
        engine.run(*words).failed(2, said, "restore")
    engine.config.write_text(config)
    if before:
        (engine.directory / "key").write_text(before)
    assert "search" in explained(engine.run("explain", "customer", "ann@x.org"))


def test_a_directory_in_which_nothing_was_stored_takes_any_key(make: Make) -> None:
    engine = make().ready()
    engine.stop()
    for key in (ANOTHER, KEY):
        (engine.directory / "key").write_text(key)
        engine.configure(f"privacy: {{pseudonym_key_file: {engine.directory / 'key'}}}\n")
        engine.ready()
        engine.stop()
    engine.ready().post(*of_ann())
    engine.stop()
    assert "search" in explained(engine.run("explain", "customer", "ann@x.org"))
    (engine.directory / "key").write_text(ANOTHER)
    engine.run("run").failed(2, "another")
