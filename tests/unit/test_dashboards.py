"""Boards follow from the catalogue, are laid out without overlap, and are what Grafana's own model says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from scraping import tool

from flowmetrics.configuration import Configuration, Expectation, RuleOverride, Survey, Threshold
from flowmetrics.engine_metrics import ON_KAFKA
from flowmetrics.kpis import catalogue
from flowmetrics.kpis.flow import FLOW_KPIS
from flowmetrics.publishing.dashboards.board import Board, Panel, Query
from flowmetrics.publishing.dashboards.boards import boards, subject_of
from flowmetrics.publishing.dashboards.files import documents
from flowmetrics.publishing.rules.files import alerts

Made = dict[str, dict[str, Any]]

NAMES: Final = (
    "chief-executive", "executive", "manager", "team", "value-stream", "requests", "users", "scores", "kpi", "engine",
)  # fmt: skip


DAY: Final = Expectation(86_400_000_000, Threshold(85, "%"))
PROMISED: Final = Configuration(expectations={"flow_time": DAY, "request_resolution": DAY})


@pytest.fixture(scope="module")
def made() -> Made:
    return made_for(Configuration())


def made_for(configuration: Configuration) -> Made:
    return {Path(path).stem: json.loads(text) for path, text in documents(configuration).items()}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def asked(board: dict[str, Any]) -> str:
    return "\n".join(target["expr"] for panel in panels(board) for target in panel["targets"])


# --- what is there ------------------------------------------------------------------------------------------------


def test_there_is_a_board_for_each_level_and_each_subject(made: Made) -> None:
    assert sorted(made) == sorted(f"flowmetrics-{name}" for name in NAMES)
    assert {name: board["uid"] for name, board in made.items()} == {name: name for name in made}


def test_every_kpi_is_on_the_board_of_its_subject() -> None:
    everything = made_for(PROMISED)
    for kpi in catalogue(PROMISED):
        assert f'kpi="{kpi.name}"' in asked(everything[f"flowmetrics-{subject_of(kpi)}"])


def test_a_chief_executive_reads_six_to_eight_numbers(made: Made) -> None:
    assert 6 <= Counter(panel["type"] for panel in panels(made["flowmetrics-chief-executive"]))["stat"] <= 8


def test_a_kpi_that_is_added_is_on_its_boards_without_an_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    new = replace(FLOW_KPIS[0], name="brand_new", group="Unheard of")
    monkeypatch.setattr("flowmetrics.kpis.FLOW_KPIS", (*FLOW_KPIS, new))
    added = made_for(Configuration())
    on = {name.removeprefix("flowmetrics-") for name, board in added.items() if "brand_new" in asked(board)}
    assert on == {"chief-executive", "executive", "manager", "team", "value-stream", "kpi"}


def test_a_survey_that_is_configured_is_on_the_board_of_scores() -> None:
    with_smiles = made_for(Configuration(surveys={"smiles": Survey(1, 3, better="low")}))
    assert 'kpi="smiles"' in asked(with_smiles["flowmetrics-scores"])
    assert 'kpi="nps"' not in asked(with_smiles["flowmetrics-scores"])


def test_boards_without_a_kpi_are_left_out_and_nothing_leads_to_them() -> None:
    few = made_for(Configuration(kpis=("nps",)))
    assert {name.removeprefix("flowmetrics-") for name in few} == {
        "chief-executive", "executive", "manager", "scores", "kpi", "engine",
    }  # fmt: skip
    for board in few.values():
        for link in board["links"]:
            assert link["type"] == "dashboards" or link["url"].removeprefix("/d/") in few


def test_boards_are_the_same_each_time_they_are_made() -> None:
    assert documents(Configuration()) == documents(Configuration())


def test_the_choices_are_those_of_the_configuration() -> None:
    other = made_for(Configuration(windows_us=(86_400_000_000, 14 * 86_400_000_000), percentiles=(50, 90)))
    chosen = {
        variable["name"]: variable["current"]["value"]
        for variable in other["flowmetrics-value-stream"]["templating"]["list"]
        if "current" in variable
    }
    assert (chosen["window"], chosen["percentile"], chosen["item_type"]) == ("1d", "p90", "all")


def test_an_expectation_is_on_a_board_once_it_is_configured(made: Made) -> None:
    assert "flow_time_met" not in asked(made["flowmetrics-value-stream"])
    assert "flow_time_met" in asked(made_for(PROMISED)["flowmetrics-value-stream"])


def test_an_alert_that_is_turned_off_has_no_line_and_no_headline() -> None:
    off = made_for(Configuration(rules={"flow_time": RuleOverride(severity="off")}))
    assert 'band_high{kpi="flow_time"' not in asked(off["flowmetrics-value-stream"])
    assert 'kpi="flow_time"' not in asked(off["flowmetrics-chief-executive"])
    assert 'kpi="flow_time"' in asked(off["flowmetrics-value-stream"])


def test_a_share_that_was_promised_is_shown_without_its_alert_too() -> None:
    off = made_for(replace(PROMISED, rules={"flow_time_met": RuleOverride(severity="off")}))
    assert "flow_time_met" in asked(off["flowmetrics-value-stream"])


def test_the_line_of_an_alert_lies_where_an_operator_says_that_it_is_worse() -> None:
    turned = made_for(Configuration(rules={"flow_time": RuleOverride(better="higher")}))
    assert 'band_low{kpi="flow_time"' in asked(turned["flowmetrics-value-stream"])
    assert 'band_high{kpi="flow_time"' not in asked(turned["flowmetrics-value-stream"])


def test_a_panel_of_an_alert_leads_to_its_runbook(made: Made) -> None:
    (plain,) = (p for p in panels(made["flowmetrics-manager"]) if p["title"] == "Flow time")
    assert plain["description"].endswith("Runbook: `docs/runbooks/FlowTimeDrift.md`.")
    there = made_for(Configuration(runbooks_url="https://example.org/runbooks/"))
    (linked,) = (p for p in panels(there["flowmetrics-manager"]) if p["title"] == "Flow time")
    assert "https://example.org/runbooks/FlowTimeDrift.md" in [link["url"] for link in linked["links"]]
    for board, title in (("manager", "Alerts of this value stream"), ("engine", "Alerts of the engine")):
        (alerts,) = (p for p in panels(there[f"flowmetrics-{board}"]) if p["title"] == title)
        assert "https://example.org/runbooks/${__value.text}.md" in json.dumps(alerts)


# --- how it looks, as far as that can be told without a Grafana ---------------------------------------------------


def test_panels_fit_the_grid_and_do_not_overlap(made: Made) -> None:
    for name, board in made.items():
        spots = [(p["title"], p["gridPos"]) for p in board["panels"]]
        for title, spot in spots:
            assert (spot["x"] >= 0, spot["x"] + spot["w"] <= 24, spot["h"] > 0) == (True, True, True), (name, title)
        for (title, one), (other_title, other) in combinations(spots, 2):
            apart = (
                one["x"] + one["w"] <= other["x"]
                or other["x"] + other["w"] <= one["x"]
                or one["y"] + one["h"] <= other["y"]
                or other["y"] + other["h"] <= one["y"]
            )
            assert apart, (name, title, other_title)


def test_every_panel_has_an_id_of_its_own_and_a_unit_and_says_what_it_shows(made: Made) -> None:
    for name, board in made.items():
        assert not [n for n in Counter(panel["id"] for panel in board["panels"]).values() if n > 1], name
        for panel in panels(board):
            defaults = panel["fieldConfig"]["defaults"]
            assert panel["title"], name
            assert panel["description"].endswith("."), (name, panel["title"], panel["description"])
            assert defaults["unit"], (name, panel["title"])
            assert defaults["noValue"] == "no data", "what is unknown is not zero"
            assert not panel.get("options", {}).get("reduceOptions", {}).get("values"), (name, panel["title"])


def test_a_number_is_of_now_and_not_of_an_hour_ago(made: Made) -> None:
    for board in made.values():
        for panel in panels(board):
            if panel["type"] == "stat":
                assert all(target["instant"] and not target["range"] for target in panel["targets"])


def test_what_is_bad_is_red_and_what_is_not_is_not(made: Made) -> None:
    judged = [(board.uid, panel, query) for board, panel, query in queries() if query.thresholds]
    assert {query.thresholds.low_is_bad for *_, query in judged if query.thresholds} == {True, False}
    for uid, panel, query in judged:
        assert query.thresholds
        red, just = query.thresholds.red, 1e-9
        bad, well = (red - just, red) if query.thresholds.low_is_bad else (red, red - just)
        steps = steps_of(made[uid], panel, query)
        assert (colour(steps, bad), colour(steps, well) != "red") == ("red", True), (uid, panel.title, query.name)


def test_an_engine_that_is_not_ready_is_red(made: Made) -> None:
    (ready,) = (panel for panel in panels(made["flowmetrics-engine"]) if panel["title"] == "Ready")
    (steps,) = thresholds(ready)
    assert [colour(steps, value) for value in (0, 1)] == ["red", "green"]


@pytest.mark.parametrize("minimum", ["0 %", "20 %"])
def test_each_step_of_a_threshold_begins_above_the_one_before(minimum: str) -> None:
    override = RuleOverride(minimum=Threshold(float(minimum.split()[0]), "%"))
    for board in made_for(Configuration(rules={"flow_time": override, "flow_velocity": override})).values():
        for panel in panels(board):
            for steps in thresholds(panel):
                first, *others = (step["value"] for step in steps)
                assert first is None
                assert others == sorted(set(others)), (board["uid"], panel["title"], steps)


def queries() -> Iterator[tuple[Board, Panel, Query]]:
    for board in boards(Configuration()):
        for section in board.sections:
            for panel in section.panels:
                for query in panel.queries:
                    yield board, panel, query


def thresholds(panel: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The steps of each query of a panel that has some."""
    properties = [p for override in panel["fieldConfig"].get("overrides", ()) for p in override["properties"]]
    return [each["value"]["steps"] for each in properties if each["id"] == "thresholds"]


def steps_of(board: dict[str, Any], panel: Panel, query: Query) -> list[dict[str, Any]]:
    (drawn,) = (p for p in panels(board) if p["title"] == panel.title)
    refs = [target["refId"] for target in drawn["targets"] if target["expr"] == query.expression]
    for override in drawn["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] in (*refs, query.name):
            return next(p["value"]["steps"] for p in override["properties"] if p["id"] == "thresholds")
    raise AssertionError(f"{query.name} of {panel.title} has no thresholds")


def colour(steps: list[dict[str, Any]], value: float) -> str:
    """As Grafana has it: of the last step that begins at or below the value."""
    found: str = [step["color"] for step in steps if step["value"] is None or step["value"] <= value][-1]
    return found


def test_no_link_is_hidden_in_a_menu(made: Made) -> None:
    assert not [name for name, board in made.items() if '"placement": "inControlsMenu"' in json.dumps(board)]


def test_every_link_leads_to_a_board(made: Made) -> None:
    for board in made.values():
        for link in (*board["links"], *(link for panel in panels(board) for link in panel.get("links", ()))):
            if link["type"] == "link" and link["url"].startswith("/d/"):
                assert link["url"].removeprefix("/d/").partition("?")[0] in made


def test_a_panel_leads_to_what_its_alert_reads(made: Made) -> None:
    (users,) = (p for p in panels(made["flowmetrics-manager"]) if p["title"] == "Active users")
    assert "var-kpi=active_users&${value_stream:queryparam}&var-window=1d&" in users["links"][0]["url"]


def test_levels_lead_down(made: Made) -> None:
    below = {
        name.removeprefix("flowmetrics-"): [x["url"] for x in board["links"] if x["type"] == "link"]
        for name, board in made.items()
    }
    assert below["chief-executive"] == ["/d/flowmetrics-executive"]
    assert below["executive"] == ["/d/flowmetrics-manager"]
    assert below["manager"] == ["/d/flowmetrics-team"]


def test_every_board_shows_changes_of_the_configuration_and_releases(made: Made) -> None:
    for board in made.values():
        changed, released = board["annotations"]["list"]
        assert "flowmetrics_engine_epoch" in changed["target"]["expr"]
        assert released["target"]["tags"] == ["release"]


def test_grafanas_model_knows_every_key(made: Made) -> None:
    """A key that it does not know would be lost on the way through it."""
    for board in made.values():
        again = json.loads(JSONEncoder().encode(Dashboard.from_json(json.loads(json.dumps(board)))))
        assert not list(lost(board, again))


def lost(one: Any, other: Any, path: str = "") -> Any:
    """What of the first is missing in, or differs from, the second."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key, value in one.items():
            yield from lost(value, other.get(key), f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for n, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from lost(a, b, f"{path}[{n}]")
    elif one != other:
        yield path, one, other


# --- the engine ---------------------------------------------------------------------------------------------------


def test_the_board_of_the_engine_shows_what_its_alerts_read_and_where_they_begin(made: Made) -> None:
    told = "\n".join(alert.expr for alert in alerts(Configuration()))
    asks = {
        panel["title"]: [target["expr"] for target in panel["targets"]] for panel in panels(made["flowmetrics-engine"])
    }
    late, from_late = asks["Event lag seconds"]
    seconds = from_late.removeprefix("vector(").removesuffix(")")
    assert f"min_over_time({late}[1h]) > {seconds}\n" in told
    waiting, from_waiting = asks["Consumer lag events"]
    assert f"min_over_time({waiting}[15m])\n> {from_waiting}\n" in told
    *burns, full = asks["Refused events: way to the alert"]
    assert full == "vector(1)"
    assert len(burns) == told.count("and flowmetrics:engine:rejected_growth") == 4
    assert [burn for burn in burns if burn.replace("/", ">") not in told] == []


MOVES: Final = {"a": "31e6+60x90", "b": "5000+60x90 31015920+120x29"}
"""What is counted of a partition goes over to another worker, as it was."""
BEGINS: Final = {"a": "31e6+60x90 0+60x29", "b": "5000+60x120"}
"""A worker begins anew, and with it what it counts."""


def test_the_growth_of_counters_is_right_while_workers_come_and_go(made: Made, tmp_path: Path) -> None:
    """Two workers count a minute 60 each; after an hour and a half one of them goes, or begins anew."""
    growths = [x for x in asked(made["flowmetrics-engine"]).splitlines() if "_total" in x and "[" in x]
    of_workers = [growth for growth in growths if any(metric.name in growth for metric in ON_KAFKA)]
    assert (len(growths), len(of_workers)) == (10, 4)
    cases = []
    for growth in growths:
        (name,) = set(re.findall(r"flowmetrics_\w+", growth))
        workers = BEGINS if growth in of_workers else MOVES
        shown = [{"series": f'{name}{{instance="{each}"}}', "values": told} for each, told in workers.items()]
        near = {"expr": f"abs({growth} - 7200) < bool 100", "eval_time": "2h", "exp_samples": [{"value": 1}]}
        cases.append({"interval": "1m", "input_series": shown, "promql_expr_test": [near]})
    path = tmp_path / "growth.yaml"
    path.write_text(json.dumps({"evaluation_interval": "1m", "tests": cases}))
    tested = subprocess.run([tool("promtool"), "test", "rules", path], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr


def test_without_the_sdk_the_command_says_what_to_install(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['grafana_foundation_sdk'] = None; from agents.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hide, "generate", "dashboards"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"install flowmetrics[dashboards]" in done.stderr
    assert not list(tmp_path.iterdir())


def test_boards_are_values_before_they_are_anything_of_grafana() -> None:
    assert [board.name for board in boards(Configuration())] == list(NAMES)
