"""The most that Python can do: confluent-kafka in batches, msgspec, dictionaries; some processes share partitions.

main.py PROCESSES. Nothing is stored, so a crash loses everything: this is a bound, not an engine.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import defaultdict
from datetime import datetime
from typing import Any

import msgspec
from confluent_kafka import Consumer, TopicPartition
from harness import BROKER, DAY, EVENTS, RUN, TOPIC, answer, report

PARTITIONS = 4


class Event(msgspec.Struct, gc=False):
    product: str
    event_time: datetime
    item_id: str | None = None
    user_id: str | None = None
    type: str | None = None
    state: str | None = None


def take(partitions: list[int], answers: Any) -> None:
    """Read partitions to their end, and hand over what they say."""
    # With librdkafka's defaults (1 s of rest once 100,000 messages wait) a fast reader gets half as many.
    settings = {"enable.auto.commit": False, "fetch.queue.backoff.ms": 2, "queued.min.messages": 500_000}
    consumer = Consumer({"bootstrap.servers": BROKER, "group.id": RUN, **settings})
    wanted = sum(consumer.get_watermark_offsets(TopicPartition(TOPIC, number))[1] for number in partitions)
    consumer.assign([TopicPartition(TOPIC, number, 0) for number in partitions])
    created: dict[str, int] = {}
    last: dict[tuple[str, str], int] = {}
    flow: dict[str, list[tuple[int, int]]] = defaultdict(list)
    active: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    latest = taken = counted_from = 0
    begun, cpu = time.time(), time.process_time()
    decode = msgspec.json.Decoder(Event).decode
    while taken < wanted:
        messages = consumer.consume(10_000, 0.2)
        taken += len(messages)
        for message in messages:
            event = decode(message.value())
            at = round(event.event_time.timestamp() * 1000)
            latest = max(latest, at)
            if event.item_id is not None:
                if event.state == "created":
                    created.setdefault(event.item_id, at)
                elif event.state == "done":
                    flow[f"{event.product}|{event.type}"].append((at, at - created[event.item_id]))
                continue
            day, product = at // DAY, event.product
            before = last.get((product, event.user_id))
            if before is None or day > before:
                last[product, event.user_id] = day
                active[product][day] += 1
                if before is not None:
                    active[product][before] -= 1
        if not counted_from and wanted // 5 <= taken < wanted:
            counted_from, begun, cpu = taken, time.time(), time.process_time()
    used = time.process_time() - cpu
    days = {product: dict(each) for product, each in active.items()}
    answers.put((taken - counted_from, begun, time.time(), used, latest, dict(flow), days))


def main(processes: int) -> None:
    """Read all partitions, put the parts together, and answer."""
    answers: Any = multiprocessing.Queue()
    shares = [[*range(PARTITIONS)][number::processes] for number in range(processes)]
    workers = [multiprocessing.Process(target=take, args=(share, answers)) for share in shares]
    for worker in workers:
        worker.start()
    parts = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    flow: dict[str, list[tuple[int, int]]] = defaultdict(list)
    active: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for *_, times, days in parts:
        for group, each in times.items():
            flow[group] += each
        for product, counts in days.items():
            for day, n in counts.items():
                active[product][day] += n
    counted, begun, ended, used, latest, *_ = zip(*parts, strict=True)
    assert sum(counted) <= EVENTS
    report(sum(counted), max(ended) - min(begun), sum(used), answer(max(latest), flow, active))


if __name__ == "__main__":
    main(int(sys.argv[1]))
