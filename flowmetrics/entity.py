"""What an entity promises: a history that is a set of facts merging by union, and a reading of it as a story.

    event ──add──▶ history ──read──▶ story ──measures──▶ contributions = {(series, pane, bin, amount)}

A history never depends on the order of arrival and never asks the clock. Its `contributed` are the contributions that
were given last; they are kept beside the facts so that what is taken back is what was given, whatever the code or the
configuration is by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from flowmetrics.configuration import Configuration

Contribution: TypeAlias = tuple[int, int, int]
"""(series number, cell, amount); the cell is pane and bin in one integer, see `flowmetrics.windowing.panes`."""

Packed: TypeAlias = list[Contribution] | bytes
"""Contributions as they are remembered: a few as they are, many as bytes, which take a tenth of the memory."""

Place: TypeAlias = tuple[tuple[str, ...], int, int, int]
"""(value stream and labels, instant, bin, amount): a contribution before it has a series number and a pane."""


Part: TypeAlias = str
"""A part of a history that is read and emitted by itself: a facet, or `facet:value stream`."""

Counted: TypeAlias = Counter[tuple[str, ...]]
"""What the engine counts on the way: (counter, label values …)."""


class History(Protocol):
    """The facts of one entity, and `contributed`: what each part of them contributed last.

    `contributed` is of the published epoch; `coming` is the same of the epoch that is being built, and means nothing
    where its sweep has not been yet (`flowmetrics.epochs`). `epoch` is the published one when the history was stored.
    `mentioned` are the keys of the entities that ever said something about this one, or it about them, with the
    instant of the earliest such fact; it only grows.
    """

    contributed: dict[Part, Packed]
    mentioned: dict[str, int]
    epoch: int
    coming: dict[Part, Packed]

    def parts(self) -> Sequence[Part]:
        """Every part that may have something to contribute."""
        ...


Join: TypeAlias = Callable[[Any, Any, int, Configuration, Counted], Sequence[Part]]
"""(history, event, instant, configuration, counted) → the parts that changed; empty when nothing did.

Joining is idempotent and gives the same facts in any order. What happens often should change few parts.
"""


@dataclass(frozen=True, eq=False)
class Entity:
    """A kind of thing with a history: how its keys begin, what it stores, and how the facts are read.

    `joins` maps an event type to the name of the entity that it tells of and the way it is joined to the facts.
    `read` gives the story that measures place on the axis of time, for the value stream of a part (or "") and the
    histories lent to it; None when there is nothing to tell. `ahead_us` is how far beyond the latest fact a
    contribution may be dated. `mentions` are the keys of the entities that this one says something about, as last
    told; `symmetric`: such a link joins both into one (aliases), or makes the one named read the other (duplicates).
    """

    prefix: str
    history: type[Any]
    joins: Mapping[type, tuple[Callable[[Any], str], Join]]
    read: Callable[[Any, Configuration, str, Mapping[str, Any]], Any]
    ahead_us: Callable[[Configuration], int]
    mentions: Callable[[Any, Configuration], Sequence[str]]
    symmetric: bool = False

    def key(self, name: str) -> str:
        """The key of one entity of this kind, as it is used on topics and in the store."""
        return f"{self.prefix}:{name}"


PACKED_FROM: Final = 5
"""How many contributions are many."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Contribution]).decode


def pack(contributions: list[Contribution]) -> Packed:
    """Contributions as they are remembered; equal contributions in the same order are packed equal.

    >>> unpack(pack([(1, 2, 3)] * 9)) == [(1, 2, 3)] * 9
    True
    """
    return contributions if len(contributions) < PACKED_FROM else _encode(contributions)


def unpack(packed: Packed) -> list[Contribution]:
    """The contributions that were packed."""
    return _decode(packed) if isinstance(packed, bytes) else packed
