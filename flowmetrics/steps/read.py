"""Read: windows that end now in, metric families out; what did not change is not read again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from flowmetrics.configuration import Configuration
from flowmetrics.families import Family, Labels, Sample
from flowmetrics.kpi import Kpi, Point
from flowmetrics.steps.tally import Tally

Points: TypeAlias = dict[tuple[str, str], list[tuple[Labels, Point]]]
"""(KPI name, value stream) → full labels and point, in the order of labels."""

UNIFORM: Final = {
    "value": "The value of every KPI, under one name.",
    "lower": "Lower 95 % bound of the KPI, where it has one.",
    "upper": "Upper 95 % bound of the KPI, where it has one.",
    "samples": "How many items, requests, people or answers lie under the value.",
    "sufficient": "Whether there are enough samples under the value to page on it: 1 or 0.",
}


class Read:
    """The step; it remembers the points of each KPI and value stream until one of its measures changes."""

    def __init__(self, configuration: Configuration, kpis: Iterable[Kpi]) -> None:
        self.kpis = tuple(kpis)
        self.latest: Points = {}
        self._calendar = configuration.calendar
        self._pane_and_day = (-1, -1)

    def points(self, tally: Tally, now: int) -> Points:
        """The points of every KPI and value stream at `now`, with their full labels, in a fixed order.

        `tally` must have been advanced to `now`. The result is by (KPI name, value stream), in catalogue order.
        """
        stirred, tally.stirred = tally.stirred, set()
        here = (tally.pane, self._calendar.day(now))  # midnight itself is the end of a pane, and the next day
        moved, self._pane_and_day = here != self._pane_and_day, here
        points = {}
        streams = tally.value_streams()
        for kpi in self.kpis:
            for stream in streams:
                held = self.latest.get((kpi.name, stream))
                if (
                    held is None
                    or moved
                    or kpi.moves_with_time
                    or any((m.name, stream) in stirred for m in kpi.measures)
                ):
                    view = tally.view(stream, now)
                    held = sorted(
                        ((_labels(kpi, stream, point), point) for point in kpi.reading(view)),
                        key=lambda pair: pair[0],
                    )
                points[kpi.name, stream] = held
        self.latest = points
        return points

    def families(self, tally: Tally, now: int) -> list[Family]:
        """Every family at `now`: each KPI, its companions, then the uniform layer that rules read."""
        points = self.points(tally, now)
        streams = tally.value_streams()
        families = []
        for kpi in self.kpis:
            of = [pair for stream in streams for pair in points[kpi.name, stream]]
            families.append(_family(kpi.metric, kpi.help, ((labels, point.value) for labels, point in of)))
            for companion in kpi.companions:
                values = ((labels, companion.of(point)) for labels, point in of)
                families.append(_family(companion.name, companion.help, values))
        everything = [
            ((("kpi", kpi.name), *labels), kpi, point)
            for kpi in self.kpis
            for stream in streams
            for labels, point in points[kpi.name, stream]
        ]
        for name, text in UNIFORM.items():
            values = ((labels, _uniform(name, kpi, point)) for labels, kpi, point in everything)
            families.append(_family(f"flowmetrics_kpi_{name}", text, values))
        return families


def _labels(kpi: Kpi, stream: str, point: Point) -> Labels:
    return (("value_stream", stream), *zip(kpi.labels, point.labels, strict=True))


def _family(name: str, text: str, values: Iterable[tuple[Labels, float | None]]) -> Family:
    return Family(name, text, "gauge", tuple(Sample(labels, value) for labels, value in values if value is not None))


def _uniform(name: str, kpi: Kpi, point: Point) -> float | None:
    if name == "samples":
        return float(point.samples)
    if name == "sufficient":
        return float(point.value is not None and point.samples >= kpi.samples_min)
    value: float | None = getattr(point, name)
    return value
