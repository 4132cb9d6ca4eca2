"""What producers send in one world: native events of all types, few names, instants that collide; some must be refused.

Nobody is silent for so long that the contract lets the engine forget them: names of people carry the number of the 20
days in which their facts lie, and only neighbours are linked. Facts are at most 29 days late, except in an import,
which comes before anything is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeAlias

import msgspec

from flowmetrics.configuration import Configuration
from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US, SECOND_US, instant_text, parse_instant

T0: Final = parse_instant("2018-11-03T21:00:00Z")
"""Six hours before the midnight that Sao Paulo skipped."""

GENERATION_US: Final = 20 * DAY_US
AHEAD_US: Final = HOUR_US

Told: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Body:
    """One delivered event: its bytes, when it says that it happened, and what is wrong with it by itself, if that."""

    line: bytes
    at: int
    fault: str = ""
    survey: str = ""
    score: int = 0

    def verdict(self, configuration: Configuration, arrived_at: int) -> str:
        """The reason for which it is refused; "" when it must be accepted."""
        if self.fault:
            return self.fault
        if self.at > arrived_at + AHEAD_US:
            return "too_far_ahead"
        if not self.survey:
            return ""
        scale = configuration.surveys.get(self.survey)
        if scale is None:
            return "unknown_survey"
        return "" if scale.low <= self.score <= scale.high else "score_off_scale"

    @property
    def event(self) -> Told:
        """The event as it was told."""
        told: Told = msgspec.json.decode(self.line)
        return told


class Workload:
    """The producers of one world. Everything is drawn from `rng`; `on` are the classes of the plan that occur."""

    def __init__(self, rng: Random, on: frozenset[str], configuration: Configuration) -> None:
        self._rng = rng
        self._on = on
        self._configuration = configuration
        self._sent: list[Body] = []
        self._number = 0
        kinds: Mapping[str, tuple[Callable[[int], tuple[str, Told]], ...]] = {
            "items": (self._item,) * 3,
            "requests": (self._request,) * 3,
            "activity": (self._activity,) * 3,
            "customers": (self._customer, self._customer),
            "answers": (self._answer, self._answer),
            "erasures": (self._erase, self._erase) if "customers" in on else (),
            "others": (self._other,),
        }
        self._kinds = [kind for name, some in kinds.items() if name in on for kind in some] or [self._item]
        self._streams = rng.choice((("team1", "shop"), ("team1", "team1", "team2", "shop"), ("shop",)))

    def requests(self, clock: int) -> list[list[Body]]:
        """What is sent at one time: a few requests of a few events."""
        rng = self._rng
        return [[self._body(clock) for _ in range(rng.choice((1, 1, 2, 5)))] for _ in range(rng.choice((1, 1, 1, 3)))]

    def imported(self, clock: int) -> list[list[Body]]:
        """One request with facts of the past."""
        rng = self._rng
        return [[self._fresh(clock - rng.randint(0, 500 * DAY_US)) for _ in range(rng.randint(5, 25))]]

    # --- one event ------------------------------------------------------------------------------------------------
    def _body(self, clock: int) -> Body:
        rng = self._rng
        if self._sent and "repeats" in self._on and rng.random() < 0.15:
            return rng.choice(self._sent[-50:])
        if "refused" in self._on and rng.random() < 0.1:
            return self._refused(clock)
        return self._fresh(self._instant(clock))

    def _fresh(self, at: int) -> Body:
        kind, told = self._rng.choice(self._kinds)(at)
        body = self._told(kind, told, at)
        self._sent.append(body)
        return body

    def _told(self, kind: str, told: Told, at: int) -> Body:
        rng = self._rng
        self._number += 1
        conflict = "conflicts" in self._on and rng.random() < 0.15
        sequence = {} if rng.random() < 0.8 else {"sequence": rng.choice((0, 1, "2", "10", 9))}
        event = {
            "specversion": "1.0",
            "id": rng.choice("123") if conflict else str(self._number),
            "source": rng.choice("sst"),
            "type": f"flowmetrics.{kind}.v1",
            "time": instant_text(at),
            **sequence,
            "data": told,
        }
        line = msgspec.json.encode(event)
        if rng.random() < 0.05:
            line = msgspec.json.format(line, indent=1)
        answers = {"survey": told["survey"], "score": told["score"]} if kind == "response" else {}
        return Body(line, at, **answers)

    def _refused(self, clock: int) -> Body:
        rng = self._rng
        at = self._instant(clock)
        item = "item", {"item": "I1", "value_stream": "shop", "state": "Done"}
        activity = "activity", {"customer": f"a{at // GENERATION_US % 100:02}", "value_stream": "shop"}
        kind, told = (item, activity)[self._number % 2]
        good = self._told(kind, told, at)
        line, fault = rng.choice(
            (
                (b'{"specversion":', "not_json"),
                (b"[1]", "not_cloudevent"),
                (good.line.replace(f"flowmetrics.{kind}.v1".encode(), b"flowmetrics.thing.v1"), "unknown_type"),
                (good.line.replace(b'"value_stream"', b'"value_dream"'), "missing_field"),
                (good.line.replace(b"Z", b"", 1), "time_without_offset"),
                (good.line.replace(b"shop", b"I" * 262_144), "too_large") if rng.random() < 0.1 else (b"", "not_json"),
            )
        )
        if rng.random() < 0.3:
            return self._told(kind, told, clock + AHEAD_US + 1)
        return Body(line, at, fault)

    def _instant(self, clock: int) -> int:
        """Mostly just now; sometimes late, ahead, on an edge, or the same instant as another fact."""
        rng, on = self._rng, self._on
        drawn = rng.random()
        if drawn < 0.2 and self._sent:
            return min(rng.choice(self._sent[-8:]).at, clock + AHEAD_US)
        if drawn < 0.35 and "late" in on:
            return clock - rng.choice((HOUR_US, 3 * HOUR_US, DAY_US, rng.randint(0, 28 * DAY_US)))
        if drawn < 0.5 and "ahead" in on:
            return clock + rng.choice((1, SECOND_US, 5 * MINUTE_US, rng.randint(1, AHEAD_US), AHEAD_US))
        if drawn < 0.65 and "edges" in on:
            return (
                clock
                - clock % rng.choice((self._configuration.resolution_us, HOUR_US, DAY_US))
                - rng.choice((0, 1, -1))
            )
        return clock - rng.choice((0, 0, 1, SECOND_US, rng.randint(0, HOUR_US)))

    # --- what is told ---------------------------------------------------------------------------------------------
    def _maybe(self, chance: float = 0.4, **told: Any) -> Told:
        return {name: value for name, value in told.items() if self._rng.random() < chance}

    def _person(self, at: int) -> str:
        return f"{self._rng.choice('aab')}{at // GENERATION_US % 100:02}"

    def _near(self, at: int) -> list[str]:
        """Other ids of a person, of this or the last generation, in either order of names."""
        generation = at // GENERATION_US % 100 - self._rng.choice((0, 0, 1))
        return self._rng.sample([f"{letter}{generation:02}" for letter in "Aabz"], self._rng.choice((0, 1, 1, 2)))

    def _item(self, at: int) -> tuple[str, Told]:
        rng = self._rng
        states = (
            "Backlog",
            "Ready",
            "Doing",
            "Doing",
            "Done",
            "Done",
            "Closed",
            "Cancelled",
            "Later",
            "Commented",
            "Zzz",
        )
        told = {"item": rng.choice(("I1", "I1", "I2", "I3")), "value_stream": rng.choice(self._streams)}
        more = self._maybe(0.25, item_type=rng.choice(("Bug", "Feature", "zzz", "")), blocked=rng.random() < 0.5)
        gone = self._maybe(0.08, deleted=rng.random() < 0.6, title="t" * 300)
        return "item", {**told, "state": rng.choice(states), **more, **gone}

    def _request(self, at: int) -> tuple[str, Told]:
        rng = self._rng
        told = {"request": rng.choice(("R1", "R1", "R2", "R3")), "value_stream": rng.choice(self._streams)}
        state = rng.choice(("Ready", "Doing", "Done", "Done", "Cancelled", "Later", "Commented"))
        more = self._maybe(0.3, channel=rng.choice(("web", "email", "")))
        links = self._maybe(0.25, duplicate_of=rng.choice(("", "R1", "R2", "R9")))
        return "request", {**told, "state": state, **more, **(links if "duplicates" in self._on else {})}

    def _activity(self, at: int) -> tuple[str, Told]:
        rng = self._rng
        told = {"customer": self._person(at), "value_stream": rng.choice(self._streams)}
        more = self._maybe(0.4, feature=rng.choice(("f", "g", "h", "")), segment=rng.choice(("p", "q", "")))
        return "activity", {**told, **more, **self._maybe(0.1, actor=rng.choice(("human", "bot", "test")))}

    def _customer(self, at: int) -> tuple[str, Told]:
        rng = self._rng
        more = self._maybe(
            0.4,
            value_stream=rng.choice(self._streams),
            milestone=rng.choice(("signed_up", "value_reached", "onboarded")),
            segment=rng.choice(("p", "q", "")),
            plan=rng.choice("xyz"),
        )
        links = self._maybe(0.5, aliases=self._near(at)) if "links" in self._on else {}
        return "customer", {"customer": self._person(at), **more, **links}

    def _answer(self, at: int) -> tuple[str, Told]:
        rng = self._rng
        told = {"respondent": self._person(at), "value_stream": rng.choice(self._streams)}
        wild = "refused" in self._on
        survey = rng.choice(("nps", "nps", "csat", "ces", "enps", *(("smile",) if wild else ())))
        more = self._maybe(0.4, touchpoint=rng.choice(("u", "v", "")), segment=rng.choice(("p", "")))
        response = self._maybe(0.4, response=rng.choice(("1", "2")))
        return "response", {
            **told,
            "survey": survey,
            "score": rng.randint(0, 10) if wild else rng.randint(1, 5),
            **more,
            **response,
        }

    def _erase(self, at: int) -> tuple[str, Told]:
        return "erase", {"person": self._person(at)}

    def _other(self, at: int) -> tuple[str, Told]:
        stream = {"value_stream": self._rng.choice(self._streams)}
        journey = {"customer": self._person(at), "journey": "j", "touchpoint": "u"}
        more = ({"id": "1"}, {"measure": "leads", "amount": 2}, journey)
        return self._rng.choice(
            (
                ("deployment", {**stream, **more[0]}),
                ("business", {**stream, **more[1]}),
                ("touchpoint", {**stream, **more[2]}),
            )
        )
