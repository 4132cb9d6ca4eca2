"""For tests: the driver, and what is published as a flat mapping that is easy to compare."""

from __future__ import annotations

from collections.abc import Iterable

from flowmetrics.driver import Driver
from flowmetrics.families import Family, Sample

__all__ = ["Driver", "flat", "sample_text"]


def flat(families: Iterable[Family]) -> dict[str, float]:
    """`metric{labels}` → value."""
    return {sample_text(family.name, sample): sample.value for family in families for sample in family.samples}


def sample_text(name: str, sample: Sample) -> str:
    """A sample's name and labels as text, without escaping.

    >>> sample_text("up", Sample((("job", "x"),), 1.0))
    'up{job="x"}'
    """
    labels = ",".join(f'{label}="{value}"' for label, value in sample.labels)
    return f"{name}{{{labels}}}"
