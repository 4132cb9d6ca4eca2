"""The screen of `flowmetrics top`: a table that keeps itself current, and keys to filter, sort and go down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from agents.top import COLUMNS, NOTHING_YET, SORTS, EngineView, Reading, Row, in_order
from flowmetrics.errors import OperationError
from flowmetrics.kpi import Unit
from flowmetrics.words import humanise

REFRESH_SECONDS: Final = 2.0
STYLES: Final = {"drifting": "bold red", "suspect": "yellow", "ok": "green", "stale": "magenta"}
WIDTHS: Final = (10, 22, 13, 9, 20, 9, 11, 7, 8)
"""Of COLUMNS, with a cell between them."""
NARROW: Final = (0, 1, 2, 3, 5, 7, 8)
"""The columns of a terminal in which not all have room: eighty cells are enough for them."""
_RIGHT: Final = frozenset(range(3, len(COLUMNS)))


class Down(ModalScreen[None]):
    """Lines that were asked of the engine; of a list each leads further down."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss", "back"), ("q", "app.quit", "quit")]
    CSS = """
    Down { align: center middle; }
    #down { width: 95%; height: 90%; border: round $primary; padding: 0 1; background: $surface; }
    #down DataTable { height: 1fr; }
    """

    def __init__(self, title: str, ask: Callable[[], Any], engine: EngineView) -> None:
        super().__init__()
        self._title, self._ask, self._engine = title, ask, engine

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="down") as box:
            box.border_title = self._title
            yield Static("asking the engine …", id="said", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self.load()

    @work(thread=True)
    def load(self) -> None:
        """Ask, beside the screen."""
        try:
            told = self._ask()
        except OperationError as error:
            told = str(error)
        self.app.call_from_thread(self.show, told)

    def show(self, told: Any) -> None:
        """Show text as it is, and a list of items as a table."""
        if not self.is_attached:
            return
        said = self.query_one("#said", Static)
        if not isinstance(told, dict):
            said.update(told if isinstance(told, str) else "\n".join(told))
            return
        rows, total = told["rows"], told["total"]
        cut = "" if told["complete"] else "; some histories were not reached"
        said.update(
            f"{total:,} behind it{f', {len(rows)} listed' if len(rows) < total else ''}{cut}. Enter explains one."
        )
        table: DataTable[str] = DataTable(cursor_type="row")
        table.add_columns("kind", "name", "state", "value", "title")
        for row in rows:
            table.add_row(row["kind"], row["name"], row["state"] or "", _value(row), row["title"] or "")
        self.query_one("#down").mount(table)
        self.call_after_refresh(table.focus)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        event.stop()  # the table below has a way down of its own
        kind, name, *_ = event.data_table.get_row(event.row_key)
        self.app.push_screen(Down(f"{kind} {name}", lambda: self._engine.explanation(kind, name), self._engine))


class Top(App[None]):
    """The table of a running engine."""

    TITLE = "flowmetrics"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "quit"),
        ("slash", "filter", "filter"),
        ("s", "sort", "sort"),
        ("a", "everything", "all series"),
        ("w", "work", "work"),
        ("escape", "calm", "no filter"),
    ]
    CSS = """
    #head { height: 1; }
    #part { height: 1; }
    #advice { height: auto; max-height: 3; color: $text-muted; }
    #words { display: none; }
    #words.open { display: block; }
    DataTable { height: 1fr; }
    """

    def __init__(self, engine: EngineView, url: str, everything: bool = False) -> None:
        super().__init__()
        self._engine, self._url = engine, url
        self._reading = Reading("", "asking the engine …", ())
        self._shown: list[Row] = []
        self._said = self._reading.wrong
        self._sort, self._words, self._everything = SORTS[0], "", everything
        self._columns: tuple[int, ...] = ()
        # Held here and not asked of the screen: when that is gone already a reading or a key may still be on its way.
        self._head, self._part, self._advice = (Static(id=name, markup=False) for name in ("head", "part", "advice"))
        self._table = DataTable[Text](cursor_type="row", cell_padding=0, zebra_stripes=True)
        self._input = Input(placeholder="words that a row must have; Enter closes", id="words", compact=True)

    def compose(self) -> ComposeResult:
        yield from (self._head, self._part, self._table, self._advice, self._input)
        yield Footer()

    def on_mount(self) -> None:
        self._table.focus()
        self.set_interval(REFRESH_SECONDS, self.load)
        self.load()

    def on_resize(self, event: Resize) -> None:
        """As many columns as have room."""
        columns = tuple(range(len(COLUMNS))) if event.size.width >= sum(WIDTHS) + 2 else NARROW
        if columns == self._columns:
            return
        self._columns = columns
        table = self._table
        table.clear(columns=True)
        for n in columns:
            table.add_column(COLUMNS[n], width=WIDTHS[n])
        self.draw()

    @work(thread=True, exclusive=True)
    def load(self) -> None:
        """Ask the engine, beside the screen."""
        try:
            reading = self._engine.reading()
        except OperationError as error:
            self.call_from_thread(self.take, f"✕ {error}", self._reading)
        else:
            self.call_from_thread(self.take, f"◐ {reading.wrong}" if reading.wrong else "● live", reading)

    def take(self, said: str, reading: Reading) -> None:
        """Show what the engine said; what it said last stands while it does not answer."""
        self._said, self._reading = said, reading
        self.draw()

    def draw(self) -> None:
        """Bring the table up to date; the cursor stays where it was."""
        table = self._table
        self._shown = in_order(self._reading.rows, self._sort, self._words, self._everything)
        counts = [f"{n} {state}" for state in STYLES if (n := sum(row.state == state for row in self._shown))]
        filtered = f", only “{self._words}”" if self._words else ""
        as_of = f"as of {self._reading.at}  " if self._reading.at else ""
        listed = f"{len(self._shown)} series by {self._sort}{filtered}  {', '.join(counts)}"
        self._head.update(f"{as_of}{self._said}  {listed}  {self._url}")
        self._part.update(self._reading.part)
        self._part.display = bool(self._reading.part)
        cursor, scrolled = table.cursor_row, table.scroll_y
        table.clear()
        for row in self._shown:
            table.add_row(*(_cell(n, row.cells[n], row.state) for n in self._columns))
        table.move_cursor(row=min(cursor, max(0, len(self._shown) - 1)), animate=False)
        table.scroll_to(y=scrolled, animate=False)
        self.advise()

    def advise(self) -> None:
        """Of the row under the cursor what has no column, and what to do if it moved; or how rows get in."""
        advice = "" if self._reading.rows or self._reading.wrong else NOTHING_YET
        if row := self._row:
            narrow = [f"{COLUMNS[n]}: {said}" for n, said in enumerate(row.cells) if said and n not in self._columns]
            moved = row.state in {"suspect", "drifting"}
            advice = "\n".join(filter(None, ["   ".join(narrow), row.next_step if moved else None]))
        self._advice.update(advice)

    @property
    def _row(self) -> Row | None:
        """The one under the cursor."""
        at = self._table.cursor_row
        return self._shown[at] if 0 <= at < len(self._shown) else None

    def on_data_table_row_highlighted(self) -> None:
        self.advise()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        row = self._shown[event.cursor_row]
        self.push_screen(Down(f"{row.name} of {row.value_stream}", lambda: self._engine.behind(row), self._engine))

    def action_work(self) -> None:
        """Down to the work of the value stream under the cursor."""
        if row := self._row:
            self.push_screen(Down(f"work of {row.value_stream}", lambda: self._engine.work(row), self._engine))

    def action_filter(self) -> None:
        """Ask for the words."""
        self._input.add_class("open")
        self._input.focus()

    def action_calm(self) -> None:
        """Show all rows again."""
        self._input.value = ""
        self.on_input_submitted()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._words = event.value
        self.draw()

    def on_input_submitted(self) -> None:
        self._input.remove_class("open")
        self._table.focus()

    def action_sort(self) -> None:
        """The next order."""
        self._sort = SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)]
        self.draw()

    def action_everything(self) -> None:
        """All series, or those that alerts read."""
        self._everything = not self._everything
        self.draw()


def _cell(column: int, words: str, state: str | None) -> Text:
    width = WIDTHS[column] - 1
    shown = words if len(words) <= width else f"{words[: width - 1]}…"
    style = STYLES.get(state or "", "") if column == 0 else ""
    return Text(shown, style=style, justify="right" if column in _RIGHT else "left", end=" ")


def _value(row: dict[str, Any]) -> str:
    said = next((one for one in row["said"] if one["value"] is not None), None)
    return humanise(said["value"], Unit(said["unit"])) if said else ""
