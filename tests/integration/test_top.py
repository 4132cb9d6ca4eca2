"""`flowmetrics top` against a real engine: the table, its keys, the way down, and once for pipes."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from engine import COMMAND, EngineProcess, command, done, free_port, until
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static

from agents.local.engine import Engine
from agents.published import clock_us
from agents.serving import Server
from agents.top import COLUMNS, NOTHING_YET, SORTS, EngineView, Reading, Row, in_order, reading_of, table
from agents.top_screen import NARROW, WIDTHS, Down, Top
from flowmetrics.configuration import Configuration
from flowmetrics.kpi import Unit

Make: TypeAlias = Callable[..., EngineProcess]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine that knows two value streams."""
    with EngineProcess(tmp_path_factory.mktemp("busy")) as running:
        running.ready()
        running.post(*(done(f"A-{n}", title=f"Number {n}") for n in range(3)), done("B-1", "billing"))
        running.shows(lambda page: (page.velocity(window="7d"), page.velocity("billing", "7d")), (3.0, 1.0))
        until(lambda: EngineView(running.url).reading().rows, "they are read")
        until(lambda: EngineView(running.url).behind(row(running))["total"] == 3, "they are committed")
        yield running


def row(engine: EngineProcess) -> Row:
    """The velocity of the shop."""
    return in_order(EngineView(engine.url).reading().rows, "state", "flow velocity 7d shop")[0]


def one(state: str | None = "ok", value: float = 110.0, usual: float | None = 100.0, **more: object) -> Row:
    given = {
        "kpi": "flow_time",
        "labels": {"value_stream": "shop", "item_type": "all", "window": "7d"},
        "samples": 1234,
    }
    return Row(**{**given, "state": state, "value": value, "unit": Unit.ITEMS, "usual": usual, "is_watched": True,
                  "next_step": None, **more})  # type: ignore[arg-type]  # fmt: skip


def test_what_needs_to_be_looked_at_comes_first() -> None:
    rows = [one("ok"), one("drifting", 120.0), one(None), one("suspect"), one("drifting", 300.0), one("warming")]
    assert [(r.state, r.value) for r in in_order(rows, "state")][:3] == [
        ("drifting", 300.0), ("drifting", 120.0), ("suspect", 110.0),
    ]  # fmt: skip


def test_a_row_says_state_name_value_and_change() -> None:
    cells = ("▲ drifting", "flow time 7d", "shop", "80", "", "100", "", "−20%", "1,234")
    assert one("drifting", 80.0).cells == cells
    assert one(usual=None).cells[5:8] == ("", "", "")


def test_a_row_says_bounds_and_from_where_it_is_suspect() -> None:
    score = one(unit=Unit.SCORE, value=4.5, bounds=(-3.0, 12.0), limit=31.0, is_bad_above=False)
    assert (score.cells[4], score.cells[6]) == ("−3 to +12", "< +31")
    assert one(unit=Unit.SECONDS, limit=276_480.0).cells[6] == "> 3.2 d"


def test_words_filter_whatever_their_case_and_order() -> None:
    rows = [one(), one(kpi="nps"), one("drifting", is_watched=False)]
    assert len(in_order(rows, "KPI", "SHOP nps")) == 1
    assert in_order(rows, "KPI", "nothing") == []
    assert len(in_order(rows, "KPI")) == 2
    assert len(in_order(rows, "KPI", "drifting", everything=True)) == 1


def test_a_reading_says_what_is_wrong_with_it() -> None:
    told = {"at": 100, "now": 115, "ready": True, "reason": "", "series": []}
    assert reading_of(told, {}).wrong == ""
    assert reading_of({**told, "now": 116}, {}).wrong == "stale: no reading for more than 15 s"
    assert reading_of({**told, "now": 116, "ready": False, "reason": "why"}, {}).wrong == "catching up: why"
    assert reading_of({**told, "reason": "why"}, {}).wrong == "held back: why"


def test_the_columns_fit_eighty_cells() -> None:
    assert sum(WIDTHS[n] for n in NARROW) <= 80 - 2


def test_a_table_for_pipes_is_lined_up() -> None:
    lines = table([one(), one(value=99_999.0)]).splitlines()
    assert len({line.index("shop") for line in lines[1:]}) == 1
    assert lines[0].split() == [
        "state",
        "KPI",
        "value",
        "stream",
        "value",
        "95",
        "%",
        "usual",
        "limit",
        "change",
        "samples",
    ]


# --- the command ------------------------------------------------------------------------------------------------------


def test_once_prints_one_table_and_ends(busy: EngineProcess, tmp_path: Path) -> None:
    finished = command("top", "--once", "--url", busy.url, cwd=tmp_path).well()
    lines = [line.split() for line in finished.out.splitlines() if "flow velocity" in line]
    assert ["◌", "warming", "flow", "velocity", "7d", "shop", "3", "3"] in lines
    assert "\x1b" not in finished.out
    everything = command("top", "--once", "--all", "--url", busy.url, cwd=tmp_path).well()
    assert "flow velocity 1d" not in finished.out, "no alert reads it"
    assert "flow velocity 1d" in everything.out


async def test_an_engine_that_is_not_ready_and_one_without_events_say_so(tmp_path: Path) -> None:
    goes_on = threading.Event()

    def clock() -> int:
        if threading.current_thread().name == "engine":
            goes_on.wait()
        return clock_us()

    configuration = Configuration(broker=f"local://{tmp_path}", listen="127.0.0.1:0")
    engine = Engine(configuration, clock)
    engine.start()
    server = Server(configuration, engine)
    url = await server.start()
    app = Top(EngineView(url), url)
    try:
        once = await asyncio.to_thread(command, "top", "--once", "--url", url, cwd=tmp_path)
        once.failed(1, f"the engine at {url} is catching up: starting: the state is being read")
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(pilot, lambda: "◐ catching up: starting" in text(app, "#head"))
            assert text(app, "#advice") == ""
            goes_on.set()
            await settled(pilot, lambda: "● live" in text(app, "#head"))
            assert text(app, "#advice") == NOTHING_YET
        once = await asyncio.to_thread(command, "top", "--once", "--url", url, cwd=tmp_path)
        assert NOTHING_YET in once.well().err
    finally:
        goes_on.set()
        await server.stop()
        engine.stop()


async def test_what_is_still_on_its_way_when_it_ends_does_no_harm(busy: EngineProcess) -> None:
    app = Top(EngineView(busy.url), busy.url)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot, lambda: "● live" in text(app, "#head"))
        await app.screen.remove_children()  # which is how it ends
        app.on_data_table_row_highlighted()
        app.take("● live", EngineView(busy.url).reading())
        app.action_calm()


def test_where_nobody_answers_it_says_what_to_do(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    command("top", "--once", "--url", url, cwd=tmp_path).failed(1, url, "flowmetrics run", "--url")
    command("top", "--url", url, "--token-file", "nowhere", "--once", cwd=tmp_path).failed(2, "--token-file nowhere")


def test_in_a_terminal_of_eighty_by_twentyfour_it_draws_and_q_ends_it(busy: EngineProcess) -> None:
    ours, its = pty.openpty()
    size = {"COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [COMMAND, "top", "--url", busy.url], stdin=its, stdout=its, stderr=its, env={**os.environ, **size}
    )
    os.close(its)
    os.set_blocking(ours, False)
    seen = b""

    def shown() -> bool:
        nonlocal seen
        try:
            seen += os.read(ours, 65_536)
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:
            return True
        return b"warming" in seen and b"velocity" in seen

    try:
        until(shown, "the table is drawn", 60)
        os.write(ours, b"q")
        until(lambda: shown() and process.poll() is not None, "q ends it", 30)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"Traceback" not in seen


# --- the screen -------------------------------------------------------------------------------------------------------


async def settled(pilot: Pilot[None], what: Callable[[], object]) -> None:
    """Wait until something is so on the screen."""
    for _ in range(400):
        if what():
            return
        await pilot.pause(0.05)
    raise AssertionError("the screen does not come to show it")


def text(shown: Top | Down, place: str) -> str:
    """What is said above the table, below it, or further down."""
    return str(shown.query_one(place, Static).content)


def words(app: Top) -> list[str]:
    """The text of each row."""
    rows = app.query_one(DataTable)
    return [" ".join(str(cell) for cell in rows.get_row_at(n)) for n in range(rows.row_count)]


async def test_keys_filter_sort_and_show_everything(busy: EngineProcess) -> None:
    app = Top(EngineView(busy.url), busy.url)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot, lambda: words(app))
        watched = len(words(app))
        await pilot.press("a")
        assert len(words(app)) > watched
        await pilot.press("a", "slash", *"shop velocity")
        await settled(pilot, lambda: len(words(app)) == 1)
        assert app.focused is app.query_one("#words", Input)
        await pilot.press("enter")
        assert isinstance(app.focused, DataTable)
        await pilot.press("escape")
        await settled(pilot, lambda: len(words(app)) == watched)
        orders = []
        for _ in SORTS:
            await pilot.press("s")
            orders.append(words(app))
        assert orders[1] != orders[0]
        assert orders[1] == sorted(orders[1], key=lambda row: "shop" in row), "by value stream"


async def test_a_wide_terminal_shows_bounds_and_limits_too_and_a_narrow_one_what_has_room(busy: EngineProcess) -> None:
    app = Top(EngineView(busy.url), busy.url)

    def columns() -> list[str]:
        return [str(column.label) for column in app.query_one(DataTable).ordered_columns]

    async with app.run_test(size=(140, 24)) as pilot:
        await settled(pilot, lambda: words(app))
        assert columns() == list(COLUMNS)
        shown = words(app)
        await pilot.resize_terminal(80, 24)
        await settled(pilot, lambda: columns() == [name for name in COLUMNS if name not in {"95 %", "limit"}])
        assert len(words(app)) == len(shown)


class Still(EngineView):
    """An engine that shows two rows, whatever happens."""

    def reading(self) -> Reading:
        score = {"bounds": (-3.0, 12.0), "limit": 31.0, "is_bad_above": False, "next_step": "Look."}
        return Reading("09:00:00", "", [one("drifting", unit=Unit.SCORE, **score), one()])


async def test_what_has_no_column_is_said_of_the_row_under_the_cursor() -> None:
    app = Top(Still(""), "")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot, lambda: text(app, "#advice") == "95 %: −3 to +12   limit: < +31\nLook.")
        await pilot.press("down")
        await settled(pilot, lambda: text(app, "#advice") == "")
        await pilot.press("up")
        await pilot.resize_terminal(140, 24)
        await settled(pilot, lambda: text(app, "#advice") == "Look.")


async def test_enter_goes_down_to_the_items_and_to_why_and_escape_back(busy: EngineProcess) -> None:
    app = Top(EngineView(busy.url), busy.url)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot, lambda: words(app))
        await pilot.press("slash", *"shop flow velocity", "enter", "enter")
        await settled(pilot, lambda: isinstance(app.screen, Down) and app.screen.query(DataTable))
        items = app.screen.query_one(DataTable)
        assert sorted(items.get_row_at(n)[1] for n in range(items.row_count)) == ["A-0", "A-1", "A-2"]
        await settled(pilot, lambda: app.focused is items)
        await pilot.press("enter")
        await settled(pilot, lambda: "items_done" in str(app.screen.query_one("#said", Static).content))
        await pilot.press("escape", "escape")
        assert not isinstance(app.screen, Down)
        await pilot.press("q")


async def test_w_shows_the_cumulative_flow_of_the_value_stream_under_the_cursor(busy: EngineProcess) -> None:
    app = Top(EngineView(busy.url), busy.url)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot, lambda: words(app))
        await pilot.press("slash", *"shop flow velocity", "enter", "w")
        flow = re.compile(r"^over 7d; done counts from its begin\ndone +0  ▁+█ +3$")
        await settled(pilot, lambda: isinstance(app.screen, Down) and flow.match(text(app.screen, "#said")))


async def test_an_engine_that_goes_away_is_said_and_what_it_said_last_stands(make: Make) -> None:
    engine = make().ready()
    engine.post(done("A-1"))
    engine.shows(lambda page: page.velocity(), 1.0)
    app = Top(EngineView(engine.url), engine.url)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot, lambda: words(app))
        engine.kill()
        await settled(pilot, lambda: "no flowmetrics answers" in text(app, "#head"))
        assert re.match(r"as of \d\d:\d\d:\d\d  ✕ no flowmetrics answers", text(app, "#head"))
        assert words(app)


def test_with_a_token_the_way_down_takes_it(make: Make, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret-token\n")
    engine = make(f'http: {{listen: "127.0.0.1:0", token_file: {tmp_path / "token"}}}').ready()
    engine.ask("POST", "/events", b"", {"Authorization": "Bearer s3cret-token", "Content-Type": "application/json"})
    with pytest.raises(Exception, match="--token-file"):
        EngineView(engine.url).explanation("item", "A-1")
    with pytest.raises(Exception, match="nothing is known"):
        EngineView(engine.url, "s3cret-token").explanation("item", "A-1")
