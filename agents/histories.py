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
    """The histories of a batch by key; a key never seen gets a fresh one.

    Only those of the batch are objects. The hot ones wait as bytes, which take a quarter of the memory, in two
    generations: when the young one is full it becomes the old one, and what is asked for again comes back from there.
    All others are read from the store. `most` ordinary ones are kept. What was changed must be written by `rows` before
    `age` is called. `epoch` is the published one.
    """

    ORDINARY_BYTES: Final = 1024
    """What an ordinary history takes in memory, its key and its place included."""
    PLACE_BYTES: Final = 256
    """Of that, what key and place take."""

    def __init__(self, store: HistoryStore, most: int, epoch: int = 0) -> None:
        super().__init__()
        self._store = store
        self._epoch = epoch
        self._young_bytes_max = most * self.ORDINARY_BYTES // 2
        self._young: dict[str, bytes] = {}
        self._old: dict[str, bytes] = {}
        self._young_bytes = 0
        self.hits = self.misses = 0

    def __missing__(self, key: str) -> History:
        self.prefetch((key,))
        return self[key]

    def prefetch(self, keys: Collection[str]) -> None:
        """Bring the histories of a batch into memory, in few queries."""
        young, old, epoch = self._young, self._old, self._epoch
        wanted = []
        for key in keys:
            if key not in self:
                body = young.get(key)
                if body is None and (body := old.pop(key, None)) is not None:
                    self._keep(key, body)
                if body is None:
                    wanted.append(key)
                else:
                    self[key] = decode_history(key, body, epoch)
        self.hits += len(keys) - len(wanted)
        self.misses += len(wanted)
        with self._store.told():
            for key, body in self._store.histories(sorted(set(wanted))):
                self[key] = decode_history(key, body, epoch)
                self._keep(key, body)
        for key in wanted:
            if key not in self:
                fresh: History = entity_of(key).history()
                self[key] = fresh

    def rows(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Key and encoded history, as stores keep them."""
        epoch = self._epoch
        for key in keys:
            body = encode_history(self[key], epoch)
            self._keep(key, body)
            yield key, body

    def _keep(self, key: str, body: bytes) -> None:
        self._young[key] = body
        self._young_bytes += len(body) + self.PLACE_BYTES

    def age(self) -> None:
        """The batch is over. Let go of what was not asked for over two generations, if the young one is full."""
        self.clear()
        if self._young_bytes > self._young_bytes_max:
            self._old, self._young, self._young_bytes = self._young, {}, 0

    def forget(self) -> None:
        """Let go of everything; the next reading is from the store."""
        self.clear()
        self._old, self._young, self._young_bytes = {}, {}, 0

    def enter(self, epoch: int) -> None:
        """Read histories as of an epoch that is published from now on."""
        self._epoch = epoch
        self.forget()
