"""The real logs, read as their examples say, against answers that were computed by brute force elsewhere.

Counts, scores and users are the same, percentiles within 1 % of nearest rank, at every instant of the answers. What
the answers say and no test asks, because the engine publishes nothing of the kind: arrivals and ids seen, means,
extremes and interpolated percentiles, time in each state, efficiency per item, ids reopened, cohorts of retention and
days 60 and 90 of it, new users of a month, weighted scores, the mean of csat and the best two of ces, the standard
error of nps (the engine's bounds are adjusted-Wald), lead times without merge commits, and the second active day.
`throughput_final_hindsight` of a week is what is known of that week at the end of the log, and a replay knows only
what was known at the end of the week; the sum over all weeks is `done_final_total`, which is compared.
"""

from __future__ import annotations

import calendar
import gzip
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import pytest
from truth import PERCENTILES, Answers, Comparison, Log, Published, Replayed, open_log, replay

from flowmetrics.instants import DAY_US, SECOND_US

STREAMS = {
    "bpic2013_incidents": "volvo-it",
    "receipt": "permits",
    "esni_issues": "esni",
    "alertmanager_releases": "alertmanager",
    "kafka_contributors": "kafka",
    "cdnow_purchases": "cdnow",
    "sfo_survey_2017": "sfo-airport",
}
CASES = ("bpic2013_incidents", "receipt", "esni_issues")
VISITS = ("kafka_contributors", "cdnow_purchases")
RELEASES, SURVEY = "alertmanager_releases", "sfo_survey_2017"
MODES = {"exact": "on", "unbounded": "on_or_after", "window": "bracket"}
PANE_SECONDS = 1.0
SHUFFLE = 20130522
"""Of shuffles and of interleavings; any other number must do as well."""

Runs = Callable[[str], Replayed]

cases = pytest.mark.parametrize("name", CASES)
visits = pytest.mark.parametrize("name", VISITS)
every_log = pytest.mark.parametrize("name", STREAMS)


@pytest.fixture(scope="session")
def logs() -> Callable[[str], Log]:
    return cache(open_log)


@pytest.fixture(scope="session")
def runs(logs: Callable[[str], Log]) -> Runs:
    """Each log under the configuration of its example, read once at all instants of its answers."""
    return cache(lambda name: replay(logs(name).configuration, logs(name).events, instants(logs(name))))


@pytest.fixture(scope="session")
def days(logs: Callable[[str], Log]) -> Runs:
    """Each log of activity at the end of every day, over windows as long as a day, a week and any month."""

    def run(name: str) -> Replayed:
        log = logs(name)
        windows = tuple(n * DAY_US for n in (1, 7, 28, 29, 30, 31))
        configuration = replace(log.configuration, kpis=("active_users", "stickiness"), windows_us=windows)
        first, last = (date.fromisoformat(log.truth[key]) for key in ("first_day", "last_day"))
        last = month_end(f"{last:%Y-%m}")
        return replay(configuration, log.events, [end_of(first + timedelta(n)) for n in range((last - first).days + 1)])

    return cache(run)


def evaluations(log: Log) -> list[str]:
    """The instants at which the answers stand."""
    if log.name == SURVEY:
        return sorted({end_of(date.fromisoformat(day)) for t in tables(log) for day in t["trailing_7_days"]})
    return [row["T"] for row in log.truth["rolling_at" if log.name in VISITS else "evaluations"]]


def instants(log: Log) -> list[str]:
    """Those, and the ends of weeks."""
    return [*evaluations(log), *(end_of_week(week) for week in log.truth.get("weekly", ()))]


def end_of(day: date) -> str:
    """The end of a day on the edge of a pane; no log of days has an event in the second after it."""
    return f"{day}T23:59:59Z"


def end_of_week(week: Answers) -> str:
    """One microsecond before the next Monday."""
    return f"{date.fromisoformat(week['week']) + timedelta(6)}T23:59:59.999999Z"


def month_end(month: str) -> date:
    year, number = map(int, month.split("-"))
    return date(year, number, calendar.monthrange(year, number)[1])


def tables(log: Log) -> Iterator[Answers]:
    """The answers of the survey: one table for each measure and touchpoint."""
    return iter(log.truth["touchpoints"].values())


class Page:
    """What is published of the value stream of a log at one instant, compared with answers."""

    def __init__(self, check: Comparison, log: Log, run: Replayed, at: str) -> None:
        self._check, self._at = check, at
        self._published: Published = run.at[at]
        self._stream = STREAMS[log.name]

    def value(self, metric: str, **labels: str) -> float | None:
        return self._published.value(metric, value_stream=self._stream, **labels)

    def total(self, metric: str, **labels: str) -> float:
        return self._published.total(metric, value_stream=self._stream, **labels)

    def exact(self, true: float | None, metric: str, **labels: str) -> None:
        self._check.exact(self._what(metric, labels), self.value(metric, **labels), true)

    def equal(self, true: float | None, metric: str, **labels: str) -> None:
        self._check.equal(self._what(metric, labels), self.value(metric, **labels), true)

    def sum(self, true: float, metric: str, **labels: str) -> None:
        self._check.exact(self._what(f"sum of {metric}", labels), self.total(metric, **labels), true)

    def durations(self, true: Answers, kpi: str, or_within: float = 0.0, **labels: str) -> None:
        """How many there are, and each percentile; a duration below zero counts as zero."""
        for p in PERCENTILES:
            under = {**labels, "percentile": f"p{p}"}
            self.exact(true["n"] or None, "kpi_samples", kpi=kpi, **under)
            known = max(0.0, true[f"p{p}_nr"]) if true["n"] else None
            seconds = self.value(f"{kpi}_seconds", **under)
            self._check.close(self._what(f"{kpi}_seconds", under), seconds, known, or_within)

    def _what(self, metric: str, labels: dict[str, str]) -> str:
        return f"{metric} {' '.join(labels.values())} at {self._at}"


class Pages:
    """The pages of a run, and the comparison they share."""

    def __init__(self, log: Log, run: Replayed) -> None:
        self.check, self._log, self._run = Comparison(), log, run

    def __getitem__(self, at: str) -> Page:
        return Page(self.check, self._log, self._run, at)

    def finish(self) -> None:
        self.check.finish()


@pytest.fixture
def log(name: str, logs: Callable[[str], Log]) -> Log:
    return logs(name)


@pytest.fixture
def pages(log: Log, runs: Runs) -> Iterator[Pages]:
    pages = Pages(log, runs(log.name))
    yield pages
    pages.finish()


def whole(log: Log) -> str:
    """The window of an example that holds its whole log."""
    return f"{log.configuration.longest_us // DAY_US}d"


@cases
def test_work_in_progress_and_its_age_are_true_at_every_instant(log: Log, pages: Pages) -> None:
    for row in log.truth["evaluations"]:
        page = pages[row["T"]]
        page.sum(row["wip"], "flow_load_items", item_type="all")
        page.exact(row["wip"], "requests_open", channel="all")
        page.durations(row["wip_age"], "item_age", PANE_SECONDS, item_type="all")


@cases
def test_what_was_done_in_each_window_and_how_long_it_took_is_true(log: Log, pages: Pages) -> None:
    for row in log.truth["evaluations"]:
        page = pages[row["T"]]
        for told, answers in row["windows"].items():
            window = whole(log) if told == "all" else told
            final = answers["final"]
            page.exact(final["n"], "flow_velocity_items", item_type="all", window=window)
            page.exact(final["n"], "requests_resolved", channel="all", window=window)
            page.durations(final, "flow_time", item_type="all", window=window)
            page.durations(final, "request_resolution", channel="all", kind="full", window=window)
            page.durations(answers["first"], "request_resolution", channel="all", kind="first", window=window)


@cases
def test_time_to_value_is_true_in_each_window(log: Log, pages: Pages) -> None:
    for row in log.truth["evaluations"]:
        for told, answers in row["windows"].items():
            window = whole(log) if told == "all" else told
            pages[row["T"]].durations(answers["ttv"], "time_to_value", segment="all", window=window)


@cases
def test_as_many_items_are_done_and_reopened_in_all_as_there_were(log: Log, pages: Pages) -> None:
    for row in log.truth["evaluations"]:
        page = pages[row["T"]]
        page.exact(row["done_final_total"], "flow_velocity_items", item_type="all", window=whole(log))
        page.exact(row["reopens_total"], "items_reopened", item_type="all", window=whole(log))
        first = {"kpi": "request_resolution", "channel": "all", "kind": "first", "percentile": "p50"}
        page.exact(row["done_first_total"], "kpi_samples", **first, window=whole(log))


@cases
def test_each_week_ends_with_the_work_the_first_completions_and_the_reopens_it_had(log: Log, pages: Pages) -> None:
    first = {"kpi": "request_resolution", "channel": "all", "kind": "first", "window": "7d", "percentile": "p50"}
    for week in log.truth["weekly"]:
        page = pages[end_of_week(week)]
        page.sum(week["wip_end"], "flow_load_items", item_type="all")
        page.exact(week["wip_end"], "requests_open", channel="all")
        page.exact(week["throughput_first"] or None, "kpi_samples", **first)
        page.exact(week["reopens"], "items_reopened", item_type="all", window="7d")


@pytest.mark.parametrize("name", ["bpic2013_incidents"])
def test_flow_efficiency_over_the_whole_log_is_true(log: Log, pages: Pages) -> None:
    end = log.truth["evaluations"][-1]["T"]
    true = log.truth["flow_efficiency"]["aggregate"]
    pages[end].equal(true, "flow_efficiency_ratio", item_type="all", window=whole(log))


@pytest.mark.parametrize("name", [RELEASES])
def test_lead_times_of_releases_are_true_in_each_window(log: Log, pages: Pages) -> None:
    for row in log.truth["evaluations"]:
        page = pages[row["T"]]
        page.sum(row["unreleased"], "flow_load_items", item_type="all")
        for window, leads in row["windows"].items():
            page.exact(leads["n"], "flow_velocity_items", item_type="all", window=window)
            page.durations(leads, "flow_time", item_type="all", window=window)
            page.durations(leads, "time_to_value", segment="all", window=window)


@pytest.mark.parametrize("name", [RELEASES])
def test_lead_times_of_all_releases_are_true(log: Log, pages: Pages) -> None:
    page, leads = pages[log.truth["evaluations"][-1]["T"]], log.truth["all"]
    assert leads["n"] == log.truth["released"]
    page.exact(leads["n"], "flow_velocity_items", item_type="all", window=whole(log))
    page.durations(leads, "flow_time", item_type="all", window=whole(log))
    page.durations(leads, "time_to_value", segment="all", window=whole(log))
