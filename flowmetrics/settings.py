"""The text of `flowmetrics.yaml` as a `Configuration`, and what follows from the table of its keys.

All mistakes of a file are raised at once, each at its place. A section without keys, such as `http:` with everything
below it commented out, says nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import yaml

from flowmetrics.configuration import (
    DEFAULT_SURVEYS,
    Configuration,
    Expectation,
    RuleOverride,
    TimeToValue,
    ValueStream,
)
from flowmetrics.errors import nearest
from flowmetrics.kpi import measures
from flowmetrics.kpis import READING, selected
from flowmetrics.markdown import table
from flowmetrics.setting_checks import Said, check, merged_survey
from flowmetrics.setting_keys import KEYS, NAMES, TREE, Change, Key, Tree, named
from flowmetrics.yaml_text import Spot, quoted, root_spot

__all__ = ["effective", "fingerprint", "json_schema", "read_settings", "reference"]

_JOURNEY: Final = "time_to_value."


def read_settings(text: str, name: str) -> Configuration:
    """The configuration that a text says; `name` is the file's, for errors. What is not said is as by default.

    Raises ConfigurationError with all mistakes, each as `yaml_text.shown` has it, in the order of the file.

    >>> read_settings("windows: [1d, 2w]", "flowmetrics.yaml").windows_us[1] // 86_400_000_000
    14
    >>> read_settings("horizn: 90d", "flowmetrics.yaml")
    Traceback (most recent call last):
    flowmetrics.errors.ConfigurationError: flowmetrics.yaml:1:1: "horizn" is no key of the file. Did you mean "horizon"?
        horizn: 90d
        ^
    """
    root = root_spot(text, name)
    if root is None:
        return Configuration()
    said = root.attempt(partial(_section, tree=TREE)) or {}
    check(root.walk, said)
    root.walk.finish()
    return _configuration(said)


def effective(configuration: Configuration) -> str:
    """The whole configuration as YAML that reads back as the same; secrets appear as paths of files only."""
    return yaml.safe_dump(
        _plain(TREE, configuration, lambda key: True),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )


def fingerprint(configuration: Configuration, tzdata_version: str) -> tuple[str, str]:
    """(hash of what the histories are read with, hash of what shaped the stored), as declared in the table of keys.

    The first covers the code that reads them and the time zone database too. Both are the same in every process and
    Python version, and for every order in which surveys and features were given.
    """
    sorted_names = replace(
        configuration,
        surveys=dict(sorted(configuration.surveys.items())),
        eligible={feature: dict(sorted(rule.items())) for feature, rule in sorted(configuration.eligible.items())},
        expectations=dict(sorted(configuration.expectations.items())),
    )
    read = _plain(TREE, sorted_names, lambda key: key.change is Change.READ)
    write = _plain(TREE, sorted_names, lambda key: key.change is Change.WRITE)
    counted = sorted([m.name, m.entity.prefix, m.facet, *m.labels] for m in measures(selected(configuration)))
    return _hash([read, READING, counted, tzdata_version]), _hash([write, configuration.grain_us])


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file, for editors. It takes all that the reader takes, and little more."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flowmetrics.yaml",
        "description": "The configuration of flowmetrics; every key is optional.",
        **_schema(TREE),
    }


def reference() -> str:
    """All keys as a Markdown table, in the order of the table of keys."""
    rows = [(f"`{key.path}`", _default_text(key), key.change.value, key.says) for key in KEYS]
    return "\n".join([*table(("key", "default", "a change is", "what it says"), rows), ""])


def _section(spot: Spot, tree: Tree) -> dict[str, Any]:
    """What a section says, by field: the fields of its subsections are those of its owner as well."""
    said: dict[str, Any] = {}
    for word, key_spot, value_spot in spot.entries():
        branch = tree.get(word)
        if branch is None:
            hint = nearest(word, tree) or f" It takes {', '.join(tree)}."
            spot.walk.mistake(key_spot, f"{quoted(word)} is no key of {spot.what}.{hint}")
        elif isinstance(branch, Key):
            said.update(_fields(branch, value_spot.attempt(branch.kind.read)))
        elif named(branch):
            said[word] = value_spot.attempt(partial(_names, tree=branch)) or {}
        else:
            said.update(value_spot.attempt(partial(_section, tree=branch)) or {})
    return said


def _fields(key: Key, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    return dict(zip(key.fields, value if len(key.fields) > 1 else (value,), strict=True))


def _names(spot: Spot, tree: Tree) -> dict[str, Any]:
    """What is said under each name of one's own."""
    (part, branch) = next(iter(tree.items()))
    read = branch.kind.read if isinstance(branch, Key) else partial(_section, tree=branch)
    said: dict[str, Any] = {}
    for _, key_spot, value_spot in spot.entries():
        name, value = key_spot.attempt(NAMES[part].kind.read), value_spot.attempt(read)
        if name is not None and value is not None:
            said[name] = value
    return said


def _configuration(said: Said) -> Configuration:
    """The configuration of a file without mistakes."""
    journey = {field.removeprefix(_JOURNEY): value for field, value in said.items() if field.startswith(_JOURNEY)}
    plain = {field: value for field, value in said.items() if not field.startswith(_JOURNEY)}
    surveys = {name: merged_survey(name, survey) for name, survey in plain.pop("surveys", {}).items()}
    plain["rules"] = {name: RuleOverride(**rule) for name, rule in plain.get("rules", {}).items() if rule}
    plain["expectations"] = {name: Expectation(**each) for name, each in plain.get("expectations", {}).items()}
    streams = plain.pop("value_streams", {})
    if streams:
        plain["value_streams"] = tuple((pattern, ValueStream(**stream)) for pattern, stream in streams.items())
    return Configuration(**plain, surveys={**DEFAULT_SURVEYS, **surveys}, time_to_value=TimeToValue(**journey))


def _plain(branch: Tree | Key, owner: Any, wanted: Callable[[Key], bool]) -> object:
    """A part of the configuration as YAML would hold it; None where nothing of it is wanted or set."""
    if isinstance(branch, Key):
        value = branch.of(owner) if wanted(branch) else None
        return None if value is None else branch.kind.plain(value)
    part = named(branch)
    if part is None:
        parts = [(word, each, owner) for word, each in branch.items()]
    else:
        parts = [(name, branch[part], each) for name, each in NAMES[part].each(owner)]
    plain = {word: value for word, each, its in parts if (value := _plain(each, its, wanted)) is not None}
    return plain or None


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


def _schema(branch: Tree | Key) -> dict[str, Any]:
    if isinstance(branch, Key):
        default = _default(branch)
        return {
            **branch.kind.schema,
            "description": branch.says,
            **({} if default is None else {"default": default}),
        }
    section: dict[str, Any] = {"type": ["object", "null"]}
    part = named(branch)
    if part is not None:
        return {
            **section,
            "propertyNames": NAMES[part].kind.schema,
            "additionalProperties": _schema(branch[part]),
        }
    return {
        **section,
        "properties": {word: _schema(each) for word, each in branch.items()},
        "additionalProperties": False,
    }


def _default(key: Key) -> object:
    if key.default:
        return None
    return key.kind.plain(key.of(ValueStream() if "<pattern>" in key.path else Configuration()))


def _default_text(key: Key) -> str:
    default = _default(key)
    if default is None:
        return key.default
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"
