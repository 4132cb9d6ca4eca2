"""YAML whose every value knows its place, so that a mistake can be shown where it is."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import yaml

from flowmetrics.errors import ConfigurationError, nearest
from flowmetrics.yaml_text import quoted, root_spot, shown

_HALF: Final = re.compile("[\ud800-\udfff]")
"""What an escape such as \\uD83D stands for by itself: no text holds it."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A node of a YAML file. `name` is the file's, as it is shown in errors; `what` says what the node stands for."""

    name: str
    what: str
    node: yaml.Node

    def mistake(self, sentence: str) -> ConfigurationError:
        """The error to raise: the place in the file, the sentence, and the line with a caret.

        >>> print(read_yaml("a: 1\\nb: 2", "map.yaml").entries({"a": "A", "b": "B"})["b"].mistake("B must be 3"))
        map.yaml:2:4: B must be 3.
            b: 2
               ^
        """
        return ConfigurationError(shown(self.node.start_mark, self.name, sentence))

    def entries(self, known: Mapping[str, str], required: Collection[str] = ()) -> dict[str, Marked]:
        """The values of a mapping by key; `known` says what each key stands for.

        Raises ConfigurationError where a key is unknown, given twice or missing.
        """
        if not isinstance(self.node, yaml.MappingNode):
            raise self.mistake(f"{self.what} must be keys with values: {', '.join(known)}")
        found: dict[str, Marked] = {}
        for key_node, node in self.node.value:
            key = Marked(self.name, "a key", key_node).text()
            place = Marked(self.name, known.get(key, key), key_node)
            if key not in known:
                raise place.mistake(f'{self.what} takes {", ".join(known)}, not "{key}".{nearest(key, known)}')
            if key in found:
                raise place.mistake(f'{self.what} gives "{key}" twice; keep one')
            found[key] = Marked(self.name, known[key], node)
        for key in required:
            if key not in found:
                raise self.mistake(f'{self.what} has no "{key}"; add it')
        return found

    def pairs(self) -> dict[str, Marked]:
        """The values of a mapping whose keys are free. Raises ConfigurationError."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.mistake(f"{self.what} must be names with values")
        keys = [Marked(self.name, "a key", key).text() for key, _ in self.node.value]
        return self.entries({key: f"{self.what}.{key}" for key in keys})

    def elements(self) -> list[Marked]:
        """The values of a list. Raises ConfigurationError."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.mistake(f"{self.what} must be a list")
        return [Marked(self.name, f"{self.what}[{n}]", node) for n, node in enumerate(self.node.value)]

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def is_mapping(self) -> bool:
        """Whether it is keys with values."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_null(self) -> bool:
        """Whether it is null, or nothing is written."""
        return bool(self.node.tag == "tag:yaml.org,2002:null")

    def text(self) -> str:
        """A scalar as it is written, also where YAML reads another type. Raises ConfigurationError."""
        if not isinstance(self.node, yaml.ScalarNode) or not self.node.value:
            raise self.mistake(f"{self.what} must be a text that is not empty")
        return self._written()

    def scalar(self) -> object:
        """A scalar as YAML reads it. Raises ConfigurationError."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.mistake(f"{self.what} must be one value")
        written = self._written()
        try:
            value: object = yaml.constructor.SafeConstructor().construct_object(self.node)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError):  # PyYAML believes every tag
            raise self.mistake(f"{self.what} {quoted(written)} cannot be read as a value; quote it") from None
        return value

    def _written(self) -> str:
        written = str(self.node.value)
        if _HALF.search(written):
            raise self.mistake(f"{self.what} is {quoted(written)}, which holds half a character; write it whole")
        return written


def read_yaml(text: str, name: str) -> Marked:
    """The root of a YAML text. Raises ConfigurationError with the place where it breaks, also where it is empty."""
    root = root_spot(text, name)
    if root is None:
        raise ConfigurationError(f"{name}:1:1: the file is empty.")
    return Marked(name, "the file", root.node)
