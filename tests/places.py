"""How mistakes in files are told: a headline with file, line and column, the line itself, and a caret."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_HEADLINE: Final = re.compile(r"(?P<file>[^:\n]+):(?P<line>[1-9]\d*):(?P<column>[1-9]\d*): (?P<sentence>.+)")


@dataclass(frozen=True)
class Mistake:
    """One mistake; `shown` is what stands under its headline: the line of the file, and the caret."""

    file: str
    line: int
    column: int
    sentence: str
    shown: tuple[str, ...]

    @property
    def headline(self) -> str:
        """File, line and sentence."""
        return f"{self.file}:{self.line}: {self.sentence}"

    @property
    def pointed_at(self) -> str:
        """The text of the file from the caret on."""
        line, caret = self.shown
        assert set(caret) == {" ", "^"}
        return line[caret.index("^") :]


def mistakes_of(told: str) -> list[Mistake]:
    """The mistakes of an error, in their order."""
    found: list[Mistake] = []
    for line in told.split("\n"):
        if line.startswith("    "):
            found[-1] = Mistake(**{**vars(found[-1]), "shown": (*found[-1].shown, line)})
        else:
            headline = _HEADLINE.fullmatch(line)
            assert headline, line
            file, number, column, sentence = headline.groups()
            found.append(Mistake(file, int(number), int(column), sentence, ()))
    return found
