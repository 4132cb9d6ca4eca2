"""Bins of durations: DDSketch's logarithmic mapping with integer counts, so that taking back is exact.

Bin 0 holds zero; bin k > 0 holds the microseconds in (γ^(k-2), γ^(k-1)] with γ = 1.02, and answers with
2·γ^(k-1)/(γ+1), which is within 0.99 % of each of them. The edges are computed in integers, so every machine puts
every duration in the same bin, whatever its mathematical library.

    microseconds   0 | 1 | (1, 1.02] | (1.02, 1.0404] | …        up to 12,000 years
    bin            0 | 1 | 2         | 3              | …        2,047
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Final

BINS: Final = 2048
"""The number of bins; survey scores and counts use the first few."""

_NUMERATOR, _DENOMINATOR = 102, 100
_GAMMA: Final = _NUMERATOR / _DENOMINATOR


def _edges() -> list[int]:
    power, unit, edges = 1, 1, []
    for _ in range(BINS - 1):
        edges.append(power // unit)
        power, unit = power * _NUMERATOR, unit * _DENOMINATOR
    return edges


_EDGES: Final = _edges()


def duration_bin(us: int) -> int:
    """The bin of a duration in microseconds; a negative one counts as zero.

    >>> duration_bin(0), duration_bin(-5), duration_bin(1)
    (0, 0, 1)
    """
    return min(bisect_left(_EDGES, us) + 1, BINS - 1) if us > 0 else 0


def bin_duration_us(number: int) -> float:
    """The duration that a bin stands for, in microseconds.

    >>> abs(bin_duration_us(duration_bin(86_400_000_000)) / 86_400_000_000 - 1) < 0.01
    True
    """
    return 2 * _GAMMA ** (number - 1) / (_GAMMA + 1) if number else 0.0


class Ranked:
    """Counted values in order: what stands at a rank, and at a nearest-rank percentile.

    Ranks are computed in integers. A count below zero, seen while two halves of a correction are on their way, counts
    as none.

    >>> ranked = Ranked({9: 2, 1: 1, 5: 1})
    >>> ranked.total, ranked.percentile(50), ranked.at(4)
    (4, 5, 9)
    """

    __slots__ = ("_cumulated", "_values", "total")

    def __init__(self, counts: Mapping[int, int]) -> None:
        self._values = sorted(value for value, n in counts.items() if n > 0)
        self._cumulated = list(accumulate(counts[value] for value in self._values))
        self.total = self._cumulated[-1] if self._cumulated else 0

    def at(self, rank: int) -> int:
        """The value at a rank from 1 to `total`."""
        return self._values[bisect_left(self._cumulated, rank)]

    def percentile(self, percentile: int) -> int:
        """The nearest-rank percentile, 1 to 100; there must be a value."""
        return self.at((percentile * self.total + 99) // 100)

    def bounds(self, percentile: int) -> tuple[int, int] | None:
        """95 % bounds of a percentile from the order of the values alone; None where there are too few for any."""
        share, n = percentile / 100, self.total
        half = 1.96 * math.sqrt(n * share * (1 - share))
        low, high = math.floor(n * share - half), math.ceil(n * share + half) + 1
        return (self.at(low), self.at(high)) if low >= 1 and high <= n else None
