"""How long it takes to compute the past: backfill.py [STREAMS] [DAYS] prints series, samples and seconds.

Synthetic value streams, each with fifty items a day and as many visits, seventy days of events, of which the last DAYS
(30) are computed every five minutes under the default configuration, by as many processes as there are cores. One
value stream gives some 650 series in OpenMetrics.
"""

from __future__ import annotations

import gc
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import orjson

from agents.backfill import Backfill, Span
from flowmetrics.configuration import Configuration
from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US, instant_text, parse_instant

BEGIN = parse_instant("2026-01-01T00:00:00Z")
DAYS = 70
ITEMS_A_DAY = 50


def told(number: int, kind: str, at: int, **fields: Any) -> bytes:
    """A native event."""
    envelope = {"specversion": "1.0", "id": str(number), "source": "bench", "type": f"flowmetrics.{kind}.v1"}
    return orjson.dumps({**envelope, "time": instant_text(at), "data": fields})


def events(streams: int) -> Iterator[bytes]:
    """What the value streams tell."""
    random, number = Random(7), 0
    for item in range(DAYS * ITEMS_A_DAY * streams):
        at, stream = BEGIN + int(random.random() * DAYS * DAY_US), f"stream-{item % streams}"
        kind = random.choice(("Bug", "Story", "Security", "Chore"))
        yield told(number, "activity", at, customer=f"c{random.randrange(3000)}", value_stream=stream)
        for state, hours in (("Ready", 10), ("Doing", 20), ("Done", 1)):
            number += 2
            yield told(number, "item", at, item=f"i{item}", value_stream=stream, item_type=kind, state=state)
            at += int(random.expovariate(1 / hours) * HOUR_US)


def main(streams: int, days: int) -> None:
    """Compute, and print the figures."""
    gc.disable()
    end = BEGIN + DAYS * DAY_US
    with tempfile.TemporaryDirectory() as place:
        task = Backfill(Configuration(), Span(end - days * DAY_US, end, 5 * MINUTE_US), 5 * DAY_US, Path(place))
        lines = list(events(streams))
        begun = time.monotonic()
        with task.chronicle() as chronicle:
            chronicle.tell(((2**62, line) for line in lines), task.span.last)
        with (task.folder / "history.txt").open("wb") as out:
            written = task.write(out, lambda instants: None)
        seconds = time.monotonic() - begun
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    print(f"{len(lines)} events, {days} days, {written.series} series, {written.samples} samples")
    print(f"{seconds:.0f} s, {cpu:.0f} CPU s, {written.samples / cpu:.0f} samples a CPU s, "
          f"{used[1].ru_maxrss // 1024} MiB a process")  # fmt: skip


if __name__ == "__main__":
    streams, days, *_ = [*map(int, sys.argv[1:]), *(1, 30)[len(sys.argv) - 1 :]]
    main(streams, days)
