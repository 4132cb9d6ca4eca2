"""Service level expectations: the share of work, and of requests, that is done within the time that was promised.

What may take how long is configured under `expectations`; without an entry nothing is shown. The share that was
promised leaves a budget, the rest: 15 % of items may be late where 85 % are promised.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from flowmetrics.configuration import Configuration, Expectation, Threshold
from flowmetrics.instants import DAY_US, HOUR_US
from flowmetrics.kpi import Better, BurnAlert, Example, Kpi, Measure, Point, Unit, ratio_point
from flowmetrics.kpis.flow import FLOW_TIME
from flowmetrics.kpis.requests import FULL
from flowmetrics.view import View
from flowmetrics.windowing.bins import duration_bin


def _read_met(kpi: str, measure: Measure, view: View) -> Iterator[Point]:
    expectation = view.configuration.expectations.get(kpi)
    if expectation is None:
        return
    last = duration_bin(expectation.within_us)
    for window, panes in view.windows:
        for labels, bins in view.bins(measure.name, panes, total=0).items():
            within = sum(n for number, n in bins.items() if number <= last)
            yield ratio_point((*labels, window), within, sum(bins.values()))


def _promised(kpi: str, within_us: int) -> Configuration:
    return Configuration(expectations={kpi: Expectation(within_us, Threshold(85, "%"))})


EXPECTATION_KPIS: Final = (
    Kpi(
        name="flow_time_met",
        group="Flow",
        question="Which share of work is done as fast as expected?",
        help="Share of the items done in the window whose flow time is within the configured expectation, to 2 %.",
        unit=Unit.RATIO,
        better=Better.HIGHER,
        labels=("item_type", "window"),
        measures=(FLOW_TIME,),
        reading=partial(_read_met, "flow_time", FLOW_TIME),
        alert=BurnAlert(
            "flow_time",
            "Look which items took longer than expected: `flowmetrics explain item KEY` shows where they waited.",
            (
                "Compare flow_time at p50 and p95: where only p95 grew, a few items are stuck; where both did, all "
                "are.",
                "Say to whom the expectation was given that it will not be met this month, before they ask.",
                "Where the expectation was a wish, change `expectations.flow_time` to what the last quarter kept.",
            ),
        ),
        example=Example(
            "Expected are four hours; one item took three, the other six.",
            (
                ("2025-03-01T06:00:00Z", "item item=A-1 value_stream=shop state=Ready item_type=Bug"),
                ("2025-03-01T09:00:00Z", "item item=A-1 value_stream=shop state=Done"),
                ("2025-03-01T06:00:00Z", "item item=A-2 value_stream=shop state=Ready item_type=Bug"),
                ("2025-03-01T12:00:00Z", "item item=A-2 value_stream=shop state=Done"),
            ),
            "2025-03-01T15:00:00Z",
            {'flowmetrics_flow_time_met_ratio{value_stream="shop",item_type="defect",window="1d"}': 0.5},
            _promised("flow_time", 4 * HOUR_US),
        ),
    ),
    Kpi(
        name="request_resolution_met",
        group="Requests",
        question="Which share of requests is resolved as fast as expected?",
        help="Share of the requests resolved in the window whose latest solution is within the expectation, to 2 %.",
        unit=Unit.RATIO,
        better=Better.HIGHER,
        labels=("channel", "window"),
        measures=(FULL,),
        reading=partial(_read_met, "request_resolution", FULL),
        alert=BurnAlert(
            "request_resolution",
            "Look at requests_open by channel, and answer the oldest first.",
            (
                "Compare the channels: one that is late alone is short of hands or waits for somebody else.",
                "Look at reopened requests: a solution that does not hold counts with the time of the last one.",
                "Tell customers of that channel how long it takes at present.",
            ),
        ),
        example=Example(
            "Expected is a day; one request took two hours, the other two days.",
            (
                ("2025-03-01T08:00:00Z", "request request=R-1 value_stream=shop state=Open channel=email"),
                ("2025-03-03T08:00:00Z", "request request=R-1 value_stream=shop state=Solved"),
                ("2025-03-03T07:00:00Z", "request request=R-2 value_stream=shop state=Open channel=email"),
                ("2025-03-03T09:00:00Z", "request request=R-2 value_stream=shop state=Solved"),
            ),
            "2025-03-03T10:00:00Z",
            {'flowmetrics_request_resolution_met_ratio{value_stream="shop",channel="email",window="1d"}': 0.5},
            _promised("request_resolution", DAY_US),
        ),
    ),
)
