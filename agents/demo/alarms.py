"""The demo's Prometheus and Alertmanager, where they are installed: the alert arrives in the terminal.

The weeks before are backfilled, so there are baselines at once; of three KPIs, since that takes a minute. Windows,
weeks and thresholds are those of production. A change must last for seconds only, as the configuration of the demo
says, and rules are evaluated every few seconds.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agents.leash import leashed
from agents.published import clock_us
from agents.watching import Notification, Receiver, installed, watching
from flowmetrics.configuration import Configuration, RuleOverride
from flowmetrics.errors import OperationError
from flowmetrics.instants import DAY_US, SECOND_US, instant_text
from flowmetrics.kpi import DriftAlert
from flowmetrics.kpis import catalogue
from flowmetrics.publishing.rules.files import groups
from flowmetrics.publishing.rules.form import yaml_text
from flowmetrics.publishing.rules.haste import hastened
from flowmetrics.settings import effective

KPIS: Final = ("flow_time", "active_users", "nps")
HOLD_US: Final = 20 * SECOND_US
DAYS: Final = 36
"""Four weeks, and before them a window of seven days."""
STEP: Final = "1h"
SCRAPE: Final = "2s"
EVALUATE: Final = "5s"
POLL_SECONDS: Final = 0.2
END_SECONDS: Final = 5.0
MISSING: Final = "No alert is sent, because the PATH does not lead to {}; the page shows the same states."


def impatient(configuration: Configuration) -> Configuration:
    """The configuration under which a change must last, and be over, for seconds only, on the page and in the rules."""
    alerting = (kpi.name for kpi in catalogue(configuration) if isinstance(kpi.alert, DriftAlert))
    return replace(configuration, rules={name: RuleOverride(hold_us=HOLD_US, keep_us=HOLD_US) for name in alerting})


def sound(
    configuration: Configuration, address: str, folder: Path, over: threading.Event, say: Callable[[str], None]
) -> None:
    """Tell of each alert until it is over; or why there is none. `folder` is removed by somebody else."""
    if missing := _missing():
        say(MISSING.format(missing))
        return
    some = replace(configuration, kpis=KPIS, windows_us=(DAY_US, 7 * DAY_US), percentiles=(85,))
    receiver = Receiver(lambda notification: say(_sentence(notification)))
    try:
        if not _backfilled(some, folder, over):
            return
        rules = yaml_text(hastened([group.plain() for group in groups(some)], EVALUATE, {}))
        target = address.removeprefix("http://")
        with watching(folder, _routes(receiver.url), rules, [target], SCRAPE) as watch:
            say(f"  Prometheus    {watch.prometheus.url}/alerts\n  Alertmanager  {watch.alertmanager.url}/\n")
            over.wait()
    except OperationError as error:
        say(f"no alert is sent: {error}; the page shows the same states")
    finally:
        receiver.close()


def _missing() -> str | None:
    """What is not on the PATH of the programs that are needed."""
    if installed() is None:
        return "both Prometheus and Alertmanager"
    return None if shutil.which("promtool") else "promtool"


def _backfilled(configuration: Configuration, folder: Path, over: threading.Event) -> bool:
    """Make blocks of the weeks before, in a process of its own; False where it was over before."""
    config = folder / "backfill.yaml"
    config.write_text(effective(configuration))
    begin = instant_text((clock_us() // SECOND_US - DAYS * DAY_US // SECOND_US) * SECOND_US)
    command = ["backfill", "--config", str(config), "--prometheus", str(folder / "blocks"), "--step", STEP]
    with (
        (folder / "backfill.log").open("wb") as told,
        leashed([sys.executable, "-m", "agents.cli", *command, "--from", begin], told) as process,
    ):
        while process.poll() is None:
            if over.wait(POLL_SECONDS):
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(END_SECONDS)  # it ends whom it started first: they write into the same folder
                return False
    if process.returncode:
        raise OperationError((folder / "backfill.log").read_text(errors="replace").strip())
    return True


def _routes(url: str) -> dict[str, Any]:
    """Everything that somebody must hear of goes to the terminal."""
    quick = {"group_wait": "1s", "group_interval": "5s", "group_by": ["alertname", "value_stream"]}
    heard = {"receiver": "terminal", "matchers": ['alert_class = "kpi"', 'severity =~ "page|ticket"']}
    terminal = {"name": "terminal", "webhook_configs": [{"url": url}]}
    return {"route": {"receiver": "nobody", **quick, "routes": [heard]}, "receivers": [{"name": "nobody"}, terminal]}


def _sentence(notification: Notification) -> str:
    """What a pager would show."""
    (alert, *_) = notification["alerts"]
    labels, notes = alert["labels"], alert["annotations"]
    if notification["status"] == "resolved":
        return f"RESOLVED {labels['alertname']} {labels['value_stream']}"
    return (
        f"{labels['severity'].upper()} {labels['alertname']}: {notes['summary']}\n"
        f"  next step  {notes['next_step']}\n"
        f"  runbook    {notes['runbook_url']}"
    )
