"""faust-streaming as its documentation has it: an agent over single events, tables in memory with changelogs.

An aggregate is kept under the partition of its events, so that each write to a table is in a changelog partition that
this worker owns.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import defaultdict
from datetime import datetime

import faust
from harness import BROKER, DAY, RUN, STATE, TOPIC, Marks, answer

app = faust.App(
    RUN, broker=f"kafka://{BROKER}", store="memory://", datadir=STATE, topic_partitions=4, web_enabled=False,
    consumer_auto_offset_reset="earliest", value_serializer="json",
)  # fmt: skip
events = app.topic(TOPIC, partitions=4)
items = app.Table("items", partitions=4)
last = app.Table("last", partitions=4)
flow = app.Table("flow", default=list, partitions=4)
active = app.Table("active", default=int, partitions=4)
marks = Marks()
latest = 0


@app.agent(events)
async def process(stream) -> None:
    """Take one event after the other."""
    global latest
    async for arrived in stream.events():
        event, partition = arrived.value, arrived.message.partition
        at = round(datetime.fromisoformat(event["event_time"]).timestamp() * 1000)
        latest = max(latest, at)
        if event["kind"] == "item":
            step(event, partition, at)
        else:
            seen(event, partition, at // DAY)
        if marks.add():
            finish()


def step(event: dict, partition: int, at: int) -> None:
    """A step of an item."""
    item = items.get(event["item_id"])
    if event["state"] == "created":
        if item is None:
            items[event["item_id"]] = [at, None]
    elif event["state"] == "started":
        if item and not item[1]:
            items[event["item_id"]] = [item[0], at]
    elif item:
        group = f"{event['product']}|{event['type']}|{partition}"
        flow[group] = [kept for kept in flow[group] if kept[0] > at - 8 * DAY] + [[at, at - item[0]]]


def seen(event: dict, partition: int, day: int) -> None:
    """Activity of a customer."""
    product = event["product"]
    key = f"{product}|{event['user_id']}"
    before = last.get(key)
    if before is None or day > before:
        last[key] = day
        active[f"{product}|{day}|{partition}"] += 1
        if before is not None:
            active[f"{product}|{before}|{partition}"] -= 1


def finish() -> None:
    """Put the partitions together, answer, and end."""
    times, days = defaultdict(list), defaultdict(lambda: defaultdict(int))
    for key, samples in flow.items():
        times[key.rsplit("|", 1)[0]] += samples
    for key, n in active.items():
        product, day, _ = key.split("|")
        days[product][int(day)] += n
    marks.report(answer(latest, times, days))
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "-l", "warn"]
    app.main()
