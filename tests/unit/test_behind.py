"""The entities behind a number add up to it, whatever the KPI: every series of a simulated company is asked."""

from __future__ import annotations

import pytest

from agents.demo.producers import Company
from flowmetrics.behind import Question, searched
from flowmetrics.configuration import Configuration, Expectation, Threshold
from flowmetrics.driver import Driver
from flowmetrics.instants import DAY_US, parse_instant
from flowmetrics.kpi import Kpi, Point
from flowmetrics.kpis import catalogue

NOW = parse_instant("2025-03-05T00:00:00Z")
EXPECTED = Expectation(2 * DAY_US, Threshold(85, "%"))
CONFIGURATION = Configuration(
    eligible={"search": {"segment": ("enterprise",)}},
    expectations={"flow_time": EXPECTED, "request_resolution": EXPECTED},
)
KPIS = {kpi.name: kpi for kpi in catalogue(CONFIGURATION)}


@pytest.fixture(scope="module")
def company() -> Driver:
    """A company of nine days."""
    driver = Driver(CONFIGURATION)
    driver.advance(NOW)
    driver.deliver(Company(seed=7, begin=NOW).past(days=9))
    driver.read.points(driver.tally, NOW)
    return driver


def asked(company: Driver, kpi: Kpi, labels: dict[str, str]) -> tuple[set[int], int, Question]:
    """The sums of what is contributed, by measure; and how many contribute."""
    question = Question(kpi, labels, CONFIGURATION, NOW)
    series = question.series(company.table.items())
    found = [
        one
        for entity in question.entities
        for one in searched(
            question, [pair for pair in company.histories.items() if pair[0].startswith(f"{entity.prefix}:")], series
        )
    ]
    sums = {m.name: 0 for m in question.listed}
    for one in found:
        for said in one.said:
            sums[said.measure] += said.amount
    return set(sums.values()), len(found), question


@pytest.mark.parametrize("name", KPIS)
def test_who_is_behind_a_number_adds_up_to_it(company: Driver, name: str) -> None:
    kpi, published = KPIS[name], 0
    for (of, stream), pairs in company.read.latest.items():
        for labels, point in pairs if (of, stream) == (name, "checkout") else ():
            published += 1
            sums, _, _ = asked(company, kpi, dict(labels))
            assert sums & {point.samples, int(point.part or 0)}, (labels, point, sums)
    assert published or name in {"items_beyond_horizon", "requests_beyond_horizon", "value_before_start"}


def series_of(company: Driver, name: str, **wanted: str) -> tuple[dict[str, str], Point]:
    for (of, _), pairs in company.read.latest.items():
        for labels, point in pairs if of == name else ():
            if wanted.items() <= dict(labels).items():
                return dict(labels), point
    raise AssertionError(f"no series of {name} with {wanted}")


def test_the_items_behind_a_percentile_say_their_times_and_the_percentile_is_one_of_them(company: Driver) -> None:
    labels, point = series_of(company, "flow_time", item_type="all", window="7d", percentile="p85")
    question = Question(KPIS["flow_time"], labels, CONFIGURATION, NOW)
    found = list(searched(question, company.histories.items(), question.series(company.table.items())))
    values = [said.value for one in question.telling(found, 10_000) for said in one.said]
    assert len(values) == point.samples
    assert values == sorted(values, reverse=True), "the slowest first"
    assert sorted(values)[-(-85 * len(values) // 100) - 1] == point.value


def test_of_a_level_the_oldest_come_first_and_of_a_count_the_latest(company: Driver) -> None:
    for name, wanted, oldest_first in (
        ("flow_load", {"item_type": "all"}, True),
        ("flow_velocity", {"item_type": "all", "window": "7d"}, False),
    ):
        labels, _ = series_of(company, name, **wanted)
        question = Question(KPIS[name], labels, CONFIGURATION, NOW)
        found = searched(question, company.histories.items(), question.series(company.table.items()))
        at = [one.at for one in question.telling(found, 50)]
        assert len(at) > 10
        assert at == sorted(at, reverse=not oldest_first)


def test_a_window_is_the_panes_after_its_begin_up_to_now(company: Driver) -> None:
    question = Question(KPIS["flow_velocity"], {"window": "1d"}, CONFIGURATION, NOW)
    assert question.last - question.first == DAY_US // CONFIGURATION.resolution_us
    assert question.last == CONFIGURATION.pane(NOW)


def test_a_window_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Question(KPIS["flow_velocity"], {"window": "soon"}, CONFIGURATION, NOW)


def test_of_a_resolution_only_the_measure_of_its_kind_is_asked(company: Driver) -> None:
    for kind in ("first", "full"):
        labels, _ = series_of(company, "request_resolution", kind=kind, channel="all", window="7d")
        question = Question(KPIS["request_resolution"], labels, CONFIGURATION, NOW)
        assert [measure.name for measure in question.listed] == [f"request_{kind}"]
