"""Every query, variable and annotation of every board is asked of a real Prometheus, and answers.

A simulated company tells of five weeks. `flowmetrics backfill` fills the data directory of a real Prometheus with them;
then a real engine that has imported them is scraped, and the generated rules are evaluated. So there are baselines at
once. Load and open requests then jump, so that alerts are pending, and the configuration changes. Time is not
compressed, but for intervals: an hour between values of the past, five seconds between scrapes and evaluations.

There is no Grafana: how a board looks is not tested here, only what it asks and what it is answered.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from engine import EngineProcess, command, event, free_port, lines, until
from grafana import Board, Question, Viewer, boards, questions
from scraping import Prometheus, prometheus

from agents.demo.producers import Company
from agents.prometheus import blocks_command
from agents.published import clock_us
from flowmetrics.engine_metrics import ON_KAFKA
from flowmetrics.instants import DAY_US, instant_text

pytestmark = pytest.mark.long  # minutes, and the version of Python does not matter

ROOT: Final = Path(__file__).parents[2]
BOARDS: Final = "deploy/grafana"
RULES: Final = "deploy/prometheus/rules"

SILENT: Final = {
    **{metric.name: "workers on Kafka say it; tests/kafka/test_prometheus.py asks them" for metric in ON_KAFKA},
    "flowmetrics_histories_cut_total": "a history must reach its limit of thousands of facts first",
}
"""Metrics of which no answer is expected here, and why. Their queries must be valid all the same."""

SETTINGS: Final = """\
horizon: 60d
labels: {max_per_metric: 40}
expectations: {flow_time: {within: 3d, share: 85%}, request_resolution: {within: 1d, share: 85%}}
"""
OTHERWISE: Final = SETTINGS + 'value_streams: {"*": {reopen_gap: include}}\n'
"""The same, read otherwise: a new epoch."""

CHANGES: Final = "changes(max(flowmetrics_engine_epoch)[5m:15s])"

UPPER: Final = ("chief-executive", "executive", "manager")
"""The boards on which nothing is chosen but the value stream: each shows what alerts read."""

OFTEN: Final = "5s"
"""How often the engine is scraped and rules are evaluated."""
DAYS: Final = 36
ANSWER_SECONDS: Final = 60.0
BACKFILL_SECONDS: Final = 600.0
"""Patience on a busy machine; alone it takes half a minute."""


@dataclass(frozen=True)
class House:
    """What the tests look at."""

    folder: Path
    prometheus: Prometheus


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    path, server = folder / "past.jsonl", folder / "prometheus"
    path.write_bytes(past())
    server.mkdir()
    with EngineProcess(folder / "engine", SETTINGS, port=free_port()) as engine:
        began = instant_text(clock_us() - DAYS * DAY_US)
        words = ("--prometheus", server / "data", "--from", began, "--step", "1h", "--config", engine.config)
        command("backfill", path, *words, cwd=folder, seconds=BACKFILL_SECONDS).well()
        engine.run("import", path).well()
        for kind in ("rules", "dashboards"):
            command("generate", kind, "--config", engine.config, cwd=folder).well()
        engine.ready()
        nothing_came_before(folder, server / "data")
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
            yield House(folder, scraper)


# --- the rules -------------------------------------------------------------------------------------------------


def quick_rules(folder: Path) -> list[Path]:
    """The generated rules, evaluated as often as the engine is scraped."""
    made = []
    for path in sorted((folder / RULES).glob("*.yaml")):
        told = yaml.safe_load(path.read_text())
        made.append(folder / path.name)
        made[-1].write_text(yaml.safe_dump({"groups": [{**group, "interval": OFTEN} for group in told["groups"]]}))
    return made


def nothing_came_before(folder: Path, directory: Path) -> None:
    """What the rules would have recorded over days of an engine of which nothing was known yet."""
    now = int(time.time())
    told = [
        f"# TYPE {name} gauge\n" + "".join(f"{name} 0 {at}\n" for at in range(now - 4 * 86_400, now, 300))
        for name in ("flowmetrics:engine:accepted", "flowmetrics:engine:rejected")
    ]
    path = folder / "nothing.txt"
    path.write_text("".join(told) + "# EOF\n")
    subprocess.run(blocks_command(path, directory), check=True, capture_output=True)


# --- what is told --------------------------------------------------------------------------------------------------


CHECKOUT: Final = {"value_stream": "checkout"}


def past() -> bytes:
    """What checkout of the company tells of the last weeks, and those it is too quiet about."""
    company = [line for line in Company(7, clock_us()).past(DAYS) if b'"value_stream":"checkout"' in line]
    return b"\n".join(company) + b"\n" + lines(quiet_people())


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
    def answers(viewer: Viewer, question: Question) -> bool:
        found = viewer.first_answer(question)  # of the excused, too: Prometheus says whether it is a question at all
        return found is not None or excused(question)

    assert all_answer(house, boards(house.folder / BOARDS), answers) > 300


def test_every_query_of_the_upper_levels_answers_under_the_first_choices(house: House) -> None:
    def answers(viewer: Viewer, question: Question) -> bool:
        return viewer.answers(question, viewer.choices)

    upper = [b for b in boards(house.folder / BOARDS) if b["uid"].partition("-")[2] in UPPER]
    assert all_answer(house, upper, answers) > 100


def test_the_boards_of_the_project_ask_no_more_than_those_that_were_tried(house: House) -> None:
    assert shapes(ROOT) <= shapes(house.folder)


def all_answer(house: House, asked: list[Board], answers: Callable[[Viewer, Question], bool]) -> int:
    """How many queries were asked; fails with those that do not answer.

    A query is asked again for a while: on a busy machine a scrape is late, and for a moment the present is not known.
    """
    pairs = [(viewer, q) for board in asked for viewer in [Viewer(board, house.prometheus)] for q in questions(board)]
    silent, end = pairs, time.monotonic() + ANSWER_SECONDS
    while silent := [(viewer, question) for viewer, question in silent if not answers(viewer, question)]:
        told = "\n".join(f"{question.where}: {question.expression}" for _, question in silent)
        assert time.monotonic() < end, f"{len(silent)} of {len(pairs)} queries do not answer:\n{told}"
        time.sleep(1)
    return len(pairs)


def excused(question: Question) -> bool:
    return any(name in question.expression for name in SILENT)


def shapes(folder: Path) -> set[str]:
    """Every query of the boards under a folder, without the lists of names in it: they grow with what is configured."""
    return {
        re.sub(r'kpi=~"[^"$]*"|by \([^)]*\)', "", question.expression)
        for board in boards(folder / BOARDS)
        for question in questions(board)
    }
