"""bytewax: one step with the state of each entity, then under the key of the group one with the state of the group.

One worker; state is in memory with recovery snapshots in SQLite every 10 s, which is its own way of not losing it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main
from harness import BROKER, DAY, STATE, TOPIC, Marks, answer

marks = Marks()
latest = 0
flow: dict = {}
active: dict = {}


class Entity(StatefulBatchLogic):
    """An item or a customer: gives flow times and moves from day to day, and how many events it took."""

    def __init__(self, state: dict | None) -> None:
        self.state = state or {}

    def on_batch(self, values: list) -> tuple:
        state, meant, at = self.state, [], 0
        for event in values:
            at = round(datetime.fromisoformat(event["event_time"]).timestamp() * 1000)
            if event["kind"] == "item":
                if event["state"] != "done":
                    state.setdefault(event["state"], at)
                elif "created" in state:
                    meant.append((f"{event['product']}|{event['type']}", at, at - state["created"]))
                continue
            product, day = event["product"], at // DAY
            before = state.get(product)
            if before is None or day > before:
                state[product] = day
                meant.append((product, day, before))
        return [*meant, ("", at, len(values))], StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict:
        return dict(self.state)


class Group(StatefulBatchLogic):
    """A product, or a type of items in it."""

    def __init__(self, state: tuple | None) -> None:
        self.samples, self.days = state or ([], {})

    def on_batch(self, values: list) -> tuple:
        for group, one, other in values:
            if "|" in group:
                self.samples.append((one, other))
                continue
            self.days[one] = self.days.get(one, 0) + 1
            if other is not None:
                self.days[other] -= 1
        if len(self.samples) > 64 and self.samples[0][0] < self.samples[-1][0] - 8 * DAY:
            oldest = self.samples[-1][0] - 8 * DAY
            self.samples = [sample for sample in self.samples if sample[0] > oldest]
        return [(self.samples, self.days)], StatefulBatchLogic.RETAIN

    def snapshot(self) -> tuple:
        return list(self.samples), dict(self.days)


class View(StatelessSinkPartition):
    """What a gauge would hold."""

    def write_batch(self, items: list) -> None:
        for group, (samples, days) in items:
            if "|" in group:
                flow[group] = samples
            else:
                active[group] = days


class ViewSink(DynamicSink):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> View:
        return View()


def counted(told: tuple) -> bool:
    """Count what was taken; the rest goes on to the groups."""
    global latest
    _, (group, at, events) = told
    if group:
        return True
    latest = max(latest, at)
    marks.add(events)
    return False


dataflow = Dataflow("flow1")
source = op.input("in", dataflow, KafkaSource([BROKER], [TOPIC], tail=False, batch_size=2000))
events = op.map("parse", source, lambda message: (message.key.decode(), orjson.loads(message.value)))
meant = op.filter("count", op.stateful_batch("entity", events, Entity), counted)
groups = op.stateful_batch("group", op.map("key", meant, lambda told: (told[1][0], told[1])), Group)
op.output("view", groups, ViewSink())
init_db_dir(STATE, 4)
cluster_main(
    dataflow, [], 0, recovery_config=RecoveryConfig(STATE), epoch_interval=timedelta(seconds=10),
    worker_count_per_proc=1,
)  # fmt: skip
marks.report(answer(latest, flow, active))
