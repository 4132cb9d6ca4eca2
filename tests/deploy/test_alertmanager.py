"""Who hears of an alert, and who does not: amtool for the routes, a real Alertmanager for what inhibits what."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import urllib3
import yaml
from engine import free_port, until
from parts import DEPLOY, fails, files, passes, tool

from flowmetrics.publishing.rules import alerts as alerts_of
from flowmetrics.settings import read_settings

pytestmark = pytest.mark.long

CONFIG: Final = DEPLOY / "alertmanager" / "alertmanager.yaml"
Labels: TypeAlias = dict[str, str]

PAGE: Final = {"severity": "page", "alert_class": "kpi", "environment": "production"}
TICKET: Final = {**PAGE, "severity": "ticket"}
ENGINE: Final = {**PAGE, "alert_class": "engine"}


def kpi(name: str, kpi: str, stream: str = "checkout", base: Mapping[str, str] = PAGE, **more: str) -> Labels:
    """An alert of a KPI."""
    return {"alertname": name, "kpi": kpi, "value_stream": stream, **base, **more}


def burn(severity: str, stream: str = "checkout") -> Labels:
    """A budget of flow time that burns: the labels of its rule, over those of the series that it reads."""
    told = alerts_of(read_settings("expectations: {flow_time: {within: 5d, share: 85%}}", "flowmetrics.yaml"))
    [rule] = [each for each in told if "Burn" in each.alert and each.kpi and each.labels["severity"] == severity]
    return {**kpi(rule.alert, rule.kpi, stream), **rule.labels}


def engine(name: str, base: Mapping[str, str] = ENGINE, **more: str) -> Labels:
    """An alert of the engine."""
    return {"alertname": name, **base, **more}


def test_amtool_has_nothing_to_say_about_the_configuration() -> None:
    assert "SUCCESS" in passes(tool("amtool"), "check-config", CONFIG)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (kpi("FlowTimeDrift", "flow_time"), "pager"),
        (kpi("FlowTimeDrift", "flow_time", base=TICKET), "ticket"),
        (kpi("FlowTimeDrift", "flow_time", base={**PAGE, "severity": "info"}), "info"),
        (engine("FlowmetricsSourceStale", source="jira"), "pager"),
        (engine("FlowmetricsLateEvents", {**ENGINE, "severity": "ticket"}), "ticket"),
        (engine("FlowmetricsBaselineMissing", {**ENGINE, "severity": "info"}), "info"),
        (engine("FlowmetricsWatchdog", {**ENGINE, "severity": "none"}), "dead-mans-switch"),
        (engine("SomethingNew", {**ENGINE, "severity": "unheard_of"}), "ticket"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value['alertname']}-{value['severity']}",
)
def test_an_alert_reaches_the_one_who_acts_on_it(labels: Labels, receiver: str) -> None:
    words = [f"{name}={value}" for name, value in labels.items()]
    test = [tool("amtool"), "config", "routes", "test", f"--config.file={CONFIG}"]
    passes(*test, f"--verify.receivers={receiver}", *words)
    fails(*test, "--verify.receivers=nobody", *words)


def alerts() -> list[dict[str, Any]]:
    """The alerts of the shipped rules."""
    loaded = [yaml.safe_load(path.read_text()) for path in files("prometheus/rules/*.yaml")]
    return [rule for each in loaded for group in each["groups"] for rule in group["rules"] if "alert" in rule]


def test_every_alert_of_the_rules_reaches_the_receiver_of_its_severity() -> None:
    receivers = {"page": "pager", "ticket": "ticket", "info": "info", "none": "dead-mans-switch"}
    for alert in alerts():
        labels = {"alertname": alert["alert"], **alert["labels"]}
        words = [f"{name}={value}" for name, value in labels.items() if "{{" not in value]
        verified = f"--verify.receivers={receivers[labels['severity']]}"
        passes(tool("amtool"), "config", "routes", "test", f"--config.file={CONFIG}", verified, *words)


def test_every_alert_that_the_configuration_names_is_in_the_rules() -> None:
    named = set(re.findall(r"Flowmetrics\w+", CONFIG.read_text()))
    assert len(named) == 4
    assert named <= {alert["alert"] for alert in alerts()}


class Alertmanager:
    """A running one: alerts go in, and what it does with them comes out."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.heard: list[tuple[str, dict[str, Any]]] = []
        """Path and body of each notification."""

    def fire(self, *alerts: Labels, ended: bool = False, **annotations: str) -> None:
        """Tell it that alerts fire, or no longer do."""
        now = datetime.now(UTC).isoformat()
        told = [
            {"labels": each, "annotations": annotations, **({"startsAt": now, "endsAt": now} if ended else {})}
            for each in alerts
        ]
        answer = urllib3.request("POST", f"{self._url}/api/v2/alerts", json=told, retries=False)
        assert answer.status == 200, answer.data

    def states(self) -> dict[str, str]:
        """`alertname kpi value_stream` of each alert, and whether it is active or suppressed."""
        told = urllib3.request("GET", f"{self._url}/api/v2/alerts", retries=False).json()
        return {_short(one["labels"]): one["status"]["state"] for one in told}

    def groups(self) -> dict[str, list[str]]:
        """The receiver and labels of each group, and the alerts in it."""
        told = urllib3.request("GET", f"{self._url}/api/v2/alerts/groups", retries=False).json()
        return {
            f"{one['receiver']['name']}: {_short(one['labels'])}": sorted(
                _short(each["labels"]) for each in one["alerts"]
            )
            for one in told
        }

    def notifications(self, path: str) -> list[dict[str, Any]]:
        """What was sent to a path."""
        return [body for to, body in self.heard if to == path]


def _short(labels: Labels) -> str:
    names = ("environment", "alertname", "kpi", "value_stream", "source", "window", "severity")
    return " ".join(labels[name] for name in names if name in labels and labels[name] != "production")


@contextmanager
def receiving(heard: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    """The address of a server that takes every notification."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _as_shipped(folder: Path, receiver: str) -> Path:
    """The configuration as shipped, but for where secrets lie, where the receivers are, and shorter waits."""
    content = yaml.safe_load(CONFIG.read_text())
    (folder / "slack").write_text(f"{receiver}/chat")
    (folder / "pagerduty").write_text("key")
    content["global"] |= {"slack_api_url_file": str(folder / "slack"), "pagerduty_url": f"{receiver}/pagerduty"}
    content["templates"] = [str(CONFIG.parent / name) for name in content["templates"]]
    content["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    for each in content["receivers"]:
        for one in each.get("pagerduty_configs", ()):
            one["routing_key_file"] = str(folder / "pagerduty")
        for one in each.get("webhook_configs", ()):
            one["url"] = f"{receiver}/switch"
    (folder / "alertmanager.yaml").write_text(yaml.safe_dump(content))
    return folder / "alertmanager.yaml"


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    """An Alertmanager with the shipped configuration and receivers of ours."""
    program = tool("prometheus-alertmanager")
    address = f"127.0.0.1:{free_port()}"
    one = Alertmanager(f"http://{address}")
    with receiving(one.heard) as receiver, (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, f"--config.file={_as_shipped(tmp_path, receiver)}", f"--storage.path={tmp_path / 'storage'}",
             f"--web.listen-address={address}", "--cluster.listen-address="],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:

            def ready() -> bool:
                assert process.poll() is None, (tmp_path / "log").read_text()
                try:
                    return bool(urllib3.request("GET", f"http://{address}/-/ready", retries=False).status == 200)
                except urllib3.exceptions.HTTPError:
                    return False

            until(ready, "Alertmanager is ready", 30)
            yield one
        finally:
            process.kill()
            process.wait()


def test_one_slump_is_one_notification_for_each_kpi_and_value_stream(alertmanager: Alertmanager) -> None:
    alertmanager.fire(
        kpi("FlowTimeDrift", "flow_time", window="7d"),
        kpi("FlowTimeDrift", "flow_time", window="30d"),
        burn("page"),
        kpi("FlowTimeDrift", "flow_time", "search"),
        kpi("ActiveUsersDrift", "active_users"),
        engine("FlowmetricsSourceStale", source="jira"),
        engine("FlowmetricsSourceStale", source="zendesk"),
    )
    wanted = {
        "pager: flow_time checkout": [
            "FlowTimeBudgetBurn flow_time checkout page",
            "FlowTimeDrift flow_time checkout 30d page",
            "FlowTimeDrift flow_time checkout 7d page",
        ],
        "pager: flow_time search": ["FlowTimeDrift flow_time search page"],
        "pager: active_users checkout": ["ActiveUsersDrift active_users checkout page"],
        "pager: FlowmetricsSourceStale jira": ["FlowmetricsSourceStale jira page"],
        "pager: FlowmetricsSourceStale zendesk": ["FlowmetricsSourceStale zendesk page"],
    }
    until(lambda: alertmanager.groups() == wanted, "alerts are grouped")
    until(lambda: len(alertmanager.notifications("/pagerduty")) == len(wanted), "each group is sent")


def test_an_engine_that_is_not_ready_mutes_its_kpis_and_nothing_else(alertmanager: Alertmanager) -> None:
    alertmanager.fire(
        engine("FlowmetricsNotReady"),
        kpi("FlowTimeDrift", "flow_time"),
        kpi("NpsScoreDrop", "nps", base=TICKET),
        kpi("FlowTimeDrift", "flow_time", environment="staging"),
        engine("FlowmetricsLateEvents", severity="ticket"),
        engine("FlowmetricsSourceStale", source="jira"),
        engine("FlowmetricsWatchdog", severity="none"),
        {"alertname": "DiskFull", "severity": "ticket", "environment": "production"},
    )
    wanted = {
        "FlowmetricsNotReady page": "active",
        "FlowTimeDrift flow_time checkout page": "suppressed",
        "NpsScoreDrop nps checkout ticket": "suppressed",
        "staging FlowTimeDrift flow_time checkout page": "active",
        "FlowmetricsLateEvents ticket": "suppressed",
        "FlowmetricsSourceStale jira page": "active",
        "FlowmetricsWatchdog none": "active",
        "DiskFull ticket": "active",
    }
    until(lambda: alertmanager.states() == wanted, f"states are {wanted}")


def test_a_silent_source_mutes_what_comes_from_it_and_nothing_else(alertmanager: Alertmanager) -> None:
    alertmanager.fire(
        engine("FlowmetricsSourceStale", source="jira"),
        kpi("FlowTimeDrift", "flow_time", source="jira"),
        kpi("ActiveUsersDrift", "active_users", source="web"),
        kpi("NpsScoreDrop", "nps"),
    )
    wanted = {
        "FlowmetricsSourceStale jira page": "active",
        "FlowTimeDrift flow_time checkout jira page": "suppressed",
        "ActiveUsersDrift active_users checkout web page": "active",
        "NpsScoreDrop nps checkout page": "active",
    }
    until(lambda: alertmanager.states() == wanted, f"states are {wanted}")


def test_whoever_was_paged_gets_no_ticket_for_the_same(alertmanager: Alertmanager) -> None:
    alertmanager.fire(
        kpi("FlowTimeDrift", "flow_time"),
        burn("ticket"),
        burn("ticket", "search"),
        kpi("NpsScoreDrop", "nps", base=TICKET),
        engine("FlowmetricsSeriesBudget", severity="ticket"),
    )
    wanted = {
        "FlowTimeDrift flow_time checkout page": "active",
        "FlowTimeBudgetBurn flow_time checkout ticket": "suppressed",
        "FlowTimeBudgetBurn flow_time search ticket": "active",
        "NpsScoreDrop nps checkout ticket": "active",
        "FlowmetricsSeriesBudget ticket": "active",
    }
    until(lambda: alertmanager.states() == wanted, f"states are {wanted}")


def test_a_page_says_what_moved_what_to_do_next_and_where_to_read_on(alertmanager: Alertmanager) -> None:
    alert = kpi("FlowTimeDrift", "flow_time", owner="delivery")
    said = {
        "summary": "flow_time of checkout is 3d, more than in former weeks",
        "description": "It was 2d.",
        "next_step": "Look at what waits.",
        "runbook_url": "https://runbooks.example.com/FlowTimeDrift.md",
        "dashboard_url": "/d/flowmetrics-kpi",
    }
    alertmanager.fire(alert, **said)
    until(lambda: alertmanager.notifications("/chat") and alertmanager.notifications("/pagerduty"), "it is sent")
    (attachment,) = alertmanager.notifications("/chat")[0]["attachments"]
    assert attachment["title"] == f"PAGE [production] {said['summary']}"
    assert attachment["title_link"] == said["runbook_url"]
    assert attachment["text"].splitlines() == [
        said["summary"],
        said["description"],
        "next: Look at what waits.",
        "runbook: https://runbooks.example.com/FlowTimeDrift.md",
        "board: http://localhost:3000/d/flowmetrics-kpi",
        "owner: delivery",
    ]
    page = alertmanager.notifications("/pagerduty")[0]
    assert page["payload"]["summary"] == attachment["title"]
    assert page["payload"]["severity"] == "critical"
    assert page["payload"]["custom_details"]["next_step"] == said["next_step"]
    assert page["links"] == [{"href": said["runbook_url"], "text": "Runbook"}]
    alertmanager.fire(alert, ended=True, **said)
    until(lambda: len(alertmanager.notifications("/chat")) > 1, "the end is sent")
    assert alertmanager.notifications("/chat")[1]["attachments"][0]["title"].startswith("RESOLVED")
    assert alertmanager.notifications("/pagerduty")[1]["event_action"] == "resolve"


def test_a_page_of_many_alerts_names_the_kpi_and_the_value_stream(alertmanager: Alertmanager) -> None:
    for n in range(7):
        alertmanager.fire(kpi("FlowTimeDrift", "flow_time", window=f"{n}d"), summary=f"flow time over {n} days")
    until(lambda: alertmanager.notifications("/chat"), "it is sent")
    until(lambda: "7 in all" in alertmanager.notifications("/chat")[-1]["attachments"][0]["text"], "all are in it")
    attachment = alertmanager.notifications("/chat")[-1]["attachments"][0]
    assert attachment["title"] == "PAGE [production] FlowTimeDrift of checkout (7 alerts)"
    assert attachment["text"].count("flow time over") == 5


def test_the_dead_mans_switch_hears_the_watchdog_at_once_even_while_the_engine_is_not_ready(
    alertmanager: Alertmanager,
) -> None:
    alertmanager.fire(engine("FlowmetricsNotReady"), engine("FlowmetricsWatchdog", severity="none"))
    until(lambda: alertmanager.notifications("/switch"), "the switch hears it")
    assert alertmanager.notifications("/switch")[0]["status"] == "firing"
