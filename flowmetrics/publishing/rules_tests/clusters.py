"""An engine in a test of alerts: its lines, in a cluster of its own, and the alert that fires there.

The name of the cluster says what is tried; a cluster is a label that all rules keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from flowmetrics.configuration import Configuration
from flowmetrics.instants import duration_us
from flowmetrics.publishing.rules.engine import engine_groups
from flowmetrics.publishing.rules.form import Alert
from flowmetrics.publishing.rules.recording import WORKER
from flowmetrics.publishing.rules_tests.form import Case, Firing, Line, Stretch, earlier, later, seen

Rules: TypeAlias = Mapping[str, Sequence[Alert]]


class Timeline(NamedTuple):
    """How often is evaluated, when everything begins, and when it is as it was."""

    every: str
    begun: str
    back: str


MINUTES: Final = Timeline("4m", "25h", "28h")
"""No range of minutes is a multiple of four, or versions of Prometheus would differ in what lies on its edge."""
LITTLE: Final = 0.1
"""Less than one event: no count falls short by it, so that a threshold is tried closer than any count can."""


class Tried:
    """One engine: its lines, and the alert that fires while its condition holds from `since` until `back`, with the
    value that is in its sentence, where that is tried too. By default that is from when the timeline says."""

    def __init__(
        self,
        cluster: str,
        lines: Sequence[Line],
        rule: Alert | None,
        since: str = "",
        value: float | None = None,
        until: str = "",
        **labels: str,
    ) -> None:
        self.lines = [Line(line.metric, {**line.labels, "cluster": cluster}, line.stretches) for line in lines]
        self.rule = rule
        self.value = value
        self.labels = {**labels, "cluster": cluster}
        self.since, self.until = since, until

    def span(self, timeline: Timeline) -> tuple[str, str]:
        """When it begins to fire, and when it is over; never where nothing fires."""
        if self.rule is None:
            return "0s", "0s"
        begin = later(self.since or timeline.begun, seen(self.rule.hold, timeline.every))
        return begin, later(self.until or timeline.back, seen(self.rule.keep, timeline.every))


def case(name: str, timeline: Timeline, rules: Rules, tried: Sequence[Tried]) -> Case:
    """One run over all engines: what fires whenever something begins or ends to fire, and an evaluation before."""
    spans = [(each, *each.span(timeline)) for each in tried]
    edges = {edge for each, *span in spans if each.rule for edge in span}
    moments = sorted(edges | {earlier(edge, timeline.every) for edge in edges}, key=duration_us)
    watchdog = Firing(rules["FlowmetricsWatchdog"][0], {})
    firing = {
        moment: [
            watchdog,
            *(
                Firing(each.rule, each.labels, each.value)
                for each, begin, end in spans
                if each.rule and duration_us(begin) <= duration_us(moment) < duration_us(end)
            ),
        ]
        for moment in moments
    }
    lines = [line for each in tried for line in each.lines]
    return Case(name, timeline.every, later(moments[-1], timeline.every), lines, 'alert_class="engine"', firing)


def rules_of(configuration: Configuration) -> Rules:
    """The alerts about the engine by their name."""
    rules: dict[str, list[Alert]] = {}
    for group in engine_groups(configuration):
        for rule in group.rules:
            if isinstance(rule, Alert):
                rules.setdefault(rule.alert, []).append(rule)
    return rules


def raw(metric: str, /, *stretches: Stretch, worker: str = "a", **labels: str) -> Line:
    """A series that a worker shows."""
    return Line(f"flowmetrics_{metric}", {**labels, **dict.fromkeys(WORKER, worker)}, stretches)


def recorded(name: str, /, *stretches: Stretch, **labels: str) -> Line:
    """A series that a rule recorded."""
    return Line(f"flowmetrics:{name}", labels, stretches)


def said_to_fire(rule: Alert, begin: str, end: str, /, state: str = "firing", **labels: str) -> Line:
    """What Prometheus says of an alert that fires; of another class, so that no test takes it for the rule's own."""
    said = {"alertname": rule.alert, "alertstate": state, **rule.labels, "alert_class": "another"}
    return Line("ALERTS", {**said, **labels}, [Stretch(begin, 1.0), Stretch(end, None)])


def during(value: float, usual: float = 0.0, step: float = 0.0, timeline: Timeline = MINUTES) -> list[Stretch]:
    """A value that is another than usual between begin and end."""
    return [Stretch("0s", usual), Stretch(timeline.begun, value, step), Stretch(timeline.back, usual)]


ALIVE: Final = (
    raw("build_info", Stretch("0s", 1.0), version="1"),
    raw("engine_ready", Stretch("0s", 1.0)),
)
"""An engine that does nothing wrong."""
