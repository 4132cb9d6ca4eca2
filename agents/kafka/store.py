"""A partition's changelog as a local table: RocksDB filled up to an offset, so that only the rest must be read.

It is a cache: whatever is in it is also on the changelog. A folder that is lost or damaged begins anew, and so does one
that may be wrong: it was filled from other topics, or so long ago that Kafka may have dropped tombstones since.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from rocksdict import WriteBatch

from agents.kafka import rocksdb
from agents.kafka.log import Records
from agents.kafka.topics import TOMBSTONE_DAYS
from flowmetrics.instants import DAY_US

STALE_US: Final = TOMBSTONE_DAYS * DAY_US // 2
"""Half of the time for which a tombstone can be read: clocks may be off by the other half."""

_FILLED: Final = b"\1filled"
"""Sorts before every other key, and none begins so."""


def is_stale(filled_at: int, now: int) -> bool:
    """Whether Kafka may have dropped a tombstone that a store lacks which was filled up to an instant.

    >>> is_stale(filled_at=0, now=STALE_US), is_stale(filled_at=0, now=STALE_US + 1)
    (False, True)
    """
    return abs(now - filled_at) > STALE_US


class _Filled(msgspec.Struct, array_like=True, frozen=True):
    """How far a store is filled."""

    origin: str
    offset: int
    at: int
    """Tombstones that lie further can be read for as long as if they had been written then."""


class Store:
    """The table of one changelog partition. What it holds follows the changelog and never runs ahead of it.

    `origin` tells the topics of one engine from all others, `clock` gives microseconds since 1970. Everything raises
    OperationError where somebody must act, and OSError, which names what to do as well, where it may pass.
    """

    def __init__(self, folder: Path, origin: str, clock: Callable[[], int]) -> None:
        self._folder, self._origin, self._clock = folder, origin, clock
        with self._refusals():
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = rocksdb.opened(folder)
            except Exception as error:
                if not rocksdb.damaged(error):
                    raise
                shutil.rmtree(folder)
                self._db = rocksdb.opened(folder)
        (stored,) = self.get([_FILLED])
        try:
            self._filled = msgspec.msgpack.decode(stored or b"", type=_Filled)
        except msgspec.MsgspecError:  # it is new, or of a version that did not say whose it is
            self.begin_anew()
        if self._filled.origin != origin or is_stale(self._filled.at, clock()):
            self.begin_anew()

    @property
    def filled(self) -> int:
        """The offset of the changelog up to which it is in here."""
        return self._filled.offset

    def begin_anew(self) -> None:
        """Forget everything."""
        self.close()
        with self._refusals():
            shutil.rmtree(self._folder)
            self._db = rocksdb.opened(self._folder)
        self._filled = _Filled(self._origin, 0, self._clock())

    def fill(self, rows: Iterable[tuple[bytes, bytes | None]], offset: int, at: int | None = None) -> None:
        """Take what the changelog says up to an offset, as one. `at`: what lies further was written after that, or is
        yet to be written if nothing is said."""
        batch = WriteBatch(raw_mode=True)
        for key, value in rows:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        filled = _Filled(self._origin, offset, self._clock() if at is None else max(at, self._filled.at))
        batch.put(_FILLED, msgspec.msgpack.encode(filled))
        with self._refusals():
            self._db.write(batch, rocksdb.unlogged())
        self._filled = filled

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of keys, None where there is none."""
        with self._refusals():
            found: Any = self._db.get(list(keys))
        return list(found)

    def beginning(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys, without the prefix with which they begin, and values, in order."""
        yield from self._from(prefix, prefix)

    def _from(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        key: Any = start
        rows: Any = self._db.items(from_key=start)
        cursor = self._db.iter()
        try:
            for key, value in rows:
                if not key.startswith(prefix):
                    return
                yield key[len(prefix) :], value
            with self._refusals():  # the rows also end, and nothing is said, where a damaged block begins
                cursor.seek(key)
                if cursor.valid():
                    cursor.next()
                cursor.status()
        finally:
            del rows, cursor  # the library lets go of the folder after all of them

    def after(self, prefix: bytes, key: bytes, most: int) -> list[bytes]:
        """The next keys above one, without the prefix, at most so many."""
        beyond = (found for found, _ in self._from(prefix, prefix + key) if found > key)
        return list(islice(beyond, most))

    def count(self) -> int:
        """About how many rows there are."""
        return int(self._db.property_int_value("rocksdb.estimate-num-keys") or 0)

    def close(self) -> None:
        """Let go of the folder."""
        with contextlib.suppress(Exception):
            self._db.close()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """What the library says, as who must do what; what turns out to be damaged is removed."""
        try:
            yield
        except Exception as error:
            if not rocksdb.said(error):
                raise
            if rocksdb.damaged(error):
                self.close()
                shutil.rmtree(self._folder, ignore_errors=True)
                raise OSError(f"{self._folder} was damaged, and is filled anew ({error})") from None
            raise rocksdb.refusal(self._folder, error) from None


def take(store: Store, records: Records) -> None:
    """Fill a store with what comes next on its changelog."""
    last = records[-1]
    store.fill([(record.key or b"", record.value) for record in records], last.offset + 1, last.timestamp * 1000)
