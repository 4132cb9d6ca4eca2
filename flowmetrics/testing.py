"""For tests: the engine in memory, with what it publishes as a flat mapping that is easy to compare."""

from __future__ import annotations

from flowmetrics import driver
from flowmetrics.families import Sample


class Driver(driver.Driver):
    """The driver, and `values`."""

    def values(self) -> dict[str, float]:
        """What is published now, as `metric{labels}` → value."""
        return {
            sample_text(family.name, sample): sample.value for family in self.families() for sample in family.samples
        }


def sample_text(name: str, sample: Sample) -> str:
    """A sample's name and labels as text, without escaping.

    >>> sample_text("up", Sample((("job", "x"),), 1.0))
    'up{job="x"}'
    """
    labels = ",".join(f'{label}="{value}"' for label, value in sample.labels)
    return f"{name}{{{labels}}}"
