"""The weeks before the demo: everybody's whole story is told, and cut off at the instant at which the demo begins.

What was not finished by then is what the company has on its hands: open work, open requests, customers on their way
to value. `Branch` keeps it, and how long things took: the present finishes what is as old as that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeAlias

from agents.demo.streams import (
    BOTS,
    CHANNELS,
    CUSTOMERS_AT_FIRST,
    EMPLOYEES,
    ITEM_TYPES,
    OFFICE,
    SCORES,
    SEGMENTS,
    SHOPPING,
    SIGN_UPS_PER_DAY,
    SURVEYS_PER_DAY,
    Stream,
    Told,
    at_work,
    moments,
    pick,
    spread,
)
from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US

SALE_US: Final = 3 * MINUTE_US
"""How long the daily flash sale lasts."""

WEEK_US: Final = 7 * DAY_US
EARLIER_US: Final = 60 * DAY_US
"""How long the company worked before its past begins, so that it has work on its hands then: else what is open would
grow older and older for as long as the slowest work takes, and be older than was usual in any week before."""

OVER: Final = frozenset({"Done", "Cancelled", "Solved"})

Step: TypeAlias = tuple[int, dict[str, Any]]


@dataclass(slots=True)
class Piece:
    """A work item or a request: when its clock began, and its state as told last."""

    key: str
    since: int
    state: str
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Person:
    """A customer: their segment, the feature they like best, when they joined and when they stopped coming."""

    key: str
    segment: str
    liking: str
    joined: int
    gone: int
    visits_per_day: float


@dataclass(slots=True)
class Branch:
    """What one value stream has on its hands at an instant, how much that usually is, and how long things took."""

    stream: Stream
    counts: dict[str, int] = field(default_factory=dict)
    backlog: list[Piece] = field(default_factory=list)
    under_way: list[Piece] = field(default_factory=list)
    finished: list[Piece] = field(default_factory=list)
    asked: list[Piece] = field(default_factory=list)
    solved: list[Piece] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    recent: list[Person] = field(default_factory=list)
    hopeful: list[Piece] = field(default_factory=list)
    usual_ready: int = 0
    usual_active: int = 0
    usual_asked: int = 0
    flow_us: list[int] = field(default_factory=list)
    solving_us: list[int] = field(default_factory=list)
    to_value_us: list[int] = field(default_factory=list)

    def ready(self) -> list[Piece]:
        """The work that is committed to and not taken up yet."""
        return [p for p in self.under_way if p.state == "Ready"]

    def active(self) -> list[Piece]:
        """The work that was taken up and is not finished, blocked or not."""
        return [p for p in self.under_way if p.state != "Ready"]

    def number(self, kind: str) -> int:
        """The next number of a kind of thing in this stream."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return self.counts[kind]

    def new_item(self, random: Random, at: int) -> tuple[Piece, dict[str, Any]]:
        """A work item that somebody thought of, and what is told of it."""
        kind = pick(random, ITEM_TYPES)
        key = f"{self.stream.prefix}-{self.number('item')}"
        title = f"{random.choice(('Improve', 'Repair', 'Rethink', 'Speed up'))} {random.choice(self.stream.features)}"
        team = f"{self.stream.name}-{random.choice(('red', 'blue'))}"
        told = {"item": key, "state": "Backlog", "item_type": kind, "team": team, "title": title}
        return Piece(key, at, "Backlog"), told

    def new_request(self, random: Random, at: int) -> tuple[Piece, dict[str, Any]]:
        """A request of a customer, and what is told of it."""
        key = f"{self.stream.prefix}-R{self.number('request')}"
        channel = pick(random, CHANNELS)
        customer = self.somebody(random, at).key
        told = {"request": key, "state": "Open", "channel": channel, "customer": customer, "party": "agent"}
        return Piece(key, at, "Open"), told

    def somebody(self, random: Random, at: int) -> Person:
        """A customer who has joined by then."""
        while (person := random.choice(self.people)).joined > at:
            pass
        return person

    def new_person(self, random: Random, joined: int, settled: bool) -> Person:
        """A customer; a settled one has been coming for long, and many a new one does not come back."""
        key = f"{self.stream.prefix}-C{self.number('person')}"
        stays = settled or random.random() < 0.6
        gone = joined + spread(random, (400 if settled else 90 if stays else 1.5) * DAY_US, 0.6)
        visits = random.lognormvariate(-0.9, 0.6) if stays else 1.5
        return Person(key, pick(random, SEGMENTS), random.choice(self.stream.features), joined, gone, visits)


def live_through(random: Random, stream: Stream, begin: int, end: int, sale_at: int) -> tuple[list[Told], Branch]:
    """What a value stream told in [begin, end), and what it has on its hands at `end`."""
    branch, working = Branch(stream), Random(random.getrandbits(64))
    told = [t for t in _customers(random, branch, begin, end) if t[0] < end]
    told += _sales(random, branch, begin, end, sale_at)
    told += _items(working, branch, begin, end)
    for tell in (_requests, _answers, _crawling):
        told += tell(random, branch, begin, end)
    branch.usual_ready, branch.usual_active = len(branch.ready()), len(branch.active())
    branch.usual_asked = len(branch.asked)
    return told, branch


def visit(random: Random, person: Person, feature: str | None = None) -> dict[str, Any]:
    """What is told when a customer does something."""
    used = feature or (person.liking if random.random() < 0.7 else None)
    told = {"customer": person.key, "segment": person.segment}
    return {**told, "feature": used} if used else told


def answer(random: Random, branch: Branch, survey: str, at: int, sour: bool) -> dict[str, Any]:
    """An answer to a survey, by a customer about a touchpoint or by an employee."""
    scale, steady, bad = SCORES[survey]
    score = random.choices(scale, bad if sour else steady)[0]
    if survey == "enps":
        return {"respondent": _employee(branch, random.randrange(EMPLOYEES)), "survey": survey, "score": score}
    person, touchpoint = branch.somebody(random, at), random.choice(branch.stream.touchpoints)
    told = {"respondent": person.key, "survey": survey, "score": score}
    return {**told, "touchpoint": touchpoint, "segment": person.segment}


def crawl(random: Random, branch: Branch) -> dict[str, Any]:
    """What is told when a bot comes by."""
    return {"customer": f"{branch.stream.prefix}-BOT{random.randrange(BOTS)}", "actor": "bot"}


def _items(random: Random, branch: Branch, begin: int, end: int) -> Iterator[Told]:
    # A seed has one story of work, whatever the hour: in a few of all companies old work piles up by chance.
    earlier = (begin - EARLIER_US) // WEEK_US * WEEK_US
    for created in moments(random, earlier, end, branch.stream.items_per_day, OFFICE):
        piece, first = branch.new_item(random, created)
        steps = _known([(created, first), *_item_steps(random, piece)], begin)
        if not steps:
            continue
        piece.since = max(piece.since, begin)
        for at, step in steps:
            if at < end:
                piece.state = step["state"]
                piece.blocked = step.get("blocked", piece.blocked)
                yield at, "item", branch.stream.name, {"item": piece.key, **step}
        _shelve_item(branch, piece, [(at, step["state"]) for at, step in steps if at < end], end)


def _known(story: list[Step], begin: int) -> list[Step]:
    """What is told of a story from `begin` on: first how it stands then, and nothing where it was over by then."""
    before, after = [step for at, step in story if at < begin], [(at, step) for at, step in story if at >= begin]
    if not before:
        return after
    standing = {name: value for step in before for name, value in step.items()}
    return [] if standing["state"] in OVER else [(begin, standing), *after]


def _item_steps(random: Random, piece: Piece) -> Iterator[Step]:
    at = at_work(random, piece.since + spread(random, 1.2 * DAY_US, 0.8))
    piece.since = at
    yield at, {"state": "Ready"}
    whole = spread(random, 2.2 * DAY_US, 0.8) * (3 if random.random() < 0.1 else 1)
    at = at_work(random, at + int(whole * random.uniform(0.2, 0.5)))
    yield at, {"state": "In Progress"}
    if random.random() < 0.12:
        at = at_work(random, at + int(whole * 0.1))
        yield at, {"state": "In Progress", "blocked": True}
        at = at_work(random, at + int(whole * 0.2))
        yield at, {"state": "In Progress", "blocked": False}
    at = at_work(random, at + int(whole * random.uniform(0.2, 0.4)))
    if random.random() < 0.07:
        yield at, {"state": "Cancelled"}
        return
    yield at, {"state": "In Review"}
    at = at_work(random, at + int(whole * random.uniform(0.1, 0.2)))
    yield at, {"state": "Done"}
    if random.random() < 0.06:
        at = at_work(random, at + spread(random, DAY_US, 0.6))
        yield at, {"state": "In Progress"}
        yield at_work(random, at + spread(random, DAY_US, 0.6)), {"state": "Done"}


def _shelve_item(branch: Branch, piece: Piece, told: list[tuple[int, str]], end: int) -> None:
    if piece.state == "Backlog":
        branch.backlog.append(piece)
    elif piece.state == "Done":
        done = [at for at, state in told if state == "Done"]
        branch.flow_us.append(done[0] - piece.since)
        if done[-1] > end - DAY_US:
            branch.finished.append(piece)
    elif piece.state != "Cancelled":
        branch.under_way.append(piece)


def _requests(random: Random, branch: Branch, begin: int, end: int) -> Iterator[Told]:
    for asked in moments(random, begin - EARLIER_US, end, branch.stream.requests_per_day, SHOPPING):
        piece, first = branch.new_request(random, max(asked, begin))
        steps = _known([(asked, first), *_request_steps(random, asked)], begin)
        if not steps:
            continue
        solved = [piece.since]
        for at, step in steps:
            if at < end:
                piece.state = step["state"]
                solved += [at] * (piece.state == "Solved")
                yield at, "request", branch.stream.name, {"request": piece.key, **step}
        if piece.state != "Solved":
            branch.asked.append(piece)
            continue
        branch.solving_us.append(solved[-1] - piece.since)
        if solved[-1] > end - DAY_US:
            branch.solved.append(piece)


def _request_steps(random: Random, asked: int) -> Iterator[Step]:
    whole = spread(random, 9 * HOUR_US, 1.0) * (24 if random.random() < 0.04 else 1)
    handled = round(random.lognormvariate(6, 0.7))
    if random.random() < 0.5:
        yield asked + int(whole * 0.3), {"state": "Pending", "party": "requester"}
    at = asked + whole
    yield at, {"state": "Solved", "party": "agent", "handle_seconds": handled}
    if random.random() < 0.06:
        at += spread(random, 12 * HOUR_US, 0.7)
        yield at, {"state": "Open"}
        at += spread(random, 5 * HOUR_US, 0.7)
        yield at, {"state": "Solved", "handle_seconds": 2 * handled}


def _customers(random: Random, branch: Branch, begin: int, end: int) -> Iterator[Told]:
    name = branch.stream.name
    branch.people = [branch.new_person(random, begin, settled=True) for _ in range(CUSTOMERS_AT_FIRST)]
    for joined in moments(random, begin, end, SIGN_UPS_PER_DAY, SHOPPING):
        person = branch.new_person(random, joined, settled=False)
        branch.people.append(person)
        yield joined, "customer", name, {"customer": person.key, "milestone": "signed_up", "segment": person.segment}
        onboarded = joined + spread(random, 2 * HOUR_US, 0.8)
        if random.random() < 0.85:
            yield onboarded, "customer", name, {"customer": person.key, "milestone": "onboarded"}
        if random.random() < 0.7:
            reached = onboarded + spread(random, 2.5 * DAY_US, 0.8)
            branch.to_value_us.append(reached - joined)
            yield reached, "customer", name, {"customer": person.key, "milestone": "value_reached"}
            if reached >= end:
                branch.hopeful.append(Piece(person.key, joined, "signed_up"))
    for person in branch.people:
        at = begin
        for at in moments(random, person.joined, min(person.gone, end), person.visits_per_day, SHOPPING):
            yield at, "activity", name, visit(random, person)
        if at > end - DAY_US:
            branch.recent.append(person)
    branch.people = [p for p in branch.people if p.gone > end]


def _sales(random: Random, branch: Branch, begin: int, end: int, sale_at: int) -> Iterator[Told]:
    """Once a day at the same time, customers who come for nothing else."""
    hunters = [branch.new_person(random, begin, settled=True) for _ in range(branch.stream.bargain_hunters)]
    for sale in range(sale_at - (sale_at - begin) // DAY_US * DAY_US, end, DAY_US):
        for hunter in hunters:
            at = sale + 1 + random.randrange(SALE_US)
            if random.random() < 0.5 and at < end:
                yield at, "activity", branch.stream.name, visit(random, hunter, "flash-sale")


def _answers(random: Random, branch: Branch, begin: int, end: int) -> Iterator[Told]:
    for survey, per_day in SURVEYS_PER_DAY.items():
        for at in moments(random, begin, end, per_day, SHOPPING):
            yield at, "response", branch.stream.name, answer(random, branch, survey, at, sour=False)
    for number in range(EMPLOYEES):
        employee = {"customer": _employee(branch, number), "kind": "employee"}
        yield begin + number * MINUTE_US, "customer", branch.stream.name, employee
    for at in moments(random, begin + HOUR_US, end, EMPLOYEES / 7, OFFICE):
        yield at, "response", branch.stream.name, answer(random, branch, "enps", at, sour=False)


def _crawling(random: Random, branch: Branch, begin: int, end: int) -> Iterator[Told]:
    for at in moments(random, begin, end, 4.0 * BOTS, SHOPPING):
        yield at, "activity", branch.stream.name, crawl(random, branch)


def _employee(branch: Branch, number: int) -> str:
    return f"{branch.stream.prefix}-E{number}"
