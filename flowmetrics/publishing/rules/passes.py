"""The recording rules as they are evaluated over the past: in passes, each of which sees what former ones stored.

Live, a rule sees what the rule before it has just recorded. Over the past it does not: a rule that reads what another
one records must come in a later pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from graphlib import TopologicalSorter
from typing import Final

import yaml

from flowmetrics.configuration import Configuration
from flowmetrics.drift import WEEKS
from flowmetrics.instants import DAY_US
from flowmetrics.publishing.rules.files import levels
from flowmetrics.publishing.rules.form import Recording

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def pass_files(configuration: Configuration, interval: str) -> list[str]:
    """A rule file (YAML) for each pass, evaluated every `interval`.

    The group has the same name in each: Prometheus shifts the evaluations of a group by a hash of its name, and all
    passes must be evaluated at the same instants.
    """
    rules = [rule for group in levels(configuration) for rule in group.rules if isinstance(rule, Recording)]
    return [
        yaml.safe_dump({"groups": [{"name": "backfill", "interval": interval, "rules": [r.plain() for r in some]}]})
        for some in passes(rules)
    ]


def passes(rules: Iterable[Recording]) -> list[Sequence[Recording]]:
    """Rules by pass: those of one read only what is scraped, and what former passes recorded.

    >>> rules = [Recording("a:trusted", "a:value > 3"), Recording("a:value", "max(scraped)")]
    >>> [[rule.record for rule in some] for some in passes(rules)]
    [['a:value'], ['a:trusted']]
    """
    by_name: dict[str, list[Recording]] = {}
    for rule in rules:
        by_name.setdefault(rule.record, []).append(rule)
    order = TopologicalSorter(
        {
            name: {word for rule in of for word in _NAME.findall(rule.expr)} & by_name.keys()
            for name, of in by_name.items()
        }
    )
    order.prepare()
    found: list[Sequence[Recording]] = []
    while names := order.get_ready():
        found.append([rule for name in by_name if name in names for rule in by_name[name]])
        order.done(*names)
    return found


def baseline_us(configuration: Configuration) -> int:
    """How much history the rules read for a baseline: the former weeks, before them a window, and a day to spare."""
    return max(WEEKS) * 7 * DAY_US + configuration.longest_us + 2 * DAY_US
