"""quixstreams: state of each entity in RocksDB with a changelog, then grouped anew by product and aggregated in state.

Its state belongs to the key of a message, so a sum over keys takes the second topic. The answer is read from a view in
this process that the second step feeds, as a gauge would be.
"""

from __future__ import annotations

from datetime import datetime

from harness import BROKER, DAY, EVENTS, RUN, STATE, TOPIC, Marks, answer
from quixstreams import Application

app = Application(
    broker_address=BROKER, consumer_group=RUN, auto_offset_reset="earliest", state_dir=STATE, loglevel="WARNING",
    commit_interval=5.0,
)  # fmt: skip
marks = Marks()
latest = told = heard = 0
all_told = False
flow: dict[str, list] = {}
active: dict[str, dict[str, int]] = {}


def entity(event: dict, state) -> dict | None:
    """What an event means to its group, if anything: a flow time, or a customer that moves from day to day."""
    global latest, told, all_told
    at = round(datetime.fromisoformat(event["event_time"]).timestamp() * 1000)
    latest = max(latest, at)
    meant = step(event, state, at) if event["kind"] == "item" else seen(event, state, at // DAY)
    told += meant is not None
    if marks.events < EVENTS - 1:  # the last one counts when the second step has heard everything
        marks.add()
    else:
        all_told = True
        finish_if_all_was_heard()
    return meant


def step(event: dict, state, at: int) -> dict | None:
    """A step of an item."""
    item = state.get("item")
    if event["state"] == "created":
        if item is None:
            state.set("item", [at, None])
    elif event["state"] == "started":
        if item and not item[1]:
            state.set("item", [item[0], at])
    elif item:
        return {"group": f"{event['product']}|{event['type']}", "at": at, "took": at - item[0]}
    return None


def seen(event: dict, state, day: int) -> dict | None:
    """Activity of a customer."""
    before = state.get(event["product"])
    if before is not None and day <= before:
        return None
    state.set(event["product"], day)
    return {"group": event["product"], "day": day, "before": before}


def view(meant: dict, state) -> dict:
    """Add what was meant to its group."""
    global heard
    group = meant["group"]
    if "took" in meant:
        kept = [sample for sample in state.get("samples", []) if sample[0] > meant["at"] - 8 * DAY]
        flow[group] = [*kept, [meant["at"], meant["took"]]]
        state.set("samples", flow[group])
    else:
        days = state.get("days", {})
        days[str(meant["day"])] = days.get(str(meant["day"]), 0) + 1
        if meant["before"] is not None:
            days[str(meant["before"])] -= 1
        state.set("days", days)
        active[group] = days
    heard += 1
    finish_if_all_was_heard()
    return meant


def finish_if_all_was_heard() -> None:
    """Answer and end, when the second step has taken all that the first one told."""
    if all_told and heard == told:
        marks.add()
        days_of = {product: {int(day): n for day, n in days.items()} for product, days in active.items()}
        marks.report(answer(latest, flow, days_of))
        app.stop()


topic = app.topic(TOPIC, value_deserializer="json", key_deserializer="str")
stream = app.dataframe(topic).apply(entity, stateful=True)
stream = stream[stream.apply(lambda meant: meant is not None)]
stream.group_by("group").apply(view, stateful=True)
app.run()
