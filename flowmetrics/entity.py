"""What an entity promises: a history that is a set of facts merging by union, and a reading of it as a story.

    event ──add──▶ history ──read──▶ story ──measures──▶ contributions = {(series, pane, bin, amount)}

A history never depends on the order of arrival and never asks the clock. Its `emitted` are the contributions that were
given last; they are kept beside the facts so that what is taken back is what was given, whatever the code or the
configuration is by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from flowmetrics.configuration import Configuration

Contribution: TypeAlias = tuple[int, int, int]
"""(series number, cell, amount); the cell is pane and bin in one integer, see `flowmetrics.windowing.panes`."""

Place: TypeAlias = tuple[tuple[str, ...], int, int, int]
"""(value stream and labels, instant, bin, amount): a contribution before it has a series number and a pane."""


NOTHING: Final = 0
CONFLICT: Final = 1 << 16
"""Bit of `History.add`: another fact has the same id and source and another body; both stay."""


class History(Protocol):
    """The facts of one entity, and what they contributed last, one list for each facet."""

    emitted: list[list[Contribution]]
    cut: bool
    mentioned: list[str]

    def add(self, event: Any, at: int, configuration: Configuration) -> int:
        """Join one event of this entity to the facts; idempotent, and the same in any order.

        Returns the facets that changed, as bits: bit 0 is the first. An entity with much to tell has several facets,
        so that what happens often is cheap; each measure reads one.
        """
        ...

    def last_at(self) -> int:
        """The instant of the latest fact; -1 when there is none."""
        ...


@dataclass(frozen=True)
class Entity:
    """A kind of thing with a history: how its keys begin, what it stores, and how the facts are read.

    `read` gives the story that measures place on the axis of time; None when there is nothing to tell. `ahead_us` is
    how far beyond the latest fact a contribution may be dated.
    """

    prefix: str
    history: Callable[[], History]
    history_type: type[Any]
    facets: int
    read: Callable[[Any, Configuration, Mapping[str, Any]], Any]
    ahead_us: Callable[[Configuration], int]
    mentions: Callable[[Any], Iterable[str]]
    """The keys of other entities that this one says something about, as last told."""
    symmetric: bool
    """Whether a link joins both ends into one (aliases), or makes one end read the other (duplicates)."""

    def key(self, name: str) -> str:
        """The key of one entity of this kind, as it is used on topics and in the store."""
        return f"{self.prefix}:{name}"
