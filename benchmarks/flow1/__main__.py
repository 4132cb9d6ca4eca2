"""flow-1 side by side: one broker, the same events for every engine, one engine after the other.

    python -m benchmarks.flow1 --engines "flowmetrics flink" --events 1000000

A line of JSON for each engine goes to bench-results.jsonl, and all of them to a table at the end. The exit code is 1
when an answer is wrong, or when an engine that was asked for by name cannot be installed here.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Final

from benchmarks.flow1 import ours, peers
from benchmarks.flow1.installed import HERE, NotInstalledError
from benchmarks.flow1.oracle import by_calendar, by_window, milliseconds, read
from benchmarks.flow1.peers import Peer
from benchmarks.flow1.row import Row, table, today
from benchmarks.flow1.workload import as_java_does, as_they_are, load, make, rows
from tests.kafka.broker import Broker

OURS: Final = "flowmetrics"
DEFAULT: Final = (OURS, "flink", "kstreams", "bytewax", "quix", "faust")
FOLDER: Final = HERE.parent / ".bench"
RESULTS: Final = HERE.parent / "bench-results.jsonl"
BROKER: Final = {"group.initial.rebalance.delay.ms": "3000"}
"""As Kafka has it by default: engines that start together get their partitions once."""


class Bench:
    """Engines over one broker."""

    def __init__(self, broker: Broker, events: int) -> None:
        self._broker = broker
        self._events = events

    def peer(self, peer: Peer) -> Row:
        """Run another engine. Raises NotInstalledError."""
        events = peer.events(self._events)
        peer.needs.install(peer.home(FOLDER))
        path = rows(FOLDER, events)
        topic, right = self._topic(events), by_calendar(read(path))
        row = peers.run(peer, FOLDER, self._broker, topic, path, events, right)
        return row if events == self._events else replace(row, remark=f"fewer events, as it is slow; {row.remark}")

    def ours(self, size: int, every_kpi: bool) -> Row:
        """Run so many workers of ours. Raises NotInstalledError."""
        path = rows(FOLDER, self._events)
        rights = by_window(read(path), milliseconds(ours.INSTANT))
        return asyncio.run(ours.run(FOLDER, self._broker, path, self._events, rights, size, every_kpi))

    @cache  # noqa: B019 - there is one bench in a process
    def _topic(self, events: int) -> str:
        """The topic of so many events for the peers, loaded once."""
        topic = f"flow1-{events}"
        asyncio.run(make(self._broker.address, topic))
        asyncio.run(load(self._broker.address, topic, as_they_are(rows(FOLDER, events)), as_java_does))
        return topic


def main(words: Sequence[str]) -> int:
    """The command line."""
    told = _arguments(words)
    engines = told.engines.split() or DEFAULT
    FOLDER.mkdir(exist_ok=True)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that it asks again is no news; what fails is raised
    measured: list[Row] = []
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="broker-") as name, RESULTS.open("ab") as results:
        broker = Broker(Path(name), BROKER)
        broker.start()
        try:
            bench = Bench(broker, told.events)
            for engine, run in _runs(bench, engines, told.workers, told.kpis == "all"):
                print(f"{engine} ...", flush=True)
                try:
                    row = run()
                except NotInstalledError as error:
                    row = Row(engine, today(), told.events, remark=f"not installed: {error}")
                measured.append(row)
                results.write(row.json())
                results.flush()
        finally:
            broker.stop()
    print(f"\n{table(measured)}\n")
    if told.workers > 1 and OURS in engines:
        print(_second_worker(measured))
    print(_figure(measured))
    missing = [row for row in measured if row.correct is None]
    return 1 if any(row.correct is False for row in measured) or (told.engines and missing) else 0


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flow1", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", default="", help=f"of {OURS} {' '.join(peers.ALL)}; default: {' '.join(DEFAULT)}")
    parser.add_argument("--events", type=int, default=1_000_000, help="how many (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="of ours: so many after one alone")
    parser.add_argument(
        "--kpis", choices=("flow", "all"), default="flow", help="of ours: what the peers compute, or all"
    )
    told = parser.parse_args(words)
    unknown = [name for name in told.engines.split() if name != OURS and name not in peers.ALL]
    if unknown:
        parser.error(f"there is no engine {unknown[0]}; name some of {OURS} {' '.join(peers.ALL)}")
    if told.events < 1000 or told.workers < 1:
        parser.error("give at least 1000 events and 1 worker")
    return told


def _runs(
    bench: Bench, engines: Sequence[str], workers: int, every_kpi: bool
) -> Iterator[tuple[str, Callable[[], Row]]]:
    """What is run, under its name."""
    for engine in engines:
        if engine == OURS:
            for size in sorted({1, workers}):
                yield engine, partial(bench.ours, size, every_kpi)
        else:
            yield engine, partial(bench.peer, peers.ALL[engine])


def _second_worker(measured: Sequence[Row]) -> str:
    one, more = [row for row in measured if row.engine.startswith(OURS)]
    if not one.events_per_s or not more.events_per_s:
        return "what more workers add is not known: one of the two runs failed"
    return f"{more.engine}: {more.events_per_s / one.events_per_s:.2f} times the events per second of one"


def _figure(measured: Sequence[Row]) -> str:
    right = sum(row.correct is True for row in measured)
    figures = [
        f"{row.engine} {row.events_per_s:,.0f} events/s, {row.cpu_s_per_million:.1f} CPU s per million"
        for row in measured
        if row.events_per_s and row.cpu_s_per_million and row.engine.startswith(OURS)
    ]
    return "; ".join([*figures, f"{right} of {len(measured)} correct"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
