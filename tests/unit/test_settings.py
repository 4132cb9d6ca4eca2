"""How `flowmetrics.yaml` is read, shown again and fingerprinted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from contract import CONTRACT

from agents.settings import load_configuration
from flowmetrics.configuration import (
    DEFAULT_ITEM_TYPES,
    DEFAULT_SURVEYS,
    Configuration,
    FlowState,
    Survey,
    TimeToValue,
    ValueStream,
)
from flowmetrics.errors import ConfigurationError
from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from flowmetrics.kpis import READING, selected
from flowmetrics.setting_keys import KEYS, Change
from flowmetrics.settings import effective, fingerprint, read_settings, reference


def read(text: str) -> Configuration:
    return read_settings(text, "flowmetrics.yaml")


# --- what is read --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", ["", "\n\n", "# nothing yet\n", "---\n", "{}", "~", "\ufeff", "http:\nlabels: {}\n"])
def test_a_file_that_says_nothing_is_the_defaults(text: str) -> None:
    assert read(text) == Configuration()


def test_the_block_of_the_contract_is_read_as_it_says() -> None:
    configuration = read(CONTRACT)
    ((pattern, stream),) = configuration.value_streams
    assert configuration == Configuration(
        broker="local:///var/lib/flowmetrics",
        timezone="Asia/Seoul",
        value_streams=((pattern, stream),),
        eligible={"feature-x": {"segment": ("enterprise",)}},
        pseudonym_key_file="/run/secrets/flowmetrics-key",
    )
    assert pattern == "*"
    assert stream == ValueStream(
        states={
            "new": ("Backlog", "Idea"),
            "waiting": ("Ready", "*queue*", "Blocked"),
            "active": ("In Progress", "Accepted/*"),
            "done": ("Done", "Closed", "Completed/*"),
            "cancelled": ("Cancelled", "Won't do"),
            "ignore": (),
            "note": ("Commented",),
        },
        item_types={"defect": ("Bug", "*incident*"), "debt": ("Chore",), "risk": ("Security",), "feature": ("*",)},
    )
    assert stream.state("completed/Closed") is FlowState.DONE
    assert list(stream.item_types) == ["defect", "debt", "risk", "feature"]


def test_every_key_reaches_its_place() -> None:
    text = """
        broker: kafka://one:9092,[::1]:9093
        http: {listen: "[::]:0", token_file: /run/token}
        kpis: [flow_*, nps]
        windows: [1h, 2w]
        resolution: 1s
        percentiles: [100, 1]
        horizon: 35d
        timezone: Europe/Zurich
        value_streams: {"shop-*": {start: created}, other: {reopen_gap: include}, plain: }
        surveys: {csat: {top: 1}, effort: {scale: [-3, 3], better: low}}
        time_to_value: {from: onboarded, within: [3d]}
        eligible: {search: {plan: [pro, "team*"], kind: customer}}
        labels: {max_per_metric: 10, overflow: rest}
        log: {retention: 30d}
        memory: {hot_entities: 5}
        topics: {prefix: acme.flow}
    """
    assert read(text) == Configuration(
        broker="kafka://one:9092,[::1]:9093",
        listen="[::]:0",
        token_file="/run/token",
        kpis=("flow_*", "nps"),
        windows_us=(HOUR_US, 14 * DAY_US),
        resolution_us=SECOND_US,
        percentiles=(100, 1),
        horizon_us=35 * DAY_US,
        timezone="Europe/Zurich",
        value_streams=(
            ("shop-*", ValueStream(start="created")),
            ("other", ValueStream(reopen_gap="include")),
            ("plain", ValueStream()),
        ),
        surveys={**DEFAULT_SURVEYS, "csat": Survey(1, 5, top=1), "effort": Survey(-3, 3, better="low")},
        time_to_value=TimeToValue(start="onboarded", within_us=(3 * DAY_US,)),
        eligible={"search": {"plan": ("pro", "team*"), "kind": ("customer",)}},
        labels_max=10,
        labels_overflow="rest",
        log_retention_us=30 * DAY_US,
        hot_entities_max=5,
        topics_prefix="acme.flow",
    )


def test_words_are_taken_as_they_are_written_whatever_yaml_makes_of_them() -> None:
    text = "value_streams: {no: {states: {done: [Done, 200, yes, 1e3, 2025-01-01, 0x1F, .nan]}}}"
    ((name, stream),) = read(text).value_streams
    assert name == "no"
    assert stream.states == {"done": ("Done", "200", "yes", "1e3", "2025-01-01", "0x1F", ".nan")}


def test_states_that_are_given_replace_the_default_ones_and_leave_the_types() -> None:
    ((_, stream),) = read("value_streams: {'*': {states: {done: [Live]}}}").value_streams
    assert stream.state("done") is FlowState.UNMAPPED
    assert stream.item_types == DEFAULT_ITEM_TYPES


def test_the_order_of_states_in_the_file_is_the_order_of_matching() -> None:
    template = "value_streams: {{'*': {{states: {{{}}}}}}}"
    states = ["done: ['*ed']", "active: ['*start*']"]
    first = read(template.format(", ".join(states))).stream("shop")
    second = read(template.format(", ".join(reversed(states)))).stream("shop")
    assert (first.state("Started"), second.state("Started")) == (FlowState.DONE, FlowState.ACTIVE)


def test_top_and_better_replace_each_other_in_a_default_survey() -> None:
    surveys = read("surveys: {csat: {better: low}, ces: {top: 2}, nps: {scale: [1, 5], top: 1}}").surveys
    assert surveys == {
        **DEFAULT_SURVEYS,
        "csat": Survey(1, 5, better="low"),
        "ces": Survey(1, 7, top=2),
        "nps": Survey(1, 5, top=1),
    }


def test_a_pattern_may_name_a_survey_of_the_same_file() -> None:
    configuration = read("kpis: [eff*t]\nsurveys: {effort: {scale: [1, 5], top: 1}}")
    assert [kpi.name for kpi in selected(configuration)] == ["effort"]


# --- what follows from the table of keys ---------------------------------------------------------------------------
def test_the_table_of_keys_has_a_place_for_every_field_of_a_configuration() -> None:
    top_level = {field.partition(".")[0] for key in KEYS if "<" not in key.path for field in key.fields}
    own_names = {key.path.partition(".<")[0].rpartition(".")[2] for key in KEYS if "<" in key.path}
    assert top_level | own_names == {field.name for field in fields(Configuration)}
    for part, owner in (("<pattern>", ValueStream), ("<name>", Survey)):
        known = {field for key in KEYS if part in key.path for field in key.fields}
        assert known == {field.name for field in fields(owner)}


def test_every_key_is_in_the_reference_with_a_sentence_and_a_default() -> None:
    page = reference()
    head, rule, *rows = page.splitlines()
    assert head.count("|") == rule.count("|") == 5
    assert len(rows) == len(KEYS)
    for key, row in zip(KEYS, rows, strict=True):
        path, default, change, says = (cell.strip() for cell in row.strip("|").split(" | "))
        assert path == f"`{key.path}`"
        assert default
        assert change == key.change.value
        assert says.endswith(".")


def test_the_effective_configuration_reads_back_as_the_same() -> None:
    assert read(effective(Configuration())) == Configuration()
    assert read(effective(read(CONTRACT))) == read(CONTRACT)


def test_the_effective_configuration_shows_the_defaults_and_only_the_paths_of_secrets() -> None:
    shown = yaml.safe_load(effective(read("http: {token_file: /run/token}\nresolution: 15m")))
    assert shown["http"] == {"listen": "127.0.0.1:8080", "token_file": "/run/token"}
    assert shown["resolution"] == "15m"
    assert shown["surveys"]["csat"] == {"scale": [1, 5], "top": 2}
    assert "privacy" not in shown


CHANGES: Mapping[str, tuple[Configuration, str]] = {
    "the broker": (Configuration(broker="local://./x"), ""),
    "the port": (Configuration(listen="0.0.0.0:9"), ""),
    "the topics": (Configuration(topics_prefix="x"), ""),
    "the memory": (Configuration(hot_entities_max=1), ""),
    "the windows": (Configuration(windows_us=(DAY_US,)), "read"),
    "the time zone": (Configuration(timezone="Asia/Seoul"), "read"),
    "the states": (Configuration(value_streams=(("*", ValueStream(states={"done": ("x",)})),)), "read"),
    "who is eligible": (Configuration(eligible={"x": {"plan": ("pro",)}}), "read"),
    "the top of a survey": (Configuration(surveys={**DEFAULT_SURVEYS, "csat": Survey(1, 5, top=1)}), "read"),
    "a scale": (Configuration(surveys={**DEFAULT_SURVEYS, "csat": Survey(1, 6, top=2)}), "write"),
    "the key of pseudonyms": (Configuration(pseudonym_key_file="/key"), ""),
    "the horizon": (Configuration(horizon_us=500 * DAY_US), "write"),
    "a resolution of 15m": (Configuration(resolution_us=15 * MINUTE_US), "read"),
    "a resolution of 1s": (Configuration(resolution_us=SECOND_US), "read write"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_fingerprint_changes_with_the_keys_that_it_covers(change: str) -> None:
    configuration, moved = CHANGES[change]
    before, after = fingerprint(Configuration(), "2025a"), fingerprint(configuration, "2025a")
    assert [name for name, a, b in zip(("read", "write"), before, after, strict=True) if a != b] == moved.split()


def test_the_time_zone_database_is_part_of_what_is_read() -> None:
    before, after = fingerprint(Configuration(), "2025a"), fingerprint(Configuration(), "2025b")
    assert (before[0] == after[0], before[1] == after[1]) == (False, True)


def test_the_code_that_reads_histories_is_part_of_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(Configuration(), "2025a")
    monkeypatch.setattr("flowmetrics.settings.READING", READING + 1)
    after = fingerprint(Configuration(), "2025a")
    assert (before[0] == after[0], before[1] == after[1]) == (False, True)


def test_a_kpi_that_a_version_adds_or_no_longer_has_is_part_of_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(Configuration(), "2025a")
    monkeypatch.setattr("flowmetrics.kpis.RETENTION_KPIS", ())
    after = fingerprint(Configuration(), "2025a")
    assert (before[0] == after[0], before[1] == after[1]) == (False, True)


def test_the_order_of_states_is_part_of_the_fingerprint_and_that_of_surveys_is_not() -> None:
    states = {"done": ("x",), "active": ("*",)}
    forth = Configuration(value_streams=(("*", ValueStream(states=states)),))
    back = Configuration(value_streams=(("*", ValueStream(states=dict(reversed(states.items())))),))
    assert fingerprint(forth, "")[0] != fingerprint(back, "")[0]
    surveys = Configuration(surveys=dict(reversed(list(DEFAULT_SURVEYS.items()))))
    assert fingerprint(surveys, "") == fingerprint(Configuration(), "")


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_fingerprint_is_the_same_in_another_process(seed: str) -> None:
    code = (
        "from flowmetrics.configuration import Configuration as C; from flowmetrics.settings import fingerprint as f;"
        "print(*f(C(eligible={'x': {'plan': ('p',), 'segment': ('s',)}}), 'z'))"
    )
    run = [sys.executable, "-c", code]
    told = subprocess.run(run, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
    here = fingerprint(Configuration(eligible={"x": {"segment": ("s",), "plan": ("p",)}}), "z")
    assert tuple(told.stdout.split()) == here


def test_each_key_is_declared_once_and_write_covers_what_shaped_the_stored() -> None:
    assert len({key.path for key in KEYS}) == len(KEYS)
    stored = {key.path for key in KEYS if key.change is Change.WRITE}
    assert stored == {"horizon", "surveys.<name>.scale"}


# --- the file ------------------------------------------------------------------------------------------------------
def test_a_configuration_file_is_read_from_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("\ufefftimezone: Asia/Seoul\nbroker: local://./here\n", "utf-8")
    configuration = load_configuration(str(tmp_path / "mine.yaml"))
    assert (configuration.timezone, configuration.broker) == ("Asia/Seoul", "local://./here")


def test_without_a_path_the_file_of_the_directory_is_read_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_configuration(None) == Configuration()
    (tmp_path / "flowmetrics.yaml").write_text("resolution: 1s")
    assert load_configuration(None).resolution_us == SECOND_US
    (tmp_path / "flowmetrics.yaml").write_text("resolutin: 1s")
    with pytest.raises(ConfigurationError, match=r"flowmetrics\.yaml:1:1: .*resolution"):
        load_configuration(None)


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no\.yaml does not exist"):
        load_configuration(str(tmp_path / "no.yaml"))
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load_configuration(str(tmp_path))
    with pytest.raises(ConfigurationError, match="cannot be read: embedded null byte"):
        load_configuration("a\0b")
    (tmp_path / "latin.yaml").write_bytes(b"kpis: [\xe9]")
    with pytest.raises(ConfigurationError, match="is not UTF-8 text at byte 7"):
        load_configuration(str(tmp_path / "latin.yaml"))
