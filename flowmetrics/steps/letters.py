"""Letters: how partitions learn of histories that are linked to theirs.

A history lives in one partition. When it is linked to others (`flowmetrics.steps.links`), every partition that holds
one of the group keeps a copy of all of it, so that each can read the group by itself. A copy is read like a history of
one's own, and contributes nothing:

    partition 1  a ◀─ own      b ◀─ copy        a reads a ∪ b and contributes
    partition 2  a ◀─ copy     b ◀─ own         b sees that a is the head, and contributes nothing

A partition sends a history when it changed since it was last sent, or when its group reached a partition that has no
copy yet. What is sent only grows until every partition of the group holds the same, whatever the order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from flowmetrics.entity import History
from flowmetrics.routing import partition_of
from flowmetrics.steps.links import reach
from flowmetrics.steps.stored import encode_facts

Sent: TypeAlias = tuple[bytes, list[int]]
"""Digest of what was sent last of a history, and the partitions that have it."""


class Letter(NamedTuple):
    """The facts of a history, without what they contributed, for another partition."""

    partition: int
    key: str
    body: bytes


class Post:
    """The letters of one partition of `partitions`. `sent` must be kept with the histories; changes are in `dirty`."""

    def __init__(self, partition: int, partitions: int, sent: MutableMapping[str, Sent]) -> None:
        self._partition = partition
        self._partitions = partitions
        self._sent = sent

    def owns(self, key: str) -> bool:
        """Whether the history of a key lives here."""
        return self._partitions == 1 or self.home(key) == self._partition

    def home(self, key: str) -> int:
        """The partition in which the history of a key lives."""
        return partition_of(key.encode(), self._partitions)

    def write(self, keys: Iterable[str], histories: Mapping[str, History]) -> list[Letter]:
        """The letters that follow from a change of these histories."""
        letters = []
        homes_of: dict[str, list[int]] = {}
        for key in keys:
            if histories[key].mentioned and self.owns(key):
                if key not in homes_of:
                    group = reach(key, histories)
                    homes_of |= dict.fromkeys(group, sorted({self.home(one) for one in group} - {self._partition}))
                if homes_of[key]:
                    letters += self._of(key, histories[key], homes_of[key])
        return letters

    def _of(self, key: str, history: History, homes: list[int]) -> list[Letter]:
        body = encode_facts(history)
        digest = blake2b(body, digest_size=16).digest()
        last, have = self._sent.get(key, (b"", []))
        if last == digest:
            homes = [home for home in homes if home not in have]
        else:
            have = []
        if homes:
            self._sent[key] = (digest, sorted({*have, *homes}))
        return [Letter(home, key, body) for home in homes]
