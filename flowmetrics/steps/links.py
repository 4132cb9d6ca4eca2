"""Who belongs together: one person under several ids, and requests that duplicate another.

A key keeps only what was told under it. When a key says something about another ("my alias", "I duplicate it"), both
remember for good that they were mentioned together, and since when; whether the link is live is always asked of the one
who said it. So the keys reachable over mentions hold every group that ever was, and reading them anew gives those of
now:

    customers   a ── b ── c      one component; the smallest key reads the union, the others contribute nothing
    requests    d ──▶ s ◀── e    s reads the creation of d and e; d and e contribute nothing

Erasing a person spreads over the links told up to its time, in whatever order they arrive.
"""

from __future__ import annotations

from collections.abc import Mapping

from flowmetrics.configuration import Configuration
from flowmetrics.entities.customer import CustomerHistory
from flowmetrics.entity import Entity, History


def mention(one: str, other: str, at: int, histories: Mapping[str, History]) -> None:
    """Remember, for good, that one key said something about another at an instant."""
    if one != other:
        for key, mate in ((one, other), (other, one)):
            mentioned = histories[key].mentioned
            mentioned[mate] = min(at, mentioned.get(mate, at))


def reach(start: str, histories: Mapping[str, History]) -> set[str]:
    """Every key that can be reached over mentions, live or not; at least the start."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            waiting.extend(histories[key].mentioned)
    return seen


def lent(
    key: str, entity: Entity, histories: Mapping[str, History], configuration: Configuration
) -> dict[str, dict[str, History] | None]:
    """The histories that the reading of `key` joins to its own; None when another key reads this one.

    Where links join ids into one, the answer is for every member of the group at once.
    """
    found = {key}
    waiting = [key]
    while waiting:
        one = waiting.pop()
        own = frozenset(entity.mentions(histories[one], configuration)) if entity.symmetric else ()
        for other in histories[one].mentioned:
            if other not in found and (other in own or one in entity.mentions(histories[other], configuration)):
                found.add(other)
                waiting.append(other)
    if not entity.symmetric:
        return {key: {other: histories[other] for other in sorted(found - {key})}}
    head, *others = sorted(found)
    return {head: {other: histories[other] for other in others}, **dict.fromkeys(others)}


def spread_erasure(start: str, histories: Mapping[str, History], configuration: Configuration) -> None:
    """Erase the other ids of erased people: those linked by a fact up to the time of the erasure."""
    waiting = [start]
    while waiting:
        one = histories[waiting.pop()]
        assert isinstance(one, CustomerHistory)
        for key, told_at in one.mentioned.items():
            other = histories[key]
            assert isinstance(other, CustomerHistory)
            if told_at <= one.erased_at and other.erase_until(one.erased_at, configuration):
                waiting.append(key)
            elif told_at <= other.erased_at and one.erase_until(other.erased_at, configuration):
                waiting.append(start)
                waiting.extend(one.mentioned)
