"""How each mistake in a mapping is told: file, line, the offending text and the nearest right word."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from places import Mistake, mistakes_of

from flowmetrics.errors import ConfigurationError
from flowmetrics.settings import read_settings
from flowmetrics.sources.rows import parse_mapping

ITEM = """\
events:
  - type: flowmetrics.item.v1
    when: kind == "item"
    id: ${event_id}
    source: shop
    time: {from: at, format: iso}
    sequence: ${seq}
    data: {item: "${id}", value_stream: shop, item_type: defect, state: "${attrs.state}", team: "${attrs.team}"}
"""


def mistake_of(text: str, read: Callable[[str, str], object] = parse_mapping) -> Mistake:
    with pytest.raises(ConfigurationError) as caught:
        read(text, "map.yaml")
    (mistake,) = mistakes_of(str(caught.value))
    return mistake


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            "    source: shop",
            "    sorce: shop",
            r'map.yaml:5: events\[0\] takes .* not "sorce". Did you mean "source"\?',
        ),
        ("item.v1", "itm.v1", 'map.yaml:2: .*"flowmetrics.itm.v1" is not known. Did you mean "flowmetrics.item.v1"?'),
        ("item_type", "itemtype", r'map.yaml:8: .* not "itemtype". Did you mean "item_type"\?'),
        ("format: iso", "format: isso", r'map.yaml:6: the format "isso" .* Did you mean "iso"\?'),
        ("format: iso", "format: '%d.%Q'", 'map.yaml:6: the format "%d.%Q" is not a pattern of strptime'),
        ("format: iso", "format: '%Y %Y'", 'map.yaml:6: the format "%Y %Y" is not a pattern of strptime'),
        ("format: iso", "format: '%d.%m.%Y'", r'map.yaml:6: the format "%d.%m.%Y" has no offset \(%z\); add a zone'),
        (
            "iso}",
            "iso, zone: Europ/Amsterdam}",
            r'map.yaml:6: .*"Europ/Amsterdam" .* Did you mean "Europe/Amsterdam"\?',
        ),
        ("iso}", "iso, zone: Europe}", 'map.yaml:6: the zone "Europe" is not known'),
        (
            "iso}",
            "iso, zoen: UTC}",
            r'map.yaml:6: the time takes from, format, zone, not "zoen". Did you mean "zone"\?',
        ),
        ("from: at, ", "", 'map.yaml:6: the time has no "from"; add it.'),
        ("from: at", "from: '${at}'", r'map.yaml:6: from "\$\{at\}" must be the path alone'),
        ("from: at", "from: a..t", 'map.yaml:6: "a..t" is not a path'),
        ('kind == "item"', 'kind = "item"', 'map.yaml:3: the condition "kind = "item"" cannot be read'),
        ("${event_id}", "${event_id", r'map.yaml:4: "\$\{event_id" holds a "\$\{" that does not close'),
        ("${event_id}", "${}", 'map.yaml:4: "" is not a path to a field'),
        ("${event_id}", "e1", 'map.yaml:4: the id "e1" is the same for each row'),
        ("${id}", "${id", r'map.yaml:8: "\$\{id" holds'),
        ("state: ", "title: ", 'map.yaml:8: the data has no "state"; add it.'),
        ("value_stream: shop", "value_stream: ", 'map.yaml:8: data.value_stream "null" must be a text.'),
        ("value_stream: shop", "value_stream: [shop]", "map.yaml:8: data.value_stream must be a text."),
        ("item_type: defect", "blocked: maybe", 'map.yaml:8: data.blocked "maybe" must be true or false.'),
        ("    source: shop\n", "", r'map.yaml:2: events\[0\] has no "source"; add it.'),
        ("source: shop", "source: shop\n    source: shop", r'map.yaml:6: events\[0\] gives "source" twice'),
        ("source: shop", "source: [shop", "map.yaml:[0-9]+: this is not YAML"),
        ("events:", "event:", r'map.yaml:1: the file takes events, not "event". Did you mean "events"\?'),
        (ITEM, "events: []", "map.yaml:1: events is empty"),
        (ITEM, "events: 7", "map.yaml:1: events must be a list."),
        (ITEM, "- events", "map.yaml:1: the file must be keys with values: events."),
        (ITEM, "# nothing", "map.yaml:1: the file is empty."),
        (ITEM, "a: 1\n\x00", "map.yaml:2: this is not YAML"),
        (ITEM, "events: &a [*a]", r"map.yaml:1: events\[0\] must be keys with values"),
        (ITEM, "[" * 5000, "map.yaml:1: this is not YAML: it is nested too deeply"),
        ("item_type: defect", "blocked: 2001-02-31", 'map.yaml:8: data.blocked "2001-02-31" cannot be read'),
        ("item_type: defect", "blocked: !!int ''", 'map.yaml:8: data.blocked "" cannot be read as a value; quote it'),
        ("item_type: defect", "blocked: !!bool perhaps", 'map.yaml:8: data.blocked "perhaps" cannot be read'),
        ("item_type: defect", "blocked: !!timestamp noon", 'map.yaml:8: data.blocked "noon" cannot be read'),
        ("value_stream: shop", 'value_stream: "\\uD83D"', "map.yaml:8: data.value_stream is .* half a character"),
        ("item_type: defect", 'blocked: "\\uD83D"', "map.yaml:8: data.blocked is .* half a character"),
    ],
)
def test_a_mistake_in_a_mapping_is_told_with_line_text_and_nearest_word(old: str, new: str, error: str) -> None:
    assert old in ITEM
    assert re.match(error, mistake_of(ITEM.replace(old, new)).headline)


def test_a_caret_stands_under_the_place_of_a_mistake_in_a_mapping() -> None:
    assert mistake_of(ITEM.replace("sequence", "sequense")).pointed_at == "sequense: ${seq}"
    assert mistake_of(ITEM.replace("iso", "isso")).pointed_at == "isso}"
    assert mistake_of(ITEM.replace("source: shop", "source: [shop")).pointed_at == ": {from: at, format: iso}"


@pytest.mark.parametrize("read", [parse_mapping, read_settings], ids=["a mapping", "the settings"])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('events: []\n"\\UFFFFFFFF": 1', 2),  # OverflowError inside PyYAML
        ('events: "\\UFFFFFFFF', 1),
        (f"# ours\n%YAML 1.{'9' * 5000}\n---\nevents: []", 2),  # ValueError inside PyYAML
        ("%YAML 9999999999999999999.1\n---\nevents: []", 1),
        ("events: []\n\ud83d", 2),
    ],
)
def test_what_breaks_the_reader_of_yaml_itself_is_told_with_its_line(
    read: Callable[[str, str], object], text: str, line: int
) -> None:
    assert re.fullmatch(rf"map\.yaml:{line}: this is not YAML: .+\.", mistake_of(text, read).headline)


def test_a_constant_outside_a_closed_list_is_refused_with_the_nearest_word() -> None:
    text = (
        ITEM.replace("item.v1", "request.v1")
        .replace("item: ", "request: ")
        .replace("item_type: defect", "party: agnet")
    )
    told = mistake_of(re.sub(", team: .*}", "}", text)).sentence
    assert re.match(r'data.party "agnet" must be one of agent, .* Did you mean "agent"\?', told)
