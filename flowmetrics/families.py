"""What is published: metric families with their samples, free of any text format.

`flowmetrics.readings` makes them from windows; `flowmetrics.exposition` writes them as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Label names and values, in the order in which they are shown."""


class Sample(NamedTuple):
    """One value of a family."""

    labels: Labels
    value: float


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its full name, what it says, its type, and its samples.

    A counter's name ends in `_total`; a gauge's does not. `help` is one sentence without a line break.
    """

    name: str
    help: str
    type: Literal["gauge", "counter"]
    samples: tuple[Sample, ...]
