"""What is wrong in a scenario file is said with its line and what would be right."""

from __future__ import annotations

import msgspec
import pytest
from places import mistakes_of
from playing import Clock, InMemory, play
from scenario import Send, read

from flowmetrics.errors import ConfigurationError

STORY = """\
title: An item is done
configuration: {windows: [1d]}
steps:
  - at: 2025-03-03T09:00:00Z
    events: [{item: A-1, state: Done}]
    shows:
      flow_velocity_items{window=1d}: 1
"""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a.yaml:1: the file is empty"),
        ("steps: []", 'the file has no "title"; add it'),
        ("title: Done\nsteps: []", "a.yaml:1: title must be a sentence without its full stop"),
        ("title: It is done.\nsteps: []", "a.yaml:1: title must be a sentence without its full stop"),
        (STORY.replace("[1d]", "[1x]"), 'a.yaml:2: windows[0] must be a whole number and s, m, h, d or w, such as'),
        (STORY.replace("windows", "windws"), 'a.yaml:2: "windws" is no key of the file. Did you mean "windows"?'),
        (STORY.replace("events", "event"), 'worker, shows, not "event". Did you mean "events"?'),
        (STORY.replace("- at", "- events: []\n  - at"), "a.yaml:4: the first step must begin with when it is"),
        (STORY.replace("Z\n", "\n"), 'a.yaml:4: "2025-03-03T09:00:00" has no offset; add Z'),
        (STORY + "  - at: 2025-03-02T09:00:00Z", "the clock stands at 2025-03-03T09:00:00Z and never goes back"),
        (STORY.replace("item:", "itm:"), 'a.yaml:5: an event begins with item, request, activity, customer, response'),
        (STORY.replace("state:", "stat:"), 'a.yaml:5: item has no field "stat". Did you mean "state"?'),
        (STORY + "  - restart: kill", 'restart is killed or in order, not "kill". Did you mean "killed"?'),
        (STORY + "  - worker: dies", 'a.yaml:8: steps[1].worker is joins or leaves, not "dies"'),
        (STORY + "  - repeat: some", 'a.yaml:8: steps[1].repeat is everything, not "some"'),
        (STORY + "  - refused: [bad_time]", "a.yaml:8: refused stands beside the events that are refused; add events"),
        (STORY.replace("    shows", "    refused: [bad]\n    shows"), "a.yaml:6: steps[0].refused[0] is not_json or"),
        (STORY.replace("_items{", "_itms{"), 'a.yaml:7: "flow_velocity_itms" is no metric of a KPI. Did'),
        (STORY.replace("window=", "windw="), 'value_stream, item_type, window, not "windw". Did you mean "window"?'),
        (STORY.replace("{window=1d}", ""), 'a.yaml:7: flow_velocity_items has no "window"; add it'),
        (STORY.replace("}: 1", "}: one"), 'a.yaml:7: "one" is no value; write a number, a share such as 2/3'),
        (STORY.replace("{window=1d}", "{window=1d"), "names no series; write one such as flow_velocity_items{"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_what_would_be_right(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(text, "a.yaml")
    assert sentence in mistakes_of(str(raised.value))[0].headline


def test_an_event_in_one_line_is_the_event_of_the_contract() -> None:
    (send,) = [action for action in read(STORY, "a.yaml").actions if isinstance(action, Send)]
    assert [msgspec.json.decode(body) for body in send.bodies] == [
        {
            "specversion": "1.0",
            "id": "1",
            "source": "scenario",
            "type": "flowmetrics.item.v1",
            "time": "2025-03-03T09:00:00Z",
            "data": {"item": "A-1", "value_stream": "shop", "state": "Done"},
        }
    ]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("}: 2", "a.yaml:7: flowmetrics_flow_velocity_items must be 2 and is 1; there are"),
        ("}: absent", "a.yaml:7: flowmetrics_flow_velocity_items must be absent and is 1"),
        ("}: 1d", "a.yaml:7: flowmetrics_flow_velocity_items must be 1d and is 1"),
    ],
)
async def test_what_a_page_does_not_show_is_told_with_what_it_shows(said: str, sentence: str) -> None:
    scenario, clock = read(STORY.replace("}: 1", said), "a.yaml"), Clock()
    with pytest.raises(AssertionError) as raised:
        await play(scenario, InMemory(scenario.configuration, clock), clock)
    assert sentence in str(raised.value)


async def test_an_event_that_is_refused_must_be_told_of() -> None:
    scenario, clock = read(STORY.replace("Done}", "Done, time: soon}"), "a.yaml"), Clock()
    with pytest.raises(AssertionError, match=r"\['bad_time'\] are refused, and must be \(\)"):
        await play(scenario, InMemory(scenario.configuration, clock), clock)


async def test_a_page_that_is_not_the_drivers_is_told_series_by_series() -> None:
    scenario, clock = read(STORY, "a.yaml"), Clock()
    forgetful = InMemory(read(STORY.replace("[1d]", "[1d, 7d]"), "b.yaml").configuration, clock)
    with pytest.raises(
        AssertionError, match=r"series are not the driver's:\n.*window=7d.* is 1.0, and the driver's absent"
    ):
        await play(scenario, forgetful, clock)
