"""Grafana's part in a test: what it makes of the variables of a board before it asks Prometheus.

There is no Grafana here. Variables are filled in as its Prometheus data source documents it: a choice of several, or
all, becomes a regular expression; `$__interval` and its like become durations.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from scraping import Prometheus

Board: TypeAlias = dict[str, Any]

BUILT_IN: Final = {"__interval": "15s", "__rate_interval": "1m", "__range": "1h"}
VARIABLE: Final = re.compile(r"\$(?:\{(\w+)(?::(\w+))?\}|(\w+))")
LABEL_VALUES: Final = re.compile(r"label_values\((?:(.+), )?(\w+)\)")


class Question(NamedTuple):
    """A query of a panel or an annotation."""

    where: str
    expression: str
    instant: bool


def boards(directory: Path) -> list[Board]:
    """Every board of a directory."""
    return [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]


def panels(board: Board) -> list[dict[str, Any]]:
    """Every panel that is not the heading of a section."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def questions(board: Board) -> Iterator[Question]:
    """Every query of every panel and annotation of Prometheus."""
    for panel in panels(board):
        for target in panel["targets"]:
            where = f"{board['uid']}: {panel['title']}: {target['refId']}"
            yield Question(where, target["expr"], target.get("instant", False))
    for annotation in board["annotations"]["list"]:
        if annotation["datasource"]["type"] == "prometheus":
            where = f"{board['uid']}: annotation {annotation['name']}"
            yield Question(where, annotation["target"]["expr"], False)


def fill_in(text: str, choices: Mapping[str, str]) -> str:
    """A query with its variables replaced; one that nobody declares fails."""
    return VARIABLE.sub(lambda match: {**BUILT_IN, **choices}[match[1] or match[3]], text)


class Viewer:
    """Somebody who opens a board: its variables with their options, and the first choices."""

    def __init__(self, board: Board, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self.options: dict[str, list[str]] = {}
        self.choices: dict[str, str] = {}
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                self._choose(board["uid"], variable)

    def _choose(self, uid: str, variable: dict[str, Any]) -> None:
        name = variable["name"]
        match = LABEL_VALUES.fullmatch(fill_in(variable["query"]["query"], self.choices))
        assert match, f"{uid}: {name}: {variable['query']}"
        scope = {"match[]": match[1]} if match[1] else {}
        options = self._prometheus.ask(f"label/{match[2]}/values", **scope)
        assert options, f"{uid}: the variable {name} has no options"
        chosen = variable.get("current", {}).get("value", options[0])
        if variable["includeAll"]:
            assert chosen == ["$__all"]
            chosen = variable["allValue"]
        else:
            assert chosen in options, f"{uid}: {name}: {chosen} is none of {options}"
        self.options[name], self.choices[name] = options, chosen

    def first_answer(self, question: Question) -> Mapping[str, str] | None:
        """The choices under which a query answers: the first ones, or those with one changed; None if it never does."""
        others = [{name: option} for name, options in self.options.items() for option in options]
        for change in [{}, *others]:
            choices = {**self.choices, **change}
            if self.answers(question, choices):
                return choices
        return None

    def answers(self, question: Question, choices: Mapping[str, str]) -> bool:
        """Whether a query answers with a number at least."""
        expression, now = fill_in(question.expression, choices), time.time()
        if question.instant:
            found = self._prometheus.ask("query", query=expression, time=now)["result"]
            values = [one["value"][1] for one in found]
        else:
            found = self._prometheus.ask("query_range", query=expression, start=now - 600, end=now, step=5)["result"]
            values = [value for one in found for _, value in one["values"]]
        return any(value not in ("NaN", "+Inf", "-Inf") for value in values)
