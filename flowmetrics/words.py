"""Values as people say them: `3.2 d`, `42.5 %`, `+31`, `1,204`. The page says them the same way (units.js)."""

from __future__ import annotations

from typing import Final

from flowmetrics.kpi import Unit

_MINUTE: Final = 60
_DAY: Final = 86_400
_COMPACT_FROM: Final = 1_000_000


def humanise(value: float, unit: Unit) -> str:
    """A value in the unit of its KPI, short enough for a headline.

    >>> humanise(276_480, Unit.SECONDS), humanise(0.425, Unit.RATIO), humanise(1204, Unit.ITEMS)
    ('3.2 d', '42.5 %', '1,204')
    """
    if unit is Unit.SECONDS:
        return duration(value)
    if unit is Unit.RATIO:
        return _percent(value)
    return _signed(value) if unit is Unit.SCORE else _count(value)


def duration(seconds: float) -> str:
    """A duration in its two largest units. Rounded first, then split, so that 59.7 minutes is never "59 m 60 s"."""
    if seconds < 0:
        return f"−{duration(-seconds)}"
    if seconds < 9.95:
        return _short(seconds)
    whole, minutes, days = _half_up(seconds), _half_up(seconds / _MINUTE), seconds / _DAY
    if whole < 60 * _MINUTE:
        return _two(whole, _MINUTE, "m", "s") if whole >= _MINUTE else f"{whole} s"
    if minutes < _DAY // _MINUTE:
        return _two(minutes, 60, "h", "m")
    return f"{_tenths(days)} d" if days < 99.95 else f"{_half_up(days)} d"


def _short(seconds: float) -> str:
    if seconds == 0 or seconds >= 0.9995:
        return f"{_tenths(seconds)} s"
    return "<1 ms" if seconds < 0.001 else f"{round(seconds * 1000)} ms"


def _two(amount: int, size: int, large: str, small: str) -> str:
    many, rest = divmod(amount, size)
    return f"{many} {large} {rest} {small}" if rest else f"{many} {large}"


def _percent(ratio: float) -> str:
    """A share that is not quite nothing or not quite everything never reads as 0 % or 100 %."""
    shown = _tenths(ratio * 100)
    if ratio > 0 and shown == "0":
        return "<0.1 %"
    return ">99.9 %" if ratio < 1 and shown == "100" else f"{shown} %"


def _signed(score: float) -> str:
    size = _tenths(abs(score))
    if size == "0":
        return "0"
    return f"{'−' if score < 0 else '+'}{size}"


def _count(number: float) -> str:
    if abs(number) >= _COMPACT_FROM:
        return f"{number / _COMPACT_FROM:.4g}M".replace("-", "−")
    return (f"{number:,.0f}" if number == int(number) else _tenths(number)).replace("-", "−")


def _tenths(number: float) -> str:
    return f"{number:,.1f}".removesuffix(".0")


def _half_up(number: float) -> int:
    return int(number + 0.5)
