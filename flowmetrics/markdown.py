"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table. A bare pipe would end a cell, within a code span as well.

    >>> table(("alert", "next step"), [("Rejects", "`flowmetrics rejected | head`")])
    ['| alert | next step |', '| --- | --- |', '| Rejects | `flowmetrics rejected \\\\| head` |']
    """
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    told = " | ".join(cell.replace("|", r"\|") for cell in cells)
    return f"| {told} |"
