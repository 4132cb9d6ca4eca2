"""The real logs, read as their examples say, against answers that were computed by brute force elsewhere.

Counts, scores and users are the same and percentiles within 1 % of nearest rank, at every instant of the answers.

Not compared, because the engine publishes nothing of the kind: arrivals and ids seen, means and interpolated
percentiles, time in each state, efficiency of single items, ids reopened, cohorts of retention and its days 60 and 90,
new users of a month, weighted NPS, the mean of NPS and CSAT, the best two of CES, the standard error of NPS (the bounds
here are adjusted-Wald), lead times without merge commits, the second active day. `throughput_final_hindsight` of a week
counts what proved final by the end of the log; a replay knows what was known at the end of the week. Its sum over the
weeks is `done_final_total` at the end, which is compared.
"""

from __future__ import annotations

import calendar
import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pytest
from truth import STREAMS, Answers, Comparison, Log, Page, Replayed, open_log, replay

from flowmetrics.instants import DAY_US, MINUTE_US, SECOND_US, parse_instant

CASES = ("bpic2013_incidents", "receipt", "esni_issues")
VISITS = ("kafka_contributors", "cdnow_purchases")
RELEASES, SURVEY = "alertmanager_releases", "sfo_survey_2017"

MODES = {"exact": "on", "unbounded": "on_or_after", "window": "bracket"}
SEED = 20130522
FIVE_MINUTES_US = 5 * MINUTE_US

Runs: TypeAlias = Callable[[str], Replayed]

cases = pytest.mark.parametrize("name", CASES)
visits = pytest.mark.parametrize("name", VISITS)
releases = pytest.mark.parametrize("name", [RELEASES])
survey = pytest.mark.parametrize("name", [SURVEY])
small = pytest.mark.parametrize("name", ["esni_issues"])
every_log = pytest.mark.parametrize("name", STREAMS)


# --- the logs and the runs, each once -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def logs() -> Callable[[str], Log]:
    return cache(open_log)


@pytest.fixture
def log(name: str, logs: Callable[[str], Log]) -> Log:
    return logs(name)


@pytest.fixture(scope="session")
def runs(logs: Callable[[str], Log]) -> Runs:
    """A log as its example reads it, at every instant of its answers and at the ends of its weeks."""

    def run(name: str) -> Replayed:
        log = logs(name)
        weeks = [end_of_week(week) for week in log.truth.get("weekly", ())]
        return replay(log, log.configuration, log.events, [*evaluations(log), *weeks])

    return cache(run)


@pytest.fixture(scope="session")
def days(logs: Callable[[str], Log]) -> Runs:
    """A log of visits at the end of each day, over windows of a day, a week, and every length of a month."""

    def run(name: str) -> Replayed:
        log = logs(name)
        windows = tuple(n * DAY_US for n in (1, 7, 28, 29, 30, 31))
        configuration = replace(log.configuration, kpis=("active_users", "stickiness"), windows_us=windows)
        months = [end_of(month_end(month)) for month, *_ in log.truth["calendar_month"]]
        return replay(log, configuration, log.events, [*(end_of(day) for day, *_ in log.truth["series"]), *months])

    return cache(run)


def evaluations(log: Log) -> list[str]:
    """The instants at which the answers stand; for the survey the ends of its days."""
    if log.name == SURVEY:
        return sorted({end_of(day) for table in log.truth["touchpoints"].values() for day in table["by_day"]})
    return [row["T"] for row in log.truth["rolling_at" if log.name in VISITS else "evaluations"]]


def end_of(day: date | str) -> str:
    """The end of a day, on the edge of a pane; no log that is asked this has a time finer than a second."""
    return f"{day}T23:59:59Z"


def end_of_week(week: Answers) -> str:
    """Just before the next Monday. No log has an event on the stroke of a Monday, which lies outside the window of
    whole seconds that is read then.
    """
    return f"{date.fromisoformat(week['week']) + timedelta(6)}T23:59:59.999999Z"


def month_end(month: str) -> date:
    year, number = map(int, month.split("-"))
    return date(year, number, calendar.monthrange(year, number)[1])


@pytest.fixture
def check() -> Comparison:
    return Comparison()


# --- work and requests --------------------------------------------------------------------------------------------


@cases
def test_work_in_progress_and_its_age_are_true(log: Log, runs: Runs, check: Comparison) -> None:
    pane_seconds = log.configuration.resolution_us / SECOND_US
    for row in log.truth["evaluations"]:
        page = runs(log.name).pages[row["T"]]
        check.total(page, row["wip"], "flow_load_items", item_type="all")
        check.exact(page, row["wip"], "requests_open", channel="all")
        check.durations(page, row["wip_age"], "item_age", pane_seconds, item_type="all")
    check.finish()


@cases
def test_what_was_done_in_each_window_and_how_long_it_took_is_true(log: Log, runs: Runs, check: Comparison) -> None:
    for row in log.truth["evaluations"]:
        page = runs(log.name).pages[row["T"]]
        for told, answers in row["windows"].items():
            window = log.whole if told == "all" else told
            check.exact(page, answers["final"]["n"], "flow_velocity_items", item_type="all", window=window)
            check.exact(page, answers["final"]["n"], "requests_resolved", channel="all", window=window)
            check.durations(page, answers["final"], "flow_time", item_type="all", window=window)
            for kind, true in (("first", answers["first"]), ("full", answers["final"])):
                check.durations(page, true, "request_resolution", channel="all", kind=kind, window=window)
    check.finish()


@cases
def test_time_to_value_is_true_in_each_window(log: Log, runs: Runs, check: Comparison) -> None:
    for row in log.truth["evaluations"]:
        page = runs(log.name).pages[row["T"]]
        for told, answers in row["windows"].items():
            window = log.whole if told == "all" else told
            check.durations(page, answers["ttv"], "time_to_value", segment="all", window=window)
    check.finish()


FIRST_DONE = {"kpi": "request_resolution", "channel": "all", "kind": "first", "percentile": "p50"}
"""The number of first completions has no metric of its own; it is how many lie under their percentiles."""


@cases
def test_all_that_was_ever_done_or_reopened_is_counted(log: Log, runs: Runs, check: Comparison) -> None:
    for row in log.truth["evaluations"]:
        page = runs(log.name).pages[row["T"]]
        check.exact(page, row["done_final_total"], "flow_velocity_items", item_type="all", window=log.whole)
        check.exact(page, row["done_first_total"], "kpi_samples", **FIRST_DONE, window=log.whole)
        check.exact(page, row["reopens_total"], "items_reopened", item_type="all", window=log.whole)
    check.finish()


@cases
def test_each_week_ends_with_its_work_first_completions_and_reopens(log: Log, runs: Runs, check: Comparison) -> None:
    for week in log.truth["weekly"]:
        page = runs(log.name).pages[end_of_week(week)]
        check.total(page, week["wip_end"], "flow_load_items", item_type="all")
        check.exact(page, week["wip_end"], "requests_open", channel="all")
        check.exact(page, week["throughput_first"] or None, "kpi_samples", **FIRST_DONE, window="7d")
        check.exact(page, week["reopens"], "items_reopened", item_type="all", window="7d")
    check.finish()


@pytest.mark.parametrize("name", ["bpic2013_incidents"])
def test_flow_efficiency_of_the_whole_log_is_true(log: Log, runs: Runs, check: Comparison) -> None:
    page = runs(log.name).pages[log.truth["evaluations"][-1]["T"]]
    true = log.truth["flow_efficiency"]["aggregate"]
    check.divided(page, true, "flow_efficiency_ratio", item_type="all", window=log.whole)
    check.finish()


# --- releases -----------------------------------------------------------------------------------------------------


@releases
def test_lead_times_of_releases_are_true_and_negative_ones_counted_apart(
    log: Log, runs: Runs, check: Comparison
) -> None:
    ends = log.truth["evaluations"]
    assert log.truth["all"]["n"] == log.truth["released"]
    for row in [*ends, {**ends[-1], "windows": {log.whole: log.truth["all"]}}]:
        page = runs(log.name).pages[row["T"]]
        check.total(page, row["unreleased"], "flow_load_items", item_type="all")
        for window, leads in row["windows"].items():
            check.exact(page, leads["n"], "flow_velocity_items", item_type="all", window=window)
            check.durations(page, leads, "flow_time", item_type="all", window=window)
            check.durations(page, leads, "time_to_value", segment="all", window=window)
            negative = log.truth["negative_lead"] if leads.get("min", 0) < 0 else 0  # the answers count but one in all
            check.exact(page, negative, "value_before_start_users", segment="all", window=window)
    assert log.truth["negative_lead"] == 1
    check.finish()


@releases
def test_each_release_has_its_commits_and_a_negative_lead_is_one_of_zero(log: Log, check: Comparison) -> None:
    """A window of one second holds one release; of up to 100 commits the shortest lead is the first percentile."""
    kpis, percentiles = ("flow_velocity", "flow_time", "items_reopened"), (1, 50, 90, 95, 100)
    configuration = replace(log.configuration, kpis=kpis, windows_us=(SECOND_US,), percentiles=percentiles)
    tags = log.truth["by_tag"]
    assert len({tag["time"] for tag in tags}) == len(tags)
    pages = replay(log, configuration, log.events, [tag["time"] for tag in tags]).pages
    labels = {"item_type": "all", "window": "1s"}
    for tag in tags:
        page, n = pages[tag["time"]], tag["n"]
        check.exact(page, n, "flow_velocity_items", **labels)
        check.durations(page, tag, "flow_time", **labels)
        check.duration(page, tag["max"], n, 100, "flow_time", **labels)
        if n <= 100:
            check.duration(page, tag["min"], n, 1, "flow_time", **labels)
    negative = [tag for tag in tags if tag["min"] < 0]
    assert len(negative) == log.truth["negative_lead"]
    check.exact(pages[negative[0]["time"]], 0.0, "flow_time_seconds", **labels, percentile="p1")
    check.finish()


# --- visits -------------------------------------------------------------------------------------------------------


@visits
def test_active_users_are_true(log: Log, runs: Runs, check: Comparison) -> None:
    for row in log.truth["rolling_at"]:
        page = runs(log.name).pages[row["T"]]
        for window in ("1d", "7d", "30d"):
            check.exact(page, row[window], "active_users", window=window)
    check.exact(page, log.truth["users"], "active_users", window=log.whole)
    check.finish()


@visits
def test_active_users_of_every_day_week_and_month_are_true(log: Log, days: Runs, check: Comparison) -> None:
    pages = days(log.name).pages
    for day, *users in log.truth["series"]:
        for window, true in zip(("1d", "7d", "30d"), users, strict=True):
            check.exact(pages[end_of(day)], true, "active_users", window=window)
    for month, users, _ in log.truth["calendar_month"]:
        last = month_end(month)
        check.exact(pages[end_of(last)], users, "active_users", window=f"{last.day}d")
    check.finish()


@visits
def test_stickiness_is_that_of_the_daily_users(log: Log, days: Runs, check: Comparison) -> None:
    """The answers have no stickiness, but the users of each day and of each thirty days, of which it is made."""
    series = log.truth["series"]
    for index, (day, *_, users) in enumerate(series):
        month = sum(users_of_day for _, users_of_day, *_ in series[max(0, index - 29) : index + 1])
        check.divided(days(log.name).pages[end_of(day)], month / 30 / users if users else None, "stickiness_ratio")
    check.finish()


@visits
def test_retention_is_true_three_ways(log: Log, runs: Runs, check: Comparison) -> None:
    """At the midnight that ends the last day, when everyone who can have matured has."""
    page = runs(log.name).pages[f"{date.fromisoformat(log.truth['last_day']) + timedelta(1)}T00:00:00Z"]
    for period in ("D1", "D7", "D30"):
        for told, mode in MODES.items():
            mature, _, rate = log.truth["retention"][period][told]
            labels = {"mode": mode, "period": period.lower()}
            check.exact(page, mature, "retention_mature_users", **labels)
            check.divided(page, rate, "retention_ratio", **labels)
    check.finish()


# --- answers ------------------------------------------------------------------------------------------------------


@survey
def test_scores_of_every_touchpoint_are_true_over_days_weeks_and_segments(
    log: Log, runs: Runs, check: Comparison
) -> None:
    pages = runs(log.name).pages
    for told, table in log.truth["touchpoints"].items():
        measure, touchpoint = told.split(":")
        last = max(table["by_day"])
        asked = [
            *((day, "1d", "all", true) for day, true in table["by_day"].items()),
            *((day, "7d", "all", true) for day, true in table["trailing_7_days"].items()),
            *((last, log.whole, segment, true) for segment, true in table["by_segment"].items()),
            (last, log.whole, "all", table["overall"]),
        ]
        for day, window, segment, true in asked:
            page = pages[end_of(day)]
            labels = {"touchpoint": touchpoint, "segment": segment, "window": window}
            score, metric = score_of(measure, true)
            check.divided(page, score, metric, **labels)
            check.exact(page, true["answers"], f"{measure}_responses", **labels)
            if measure == "nps":  # the one survey with a single touchpoint
                check.divided(page, score, metric, **{**labels, "touchpoint": "all"})
    check.finish()


def score_of(measure: str, true: Answers) -> tuple[float | None, str]:
    """What the answers say of the score that the engine reads, and its metric."""
    told = {"nps": true.get("nps"), "csat": true.get("top2"), "ces": true.get("mean")}[measure]
    if measure == "csat":
        return (None if told is None else told / 100), "csat_ratio"
    return told, f"{measure}_score"


@every_log
def test_exactly_the_answers_that_are_none_are_refused(log: Log, runs: Runs) -> None:
    invalid = sum(table["overall"]["invalid"] for table in log.truth.get("touchpoints", {}).values())
    assert sum(runs(log.name).rejected.values()) == invalid
    assert set(runs(log.name).rejected) <= {"score_off_scale", "missing_field"}


# --- panes of five minutes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CASES, RELEASES, *VISITS])
def test_panes_of_five_minutes_give_the_same_numbers_at_their_edges(log: Log, runs: Runs, check: Comparison) -> None:
    """All but ages, which are true to one pane."""
    configuration = replace(log.configuration, resolution_us=FIVE_MINUTES_US)
    edges = [at for at in evaluations(log) if parse_instant(at) % FIVE_MINUTES_US == 0]
    pages = replay(log, configuration, log.events, edges).pages
    assert len(edges) >= 8
    for at, page in pages.items():
        assert without_ages(page) == without_ages(runs(log.name).pages[at])
    ages = {row["T"]: row["wip_age"] for row in log.truth.get("evaluations", ()) if "wip_age" in row}
    for at, page in pages.items():
        if at in ages:
            check.durations(page, ages[at], "item_age", FIVE_MINUTES_US / SECOND_US, item_type="all")
    assert not check.differences


def without_ages(page: Page) -> list[bytes]:
    return [line for line in page.text.splitlines() if b"item_age" not in line]


# --- the set law --------------------------------------------------------------------------------------------------


def shuffled(events: list[bytes]) -> list[bytes]:
    return random.Random(SEED).sample(events, len(events))


def twice(events: list[bytes]) -> list[bytes]:
    return [*events, *events]


def two_imports(events: list[bytes]) -> list[bytes]:
    """The first and the second half, each in its order, interleaved by chance."""
    middle = len(events) // 2
    halves = [iter(events[:middle]), iter(events[middle:])]
    turns = [0] * middle + [1] * (len(events) - middle)
    random.Random(SEED).shuffle(turns)
    return [next(halves[turn]) for turn in turns]


@every_log
@pytest.mark.parametrize("told", [shuffled, twice, two_imports], ids=lambda told: told.__name__)
def test_the_order_and_number_of_deliveries_change_no_digit(
    log: Log, runs: Runs, told: Callable[[list[bytes]], list[bytes]]
) -> None:
    again = replay(log, log.configuration, told(log.events), evaluations(log))
    for at, page in again.pages.items():
        assert page.text == runs(log.name).pages[at].text, f"other numbers at {at}"


# --- the command line ---------------------------------------------------------------------------------------------


def printed(log: Log, files: list[Path]) -> bytes:
    """What `flowmetrics replay` prints of files at the instants of the answers."""
    example = ["--config", log.example / "flowmetrics.yaml", "--map", log.example / "map.yaml"]
    ats = [word for at in evaluations(log) for word in ("--at", at)]
    command = [Path(sys.executable).with_name("flowmetrics"), "replay", *files, *example, *ats, "--format", "json"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@small
def test_the_command_prints_the_true_numbers_as_the_contract_says(log: Log) -> None:
    rows = [json.loads(line) for line in printed(log, [log.path]).splitlines()]
    assert {tuple(row) for row in rows} == {("at", "name", "labels", "value")}
    for answer in log.truth["evaluations"]:
        published = {(r["name"], tuple(r["labels"].values())): r["value"] for r in rows if r["at"] == answer["T"]}
        for window in ("7d", "30d"):
            labels = (STREAMS[log.name], "all", window)
            assert published["flowmetrics_flow_velocity_items", labels] == answer["windows"][window]["final"]["n"]
        assert published["flowmetrics_requests_open", (STREAMS[log.name], "all")] == answer["wip"]


@small
def test_the_command_prints_the_same_of_two_files_in_any_order(log: Log, runs: Runs, tmp_path: Path) -> None:
    rows = gzip.decompress(log.path.read_bytes()).splitlines(keepends=True)
    random.Random(SEED).shuffle(rows)
    files = [tmp_path / "some.jsonl.gz", tmp_path / "others.jsonl.gz"]
    for number, file in enumerate(files):
        file.write_bytes(gzip.compress(b"".join(rows[number::2])))
    assert printed(log, files) == b"".join(runs(log.name).pages[at].text for at in evaluations(log))
