"""What the engine changes in Kafka's client, on the client itself: another version of it may know nothing of it."""

from __future__ import annotations

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import ConsumerRecord

import agents.kafka.log

READ_COMMITTED = 1


def test_consumers_give_records_as_they_were_decoded_without_a_copy_of_each() -> None:
    assert agents.kafka.log  # it changes the client when it is loaded
    batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1000)
    batch.append(0, 7, b"k", b"v", [("h", b"1")])
    batch.append(1, 8, None, None, [])
    decoded = MemoryRecords(bytes(batch.build()))
    records = [*PartitionRecords(TopicPartition("t", 0), decoded, [], 0, None, None, True, READ_COMMITTED)]
    assert [(one.key, one.value, one.offset, one.timestamp, [*one.headers]) for one in records] == [
        (b"k", b"v", 0, 7, [("h", b"1")]),
        (None, None, 1, 8, []),
    ]
    assert not any(isinstance(one, ConsumerRecord) for one in records)
