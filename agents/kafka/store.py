"""A partition's changelog as a local table: RocksDB filled up to an offset, so that only the rest must be read.

It is a cache: whatever is in it is also on the changelog, and a folder that is lost or damaged is filled again.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch, WriteOptions

from flowmetrics.errors import OperationError

_FILLED: Final = b"\1filled"
"""Sorts before every other key, and none begins so."""


_CACHE_BYTES: Final = 64 * 1024 * 1024
"""For what was read last, of all stores of the process together."""
_WRITE_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Of each store; there may be two."""


@cache
def _options() -> Options:
    """Of all stores of the process: they share the memory for reading."""
    options = Options(raw_mode=True)
    options.set_max_open_files(64)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_keep_log_file_num(1)
    options.set_db_write_buffer_size(2 * _WRITE_BUFFER_BYTES)
    options.set_compression_type(DBCompressionType.none())
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(_CACHE_BYTES))
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_bloom_filter(10, block_based=False)
    options.set_block_based_table_factory(blocks)
    return options


@cache
def _unlogged() -> WriteOptions:
    """The changelog is the log: after a crash the table is as it was when it last reached the disk, and is filled on
    from there."""
    options = WriteOptions()
    options.disable_wal = True  # type: ignore[assignment,method-assign] # a property that is typed as a method
    return options


class Store:
    """The table of one changelog partition. What it holds follows the changelog and never runs ahead of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = Rdict(str(folder), options=_options())
        except Exception:  # noqa: BLE001 - the library raises Exception itself; a cache that is damaged is made anew
            shutil.rmtree(folder, ignore_errors=True)
            try:
                self._db = Rdict(str(folder), options=_options())
            except Exception as error:  # noqa: BLE001
                raise OperationError(f"{folder} cannot be used as a store: {error}; free it or name another") from None

    @property
    def filled(self) -> int:
        """The offset of the changelog up to which it is in here."""
        stored = self._db.get(_FILLED)
        return int(stored) if stored else 0

    def fill(self, rows: Iterable[tuple[bytes, bytes | None]], filled: int) -> None:
        """Take what the changelog says up to an offset, as one."""
        batch = WriteBatch(raw_mode=True)
        for key, value in rows:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(_FILLED, b"%d" % filled)
        self._db.write(batch, _unlogged())

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of keys, None where there is none."""
        found: Any = self._db.get(list(keys))
        return list(found)

    def beginning(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys, without the prefix with which they begin, and values, in order."""
        yield from self._from(prefix, prefix)

    def _from(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        rows: Any = self._db.items(from_key=start)
        for key, value in rows:
            if not key.startswith(prefix):
                return
            yield key[len(prefix) :], value

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
