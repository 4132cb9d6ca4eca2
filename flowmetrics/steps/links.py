"""Who belongs together: one person under several ids, and requests that duplicate another.

A key keeps only what was told under it. When a key says something about another ("my alias", "I duplicate it"), the
other remembers that it was mentioned, for good; whether the link is live is always asked of the one who said it. So
the keys reachable over mentions hold every group that ever was, and reading them anew gives the groups of now:

    customers   a ── b ── c      one component; the smallest key reads the union, the others contribute nothing
    requests    d ──▶ s ◀── e    s reads the creation of d and e; d and e contribute nothing
"""

from __future__ import annotations

from collections.abc import Mapping

from flowmetrics.entity import Entity, History


def mention(history: History, by: str) -> None:
    """Remember, for good, that another key said something about this one."""
    if by not in history.mentioned:
        history.mentioned.append(by)
        history.mentioned.sort()
        history.linked = True


def reach(start: str, histories: Mapping[str, History]) -> set[str]:
    """Every key that can be reached over mentions, live or not, in either direction."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            history = histories[key]
            waiting.extend(history.mentioned)
            waiting.extend(history.mentions)
    return seen


def lent(key: str, entity: Entity, histories: Mapping[str, History]) -> dict[str, History] | None:
    """The histories that the reading of `key` joins to its own; None when another key reads this one."""
    found = {key}
    waiting = [key]
    while waiting:
        one = waiting.pop()
        history = histories[one]
        near = [other for other in history.mentioned if one in histories[other].mentions]
        if entity.symmetric:
            near.extend(history.mentions)
        waiting.extend(other for other in near if other not in found)
        found.update(near)
    if entity.symmetric and key != min(found):
        return None
    return {other: histories[other] for other in sorted(found - {key})}
