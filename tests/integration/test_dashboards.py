"""Every query, variable and annotation of every board is asked of a real Prometheus, and answers.

A simulated company sends five weeks to a real engine; a real Prometheus scrapes it and evaluates the generated rules.
The same time of three weeks before is what a replay says of it, and what the rules make of that, level by level; so
there are baselines. Load and open requests then jump, so that alerts are pending, and the configuration changes.

There is no Grafana: how a board looks is not tested here, only what it asks and what it is answered.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from engine import EngineProcess, event, free_port, lines, until
from grafana import Question, Viewer, boards, questions
from scraping import Prometheus, prometheus, tool

from agents.demo.producers import Company
from agents.published import clock_us
from agents.replay import Replay, openmetrics
from flowmetrics.configuration import Configuration
from flowmetrics.families import Family, Sample
from flowmetrics.instants import DAY_US, MINUTE_US, SECOND_US, instant_text
from flowmetrics.publishing.dashboards_engine import KAFKA

ROOT: Final = Path(__file__).parents[2]
BOARDS: Final = ROOT / "deploy/grafana"
RULES: Final = ROOT / "deploy/prometheus/rules"

SILENT: Final = {
    **{
        family.name: "workers on Kafka say it; tests/unit/test_dashboards.py holds the names together"
        for family in KAFKA
    },
    'alert_class="engine"': "the alerts of the engine are not among the rules yet",
    "flowmetrics_histories_cut_total": "a history must reach its limit of thousands of facts first",
}
"""Metrics of which no answer is expected here, and why. Their queries must be valid all the same."""

SETTINGS: Final = "horizon: 60d\nlabels: {max_per_metric: 40}\n"
OTHERWISE: Final = SETTINGS + 'value_streams: {"*": {reopen_gap: include}}\n'
"""The same, read otherwise: a new epoch."""

CHANGES: Final = "changes(max(flowmetrics_engine_epoch)[5m:15s])"

OFTEN: Final = "5s"
"""How often the engine is scraped and rules are evaluated."""
WEEKS: Final = (1, 2, 3)
DAYS: Final = 36
LEVELS: Final = (1, 2, 3, 3)
"""Groups of recording rules for the past; the third reads what it has recorded itself, so it is done twice."""


@dataclass(frozen=True)
class House:
    """What the tests look at."""

    engine: EngineProcess
    prometheus: Prometheus


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    now = clock_us() // (5 * MINUTE_US) * 5 * MINUTE_US
    past = [*Company(7, now).past(DAYS), *lines(quiet_people()).splitlines()]
    server = folder / "prometheus"
    remember(folder, server, past, now)
    with EngineProcess(folder / "engine", SETTINGS, port=free_port()) as engine:
        (folder / "past.jsonl").write_bytes(b"\n".join(past) + b"\n")
        engine.run("import", folder / "past.jsonl").well()
        engine.ready()
        with prometheus(
            server, engine.url.removeprefix("http://"), rules=quick_rules(folder), interval=OFTEN
        ) as scraper:
            engine.post(*rare_events())
            engine.send(b"nonsense")
            until(lambda: scraper.query("flowmetrics:kpi:band_high"), "the rules have their last level", 120)
            until(lambda: scraper.query(CHANGES), "the first epoch was seen", 60)
            port = int(engine.url.rpartition(":")[2])
            engine.stop()
            engine.configure(OTHERWISE, f"127.0.0.1:{port}")
            engine.ready()
            until(lambda: scraper.query(f"{CHANGES} > 0"), "there is another epoch", 120)
            engine.post(*a_jump())
            until(lambda: scraper.query('ALERTS{alertname="FlowLoadDrift"}'), "an alert is pending", 120)
            yield House(engine, scraper)


# --- the past -----------------------------------------------------------------------------------------------------


def remember(folder: Path, server: Path, past: list[bytes], now: int) -> None:
    """Blocks with the KPIs of the same time in former weeks, and what the rules make of them."""
    main = [now - week * 7 * DAY_US for week in WEEKS]
    earlier = [at - DAY_US for at in [now, *main]] + [now - 7 * DAY_US * (WEEKS[-1] + 1)]
    spans = [(at - 10 * MINUTE_US, at + 25 * MINUTE_US) for at in (*main, *earlier)]
    ats = [instant_text(at) for begin, end in spans for at in range(begin, end, 5 * MINUTE_US)]
    configuration = replace(Configuration(), horizon_us=60 * DAY_US)
    readings = [(at, uniform(families)) for at, families in Replay(configuration, ats).readings(past)]
    text = folder / "past.txt"
    with text.open("wb") as out:
        openmetrics(readings, out.write)
    promtool("tsdb", "create-blocks-from", "openmetrics", text, server / "data")
    for step, level in enumerate(LEVELS):
        rules = folder / f"level-{step}.yaml"
        rules.write_text(yaml.safe_dump({"groups": [{**groups()[level - 1], "interval": "5m"}]}))
        with prometheus(server) as there:
            for begin, end in spans if level == 1 else spans[: len(main)]:
                promtool(
                    "tsdb", "create-blocks-from", "rules", f"--url={there.url}", f"--output-dir={server / 'data'}",
                    f"--start={begin // SECOND_US}", f"--end={end // SECOND_US}", rules,
                )  # fmt: skip


def uniform(families: list[Family]) -> list[Family]:
    """What the rules read, and that the engine was ready."""
    ready = Family("flowmetrics_engine_ready", "Whether what is shown is complete.", "gauge", (Sample((), 1.0),))
    return [*(family for family in families if family.name.startswith("flowmetrics_kpi_")), ready]


def promtool(*words: str | Path) -> None:
    done = subprocess.run([tool("promtool"), *words], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def groups() -> list[dict[str, Any]]:
    """The groups of the recording rules, level by level."""
    found: list[dict[str, Any]] = yaml.safe_load((RULES / "flowmetrics-recording.yaml").read_text())["groups"]
    return found


def quick_rules(folder: Path) -> list[Path]:
    """The generated rules, evaluated as often as the engine is scraped."""
    made = []
    for path in sorted(RULES.glob("*.yaml")):
        told = yaml.safe_load(path.read_text())
        made.append(folder / path.name)
        made[-1].write_text(yaml.safe_dump({"groups": [{**group, "interval": OFTEN} for group in told["groups"]]}))
    return made


# --- the present --------------------------------------------------------------------------------------------------


CHECKOUT: Final = {"value_stream": "checkout"}


def quiet_people() -> list[dict[str, Any]]:
    """What the company does too rarely for a baseline: employees answer, customers reach value."""
    answers = [
        event("response", **CHECKOUT, respondent=f"e{n}", survey="enps", score=n % 11, ago=n * 7200)
        for n in range(DAYS * 12)
    ]
    early = [
        event("customer", **CHECKOUT, customer=f"b{n}", milestone=milestone, segment="smb", ago=(n * 7 + days) * 86400)
        for n in range(4)
        for milestone, days in (("value_reached", 3), ("signed_up", 2))
    ]
    served = [
        event("customer", **CHECKOUT, customer=f"v{n}", milestone=milestone, segment="smb", ago=n * 10_800 + since)
        for n in range(DAYS * 8)
        for milestone, since in (("value_reached", 60), ("signed_up", 86400 * (1 + n % 3)))
    ]
    return [*answers, *early, *served]


def rare_events() -> list[dict[str, Any]]:
    """What the company never does: too old, contradictory, unmapped, more channels than there is room for."""
    long_ago = 65 * 86400
    return [
        event("item", **CHECKOUT, item="old", state="Doing", item_type="Bug", ago=long_ago),
        event("request", **CHECKOUT, request="old", state="Open", channel="web", ago=long_ago),
        event("item", **CHECKOUT, item="odd", state="Nobody maps this"),
        *(event("item", **CHECKOUT, item="twice", state="Doing", name="same", title=title) for title in "ab"),
        *(event("request", **CHECKOUT, request=f"r{n}", state="Open", channel=f"channel {n}") for n in range(60)),
    ]


def a_jump() -> list[dict[str, Any]]:
    """Far more work in progress and open requests than in any week."""
    return [
        *(event("item", **CHECKOUT, item=f"jump-{n}", state="In Progress", item_type="Story") for n in range(900)),
        *(event("request", **CHECKOUT, request=f"jump-{n}", state="Open", channel="web") for n in range(900)),
    ]


# --- the promises -------------------------------------------------------------------------------------------------


def test_every_query_of_every_board_answers(house: House) -> None:
    asked, silent = 0, []
    for board in boards(BOARDS):
        viewer = Viewer(board, house.prometheus)
        for question in questions(board):
            asked += 1
            if viewer.first_answer(question) is None and not excused(question):
                silent.append(f"{question.where}: {question.expression}")
    assert not silent, f"{len(silent)} of {asked} queries do not answer:\n" + "\n".join(silent)
    assert asked > 400


def excused(question: Question) -> bool:
    return any(name in question.expression for name in SILENT)


def test_every_query_of_a_level_answers_under_the_first_choices(house: House) -> None:
    silent = []
    for board in boards(BOARDS):
        if board["uid"].removeprefix("flowmetrics-") in ("chief-executive", "executive", "manager"):
            viewer = Viewer(board, house.prometheus)
            silent += [q.where for q in questions(board) if not viewer.answers(q, viewer.choices)]
    assert not silent
