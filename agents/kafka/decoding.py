"""How consumers of this process decode records; importing it changes the client.

Records are given as they were decoded: to copy each into a ConsumerRecord costs as much again. And a header is read
also where its name is no UTF-8, which a broker takes from any producer: the client would fail there, again and again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_LENGTH: Final = struct.Struct(">qi")
_unpack: Final = fetcher.PartitionRecords._unpack_records


class _Fetched:
    """The batches of a fetch, as the client has them, and the bytes that they are in."""

    def __init__(self, fetched: bytes) -> None:
        batches = MemoryRecords(fetched)
        self.fetched = fetched
        self.has_next, self.next_batch, self.size_in_bytes = batches.has_next, batches.next_batch, batches.size_in_bytes


class _AnyNames:
    """The batches of a fetch from the one on that holds an offset; names of headers may be any bytes."""

    def __init__(self, fetched: bytes, offset: int) -> None:
        batches = map(_AnyNamesBatch, _split(fetched))
        self._batches = [batch for batch in batches if batch.next_offset > offset]

    def has_next(self) -> bool:
        return bool(self._batches)

    def next_batch(self) -> _AnyNamesBatch:
        return self._batches.pop(0)


class _AnyNamesBatch(_DefaultRecordBatchPy):  # type: ignore[misc,unused-ignore] # the client's own, in Python
    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _AnyText(self._buffer)  # type: ignore[has-type,unused-ignore]


class _AnyText(bytearray):
    """Bytes whose slices decode to a text whatever they are."""

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return _AnyText(part) if isinstance(index, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, "replace")


def _split(fetched: bytes) -> Iterator[bytes]:
    start = 0
    while start + _LENGTH.size <= len(fetched):
        end = start + _LENGTH.size + _LENGTH.unpack_from(fetched, start)[1]
        if end > len(fetched):
            return  # the broker cut the fetch off here
        yield fetched[start:end]
        start = end


def _records(self: Any) -> Iterator[Any]:
    """The records of a fetch; from a batch on that the client cannot read, as this can."""
    try:
        yield from _unpack(self)
    except UnicodeDecodeError:
        self._records = _AnyNames(self._records.fetched, self.next_fetch_offset)
        yield from _unpack(self)


fetcher.MemoryRecords = _Fetched
fetcher.PartitionRecords._unpack_records = _records
fetcher.PartitionRecords._consumer_record = lambda self, place, record: record
