"""The same people and the same work from the beginning of the demo on, in quicker time, and the slump of one stream.

Every kind of happening comes at random moments at its own rate, whatever the hour. Moments are real time, and so is
the age of what is finished: it was begun in the past, at such an age as things were finished then. When nothing of
that age is left, nothing is finished. In the slump the oldest of all is finished, as if it took several times longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from random import Random
from typing import Any, Final

from agents.demo.history import Branch, Person, Piece, answer, crawl, visit
from agents.demo.streams import PER_SECOND, PILE, SLOWER, Told
from flowmetrics.instants import SECOND_US

AGE_NEAR: Final = 0.25
"""How far from the age that was drawn something may be and still be finished, as a share of that age."""

ALREADY_HERE: Final = 0.985
"""The share of visits by customers who were active in the last 24 hours."""


class Present:
    """What the branches tell after an instant. The same in steps of any size."""

    def __init__(self, random: Random, branches: list[Branch], begin: int, slump_at: int) -> None:
        self._random = random
        self._branches = branches
        self._slump_at = slump_at
        self._next: list[tuple[int, int, str]] = []
        for number, branch in enumerate(branches):
            for happening in HAPPENINGS:
                self._next.append((self._after(begin, branch, happening), number, happening))
        heapify(self._next)

    def until(self, instant: int) -> Iterator[Told]:
        """What is told up to and including an instant, in order of time, since the last time of asking."""
        while self._next[0][0] <= instant:
            at, number, happening = heappop(self._next)
            branch = self._branches[number]
            yield from self._tell(at, branch, happening)
            heappush(self._next, (self._after(at, branch, happening), number, happening))

    def _after(self, at: int, branch: Branch, happening: str) -> int:
        steady, slumped = PER_SECOND[happening]
        rate = (slumped if self._slumps(branch, at) else steady) * branch.stream.pace
        return at + 1 + int(self._random.expovariate(rate) * SECOND_US)

    def _slumps(self, branch: Branch, at: int) -> bool:
        return branch.stream.slumps and at >= self._slump_at

    def _tell(self, at: int, branch: Branch, happening: str) -> Iterator[Told]:
        kind, tell = HAPPENINGS[happening]
        fields = tell(self._random, branch, at, self._slumps(branch, at))
        if fields is not None:
            yield at, kind, branch.stream.name, fields


Fields = dict[str, Any]


def _arrive(random: Random, branch: Branch, at: int, _slump: bool) -> Fields:
    piece, told = branch.new_item(random, at)
    branch.backlog.append(piece)
    return told


def _commit(random: Random, branch: Branch, at: int, slump: bool) -> Fields | None:
    if not branch.backlog or len(branch.ready()) >= branch.usual_ready * (PILE if slump else 1):
        return None
    piece = branch.backlog.pop(random.randrange(len(branch.backlog)))
    piece.since = at
    branch.under_way.append(piece)
    return _move_item(piece, "Ready")


def _take_up(_random: Random, branch: Branch, _at: int, _slump: bool) -> Fields | None:
    ready = branch.ready()
    if not ready or len(branch.active()) >= branch.usual_active:
        return None
    # Who was ready long ago stays: finished live, it would have waited all its time and worked none of it.
    return _move_item(max(ready, key=lambda p: p.since), "In Progress")


def _hand_over(random: Random, branch: Branch, _at: int, _slump: bool) -> Fields | None:
    piece = _one_of(random, [p for p in branch.under_way if p.state == "In Progress" and not p.blocked])
    return _move_item(piece, "In Review") if piece else None


def _finish(random: Random, branch: Branch, at: int, slump: bool) -> Fields | None:
    piece = _aged(random, branch.active(), branch.flow_us, at, slump)
    if piece is None:
        return None
    branch.under_way.remove(piece)
    branch.finished.append(piece)
    return _move_item(piece, "Done", blocked=False)


def _block(random: Random, branch: Branch, _at: int, _slump: bool) -> Fields | None:
    piece = _one_of(random, branch.active())
    return _move_item(piece, piece.state, blocked=True) if piece and not piece.blocked else None


def _unblock(random: Random, branch: Branch, _at: int, _slump: bool) -> Fields | None:
    piece = _one_of(random, [p for p in branch.under_way if p.blocked])
    return _move_item(piece, piece.state, blocked=False) if piece else None


def _reopen(random: Random, branch: Branch, _at: int, _slump: bool) -> Fields | None:
    piece = _one_of(random, branch.finished)
    if piece is None:
        return None
    branch.finished.remove(piece)
    branch.under_way.append(piece)
    return _move_item(piece, "In Progress")


def _ask(random: Random, branch: Branch, at: int, slump: bool) -> Fields | None:
    if len(branch.asked) >= branch.usual_asked * (PILE if slump else 1):
        return None
    piece, told = branch.new_request(random, at)
    branch.asked.append(piece)
    return told


def _answer_back(random: Random, branch: Branch, _at: int, _slump: bool) -> Fields | None:
    piece = _one_of(random, [p for p in branch.asked if p.state == "Open"])
    return _move_request(piece, "Pending", party="requester") if piece else None


def _solve(random: Random, branch: Branch, at: int, slump: bool) -> Fields | None:
    piece = _aged(random, branch.asked, branch.solving_us, at, slump)
    if piece is None:
        return None
    branch.asked.remove(piece)
    branch.solved.append(piece)
    return _move_request(piece, "Solved", party="agent", handle_seconds=round(random.lognormvariate(6, 0.7)))


def _ask_again(random: Random, branch: Branch, _at: int, _slump: bool) -> Fields | None:
    piece = _one_of(random, branch.solved)
    if piece is None:
        return None
    branch.solved.remove(piece)
    branch.asked.append(piece)
    return _move_request(piece, "Open", party="agent")


def _act(random: Random, branch: Branch, _at: int, slump: bool) -> Fields | None:
    if slump or random.random() < ALREADY_HERE:
        return visit(random, random.choice(branch.recent)) if branch.recent else None
    person = random.choice(branch.people)
    branch.recent.append(person)
    return visit(random, person)


def _crawl(random: Random, branch: Branch, _at: int, _slump: bool) -> Fields:
    return crawl(random, branch)


def _sign_up(random: Random, branch: Branch, at: int, _slump: bool) -> Fields:
    person: Person = branch.new_person(random, at, settled=False)
    branch.people.append(person)
    branch.hopeful.append(Piece(person.key, at, "signed_up"))
    return {"customer": person.key, "milestone": "signed_up", "segment": person.segment}


def _reach_value(random: Random, branch: Branch, at: int, slump: bool) -> Fields | None:
    piece = _aged(random, branch.hopeful, branch.to_value_us, at, slump)
    if piece is None:
        return None
    branch.hopeful.remove(piece)
    return {"customer": piece.key, "milestone": "value_reached"}


def _survey(name: str) -> Callable[[Random, Branch, int, bool], Fields]:
    return lambda random, branch, at, slump: answer(random, branch, name, at, slump)


HAPPENINGS: Final[dict[str, tuple[str, Callable[[Random, Branch, int, bool], Fields | None]]]] = {
    "arrive": ("item", _arrive),
    "commit": ("item", _commit),
    "take_up": ("item", _take_up),
    "hand_over": ("item", _hand_over),
    "finish": ("item", _finish),
    "block": ("item", _block),
    "unblock": ("item", _unblock),
    "reopen": ("item", _reopen),
    "ask": ("request", _ask),
    "answer_back": ("request", _answer_back),
    "solve": ("request", _solve),
    "ask_again": ("request", _ask_again),
    "act": ("activity", _act),
    "crawl": ("activity", _crawl),
    "sign_up": ("customer", _sign_up),
    "reach_value": ("customer", _reach_value),
    "nps": ("response", _survey("nps")),
    "csat": ("response", _survey("csat")),
    "ces": ("response", _survey("ces")),
    "enps": ("response", _survey("enps")),
}
"""The event type of each happening, and what is told of it; None when there is nothing that it could happen to."""


def _aged(random: Random, pieces: list[Piece], took_us: list[int], at: int, slump: bool) -> Piece | None:
    """The one whose age is nearest to a time that things took, when it is near to it.

    In the slump the one nearest to several times it, when it is no quicker than things were.
    """
    if not pieces or not took_us:
        return None
    took = random.choice(took_us)
    age = took * (SLOWER if slump else 1)
    nearest = min(pieces, key=lambda p: abs(at - p.since - age))
    gone = at - nearest.since
    return nearest if (gone >= took if slump else abs(gone - age) <= AGE_NEAR * age) else None


def _one_of(random: Random, pieces: list[Piece]) -> Piece | None:
    return random.choice(pieces) if pieces else None


def _move_item(piece: Piece, state: str, blocked: bool | None = None) -> Fields:
    told: Fields = {"item": piece.key, "state": state}
    if blocked is not None and blocked != piece.blocked:
        piece.blocked = told["blocked"] = blocked
    piece.state = state
    return told


def _move_request(piece: Piece, state: str, **told: Any) -> Fields:
    piece.state = state
    return {"request": piece.key, "state": state, **told}
