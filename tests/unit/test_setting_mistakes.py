"""How each mistake in `flowmetrics.yaml` is told: file, line, column, the offending text, and what is right."""

from __future__ import annotations

import re

import pytest
from places import Mistake, mistakes_of

from flowmetrics.errors import ConfigurationError
from flowmetrics.settings import read_settings


def places(text: str) -> list[Mistake]:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(text, "flowmetrics.yaml")
    return mistakes_of(str(caught.value))


def mistakes(text: str) -> list[str]:
    return [mistake.headline for mistake in places(text)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # the text itself
        ("a: [1\nb: 2", '2: this is not YAML: while parsing a flow sequence of line 1, expected .*'),
        ("a: b: c", "1: this is not YAML: mapping values are not allowed here."),
        ("a: 1\n\tb: 2", "2: this is not YAML: .*cannot start any token.*"),
        ("a: 1\n---\nb: 2", "2: this is not YAML: .*another document.*"),
        ("kpis: *all", "1: this is not YAML: found undefined alias 'all'."),
        ("a: 1\nb: \x01", "2: this is not YAML: special characters are not allowed."),
        ('\n"\\UFFFFFFFF": 1', "2: this is not YAML: a number or an escape in it stands for nothing."),
        ("[" * 3000, "1: this is not YAML: it is nested too deeply."),
        ("- a", "1: the file must be keys with values, not a list."),
        ("\nbroker", '2: the file must be keys with values, not "broker".'),
        # keys
        ("widnows: [1d]", '1: "widnows" is no key of the file. Did you mean "windows"?'),
        ("\nhttp: {lisen: x}", '2: "lisen" is no key of http. Did you mean "listen"?'),
        ("http: {zzz: x}", '1: "zzz" is no key of http. It takes listen, token_file.'),
        ("value_streams: {a.b: {stats: x}}", '1: "stats" is no key of value_streams.a.b. Did you mean "states"?'),
        ("horizon: 90d\n\nhorizon: 90d", '3: the file gives "horizon" twice, first in line 1; keep one.'),
        ("? [a]\n: 1", "1: a key of the file must be one word, not a list."),
        ("~: 1", '1: a key of the file is "~", which means no value; put the word in quotes.'),
        ("http: 5", '1: http must be keys with values, not "5".'),
        # words
        ("http: {token_file: }", "1: http.token_file has no value; write one or remove it."),
        ("http: {token_file: [a]}", "1: http.token_file must be one word, not a list."),
        ("http: {token_file: {a: b}}", "1: http.token_file must be one word, not keys with values."),
        ('http: {token_file: "a\\0"}', r'1: http.token_file is "a\u0000"; write it without control characters.'),
        ('http: {token_file: "\\uD800"}', '1: http.token_file is "�"; write it without control characters.'),
        ("http: {listen: 8080}", '1: http.listen must be host:port such as 127.0.0.1:8080, not "8080".'),
        ("http: {listen: 'a:70000'}", '1: http.listen must be host:port such as 127.0.0.1:8080, not "a:70000".'),
        ("topics: {prefix: a b}", '1: topics.prefix must be letters, digits, .*, not "a b".'),
        # broker
        ("broker: kafak://host:9092", '1: broker must be .*, not "kafak://host:9092". Did you mean "kafka"?'),
        ("broker: kafka://host", '1: broker must be .* kafka://host:9092,host2:9092, not "kafka://host".'),
        ("broker: kafka://a:1,b:65536", '1: broker must be .*, not "kafka://a:1,b:65536".'),
        ("broker: local://data", '1: broker must be .* local://./path .*, not "local://data".'),
        ("broker: sqlite:///x", '1: broker must be .*, not "sqlite:///x".'),
        # lists
        ("kpis: flow_time", '1: kpis must be a list such as [a, b], not "flow_time".'),
        ("kpis: []", "1: kpis is empty; give it one value or more, or remove it."),
        ("kpis: [flow_time, ]\nwindows: [1d, ~]", '2: windows[1] is "~", which means no value; put .*'),
        ("kpis:\n- nps\n- flow_tme", '3: kpis[1] is "flow_tme", which no KPI matches. Did you mean "flow_time"?'),
        ("kpis: [zzzzz*]", '1: kpis[0] is "zzzzz*", which no KPI matches.'),
        # alerts and expectations
        ("alerts:\n  rules:\n    flow_tme:\n      owner: me", '3: "flow_tme" is no KPI. Did you mean "flow_time"?'),
        ("alerts: {rules: {zzz: {owner: me}}}", '1: "zzz" is no KPI. It takes flow_time, .*'),
        ("alerts: {rules: {stickiness: {owner: me}}}", '1: "stickiness" has no alert. It moves over weeks; .*'),
        ("alerts: {rules: {nps: {minimun: 8}}}", '1: "minimun" is no key of alerts.rules.nps. Did you mean "minimum"?'),
        (
            "alerts:\n  rules:\n    flow_time: {minimum: 0.3}",
            '3: alerts.rules.flow_time.minimum is "0.3", which has no unit; write one such as 30% or 8 points.',
        ),
        ("alerts: {rules: {nps: {minimum: 0%}}}", '1: alerts.rules.nps.minimum is "0%", which is no threshold; .*'),
        (
            "alerts: {rules: {nps: {minimum: 30%}}}",
            '1: alerts.rules.nps.minimum must be points such as 8 points, not "30%".',
        ),
        (
            "alerts: {rules: {flow_load: {minimum: 3 points}}}",
            '1: alerts.rules.flow_load.minimum must be a percentage such as 30%, not "3 points".',
        ),
        (
            "alerts: {rules: {active_users: {minimum: 100%}}}",
            '1: alerts.rules.active_users.minimum must be below 100%, not "100%"; nothing falls by more.',
        ),
        (
            "alerts: {rules: {flow_time: {minimum: 150%, better: higher}}}",
            '1: alerts.rules.flow_time.minimum must be below 100%, not "150%"; nothing falls by more.',
        ),
        (
            "alerts: {rules: {flow_time_met: {owner: me}}}",
            "1: alerts.rules.flow_time_met needs what is expected; add expectations.flow_time.",
        ),
        (
            "alerts: {rules: {flow_time_met: {minimum: 8%}}}\nexpectations: {flow_time: {within: 5d, share: 85%}}",
            "1: alerts.rules.flow_time_met.minimum says nothing of a budget that burns; "
            "expectations.flow_time.share says what is promised.",
        ),
        (
            "alerts: {rules: {flow_time_met: {better: lower}}}\nexpectations: {flow_time: {within: 5d, share: 85%}}",
            "1: alerts.rules.flow_time_met.better says nothing of a budget that burns; .*",
        ),
        (
            "alerts: {rules: {nps: {better: high}}}",
            '1: alerts.rules.nps.better takes higher, lower, not "high". Did you mean "higher"?',
        ),
        ("alerts: {rules: {nps: {severity: pager}}}", '1: .* takes page, .*, not "pager". Did you mean "page"?'),
        ("expectations: {flow_tim: {}}", '1: .* takes flow_time, .*, not "flow_tim". Did you mean "flow_time"?'),
        (
            "expectations: {flow_time: {within: 5d}}",
            "1: expectations.flow_time has no share; add one such as share: 85%.",
        ),
        (
            "expectations: {flow_time: {within: 5d, share: 100%}}",
            '1: expectations.flow_time.share must be a percentage below 100%, not "100%".',
        ),
        # durations and panes
        ("windows: [1d,\n 7]", '2: windows[1] must be a whole number and s, m, h, d or w, such as 30d, not "7".'),
        ("windows: [0s]", '1: windows[0] must be longer than 0s and at most 36500d, not "0s".'),
        ("horizon: 999999999w", '1: horizon must be longer than 0s and at most 36500d, not "999999999w".'),
        ("windows: [1d, 24h]", '1: windows[1] gives "24h" again; keep one.'),
        ("kafka: {session: 5s}", '1: kafka.session must be from 6s to 30m, not "5s".'),
        ("kafka: {session: 31m}", '1: kafka.session must be from 6s to 30m, not "31m".'),
        ("resolution: 7m", '1: resolution must divide 15 minutes, as 1s, 1m, 5m and 15m do, not "7m".'),
        ("windows: [31m]", '1: windows[0] is "31m", no multiple of the resolution 5m; write 30m or 35m.'),
        ("resolution: 15m\nhorizon: 745h\nwindows: [5m]", '3: windows[0] is "5m", .* resolution 15m; write 15m.'),
        ("horizon: 57601m", '1: horizon is "57601m", no multiple of the resolution 5m; write 40d or 57605m.'),
        ("horizon: 30d", "1: the horizon 30d is shorter than what stickiness reads; write 31d or more."),
        ("windows: [40d]\nhorizon: 5w", "2: the horizon 35d is shorter than the longest window; write 40d or more."),
        ("\nwindows: [1d, 401d]", "2: the horizon 400d is shorter than the longest window; write 401d or more."),
        # numbers
        ("percentiles: [50, 101]", '1: percentiles[1] must be a whole number from 1 to 100, not "101".'),
        ("percentiles: [0.5]", '1: percentiles[0] must be a whole number from 1 to 100, not "0.5".'),
        ("percentiles: [050]", '1: percentiles[0] must be a whole number from 1 to 100, not "050".'),
        ("percentiles: ['50']", '1: percentiles[0] is the text "50"; write the number without quotes.'),
        ("percentiles: [50, 50]", '1: percentiles[1] gives "50" again; keep one.'),
        ("labels: {max_per_metric: 0}", '1: labels.max_per_metric must be a whole number from 1 to 1000000, not "0".'),
        ("memory: {hot_entities: many}", "1: memory.hot_entities must be a whole number from 1 to .*"),
        ("labels: {overflow: all}", '1: labels.overflow is "all", which has a meaning of its own; write .* other.'),
        (f"labels: {{overflow: {'x' * 129}}}", '1: labels.overflow is ".*…"; write at most 128 characters.'),
        # time zone
        ("timezone: Asia/Soul", '1: timezone must be an IANA name .*, not "Asia/Soul". Did you mean "Asia/Seoul"?'),
        ("timezone: Asia", '1: timezone must be an IANA name such as Asia/Seoul, not "Asia".*'),
        ("timezone: localtime", '1: timezone must be an IANA name such as Asia/Seoul, not "localtime".*'),
        # value streams
        (
            "value_streams:\n  shop:\n    states: {dne: [Done]}",
            '3: a key of value_streams.shop.states takes .*, not "dne". Did you mean "done"?',
        ),
        (
            "value_streams: {shop: {states: {unmapped: [x]}}}",
            '1: a key of value_streams.shop.states takes .*, not "unmapped".*',
        ),
        ("value_streams: {shop: {states: {}}}", "1: value_streams.shop.states is empty; give it keys such as done: .*"),
        (
            "value_streams: {shop: {states: {done: Done}}}",
            '1: value_streams.shop.states.done must be a list such as [a, b], not "Done".',
        ),
        (
            "value_streams: {shop: {item_types: {bug: [x]}}}",
            '1: a key of value_streams.shop.item_types takes feature, defect, risk, debt, not "bug".*',
        ),
        (
            "value_streams: {shop: {start: creatd}}",
            '1: value_streams.shop.start takes first_committed, created, not "creatd". Did you mean "created"?',
        ),
        (
            "value_streams: {shop: {reopen_gap: excluded}}",
            '1: value_streams.shop.reopen_gap takes exclude, include, not "excluded". Did you mean "exclude"?',
        ),
        # surveys
        ("surveys: {Effort: {scale: [0, 10]}}", '1: a key of surveys must be lower-case letters, .*, not "Effort".'),
        ("surveys: {effort: {top: 1}}", "1: surveys.effort has no scale; add one such as scale: [1, 5]."),
        ("surveys: {effort: {scale: [5, 1]}}", '1: surveys.effort.scale must run from .*, not "[5, 1]".'),
        ("surveys: {effort: {scale: [0, 101], top: 1}}", '1: surveys.effort.scale must .* 100 steps, not "[0, 101]".'),
        ("surveys: {effort: {scale: [1]}}", "1: surveys.effort.scale must be its lowest and its highest score, .*"),
        ("surveys: {effort: {scale: [1, b]}}", '1: surveys.effort.scale[1] must be a whole number .*, not "b".'),
        ("surveys: {nps: {scale: [1, 5]}}", "1: surveys.nps has neither top nor better, .* not [1, 5]; add .*"),
        ("surveys: {csat: {top: 5}}", "1: surveys.csat.top is 5; on the scale [1, 5] it must be from 1 to 4."),
        ("surveys: {csat: {scale: [0, 1]}}", "1: surveys.csat.top is 2; on the scale [0, 1] it must be from 1 to 1."),
        ("surveys: {csat: {top: 0}}", "1: surveys.csat.top must be a whole number from 1 to 100, not .*"),
        ("surveys:\n  csat:\n    top: 1\n    better: low", "4: surveys.csat gives top and better; keep one of them."),
        ("surveys: {csat: {better: higher}}", '1: surveys.csat.better takes .*, not "higher". Did you mean "high"?'),
        ("surveys: {adoption: {scale: [0, 10]}}", '1: the survey "adoption" would be mixed up with a KPI .*'),
        ("surveys: {adopted_users: {scale: [0, 10]}}", '1: the survey "adopted_users" would be mixed up .*'),
        # the rest
        ("time_to_value: {to: signed_up}", '1: time_to_value runs from "signed_up" to "signed_up"; .*'),
        ("time_to_value: {within: []}", "1: time_to_value.within is empty; give it one value or more, or remove it."),
        ("eligible: {x: {plam: a}}", '1: a key of eligible.x takes .*, not "plam". Did you mean "plan"?'),
        ("eligible: {x: }", "1: eligible.x is empty; give it keys such as segment: enterprise, or remove it."),
        ("eligible: {x: {plan: []}}", "1: eligible.x.plan is empty; give it one value or more, or remove it."),
        ("log: {retention: forever}", '1: log.retention must be a whole number and s, m, .*, not "forever".'),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_the_offending_text_and_what_is_right(text: str, told: str) -> None:
    expected = ".*".join(re.escape(part) for part in told.split(".*"))
    (mistake, *others) = mistakes(text)
    assert not others
    assert re.fullmatch(f"flowmetrics.yaml:{expected}", mistake)


def test_all_mistakes_of_a_file_are_told_at_once_in_the_order_of_its_lines() -> None:
    told = mistakes(
        "kpis: [nope_nope]\nwindows: [7x, 31m, 500d, 1d]\nhttp: {listen: x}\nhorizon: 10d\n"
        "surveys: {a: {scale: [1, x]}}"
    )
    assert [re.sub(r"flowmetrics.yaml:(\d+): (\S+).*", r"\1 \2", line) for line in told] == [
        "1 kpis[0]",
        "2 windows[0]",
        "2 windows[1]",
        "3 http.listen",
        "4 the",
        "5 surveys.a.scale[1]",
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "pointed_at"),
    [
        ("widnows: [1d]", 1, 1, "widnows: [1d]"),
        ("windows: [1d, 7]", 1, 15, "7]"),
        ("http:\n    lisen: x", 2, 5, "lisen: x"),
        ("surveys: {a: {scale: [5, 1]}}", 1, 22, "[5, 1]}}"),
        ("# Größe\nkpis: [ñps, flow_tme]", 2, 8, "ñps, flow_tme]"),
        ("a: b: c", 1, 5, ": c"),
        ("a: 1\nb: \x01", 2, 4, "�"),
        ("a:\t[\t1", 1, 3, " [ 1"),
    ],
)
def test_a_caret_stands_under_the_place_of_a_mistake(text: str, line: int, column: int, pointed_at: str) -> None:
    mistake = places(text)[0]
    assert (mistake.line, mistake.column, mistake.pointed_at) == (line, column, pointed_at)


def test_mistakes_in_one_line_are_told_from_left_to_right() -> None:
    assert [mistake.column for mistake in places("horizon: soon\nkpis: [nope_a, nps, nope_b]")] == [10, 8, 21]


def test_a_long_line_is_cut_around_the_place_of_its_mistake() -> None:
    windows = ", ".join(f"{n}d" for n in range(1, 300))
    (mistake,) = places(f"windows: [{windows}, 7x, 400d]")
    assert mistake.pointed_at.startswith("7x, 400d]")
    assert len(mistake.shown[0]) < 120


def test_a_value_that_is_wrong_by_itself_is_not_held_against_others() -> None:
    assert len(mistakes("resolution: 7m\nwindows: [7m]")) == 1
    assert len(mistakes("horizon: soon\nwindows: [500d]")) == 1
    assert len(mistakes("surveys: {effort: {scale: [0, 5], better: up}}")) == 1


def test_a_long_offending_text_is_cut() -> None:
    (mistake,) = places(f"timezone: {'x' * 5000}")
    assert len(mistake.headline) + len(mistake.shown[0]) < 320
