"""Adoption of features: who used a feature in the window, of those who are eligible for it.

Who is eligible is configured under `eligible`: the customers known in the value stream whose attributes match, active
or not. For a feature without an entry it is everybody active in the value stream in the same window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final

from flowmetrics.entities.customer import CUSTOMER, RECENCY, CustomerStory
from flowmetrics.entities.slots import slot_end
from flowmetrics.entity import Place
from flowmetrics.kpi import Better, Companion, Example, Kpi, Measure, NoAlert, Point, Unit, ratio_point
from flowmetrics.kpis.activity import ACTIVE
from flowmetrics.view import View


def _matches(person: CustomerStory, rule: Mapping[str, tuple[str, ...]]) -> bool:
    return all(any(fnmatchcase(person.attribute(name), p) for p in patterns) for name, patterns in rule.items())


def _last_use(person: CustomerStory) -> Iterable[Place]:
    rules, grain_us = person.configuration.eligible, person.configuration.grain_us
    return [
        ((person.stream, feature), slot_end(slot, grain_us), 0, 1)
        for feature, slot in person.visits.uses.items()
        if feature not in rules or _matches(person, rules[feature])
    ]


def _eligible(person: CustomerStory) -> Iterable[Place]:
    rules = person.configuration.eligible
    if not rules:
        return ()
    heard_at = person.visits.known_at
    if person.visits.slots:
        heard_at = max(heard_at, slot_end(person.visits.slots[-1], person.configuration.grain_us))
    if heard_at < 0:
        return ()
    return [((person.stream, feature), heard_at, 0, 1) for feature, rule in rules.items() if _matches(person, rule)]


LAST_USE: Final = Measure("feature_users", CUSTOMER, ("feature",), _last_use, RECENCY, distinct=True)
ELIGIBLE: Final = Measure("eligible_users", CUSTOMER, ("feature",), _eligible, RECENCY, distinct=True)


def _read_adoption(view: View) -> Iterator[Point]:
    eligible = view.counts(ELIGIBLE.name, view.horizon)
    for window, panes in view.windows:
        users = view.counts(LAST_USE.name, panes)
        active = sum(view.counts(ACTIVE.name, panes).values())
        for labels in {**users, **eligible}:
            whole = eligible.get(labels, 0) if labels[0] in view.configuration.eligible else active
            yield ratio_point((*labels, window), users.get(labels, 0), whole)


ADOPTION_KPIS: Final = (
    Kpi(
        name="adoption",
        group="Adoption",
        question="Which share of those who could use a feature does use it?",
        help="Users of the feature in the window over those eligible for it.",
        unit=Unit.RATIO,
        better=Better.HIGHER,
        labels=("feature", "window"),
        measures=(LAST_USE, ELIGIBLE, ACTIVE),
        reading=_read_adoption,
        alert=NoAlert("Which features should be used is a decision of the product; active_users pages."),
        example=Example(
            "Two people were active, one of them searched.",
            (
                ("2025-03-02T09:00:00Z", "activity customer=ann value_stream=shop feature=search"),
                ("2025-03-02T09:30:00Z", "activity customer=bob value_stream=shop feature=cart"),
            ),
            "2025-03-02T10:00:00Z",
            {
                'flowmetrics_adoption_ratio{value_stream="shop",feature="search",window="1d"}': 0.5,
                'flowmetrics_adopted_users{value_stream="shop",feature="search",window="1d"}': 1,
                'flowmetrics_eligible_users{value_stream="shop",feature="search",window="1d"}': 2,
            },
        ),
        companions=(
            Companion(
                "flowmetrics_adopted_users",
                "Eligible people who used the feature in the window.",
                lambda p: p.part,
            ),
            Companion(
                "flowmetrics_eligible_users",
                "People eligible for the feature: as configured, else those active in the window.",
                lambda p: float(p.samples),
            ),
        ),
    ),
)
