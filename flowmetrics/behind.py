"""Who is behind a number: the entities that contribute to a series of a KPI in its window, and what each of them says.

A contribution lies in a pane of a series of a measure, so the question is which series and which panes a reading sums.
Answers are exact for what the histories say; of percentiles and ratios every entity under them is listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import nlargest

from flowmetrics.configuration import ALL, Configuration
from flowmetrics.entity import Contribution, Entity, History, unpack
from flowmetrics.instants import duration_us
from flowmetrics.kpi import Better, Kpi, Measure, Unit
from flowmetrics.steps.series import Series
from flowmetrics.windowing.bins import BINS


@dataclass(frozen=True, slots=True)
class Said:
    """What an entity contributes to one measure: how much, when last (the instant at which its pane ends), and the
    value that the measure gives to it, if it gives one."""

    measure: str
    at: int
    amount: int
    value: float | None
    unit: Unit | None


@dataclass(frozen=True, slots=True)
class Behind:
    """One entity behind a number."""

    key: str
    said: tuple[Said, ...]

    @property
    def at(self) -> int:
        """When it contributed last."""
        return max(said.at for said in self.said)


@dataclass(frozen=True)
class Question:
    """Who is behind the series of a KPI with some labels at `now`.

    `labels` are those of the published series. `listed` are the measures that are asked, `first` the first pane after
    which contributions count and `last` the last that does.
    """

    kpi: Kpi
    labels: Mapping[str, str]
    configuration: Configuration
    now: int
    listed: tuple[Measure, ...] = field(init=False)
    first: int = field(init=False)
    last: int = field(init=False)

    def __post_init__(self) -> None:
        measures = self.kpi.listed or self.kpi.measures
        asked = tuple(m for m in measures if all(self.labels.get(name, value) == value for name, value in m.only))
        window = self.labels.get("window")
        span_us = duration_us(window) if window else self.kpi.span_us(self.configuration)
        last = self.configuration.pane(self.now)
        object.__setattr__(self, "listed", asked)
        object.__setattr__(self, "last", last)
        object.__setattr__(self, "first", last - self.configuration.panes(span_us))

    @property
    def entities(self) -> tuple[Entity, ...]:
        """The kinds of entities that may be behind it."""
        return tuple(dict.fromkeys(measure.entity for measure in self.listed))

    def series(self, known: Iterable[tuple[int, Series]]) -> dict[int, Measure]:
        """The numbers of the series that the number is read from, of those that are known, with their measures.

        `known` pairs the number of each series with what it is shown as. The total of a label is the sum of its values,
        where it is not a value of its own.
        """
        by_name = {measure.name: measure for measure in self.listed}
        of = [(number, by_name[shown[0]], shown) for number, shown in known if shown[0] in by_name]
        own_totals = {
            (measure.name, label)
            for _, measure, shown in of
            for label, value in zip(measure.labels, shown[2:], strict=False)
            if value == ALL
        }
        return {number: measure for number, measure, shown in of if self._reads(measure, shown, own_totals)}

    def _reads(self, measure: Measure, shown: Series, own_totals: set[tuple[str, str]]) -> bool:
        if shown[1] != self.labels.get("value_stream"):
            return False
        for label, value in zip(measure.labels, shown[2:], strict=False):
            wanted = self.labels.get(label)
            is_sum = wanted is None or (wanted == ALL and (measure.name, label) not in own_totals)
            if not is_sum and value != wanted:
                return False
        return True

    def of(self, key: str, history: History, series: Mapping[int, Measure]) -> Behind | None:
        """What one entity has to do with it; None for nothing."""
        by_measure: dict[Measure, list[Contribution]] = {}
        for packed in history.contributed.values():
            for one in unpack(packed):
                measure = series.get(one[0])
                if measure is not None and self.first < one[1] // BINS <= self.last:
                    by_measure.setdefault(measure, []).append(one)
        return Behind(key, tuple(self._said(*pair) for pair in by_measure.items())) if by_measure else None

    def _said(self, measure: Measure, contributions: list[Contribution]) -> Said:
        _, cell, amount = max(contributions, key=lambda one: one[1])
        pane, number = divmod(cell, BINS)
        says = measure.says
        return Said(
            measure.name,
            pane * self.configuration.resolution_us,
            sum(amount for _, _, amount in contributions),
            says.of(number, amount) if says else None,
            says.unit if says else None,
        )

    def telling(self, found: Iterable[Behind], most: int) -> list[Behind]:
        """Those that tell most: the worst values first; of levels the oldest; else the latest."""
        return nlargest(most, found, key=self._weight)

    def _weight(self, one: Behind) -> tuple[float, float, str]:
        values = [said.value for said in one.said if said.value is not None]
        value = values[0] if values else 0.0
        is_level = "window" not in self.kpi.labels
        return (value if self.kpi.better is Better.LOWER else -value, -one.at if is_level else one.at, one.key)


def searched(
    question: Question, histories: Iterable[tuple[str, History]], series: Mapping[int, Measure]
) -> Iterator[Behind]:
    """Everybody behind it among some histories."""
    for key, history in histories:
        found = question.of(key, history, series)
        if found is not None:
            yield found
