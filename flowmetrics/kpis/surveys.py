"""Survey scores per touchpoint and segment, with 95 % bounds and counts; one KPI for each configured survey.

One voice: per person, value stream, survey and touchpoint only the latest answer counts. It contributes +1 to its own
pane, in the bin of its score, so every window that ends now holds the overall latest answer or none. `all` touchpoints
is a voice of its own: the latest over touchpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from flowmetrics.configuration import ALL, Survey, label_of
from flowmetrics.entities.customer import ANSWERS, CUSTOMER, Answer, CustomerStory, answer_order
from flowmetrics.entity import Place
from flowmetrics.kpi import (
    NORMAL_95,
    Better,
    Companion,
    DriftAlert,
    Example,
    Kpi,
    Measure,
    Point,
    Says,
    Severity,
    Unit,
    wilson,
)
from flowmetrics.view import Bins, View


def _voices(survey: str, low: int, person: CustomerStory) -> Iterable[Place]:
    latest: dict[tuple[str, str], Answer] = {}
    for answer in person.facts.profile.answers.values():
        if answer.survey == survey:
            for touchpoint in (label_of(answer.touchpoint), ALL):
                held = latest.get((answer.value_stream, touchpoint))
                if held is None or answer_order(answer) > answer_order(held):
                    latest[answer.value_stream, touchpoint] = answer
    for (stream, touchpoint), answer in latest.items():
        yield (stream, touchpoint, label_of(answer.segment)), answer.at, answer.score - low, 1


def net_promoter(bins: Bins, survey: Survey) -> tuple[float, float, float]:
    """Promoters (9, 10) less detractors (0 to 6), −100 to 100, with adjusted-Wald bounds (n + 3, ¾ to each end).

    >>> score, lower, upper = net_promoter({10: 3}, Survey(0, 10))
    >>> score, round(lower), upper
    (100.0, -7, 100.0)
    """
    n = sum(bins.values())
    promoters = sum(count for score, count in bins.items() if score + survey.low >= 9)
    detractors = sum(count for score, count in bins.items() if score + survey.low <= 6)
    p, d = (promoters + 0.75) / (n + 3), (detractors + 0.75) / (n + 3)
    half = NORMAL_95 * math.sqrt((p + d - (p - d) ** 2) / (n + 3))
    middle = p - d
    return (
        100 * (promoters - detractors) / n,
        max(-100.0, 100 * (middle - half)),
        min(100.0, 100 * (middle + half)),
    )


def top_box(bins: Bins, survey: Survey) -> tuple[float, float, float]:
    """The share of answers in the best `top` values, with Wilson bounds.

    >>> [round(x, 2) for x in top_box({4: 10, 3: 6, 0: 4}, Survey(1, 5, top=2))]
    [0.8, 0.58, 0.92]
    """
    assert survey.top is not None
    n = sum(bins.values())
    top = sum(count for score, count in bins.items() if score + survey.low > survey.high - survey.top)
    return (top / n, *wilson(top, n))


def mean_score(bins: Bins, survey: Survey) -> tuple[float, float, float]:
    """The mean answer with its normal 95 % bounds, kept on the scale; of one answer the whole scale.

    >>> mean_score({6: 1}, Survey(1, 7, better="high"))
    (7.0, 1.0, 7.0)
    """
    n = sum(bins.values())
    total = sum((score + survey.low) * count for score, count in bins.items())
    if n == 1:
        return float(total), float(survey.low), float(survey.high)
    squares = sum((score + survey.low) ** 2 * count for score, count in bins.items())
    mean = total / n
    # in integers up to the last division, so that the order of the answers leaves no trace in the last digit
    half = NORMAL_95 * math.sqrt((n * squares - total * total) / (n * n * (n - 1)))
    return mean, max(float(survey.low), mean - half), min(float(survey.high), mean + half)


Score = Callable[[Bins, Survey], tuple[float, float, float]]


def _read(measure: Measure, score: Score, survey: Survey, view: View) -> Iterator[Point]:
    for window, panes in view.windows:
        for labels, bins in view.bins(measure.name, panes, total=1).items():
            filled = {number: n for number, n in bins.items() if n > 0}
            if filled:
                value, lower, upper = score(filled, survey)
                yield Point((*labels, window), value, sum(filled.values()), lower, upper)
            else:
                yield Point((*labels, window), None, 0)


def survey_kpis(surveys: Mapping[str, Survey]) -> tuple[Kpi, ...]:
    """One KPI for each survey, with its bounds and its count as companions."""
    return tuple(_survey_kpi(name, survey) for name, survey in surveys.items())


def _survey_kpi(name: str, survey: Survey) -> Kpi:
    if survey.top is not None:
        score, unit, what = top_box, Unit.RATIO, f"Share of answers in the best {survey.top} of the scale"
        points = 0.08
    elif survey.better is not None:
        score, unit, what = mean_score, Unit.SCORE, "Mean answer"
        points = 0.06 * (survey.high - survey.low)
    else:
        score, unit, what = net_promoter, Unit.SCORE, "Promoters less detractors, from -100 to 100,"
        points = 8.0
    measure = Measure(
        f"survey_{name}",
        CUSTOMER,
        ("touchpoint", "segment"),
        partial(_voices, name, survey.low),
        ANSWERS,
        says=Says(Unit.SCORE, lambda number, amount: number + survey.low),
    )
    metric = f"flowmetrics_{name}_{unit.value}"
    return Kpi(
        name=name,
        group="Surveys",
        headline=score is not mean_score,
        question=f"What do people answer to the {name} survey?",
        help=f"{what} of the {name} survey: the latest answer of each person per touchpoint in the window.",
        unit=unit,
        better=Better.LOWER if survey.better == "low" else Better.HIGHER,
        labels=("touchpoint", "segment", "window"),
        measures=(measure,),
        reading=partial(_read, measure, score, survey),
        alert=DriftAlert(
            "Look which touchpoint and segment moved, and what was released before.",
            points,
            severity=Severity.PAGE,
            points=True,
            hold="6h",
            steps=(
                "Look at the number of answers: a new channel or another time of asking changes who answers.",
                "Read the latest answers with a low score; ten of them say more than the number.",
                "Look at flow_time, request_resolution and incidents of the same weeks: scores follow them by days.",
            ),
        ),
        example=_example(name, survey, metric, score),
        companions=(
            Companion(f"{metric}_lower", f"Lower 95 % bound of {metric}.", lambda p: p.lower),
            Companion(f"{metric}_upper", f"Upper 95 % bound of {metric}.", lambda p: p.upper),
            Companion(f"flowmetrics_{name}_responses", f"Answers under {metric}.", lambda p: float(p.samples)),
        ),
        samples_min=50,
    )


def _example(name: str, survey: Survey, metric: str, score: Score) -> Example:
    told = f"response respondent={{who}} value_stream=shop survey={name} touchpoint=checkout score={{score}}"
    labels = '{value_stream="shop",touchpoint="checkout",segment="none",window="1d"}'
    value, lower, upper = score({survey.high - survey.low: 1, 0: 1}, survey)
    return Example(
        "Ann changed her mind, so her latest answer counts; Bob gave the lowest.",
        (
            ("2025-03-01T09:00:00Z", told.format(who="ann", score=survey.low)),
            ("2025-03-01T10:00:00Z", told.format(who="ann", score=survey.high)),
            ("2025-03-01T11:00:00Z", told.format(who="bob", score=survey.low)),
        ),
        "2025-03-01T12:00:00Z",
        {
            f"{metric}{labels}": value,
            f"{metric}_lower{labels}": lower,
            f"{metric}_upper{labels}": upper,
            f"flowmetrics_{name}_responses{labels}": 2,
        },
    )
