"""Validates custom resources of KEDA and of the Prometheus Operator; runs in the environment that checks deploy/.

python crds.py < resources.json          says what is wrong and ends with 1

The models ignore fields that they do not know. So what a model took is written again: what is missing then is unknown.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule
from pydantic import ValidationError

MODELS = {"ScaledObject": ScaledObject, "PodMonitor": PodMonitor, "PrometheusRule": PrometheusRule}


def unknown(given: Any, taken: Any, path: str) -> list[str]:
    """The paths of fields that were given and not taken."""
    if isinstance(given, dict) and isinstance(taken, dict):
        missing = [f"{path}.{name} is unknown" for name in given if name not in taken]
        return missing + [
            e for name in given if name in taken for e in unknown(given[name], taken[name], f"{path}.{name}")
        ]
    if isinstance(given, list) and isinstance(taken, list):
        return [
            e
            for n, (one, other) in enumerate(zip(given, taken, strict=True))
            for e in unknown(one, other, f"{path}[{n}]")
        ]
    return []


def mistakes(resource: dict[str, Any]) -> list[str]:
    """What is wrong with a resource."""
    name = f"{resource['kind']}/{resource['metadata']['name']}"
    try:
        taken = MODELS[resource["kind"]].model_validate(resource)
    except ValidationError as error:
        return [f"{name}: {error}"]
    return unknown(resource, taken.model_dump(by_alias=True, mode="json", exclude_unset=True), name)


if __name__ == "__main__":
    found = [mistake for resource in json.load(sys.stdin) for mistake in mistakes(resource)]
    sys.exit("\n".join(found) or 0)
