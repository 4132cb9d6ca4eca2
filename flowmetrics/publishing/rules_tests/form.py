"""What a unit test of promtool is: lines of samples in, and which alerts fire when."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from flowmetrics.instants import SECOND_US, duration_text, duration_us
from flowmetrics.publishing.rules.cells import matchers
from flowmetrics.publishing.rules.form import Alert, RuleGroup, yaml_text

Labels: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Samples from `begin` on, up to the next stretch: a value that grows by `step` with each, or None for none."""

    begin: str
    value: float | None
    step: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """A series with its samples. Before the first stretch there are none."""

    metric: str
    labels: Labels
    stretches: Sequence[Stretch]


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fires at a moment, with the labels of what its rule found; those of the rule replace them.

    Where its value is given, what it says is tried too; then it must be given for all that fire under its name.
    """

    rule: Alert
    labels: Labels
    value: float | None = None

    @property
    def shown(self) -> Labels:
        """All its labels."""
        return {**self.labels, **self.rule.labels}

    def plain(self) -> dict[str, Any]:
        """Its labels and what it says, filled in."""
        words = {"$value": f"{self.value:g}", **{f"$labels.{name}": text for name, text in self.labels.items()}}
        said = {
            name: re.sub(r"{{ (\S+) }}", lambda found: words[found[1]], text)
            for name, text in self.rule.annotations.items()
        }
        return {"exp_labels": self.shown, "exp_annotations": said}


@dataclass(frozen=True, slots=True)
class Asked:
    """A query at a moment, and the values that it gives, by series."""

    expr: str
    at: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Case:
    """One run of all rules over some lines; `every` is the time between two evaluations, as between two samples.

    `moments` says what fires at which time since the begin, of the alerts that `watched` matches; nothing else may.
    """

    name: str
    every: str
    end: str
    lines: Sequence[Line]
    watched: str
    moments: Mapping[str, Sequence[Firing]]
    values: Sequence[Asked] = ()

    def plain(self) -> dict[str, Any]:
        """The test as promtool reads it."""
        return {
            "name": self.name,
            "interval": self.every,
            "input_series": [
                {"series": series(line.metric, line.labels), "values": self._values(line)} for line in self.lines
            ],
            "promql_expr_test": [
                {
                    "expr": f'ALERTS{{alertstate="firing",{self.watched}}}',
                    "eval_time": moment,
                    "exp_samples": [{"labels": labels, "value": 1} for labels in _shown(firing)],
                }
                for moment, firing in self.moments.items()
            ]
            + [
                {
                    "expr": asked.expr,
                    "eval_time": asked.at,
                    "exp_samples": [{"labels": name, "value": value} for name, value in asked.values.items()],
                }
                for asked in self.values
            ],
            **({"alert_rule_test": said} if (said := list(self._said())) else {}),
        }

    def _said(self) -> Iterator[dict[str, Any]]:
        for moment, firing in self.moments.items():
            for name in sorted({each.rule.alert for each in firing if each.value is not None}):
                told = [each.plain() for each in firing if each.rule.alert == name]
                yield {"alertname": name, "eval_time": moment, "exp_alerts": told}

    def _values(self, line: Line) -> str:
        """Samples in promtool's notation; `a+bxn` are n + 1 of them."""
        width, ends = _seconds(self.every), [_seconds(each.begin) for each in line.stretches[1:]]
        texts = []
        begin = _seconds(line.stretches[0].begin)
        if begin:
            texts.append(f"_x{begin // width}")
        for stretch, end in zip(line.stretches, [*ends, _seconds(self.end) + width], strict=True):
            number = (end - _seconds(stretch.begin)) // width
            if stretch.value is None:
                texts.append(f"_x{number}")
            else:
                texts.append(f"{_number(stretch.value)}{stretch.step:+.12g}x{number - 1}")
        return " ".join(texts)


def test_file(rule_files: Sequence[str], groups: Iterable[RuleGroup], *cases: Case) -> str:
    """A file of tests that are evaluated as often.

    Groups are evaluated in the order in which they are given, or an alert could be asked before what it reads.
    """
    return yaml_text(
        {
            "rule_files": [f"../rules/{name}" for name in rule_files],
            "evaluation_interval": cases[0].every,
            "group_eval_order": [group.name for group in groups],
            "tests": [case.plain() for case in cases],
        }
    )


def series(metric: str, labels: Labels) -> str:
    """A series as PromQL writes it."""
    return f"{metric}{{{matchers(labels)}}}"


def later(moment: str, *durations: str) -> str:
    """A moment some durations later."""
    return duration_text(sum(duration_us(each) for each in (moment, *durations)))


def earlier(moment: str, duration: str) -> str:
    """A moment a duration earlier."""
    return duration_text(duration_us(moment) - duration_us(duration))


def seen(hold: str, every: str) -> str:
    """After how long evaluations that are so far from each other see that something was held."""
    every_us = duration_us(every)
    return duration_text(-(-duration_us(hold) // every_us) * every_us)


def _shown(firing: Iterable[Firing]) -> list[str]:
    return sorted(
        series(
            "ALERTS",
            dict(sorted({"alertname": f.rule.alert, "alertstate": "firing", **f.shown}.items())),
        )
        for f in firing
    )


def _number(value: float) -> str:
    return repr(float(value))


def _seconds(text: str) -> int:
    return duration_us(text) // SECOND_US
