"""Rules in quicker time, for demos and tests: what lasts for hours in production lasts for seconds there.

Expressions stay as they are: windows, weeks, thresholds and floors are those of production.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flowmetrics.instants import SECOND_US, duration_us


def hastened(groups: Iterable[Mapping[str, Any]], interval: str, faster: Mapping[str, int]) -> dict[str, Any]:
    """A file of rules that are evaluated every `interval`, and must last for a fraction of what they say.

    `faster` gives the divisor by alert class; what lasts at all lasts for a second.

    >>> slow = {"alert": "A", "for": "2h", "labels": {"alert_class": "kpi"}}
    >>> hastened([{"name": "g", "interval": "1m", "rules": [slow]}], "1s", {"kpi": 600})["groups"][0]["rules"][0]["for"]
    '12s'
    """
    return {
        "groups": [
            {**group, "interval": interval, "rules": [_hastened(rule, faster) for rule in group["rules"]]}
            for group in groups
        ]
    }


def _hastened(rule: Mapping[str, Any], faster: Mapping[str, int]) -> dict[str, Any]:
    by = faster.get(rule.get("labels", {}).get("alert_class"), 1)
    lasting = {key: rule[key] for key in ("for", "keep_firing_for") if key in rule}
    return {**rule, **{key: f"{max(1, duration_us(each) // by // SECOND_US)}s" for key, each in lasting.items()}}
