"""The hot histories: as many as the configuration allows in memory, the rest in a store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from flowmetrics.entity import History
from flowmetrics.steps.stored import decode_history, encode_history
from flowmetrics.steps.track import entity_of


class HistoryStore(Protocol):
    """Where histories are read from. Raises OperationError where it or what it holds is damaged."""

    def histories(self, keys: Sequence[str]) -> Iterable[tuple[str, bytes]]:
        """(key, history) of those that are stored."""
        ...

    def told(self) -> AbstractContextManager[None]:
        """Whatever is found damaged inside is an OperationError that says what to do."""
        ...


class HotHistories(dict[str, History]):
    """Histories by key; what is not in memory is read from the store, and a key never seen gets a fresh one.

    Two generations bound the memory: when the young one is full it becomes the old one, and what is touched again
    comes back from there. A history counts once for every `ORDINARY_BYTES` of its stored form. What was changed must be
    committed before `age` is called. `epoch` is the published one.
    """

    ORDINARY_BYTES: Final = 512

    def __init__(self, store: HistoryStore, most: int, epoch: int = 0) -> None:
        super().__init__()
        self._store = store
        self._epoch = epoch
        self._most = most
        self._old: dict[str, History] = {}
        self._weight = 0
        self.hits = self.misses = 0

    def __missing__(self, key: str) -> History:
        self.prefetch((key,))
        return self[key]

    def prefetch(self, keys: Collection[str]) -> None:
        """Bring the histories of a batch into memory, in few queries."""
        absent = [key for key in dict.fromkeys(keys) if key not in self]
        wanted = []
        for key in absent:
            old = self._old.pop(key, None)
            self._weight += 1
            if old is not None:
                self[key] = old
            else:
                wanted.append(key)
        self.hits += len(keys) - len(wanted)
        self.misses += len(wanted)
        with self._store.told():
            for key, body in self._store.histories(sorted(wanted)):
                self[key] = decode_history(key, body, self._epoch)
                self._weight += len(body) // self.ORDINARY_BYTES
        for key in wanted:
            if key not in self:
                fresh: History = entity_of(key).history()
                self[key] = fresh

    def age(self) -> None:
        """Let go of what was not touched for two generations, if the young one is full."""
        if self._weight > self._most // 2:
            self._old = dict(self)
            self.clear()
            self._weight = 0

    def forget(self) -> None:
        """Let go of everything; the next reading is from the store."""
        self._old = {}
        self.clear()
        self._weight = 0

    def enter(self, epoch: int) -> None:
        """Read histories as of an epoch that is published from now on."""
        self._epoch = epoch
        self.forget()

    def rows(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Key and encoded history, as stores keep them."""
        for key in keys:
            body = encode_history(self[key], self._epoch)
            self._weight += len(body) // self.ORDINARY_BYTES
            yield key, body
