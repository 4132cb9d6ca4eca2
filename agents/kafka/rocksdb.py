"""RocksDB as stores use it: how it is opened, and what its errors mean for whoever must act."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteOptions

from flowmetrics.errors import OperationError

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
def unlogged() -> WriteOptions:
    """The changelog is the log: after a crash the table is as it was when it last reached the disk, and is filled on
    from there."""
    options = WriteOptions()
    options.disable_wal = True  # type: ignore[assignment,method-assign] # a property that is typed as a method
    return options


def opened(folder: Path) -> Rdict:
    """The table in a folder, which is made where there is none."""
    return Rdict(str(folder), options=_options())


def damaged(error: Exception) -> bool:
    """Whether the library found files that contradict each other, or that one is missing; it raises Exception itself,
    with a text."""
    return str(error).startswith("Corruption:") or "IO error: No such file or directory" in str(error)


def said(error: Exception) -> bool:
    """Whether it is the library's own: those are plain, with a text."""
    return isinstance(error, OSError) or type(error) is Exception


def refusal(folder: Path, error: Exception) -> OSError | OperationError:
    """What the library says of a folder, and who must do what: OSError where that may pass without a restart."""
    text = str(error)
    for word, advice in _PASSING.items():
        if word in text:
            return OSError(f"{folder} cannot be used: {error}; {advice}")
    advice = next((advice for word, advice in _REFUSALS.items() if word in text), _REMOVE)
    return OperationError(f"{folder} cannot be used as a store: {error}; {advice}")


_PASSING: Final = {
    "No space left": "make room on its disk",
    "quota exceeded": "raise the quota of its disk, or make room",
    "lock hold by current process": "it is being let go of",
}
"""What ends without a restart, by what the library says, and who must do what."""
_REFUSALS: Final = {
    "While lock file": "another process has it open: stop that, or name another folder in kafka.store",
    "Too many open files": "let this process open more files (ulimit -n, LimitNOFILE)",
    "Permission denied": "let this user write there, or name another folder in kafka.store",
    "Read-only file system": "make its disk writable, or name another folder in kafka.store",
    "File exists": "it is no folder: remove it, or name another in kafka.store",
}
_REMOVE: Final = "look at its disk; it is a cache, and may be removed while no worker uses it"
