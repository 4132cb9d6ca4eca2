"""Which partition holds a key: the same for every producer and worker, so that an entity has one history."""

from __future__ import annotations

from zlib import crc32


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: CRC-32 modulo their number, which is what librdkafka's `consistent` partitioner does.

    >>> partition_of(b"item:A-1", 6)
    5
    """
    return crc32(key) % partitions
