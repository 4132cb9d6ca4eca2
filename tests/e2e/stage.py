"""A whole installation on this machine: engine, Prometheus over backfilled history, Alertmanager, and who is notified.

Everything is as it is shipped, but for time, so that a test takes minutes:

- the past is backfilled, five weeks of it in steps of an hour; windows, offsets and thresholds are those of the rules
- Prometheus scrapes and evaluates every second rather than every 15 s and every minute
- alerts of KPIs must last, and be over, for the six seconds that the configuration says (`alerts.rules.<kpi>.for` and
  `keep_firing_for`), rather than hours
- alerts of the engine must last for a twentieth of what is shipped: 5 minutes are 15 seconds. Their ranges stay, so the
  kills and gaps here are short beside the 10 and 90 minutes that FlowmetricsAbsent and FlowmetricsRestarting look back:
  that these two stay calm here says little, and promtool tries them in their own time
- Alertmanager waits for no further alerts of a group before it notifies
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import shop
import urllib3
import yaml
from engine import COMMAND, EngineProcess, Event, chunks, lines, until

from agents.published import clock_us
from agents.watching import Notification, Receiver, Watch, watching
from flowmetrics.publishing.rules.haste import hastened

ROOT: Final = Path(__file__).parents[2]
HOLD_SECONDS: Final = 6
SLUMPING: Final = ("flow_time", "active_users", "nps")
ALERTING: Final = (*SLUMPING, "flow_velocity", "flow_load", "flow_efficiency")
STEP: Final = "1h"
BACKFILL_SECONDS: Final = 300.0
EVENTS_AT_ONCE: Final = 5000
ENGINE_FASTER: Final = 20
NAIVE: Final = "NaiveDown"
"""An alert that is not ours, and pages as soon as a scrape fails: what all others must not do, and proof that pages go
through."""
RUNBOOKS: Final = "https://runbooks.example"
SETTINGS: Final = f"""
kpis: [flow_*, active_users, nps]
windows: [1d, 7d]
resolution: 1m
alerts:
  runbooks: {RUNBOOKS}
  rules: {{{", ".join(f"{kpi}: {{for: {HOLD_SECONDS}s, keep_firing_for: {HOLD_SECONDS}s}}" for kpi in ALERTING)}}}
"""


@dataclass
class Stage:
    """The installation; `told` is what its receivers were notified of, in order."""

    watch: Watch
    told: list[Notification] = field(default_factory=list)

    def ask(self, query: str) -> list[Any]:
        """What Prometheus answers now: labels and value of each series."""
        got = urllib3.request("GET", f"{self.watch.prometheus.url}/api/v1/query", fields={"query": query}, timeout=20)
        answer = orjson.loads(got.data)
        assert answer["status"] == "success", answer
        return list(answer["data"]["result"])

    def alerts(self, receiver: str, status: str) -> list[Mapping[str, Any]]:
        """The alerts of all notifications that reached a receiver, in order; one that is repeated is there twice."""
        told = [one for one in self.told if one["receiver"] == receiver]
        return [alert for one in told for alert in one["alerts"] if alert["status"] == status]

    def names(self, receiver: str, status: str) -> list[str]:
        """The names of these alerts, sorted."""
        return sorted(alert["labels"]["alertname"] for alert in self.alerts(receiver, status))

    def ready(self) -> None:
        """Wait until Prometheus has a band for each KPI that may slump."""
        query = (
            f'{{__name__=~"flowmetrics:kpi:band_(low|high)",kpi=~"{"|".join(SLUMPING)}",value_stream="{shop.STREAM}"}}'
        )
        until(lambda: len(self.ask(query)) >= len(SLUMPING), "there are baselines", 60)


def backfilled(folder: Path) -> Path:
    """A folder with the configuration, the rules that it generates, and blocks of the weeks before now."""
    config, past, now = folder / "flowmetrics.yaml", folder / "past.jsonl", clock_us()
    config.write_text(SETTINGS)
    past.write_bytes(lines(shop.past(now, sale_at=now)))
    into = ["backfill", "--prometheus", folder / "blocks", "--step", STEP, past]
    for words in (into, ["generate", "rules"]):
        done = subprocess.run(
            [COMMAND, *words, "--config", config], cwd=folder, capture_output=True, text=True, check=False,
            timeout=BACKFILL_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return folder


@contextmanager
def stage(folder: Path, history: Path, engines: Sequence[EngineProcess]) -> Iterator[Stage]:
    """The installation around engines that run, over a copy of the history that `backfilled` made."""
    shutil.copytree(history / "blocks", folder / "blocks")
    told: list[Notification] = []
    receiver = Receiver(told.append)
    try:
        targets = [engine.url.removeprefix("http://") for engine in engines]
        with watching(folder, _routes(receiver.url), _rules(history), targets, "1s") as watch:
            one = Stage(watch, told)
            one.ready()
            yield one
    finally:
        receiver.close()


def tell(engine: EngineProcess, events: Sequence[Event]) -> None:
    """Post events, some thousand at a time."""
    for some in chunks(events, EVENTS_AT_ONCE):
        engine.post(*some)


def during(seconds: float) -> Iterator[float]:
    """Seconds passed, about one a second, until so many have."""
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < seconds:
        yield passed
        time.sleep(1)


def _rules(folder: Path) -> str:
    """The rules that were generated, in quicker time."""
    files = sorted((folder / "deploy/prometheus/rules").glob("*.yaml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    assert sum("alert" in rule for group in groups for rule in group["rules"]) > len(SLUMPING)
    naive = {"alert": NAIVE, "expr": "up == 0", "labels": {"severity": "page", "alert_class": "control"}}
    groups.append({"name": "control", "rules": [naive]})
    return yaml.safe_dump(hastened(groups, "1s", {"engine": ENGINE_FASTER}))


def _routes(url: str) -> dict[str, Any]:
    """The routes and inhibitions that are shipped, with a webhook for every receiver."""
    shipped: dict[str, Any] = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yaml").read_text())
    receivers = [
        {"name": one["name"], "webhook_configs": [{"url": url, "send_resolved": True}]} for one in shipped["receivers"]
    ]
    kept = {"route": _at_once(shipped["route"]), "inhibit_rules": shipped["inhibit_rules"]}
    return {"receivers": receivers, **kept}


def _at_once(route: dict[str, Any]) -> dict[str, Any]:
    quick = {"group_wait": "0s", "group_interval": "1s"}
    return {**route, **quick, "routes": [_at_once(child) for child in route.get("routes", [])]}
