"""How long it takes to compute the past: backfill.py [STREAMS] [DAYS] [blocks] prints series, samples and seconds.

Synthetic value streams, each with fifty items a day and as many visits, seventy days of events, of which the last DAYS
(30) are computed every five minutes under the default configuration, by as many processes as there are cores. One
value stream gives some 650 series in OpenMetrics. With `blocks` that is also put into a data directory of Prometheus,
with what the recording rules make of it, and a second line says what both took together.
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
from agents.prometheus import fill
from flowmetrics.configuration import Configuration
from flowmetrics.instants import DAY_US, HOUR_US, MINUTE_US, duration_text, instant_text, parse_instant
from flowmetrics.publishing.rules.passes import pass_files

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


def main(streams: int, days: int, blocks: bool) -> None:
    """Compute, and print the figures."""
    gc.disable()
    end = BEGIN + DAYS * DAY_US
    with tempfile.TemporaryDirectory() as place:
        task = Backfill(Configuration(), Span(end - days * DAY_US, end, 5 * MINUTE_US), 5 * DAY_US, Path(place))
        lines = list(events(streams))
        begun = time.monotonic()
        with task.chronicle() as chronicle:
            chronicle.tell(((2**62, line) for line in lines), task.span.last)
        path, directory = task.folder / "history.txt", task.folder / "prometheus"
        with path.open("wb") as out:
            written = task.write(out, lambda instants: None)
        seconds, (cpu, mib) = time.monotonic() - begun, used()
        print(f"{len(lines)} events, {days} days, {written.series} series, {written.samples} samples")
        print(f"{seconds:.0f} s, {cpu:.0f} CPU s, {written.samples / cpu:.0f} samples a CPU s, {mib} MiB a process")
        if blocks:
            directory.mkdir()
            passes = pass_files(task.configuration, duration_text(task.span.step))
            count = fill(path, passes, directory, task.folder, task.span, lambda parts: None)
            seconds, (cpu, mib) = time.monotonic() - begun, used()
            print(
                f"{count} blocks, rules in {len(passes)} passes: {seconds:.0f} s, {cpu:.0f} CPU s, {mib} MiB a process"
            )


def used() -> tuple[float, int]:
    """CPU seconds of this process and of those that it started, and MiB of the largest of those."""
    all_of_them = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in all_of_them), all_of_them[1].ru_maxrss // 1024


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    streams, days = [*numbers, *(1, 30)[len(numbers) :]]
    main(streams, days, "blocks" in sys.argv)
