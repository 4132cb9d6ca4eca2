"""The JSON Schema takes what the reader takes, and any text is read or refused with lines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from contract import CONTRACT
from hypothesis import given
from hypothesis import strategies as st
from places import mistakes_of

from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError
from flowmetrics.kpis import selected
from flowmetrics.setting_keys import KEYS
from flowmetrics.settings import effective, fingerprint, json_schema, read_settings


def read(text: str) -> Configuration:
    return read_settings(text, "flowmetrics.yaml")


# --- the schema ----------------------------------------------------------------------------------------------------
def is_type(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}
    return name != "boolean" and isinstance(value, kinds[name])  # type: ignore[arg-type]  # a type or a tuple of them


def schema_errors(schema: Mapping[str, Any], value: Any, at: str = "$") -> list[str]:
    """A judge of the words of JSON Schema that are used; an unknown word fails the test."""
    known = {
        "$schema", "title", "description", "default", "type", "enum", "pattern", "minimum", "maximum", "items",
        "minItems", "maxItems", "anyOf", "properties", "additionalProperties", "propertyNames", "minProperties",
    }  # fmt: skip
    assert set(schema) <= known
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(is_type(value, name) for name in types):
        return [f"{at}: {value!r} is no {types}"]
    wrong = [at] if "enum" in schema and value not in schema["enum"] else []
    if "anyOf" in schema and all(schema_errors(each, value) for each in schema["anyOf"]):
        wrong.append(f"{at}: none of anyOf")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        wrong.append(f"{at}: {value!r} does not match")
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        wrong.append(f"{at}: {value} is out of bounds")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            wrong.append(f"{at}: {len(value)} items")
        wrong += [e for n, each in enumerate(value) for e in schema_errors(schema.get("items", {}), each, f"{at}[{n}]")]
    if isinstance(value, dict):
        if len(value) < schema.get("minProperties", 0):
            wrong.append(f"{at}: too few properties")
        for key, each in value.items():
            wrong += schema_errors(schema.get("propertyNames", {}), key, f"{at} key")
            of = schema.get("properties", {}).get(key, schema.get("additionalProperties", {}))
            wrong += [f"{at}: {key} is not allowed"] if of is False else schema_errors(of, each, f"{at}.{key}")
    return wrong


def test_the_schema_is_json_and_describes_every_key() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for key in KEYS:
        node = schema
        for part in key.path.split("."):
            node = node["additionalProperties"] if part.startswith("<") else node["properties"][part]
        assert node["description"] == key.says


def test_the_schema_takes_the_contract_and_the_effective_configuration() -> None:
    for text in (CONTRACT, effective(Configuration()), effective(read(CONTRACT))):
        assert schema_errors(json_schema(), yaml.safe_load(text)) == []


def test_the_defaults_in_the_schema_are_the_defaults() -> None:
    schema = json_schema()
    defaults = {key: part["default"] for key, part in schema["properties"].items() if "default" in part}
    assert defaults["windows"] == ["1d", "7d", "30d"]
    assert read(json.dumps(defaults)) == Configuration()


@pytest.mark.parametrize("text", ["widnows: [1d]", "percentiles: [101]", "surveys: {nps: {scale: [0]}}", "kpis: x"])
def test_the_schema_refuses_plain_mistakes(text: str) -> None:
    assert schema_errors(json_schema(), yaml.safe_load(text))


# --- any text ------------------------------------------------------------------------------------------------------
KEY_WORDS = sorted({part for key in KEYS for part in key.path.split(".")} | {"nps", "csat", "done", "defect", "plan"})
words = st.sampled_from(
    [*KEY_WORDS, "5m", "1d", "30d", "created", "high", "shop", "*", "7x", "local:///x", "Asia/Seoul"]
)
scalars = words | st.integers(-5, 200) | st.booleans() | st.none() | st.floats(allow_nan=False) | st.text(max_size=5)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=5),
    max_leaves=30,
)
yaml_like = st.text(":-[]{}&*!|>'\"%@ \n\tab01~#?,<=.\\Ux", max_size=60)

names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=8)
patterns = st.lists(names, min_size=1, max_size=3)
streams = st.fixed_dictionaries(
    {},
    optional={
        "states": st.dictionaries(st.sampled_from(["new", "done", "ignore"]), patterns, min_size=1),
        "item_types": st.dictionaries(st.sampled_from(["defect", "debt"]), patterns, min_size=1),
        "start": st.sampled_from(["created", "first_committed"]),
    },
)
well_formed = st.fixed_dictionaries(
    {},
    optional={
        "resolution": st.sampled_from(["1s", "30s", "5m", "15m"]),
        "windows": st.lists(st.sampled_from(["1h", "1d", "2w", "30d"]), min_size=1, unique=True),
        "percentiles": st.lists(st.integers(1, 100), min_size=1, unique=True),
        "timezone": st.sampled_from(["UTC", "Asia/Seoul"]),
        "http": st.fixed_dictionaries({}, optional={"token_file": names}),
        "value_streams": st.dictionaries(names, st.none() | streams, max_size=3),
        "eligible": st.dictionaries(
            names, st.dictionaries(st.sampled_from(["plan", "kind"]), names | patterns, min_size=1), max_size=2
        ),
        "alerts": st.fixed_dictionaries(
            {},
            optional={
                "owner": names,
                "runbooks": names,
                "engine": st.fixed_dictionaries({}, optional={"owner": names}),
                "rules": st.dictionaries(
                    st.sampled_from(["flow_time", "flow_load"]),
                    st.fixed_dictionaries(
                        {},
                        optional={
                            "minimum": st.sampled_from(["30%", "7.5 %"]),
                            "samples": st.integers(1, 99),
                            "severity": st.sampled_from(["page", "off"]),
                            "for": st.sampled_from(["1h", "90s"]),
                            "keep_firing_for": st.sampled_from(["1h", "2d"]),
                        },
                    ),
                ),
            },
        ),
        "expectations": st.dictionaries(
            st.sampled_from(["flow_time", "request_resolution"]),
            st.fixed_dictionaries(
                {"within": st.sampled_from(["1h", "2w"]), "share": st.sampled_from(["85%", "99.5%"])}
            ),
        ),
        "time_to_value": st.fixed_dictionaries({"from": names.map("a{}".format)}),
        "surveys": st.dictionaries(
            st.sampled_from(["csat", "effort", "x_1"]),
            st.sampled_from([{"scale": [1, 9], "top": 3}, {"scale": [-5, -4], "better": "low"}, {"scale": [0, 10]}]),
            max_size=2,
        ),
    },
)


def read_or_refuse(text: str) -> Configuration | None:
    told = ""
    try:
        return read(text)
    except ConfigurationError as error:
        told = str(error)
    assert all(mistake.file == "flowmetrics.yaml" for mistake in mistakes_of(told))
    assert told.encode()
    return None


@given(st.text() | yaml_like)
def test_any_text_is_read_or_refused_with_lines(text: str) -> None:
    read_or_refuse(text)


@given(st.dictionaries(words, documents, max_size=6))
def test_any_document_is_read_or_refused_and_the_schema_takes_what_is_read(document: dict[str, Any]) -> None:
    if read_or_refuse(yaml.safe_dump(document)) is not None:
        assert schema_errors(json_schema(), document) == []


@given(well_formed)
def test_what_is_well_formed_is_read_and_shown_again(document: dict[str, Any]) -> None:
    configuration = read(yaml.safe_dump(document, sort_keys=False))
    again = read(effective(configuration))
    assert again == configuration
    assert fingerprint(again, "") == fingerprint(configuration, "")
    assert effective(again) == effective(configuration)
    assert schema_errors(json_schema(), document) == []
    assert {*configuration.surveys} <= {kpi.name for kpi in selected(configuration)}
