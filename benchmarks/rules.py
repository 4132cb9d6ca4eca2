"""How long a cycle of all rules takes in a real Prometheus: python -m benchmarks.rules [--streams 50] [--cycles 4]

The demo's simulated company is read once, and its value streams are shown again under other names until there are as
many as asked for, with every KPI. Former weeks are put into Prometheus as blocks, a sample a minute wherever a rule
looks, so that every rule has all that it reads. Printed is what Prometheus says of its own groups; the figure is last.
"""

from __future__ import annotations

import argparse
import http.server
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from agents.demo.producers import Company
from agents.prometheus import blocks_command
from flowmetrics.configuration import Configuration, Expectation, Threshold
from flowmetrics.driver import Driver
from flowmetrics.engine_metrics import EngineCounters, Seen, ready_family
from flowmetrics.exposition import Page
from flowmetrics.families import Family, Sample
from flowmetrics.instants import DAY_US, SECOND_US
from flowmetrics.publishing.rules.files import RULES, documents

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from scraping import Prometheus, prometheus

_EXPECTED: Final = Expectation(5 * DAY_US, Threshold(85, "%"))
CONFIGURATION: Final = Configuration(expectations={"flow_time": _EXPECTED, "request_resolution": _EXPECTED})
PAST_DAYS: Final = 31
NEARBY_MINUTES: Final = 70
KNOWN_DAYS_AGO: Final = (1, 2, 7, 8, 30, 31)
WEEKS_AGO: Final = (7, 14, 21, 28)
STREAM: Final = "value_stream"


def company(streams: int) -> list[Family]:
    """The families of an engine with so many value streams."""
    now = time.time_ns() // 1000
    driver = Driver(CONFIGURATION)
    driver.advance(now)
    driver.deliver(Company(seed=7, begin=now).past(days=PAST_DAYS))
    counters = EngineCounters([])
    seen = Seen()
    for source in ("tracker", "helpdesk", "product"):
        seen.add(source, now, now)
    counters.saw(seen)
    families = [_multiplied(family, streams) for family in driver.families()]
    return [*families, *counters.families(0), ready_family(True)]


def _multiplied(family: Family, streams: int) -> Family:
    by_stream: dict[str, list[Sample]] = {}
    for sample in family.samples:
        by_stream.setdefault(dict(sample.labels)[STREAM], []).append(sample)
    originals = list(by_stream.values())
    samples = (
        Sample(tuple((k, f"stream-{n}" if k == STREAM else v) for k, v in sample.labels), sample.value)
        for n in range(streams)
        for sample in (originals[n % len(originals)] if originals else ())
    )
    return Family(family.name, family.help, family.type, tuple(samples))


def history(families: Iterable[Family], now: int) -> Iterator[str]:
    """OpenMetrics of what rules read of the past: trusted values with their bounds, and what was known."""
    uniform = {family.name: family for family in families if family.name.startswith("flowmetrics_kpi_")}
    weeks = [now - days * 86400 for days in WEEKS_AGO]
    for name, side in (("trusted", "value"), ("trusted_lower", "lower"), ("trusted_upper", "upper")):
        yield f"# TYPE flowmetrics:kpi:{name} gauge\n"
        for sample in uniform[f"flowmetrics_kpi_{side}"].samples:
            if _is_read(dict(sample.labels)):
                yield from _line(f"flowmetrics:kpi:{name}", sample.labels, sample.value, weeks)
    yield "# TYPE flowmetrics:kpi:known gauge\n"
    for labels in {sample.labels[:2] for sample in uniform["flowmetrics_kpi_samples"].samples}:
        yield from _line("flowmetrics:kpi:known", labels, 1.0, [now - days * 86400 for days in KNOWN_DAYS_AGO])
    yield "# EOF\n"


def _is_read(labels: dict[str, str]) -> bool:
    """Whether an alert reads it; somewhat more than that does no harm."""
    totals = all(labels.get(name, "all") == "all" for name in ("item_type", "channel", "segment", "touchpoint"))
    return totals and labels.get("percentile", "p85") == "p85" and labels.get("window", "7d") in ("1d", "7d")


def _line(name: str, labels: Iterable[tuple[str, str]], value: float, moments: Iterable[int]) -> Iterator[str]:
    series = f"{name}{{{','.join(f'{key}={json.dumps(text)}' for key, text in labels)}}} {value}"
    for moment in sorted(moments):
        for minute in range(-NEARBY_MINUTES, NEARBY_MINUTES + 1):
            yield f"{series} {moment + 60 * minute}\n"


class _Scraped(http.server.BaseHTTPRequestHandler):
    page = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, *_: object) -> None:
        """Scrapes are not told."""


def measured(folder: Path, families: list[Family], cycles: int) -> list[dict[str, float]]:
    """Seconds by group, of so many cycles in which every group had its baselines."""
    _Scraped.page = Page().render(families)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Scraped)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    openmetrics, rules = folder / "history.txt", folder / "rules"
    with openmetrics.open("w") as file:
        file.writelines(history(families, time.time_ns() // SECOND_US // 1000))
    subprocess.run(blocks_command(openmetrics, folder / "data"), check=True, capture_output=True)
    openmetrics.unlink()
    rules.mkdir()
    for path, text in documents(CONFIGURATION).items():
        if path.startswith(RULES):
            (rules / Path(path).name).write_text(text)
    try:
        with prometheus(folder, f"127.0.0.1:{server.server_port}", rules=rules.iterdir(), interval="15s") as one:
            return _watch(one, cycles)
    finally:
        server.shutdown()


def _watch(one: Prometheus, cycles: int) -> list[dict[str, float]]:
    time.sleep(100)  # the first cycles find only a part of what they read
    told, failed = [], 0
    for _ in range(cycles):
        time.sleep(60)
        groups = one.ask("rules")["groups"]
        told.append({group["name"]: float(group["evaluationTime"]) for group in groups})
        failed += sum(rule["health"] == "err" for group in groups for rule in group["rules"])
    for name in ("flowmetrics:kpi:trusted", "flowmetrics:kpi:band_high", "flowmetrics:kpi:band_low"):
        print(f"{name}: {one.one(f'count({name})'):.0f} series")
    print(f"failed evaluations: {failed}")
    return told


def main() -> int:
    """Measure; 1 where a cycle takes a second or longer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--cycles", type=int, default=4)
    given = parser.parse_args()
    families = company(given.streams)
    print(f"{sum(len(family.samples) for family in families)} series on the page")
    with tempfile.TemporaryDirectory() as folder:
        cycles = measured(Path(folder), families, given.cycles)
    for group in cycles[0]:
        print(f"{group}: {statistics.median(cycle[group] for cycle in cycles):.3f} s")
    seconds = statistics.median(sum(cycle.values()) for cycle in cycles)
    print(f"a cycle of all rules over {given.streams} value streams: {seconds:.2f} s")
    return 0 if seconds < 1 else 1


if __name__ == "__main__":
    sys.exit(main())
