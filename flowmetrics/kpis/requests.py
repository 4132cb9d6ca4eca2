"""KPIs of customers' requests: how long until they are resolved, how many are open, how many were resolved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from flowmetrics.configuration import ALL, label_of
from flowmetrics.entities.request import REQUEST, RequestStory, Resolution
from flowmetrics.entity import Place
from flowmetrics.kpi import Better, DriftAlert, Example, Kpi, Measure, NoAlert, Noise, Point, Severity, Unit
from flowmetrics.readings import BINNED_SECONDS, count_per_window, declared_labels, level, percentiles_per_window
from flowmetrics.view import View
from flowmetrics.windowing.bins import duration_bin


def _elapsed(resolution: Resolution | None) -> Iterable[Place]:
    if resolution is None:
        return ()
    labels = (resolution.value_stream, label_of(resolution.channel))
    return ((labels, resolution.at, duration_bin(resolution.elapsed_us), 1),)


def _first(request: RequestStory) -> Iterable[Place]:
    return _elapsed(request.first)


def _full(request: RequestStory) -> Iterable[Place]:
    return _elapsed(request.full)


def _resolved(request: RequestStory) -> Iterable[Place]:
    return [(labels, at, 0, 1) for labels, at, _, _ in _elapsed(request.full)]


def _open(request: RequestStory) -> Iterable[Place]:
    if not request.is_open:
        return ()
    return (((request.value_stream, label_of(request.channel)), request.created_at, 0, 1),)


def _beyond(request: RequestStory) -> Iterable[Place]:
    if not request.is_open:
        return ()
    return (((request.value_stream, label_of(request.channel)), request.beyond_at, 0, 1),)


FIRST: Final = Measure("request_first", REQUEST, ("channel",), _first, says=BINNED_SECONDS, only=(("kind", "first"),))
FULL: Final = Measure("request_full", REQUEST, ("channel",), _full, says=BINNED_SECONDS, only=(("kind", "full"),))
RESOLVED: Final = Measure("requests_resolved", REQUEST, ("channel",), _resolved)
OPEN: Final = Measure("requests_open", REQUEST, ("channel",), _open)
BEYOND: Final = Measure("requests_beyond_horizon", REQUEST, ("channel",), _beyond)


def _read_resolution(view: View) -> Iterator[Point]:
    for kind, measure in (("first", FIRST), ("full", FULL)):
        for point in percentiles_per_window(measure)(view):
            channel, window, percentile = point.labels
            yield Point((channel, kind, window, percentile), point.value, point.samples, point.lower, point.upper)


def _read_open(view: View) -> Iterator[Point]:
    """Open requests by channel; zero where all are resolved.

    Once channels are folded only the total shows such a zero: among the others may be open ones of that channel.
    """
    series, labels_max = view.panes.get(OPEN.name, {}), view.configuration.labels_max
    folded = len(series) >= labels_max and (view.configuration.labels_overflow,) in series
    resolved = view.counts(RESOLVED.name, view.horizon, total=0)
    shown = [labels for labels in resolved if not folded or labels == (ALL,)]
    zeros = dict.fromkeys([*declared_labels(view, OPEN), *shown], 0)
    for labels, n in {**zeros, **view.counts(OPEN.name, view.horizon, total=0)}.items():
        yield Point(labels, float(n), n)


_TICKET: Final = (
    ("2025-03-01T08:00:00Z", "request request=R-1 value_stream=shop state=Open channel=email"),
    ("2025-03-01T10:00:00Z", "request request=R-1 value_stream=shop state=Solved"),
    ("2025-03-01T11:00:00Z", "request request=R-1 value_stream=shop state=Open"),
    ("2025-03-01T12:00:00Z", "request request=R-1 value_stream=shop state=Solved"),
    ("2025-03-01T12:00:00Z", "request request=R-2 value_stream=shop state=Open channel=phone"),
)
_AT: Final = "2025-03-01T15:00:00Z"

REQUEST_KPIS: Final = (
    Kpi(
        name="request_resolution",
        group="Requests",
        headline=True,
        question="How long do customers wait until their request is resolved?",
        help="From creation to the first or the latest solution of requests, nearest-rank percentile, in seconds.",
        unit=Unit.SECONDS,
        better=Better.LOWER,
        labels=("channel", "kind", "window", "percentile"),
        measures=(FIRST, FULL),
        reading=_read_resolution,
        alert=DriftAlert(
            "Look at requests_open by channel; if it grew too, the desk is short of hands.",
            severity=Severity.PAGE,
            only=(("kind", "full"),),
            steps=(
                "Compare p50 with p95: p95 alone means hard cases or one that waits for a third party, both mean a "
                "full desk.",
                "Compare the channels: one alone points at its tool or team.",
                "Look for an incident since the day on which the line left its band; link it to the requests that tell "
                "of it.",
            ),
        ),
        example=Example(
            "Solved after two hours, opened again, solved for good after four.",
            _TICKET,
            _AT,
            {
                'flowmetrics_request_resolution_seconds{value_stream="shop",channel="email",kind="first",'
                'window="1d",percentile="p50"}': 7200.0,
                'flowmetrics_request_resolution_seconds{value_stream="shop",channel="email",kind="full",'
                'window="1d",percentile="p50"}': 14400.0,
            },
        ),
    ),
    Kpi(
        name="requests_open",
        group="Requests",
        question="How many requests are waiting for an answer?",
        help="Requests that are new, waiting or active now; those older than the horizon are not counted.",
        unit=Unit.REQUESTS,
        suffix="",
        better=Better.LOWER,
        labels=("channel",),
        measures=(OPEN, RESOLVED),
        listed=(OPEN,),
        reading=_read_open,
        alert=DriftAlert(
            "Look which channel grew, and whether requests_resolved fell with it.",
            0.3,
            Noise.COUNTING,
            steps=(
                "More came in: look at the release and incident of that day, and answer the commonest question in "
                "public.",
                "As many came in: look who is away, and whether answers are sent but not recorded as solved.",
            ),
        ),
        example=Example(
            "One request is open, by phone; the one by email is solved.",
            _TICKET,
            _AT,
            {
                'flowmetrics_requests_open{value_stream="shop",channel="phone"}': 1,
                'flowmetrics_requests_open{value_stream="shop",channel="email"}': 0,
                'flowmetrics_requests_open{value_stream="shop",channel="all"}': 1,
            },
        ),
    ),
    Kpi(
        name="requests_resolved",
        group="Requests",
        question="How many requests are resolved?",
        help="Requests whose current run of done began in the window.",
        unit=Unit.REQUESTS,
        suffix="",
        better=Better.HIGHER,
        labels=("channel", "window"),
        measures=(RESOLVED,),
        reading=count_per_window(RESOLVED),
        alert=DriftAlert(
            "Look whether fewer requests came in; if not, look at the oldest open ones.",
            0.3,
            Noise.COUNTING,
            steps=(
                "Look at the calendar: a holiday halves it, and no rule knows of it.",
                "Look whether the help desk still sends: FlowmetricsSourceStale tells.",
            ),
        ),
        example=Example(
            "Solved twice, but only the latest solution counts.",
            _TICKET,
            _AT,
            {'flowmetrics_requests_resolved{value_stream="shop",channel="email",window="1d"}': 1},
        ),
    ),
    Kpi(
        name="requests_beyond_horizon",
        group="Requests",
        question="How many open requests are too old to be counted?",
        help="Open requests created longer ago than the horizon; they are not in requests_open.",
        unit=Unit.REQUESTS,
        suffix="",
        better=Better.LOWER,
        labels=("channel",),
        measures=(BEYOND,),
        reading=level(BEYOND),
        alert=NoAlert("Nobody has waited for these in a year; close them, or give a longer horizon."),
        example=Example(
            "Opened in 2024 and never solved; the horizon is 400 days.",
            (("2024-01-01T00:00:00Z", "request request=R-1 value_stream=shop state=Open channel=email"),),
            "2025-03-01T00:00:00Z",
            {
                'flowmetrics_requests_beyond_horizon{value_stream="shop",channel="email"}': 1,
                'flowmetrics_requests_open{value_stream="shop",channel="email"}': None,
            },
        ),
    ),
)
