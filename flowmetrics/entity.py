"""What an entity promises: a history that is a set of facts merging by union, and a reading of it as a story.

    event ──add──▶ history ──read──▶ story ──measures──▶ contributions = {(series, pane, bin, amount)}

A history never depends on the order of arrival and never asks the clock. Its `emitted` are the contributions that were
given last; they are kept beside the facts so that what is taken back is what was given, whatever the code or the
configuration is by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from flowmetrics.configuration import Configuration

Contribution: TypeAlias = tuple[int, int, int]
"""(series number, cell, amount); the cell is pane and bin in one integer, see `flowmetrics.windowing.panes`."""

Place: TypeAlias = tuple[tuple[str, ...], int, int, int]
"""(value stream and labels, instant, bin, amount): a contribution before it has a series number and a pane."""


Part: TypeAlias = tuple[str, str]
"""A part of a history that is read and emitted by itself: a facet, and the value stream or ""."""

Counted: TypeAlias = Counter[tuple[str, ...]]
"""What the engine counts on the way: (counter, label values …)."""


class History(Protocol):
    """The facts of one entity, and what each part of them contributed last.

    `mentioned` are the keys of the entities that ever said something about this one.
    """

    mentioned: list[str]

    def add(self, event: Any, at: int, configuration: Configuration, counted: Counted) -> Sequence[Part]:
        """Join one event of this entity to the facts; idempotent, and the same in any order.

        Returns the parts that changed, so that what happens often costs little; empty when nothing did.
        """
        ...

    def parts(self) -> Sequence[Part]:
        """Every part that has something to contribute or that contributed last."""
        ...

    def emitted(self, part: Part) -> list[Contribution]:
        """What a part contributed last; empty when nothing."""
        ...

    def emit(self, part: Part, contributions: list[Contribution]) -> None:
        """Remember what a part contributes from now on."""
        ...

    def mentions(self) -> Sequence[str]:
        """The keys of other entities that this one says something about, as last told."""
        ...

    def last_at(self) -> int:
        """The instant of the latest fact; -1 when there is none."""
        ...


@dataclass(frozen=True)
class Entity:
    """A kind of thing with a history: how its keys begin, what it stores, and how the facts are read.

    `read` gives the story that measures place on the axis of time, for one part of the history and the histories lent
    to it; None when there is nothing to tell. `ahead_us` is how far beyond the latest fact a contribution may be dated.
    `symmetric`: a link joins both ends into one (aliases), or makes one end read the other (duplicates).
    """

    prefix: str
    history: type[Any]
    read: Callable[[Any, Configuration, Part, Mapping[str, Any]], Any]
    ahead_us: Callable[[Configuration], int]
    symmetric: bool = False

    def key(self, name: str) -> str:
        """The key of one entity of this kind, as it is used on topics and in the store."""
        return f"{self.prefix}:{name}"
