"""What the values of the Helm chart may be: helm refuses others before anything is installed.

`config` is `flowmetrics.yaml`, so its schema is that of the configuration, key for key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from flowmetrics.configuration import Configuration
from flowmetrics.settings import json_schema

SCHEMA: Final = "deploy/chart/values.schema.json"
Schema: TypeAlias = dict[str, Any]

_TEXT: Final = {"type": "string"}
_YES_OR_NO: Final = {"type": "boolean"}
_COUNT: Final = {"type": "integer", "minimum": 1}
_ANY_OBJECT: Final = {"type": "object"}
_OBJECTS: Final = {"type": "array", "items": _ANY_OBJECT}
_TEXTS: Final = {"type": "object", "additionalProperties": _TEXT}
_DURATION: Final = {"type": "string", "pattern": "^([0-9]+(ms|[smhd]))+$"}
_QUANTITY: Final = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$"}
_NAME: Final = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}
_KEPT: Final = {"enum": ["Retain", "Delete"]}
_SCALING: Final = {"type": "integer", "minimum": 1, "maximum": 3600}
"""Kubernetes looks back no further than an hour."""


def documents(configuration: Configuration) -> Mapping[str, str]:
    """Path under the project → text; the same for every configuration."""
    return {SCHEMA: json.dumps(_values(), indent=2, ensure_ascii=False) + "\n"}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _switched(**properties: Schema) -> Schema:
    return _object(enabled=_YES_OR_NO, **properties)


def _config() -> Schema:
    schema = {name: value for name, value in json_schema().items() if name not in ("$schema", "title")}
    return {**schema, "type": "object", "required": ["broker"]}


def _values() -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": "Made by `flowmetrics generate chart` from a declaration. Change that, not this.",
        "title": "values of the flowmetrics chart",
        **_object(
            **{"global": _ANY_OBJECT},  # helm puts it there where the chart is a part of another
            image=_object(repository=_TEXT, tag=_TEXT, pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]}),
            imagePullSecrets=_OBJECTS,
            replicas=_COUNT,
            config=_config(),
            secrets={"type": "array", "items": _NAME, "uniqueItems": True},
            resources=_object(requests=_ANY_OBJECT, limits=_ANY_OBJECT),
            persistence=_object(
                size=_QUANTITY, storageClass=_TEXT, retention=_object(whenDeleted=_KEPT, whenScaled=_KEPT)
            ),
            startupSeconds=_COUNT,
            podDisruptionBudget=_switched(),
            serviceAccount=_object(create=_YES_OR_NO, name=_TEXT, annotations=_TEXTS),
            service=_object(type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, annotations=_TEXTS),
            podAnnotations=_TEXTS,
            podLabels=_TEXTS,
            nodeSelector=_TEXTS,
            tolerations=_OBJECTS,
            affinity=_ANY_OBJECT,
            networkPolicy=_switched(**{"from": _OBJECTS}, kafka=_OBJECTS, egress=_OBJECTS),
            autoscaling=_switched(
                min=_COUNT, max=_COUNT, prometheus={"type": "string", "pattern": "^https?://"},
                recordsPerWorker=_COUNT, scaleUpSeconds=_SCALING, scaleDownSeconds=_SCALING,
            ),
            podMonitor=_switched(interval=_DURATION, labels=_TEXTS),
            prometheusRule=_switched(labels=_TEXTS, files=_TEXTS),
            dashboards=_switched(labels=_TEXTS, annotations=_TEXTS),
            strimzi=_object(
                cluster=_TEXT, namespace=_TEXT, apiVersion={"type": "string", "pattern": "^kafka\\.strimzi\\.io/"},
                topics=_switched(), user=_switched(),
            ),
        ),
    }  # fmt: skip
