"""A YAML text read node by node, so that each mistake is shown at its place, and all mistakes of a file at once.

Readers are functions of a `Spot`. One that cannot take its value raises WrongValueError; `Spot.attempt` notes it in the
`Walk` and goes on. What was read is kept under its path (`http.listen`, `windows[2]`), for checks between keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeVar, cast

import yaml

from flowmetrics.errors import ConfigurationError

T = TypeVar("T")

SHOWN_CHARACTERS_MAX: Final = 60
LINE_CHARACTERS_MAX: Final = 100
"""So much of a long line is shown around the place of a mistake."""
_NULL: Final = "tag:yaml.org,2002:null"
_NOT_TEXT: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNREADABLE: Final = "a number or an escape in it stands for nothing"


class WrongValueError(Exception):
    """A value that cannot be taken; its text is a sentence that names the value and says what is right.

    Without a text, all that is wrong was noted already.
    """


def quoted(text: str) -> str:
    """An offending text as it is shown: in quotes, on one line, cut where it is long.

    >>> print(quoted("two" + chr(10) + "lines"))
    "two\\nlines"
    """
    cut = text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}…"
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", json.dumps(cut, ensure_ascii=False))


def shown(mark: yaml.Mark, name: str, sentence: str) -> str:
    """A mistake at its place in a file: `name:line:column: sentence`, the line, and a caret under the place.

    The sentence gets its full stop where it has none. A place without text shows no line.

    >>> print(shown(yaml.Mark("", 3, 0, 3, "a: b: c", 3), "f.yaml", "write one colon"))
    f.yaml:1:4: write one colon.
        a: b: c
           ^
    """
    stop = "" if sentence.endswith((".", "?")) else "."
    lines = (mark.get_snippet(max_length=LINE_CHARACTERS_MAX) or "").expandtabs(1).split("\n")
    told = [_NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", line) for line in lines if line.strip(" ^")]
    caret = lines[-1:] if told else []
    return "\n".join([f"{name}:{mark.line + 1}:{mark.column + 1}: {sentence}{stop}", *told, *caret])


class Walk:
    """One reading of a file: the values found by path, the spots tried by path, and the mistakes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: dict[str, object] = {}
        self.spots: dict[str, Spot] = {}
        self._mistakes: list[tuple[tuple[int, int], str]] = []

    def known(self, path: str, default: T) -> T | None:
        """What was read at a path; the default where nothing was said; None where it was wrong."""
        return cast("T | None", self.found.get(path)) if path in self.spots else default

    def mistake(self, spot: Spot, sentence: str) -> None:
        """Note a mistake; the sentence gets its full stop where it has none."""
        mark = spot.node.start_mark
        self._mistakes.append(((mark.line, mark.column), shown(mark, self.name, sentence)))

    def finish(self) -> None:
        """Raise ConfigurationError with every mistake, as `shown`, in the order of the file, if there is any."""
        if self._mistakes:
            ordered = sorted(self._mistakes, key=itemgetter(0))
            raise ConfigurationError(*(mistake for _, mistake in ordered))


@dataclass(frozen=True, slots=True)
class Spot:
    """A node, the path under which it is shown, and the walk that it belongs to."""

    node: yaml.Node
    path: str
    walk: Walk

    @property
    def line(self) -> int:
        """The line of the node, from 1."""
        return int(self.node.start_mark.line) + 1

    @property
    def what(self) -> str:
        """What the node is called in a sentence."""
        return self.path or "the file"

    @property
    def tag(self) -> str:
        """What YAML takes the node for: `int`, `str`, `map` …"""
        return str(self.node.tag).rpartition(":")[2]

    def attempt(self, read: Callable[[Spot], T]) -> T | None:
        """What the reader makes of this spot; None where it is wrong, and then the mistake is noted."""
        self.walk.spots[self.path] = self
        try:
            value = read(self)
        except WrongValueError as wrong:
            if wrong.args:
                self.walk.mistake(self, str(wrong))
            return None
        self.walk.found[self.path] = value
        return value

    def text(self) -> str:
        """A scalar as it is written, also where YAML takes it for a number, a date or a boolean."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise WrongValueError(f"{self.what} must be one word, not {self._form()}")
        text = str(self.node.value)
        if not text:
            raise WrongValueError(f"{self.what} has no value; write one or remove it")
        if self.node.tag == _NULL:
            raise WrongValueError(f"{self.what} is {quoted(text)}, which means no value; put the word in quotes")
        if _NOT_TEXT.search(text):
            raise WrongValueError(f"{self.what} is {quoted(text)}; write it without control characters")
        return text

    def elements(self) -> list[Spot]:
        """The values of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise WrongValueError(f"{self.what} must be a list such as [a, b], not {self._form()}")
        return [Spot(node, f"{self.path}[{n}]", self.walk) for n, node in enumerate(self.node.value)]

    def entries(self) -> list[tuple[str, Spot, Spot]]:
        """(key, spot of the key, spot of the value) of a mapping; nothing at all is a mapping without keys.

        Keys that are no words, or are given twice, are noted as mistakes and left out.
        """
        if self.node.tag == _NULL:
            return []
        if not isinstance(self.node, yaml.MappingNode):
            raise WrongValueError(f"{self.what} must be keys with values, not {self._form()}")
        entries: dict[str, tuple[str, Spot, Spot]] = {}
        for key_node, node in self.node.value:
            key_spot = Spot(key_node, f"a key of {self.what}", self.walk)
            key = key_spot.attempt(Spot.text)
            if key in entries:
                first = entries[key][1].line
                self.walk.mistake(key_spot, f"{self.what} gives {quoted(key)} twice, first in line {first}; keep one")
            elif key is not None:
                entries[key] = key, key_spot, Spot(node, f"{self.path}.{key}".lstrip("."), self.walk)
        return list(entries.values())

    def _form(self) -> str:
        if isinstance(self.node, yaml.ScalarNode):
            return quoted(str(self.node.value)) if self.node.value else "empty"
        return "a list" if isinstance(self.node, yaml.SequenceNode) else "keys with values"


def root_spot(text: str, name: str) -> Spot | None:
    """The top of a YAML text; None where it holds nothing. Raises ConfigurationError with the place where it breaks."""
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        raise _broken(_mark(text, error.position), name, error.reason) from None
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _broken(error.problem_mark or error.context_mark or loader.get_mark(), name, _reason(error)) from None
    except RecursionError:
        raise _broken(loader.get_mark(), name, "it is nested too deeply") from None
    except (ValueError, OverflowError):  # from int() and chr() inside PyYAML
        raise _broken(loader.get_mark(), name, _UNREADABLE) from None
    finally:
        loader.dispose()
    return None if node is None else Spot(node, "", Walk(name))


def _mark(text: str, position: int) -> yaml.Mark:
    begin = text.rfind("\n", 0, position) + 1
    return yaml.Mark("", position, text.count("\n", 0, position), position - begin, f"{text}\0", position)


def _reason(error: yaml.MarkedYAMLError) -> str:
    began = f" of line {error.context_mark.line + 1}" if error.context and error.context_mark else ""
    parts = (f"{error.context}{began}" if error.context else "", error.problem or "")
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", ", ".join(" ".join(part.split()) for part in parts if part))


def _broken(mark: yaml.Mark, name: str, reason: str) -> ConfigurationError:
    return ConfigurationError(shown(mark, name, f"this is not YAML: {reason}"))
