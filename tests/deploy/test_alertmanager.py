"""Who hears of an alert, and who does not: amtool for the routes, a real Alertmanager for what inhibits what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import pytest
import urllib3
import yaml
from engine import free_port, until
from parts import DEPLOY, fails, passes, tool

from agents.program import Program
from agents.watching import Notification, Receiver
from flowmetrics.configuration import Configuration
from flowmetrics.publishing.rules import files as rules
from flowmetrics.settings import read_settings

pytestmark = pytest.mark.long

CONFIG: Final = DEPLOY / "alertmanager" / "alertmanager.yaml"
Labels: TypeAlias = dict[str, str]

CONFIGURATION: Final = "expectations: {flow_time: {within: 8d, share: 85%}}"
"""With a service level expectation there is every kind of alert."""
USUAL: Final = {"cluster": "flow", "value_stream": "checkout", "source": "jira"}


def _seen_firing() -> Iterator[Labels]:
    """The labels of every alert that promtool sees fire in the tests of the rules."""
    for path, text in rules.documents(read_settings(CONFIGURATION, "flowmetrics.yaml")).items():
        if path.startswith(f"{rules.TESTS}/"):
            for asked in (asked for test in yaml.safe_load(text)["tests"] for asked in test["promql_expr_test"]):
                for sample in asked["exp_samples"]:
                    labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', sample["labels"]))
                    if labels.pop("alertstate", "") == "firing":
                        yield labels


FIRING: Final = {(labels["alertname"], labels["severity"]): labels for labels in sorted(_seen_firing(), key=len)}
"""By name and severity, with all labels that it can have. `cluster` is any label of what is scraped, as in Kubernetes
`namespace` is."""


def fired(name: str, severity: str = "page", **said: str) -> Labels:
    """An alert as it fires in Kubernetes, with these values of labels that it has."""
    seen = FIRING[name, severity]
    labels = {**seen, **{label: value for label, value in USUAL.items() if label in seen}}
    if "cluster" in labels:
        labels["namespace"] = labels.pop("cluster")
    assert said.keys() <= labels.keys(), f"{name} has {', '.join(labels)}"
    return {**labels, **said, "environment": "production"}


def test_amtool_has_nothing_to_say_about_the_configuration() -> None:
    assert "SUCCESS" in passes(tool("amtool"), "check-config", CONFIG)


RECEIVERS: Final = {"page": "pager", "ticket": "ticket", "info": "info", "none": "dead-mans-switch"}


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        *((labels, RECEIVERS[severity]) for (_, severity), labels in FIRING.items()),
        ({"alertname": "SomethingNew", "severity": "unheard_of"}, "ticket"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value['alertname']}-{value['severity']}",
)
def test_an_alert_reaches_the_one_who_acts_on_it(labels: Labels, receiver: str) -> None:
    words = [f"{name}={value}" for name, value in labels.items()]
    test = [tool("amtool"), "config", "routes", "test", f"--config.file={CONFIG}"]
    passes(*test, f"--verify.receivers={receiver}", *words)
    fails(*test, "--verify.receivers=nobody", *words)


def test_every_alert_of_the_rules_is_seen_firing_so_that_its_route_is_tried() -> None:
    every = rules.alerts(read_settings(CONFIGURATION, "flowmetrics.yaml"))
    assert FIRING.keys() == {(alert.alert, alert.labels["severity"]) for alert in every}


def test_every_alert_that_the_configuration_names_is_in_the_rules() -> None:
    named = set(re.findall(r"Flowmetrics\w+", CONFIG.read_text()))
    assert len(named) == 3
    assert named <= {name for name, _ in FIRING}


class Alertmanager:
    """A running one: alerts go in, and what it does with them comes out."""

    def __init__(self) -> None:
        self.url = ""
        self._heard: list[tuple[str, Notification]] = []

    def hears(self, place: str, notification: Notification) -> None:
        """Note what it sent to a place."""
        self._heard.append((place, notification))

    def fire(self, *alerts: Labels, ended: bool = False, **annotations: str) -> None:
        """Tell it that alerts fire, or no longer do."""
        now = datetime.now(UTC).isoformat()
        told = [
            {"labels": each, "annotations": annotations, **({"startsAt": now, "endsAt": now} if ended else {})}
            for each in alerts
        ]
        answer = urllib3.request("POST", f"{self.url}/api/v2/alerts", json=told, retries=False)
        assert answer.status == 200, answer.data

    def states(self) -> dict[str, str]:
        """What each alert is called here, and whether it is active or suppressed."""
        told = urllib3.request("GET", f"{self.url}/api/v2/alerts", retries=False).json()
        return {_short(one["labels"]): one["status"]["state"] for one in told}

    def groups(self) -> dict[str, list[str]]:
        """The receiver and labels of each group, and the alerts in it."""
        told = urllib3.request("GET", f"{self.url}/api/v2/alerts/groups", retries=False).json()
        return {
            f"{one['receiver']['name']}: {_short(one['labels'])}": sorted(
                _short(each["labels"]) for each in one["alerts"]
            )
            for one in told
        }

    def notifications(self, place: str) -> list[Notification]:
        """What was sent to a place."""
        return [body for to, body in self._heard if to == place]


def _short(labels: Labels) -> str:
    names = ("namespace", "alertname", "kpi", "value_stream", "source", "severity")
    return " ".join(labels[name] for name in names if labels.get(name, "flow") != "flow")


def _as_shipped(folder: Path, urls: Mapping[str, str]) -> Path:
    """The configuration as shipped, but for where secrets lie, where the receivers are, and shorter waits."""
    content = yaml.safe_load(CONFIG.read_text())
    (folder / "slack").write_text(urls["chat"])
    (folder / "pagerduty").write_text("key")
    content["global"] |= {"slack_api_url_file": str(folder / "slack"), "pagerduty_url": urls["pagerduty"]}
    content["templates"] = [str(CONFIG.parent / name) for name in content["templates"]]
    content["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    for each in content["receivers"]:
        for one in each.get("pagerduty_configs", ()):
            one["routing_key_file"] = str(folder / "pagerduty")
        for one in each.get("webhook_configs", ()):
            one["url"] = urls["switch"]
    (folder / "alertmanager.yaml").write_text(yaml.safe_dump(content))
    return folder / "alertmanager.yaml"


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    """An Alertmanager with the shipped configuration and receivers of ours."""
    name, one = tool("prometheus-alertmanager"), Alertmanager()
    address = f"127.0.0.1:{free_port()}"  # known before, because links that it writes lead to it
    with ExitStack() as held:
        receivers = {place: Receiver(partial(one.hears, place)) for place in ("chat", "pagerduty", "switch")}
        for receiver in receivers.values():
            held.callback(receiver.close)
        config = _as_shipped(tmp_path, {place: receiver.url for place, receiver in receivers.items()})
        program = Program(
            lambda _: [
                str(name), f"--config.file={config}", f"--storage.path={tmp_path / 'storage'}",
                f"--web.listen-address={address}", "--cluster.listen-address=",
            ],
            tmp_path / "log",
        )  # fmt: skip
        held.callback(program.kill)
        program.start()
        one.url = program.url
        yield one


def test_what_moves_one_kpi_of_many_value_streams_is_one_notification(alertmanager: Alertmanager) -> None:
    alertmanager.fire(
        fired("FlowTimeDrift"),
        fired("FlowTimeDrift", value_stream="search"),
        fired("FlowTimeBudgetBurn"),
        fired("FlowTimeDrift", namespace="staging"),
        fired("ActiveUsersDrift"),
        fired("FlowmetricsSourceStale"),
        fired("FlowmetricsSourceStale", source="zendesk"),
        fired("FlowmetricsNotReady", namespace="trial"),
    )
    wanted = {
        "pager: flow_time": [
            "FlowTimeBudgetBurn flow_time checkout page",
            "FlowTimeDrift flow_time checkout page",
            "FlowTimeDrift flow_time search page",
        ],
        "pager: staging flow_time": ["staging FlowTimeDrift flow_time checkout page"],
        "pager: active_users": ["ActiveUsersDrift active_users checkout page"],
        "pager: FlowmetricsSourceStale jira": ["FlowmetricsSourceStale jira page"],
        "pager: FlowmetricsSourceStale zendesk": ["FlowmetricsSourceStale zendesk page"],
        "pager: trial FlowmetricsNotReady": ["trial FlowmetricsNotReady page"],
    }
    until(lambda: alertmanager.groups() == wanted, "alerts are grouped")
    until(lambda: len(alertmanager.notifications("pagerduty")) == len(wanted), "each group is sent")


@pytest.mark.parametrize("name", ["FlowmetricsNotReady", "FlowmetricsAbsent"])
def test_an_engine_that_is_not_there_mutes_its_kpis_and_those_of_no_other(
    alertmanager: Alertmanager, name: str
) -> None:
    alertmanager.fire(
        fired(name),
        fired("FlowTimeDrift"),
        fired("FlowEfficiencyDrift", "ticket"),
        fired("FlowTimeDrift", namespace="staging"),
        {**fired("NpsScoreDrop"), "environment": "trial"},
        fired("FlowmetricsLateEvents", "ticket"),
        fired("FlowmetricsSourceStale"),
        fired("FlowmetricsWatchdog", "none"),
        {"alertname": "DiskFull", "severity": "ticket", "environment": "production", "namespace": "flow"},
    )
    wanted = {
        f"{name} page": "active",
        "FlowTimeDrift flow_time checkout page": "suppressed",
        "FlowEfficiencyDrift flow_efficiency checkout ticket": "suppressed",
        "staging FlowTimeDrift flow_time checkout page": "active",
        "NpsScoreDrop nps checkout page": "active",
        "FlowmetricsLateEvents jira ticket": "suppressed",
        "FlowmetricsSourceStale jira page": "active",
        "FlowmetricsWatchdog none": "active",
        "DiskFull ticket": "active",
    }
    until(lambda: alertmanager.states() == wanted, f"states are {wanted}")


def test_an_engine_mutes_its_kpis_where_nobody_names_environments_and_namespaces(alertmanager: Alertmanager) -> None:
    told = [fired("FlowmetricsNotReady"), fired("FlowTimeDrift")]
    bare = [{name: value for name, value in one.items() if name not in ("environment", "namespace")} for one in told]
    alertmanager.fire(*bare)
    wanted = {"FlowmetricsNotReady page": "active", "FlowTimeDrift flow_time checkout page": "suppressed"}
    until(lambda: alertmanager.states() == wanted, f"states are {wanted}")


def test_an_engine_that_is_gone_pages_once(alertmanager: Alertmanager) -> None:
    known = fired("FlowmetricsAbsent", namespace="staging")
    alertmanager.fire(known, {name: value for name, value in known.items() if name != "namespace"})
    wanted = {"staging FlowmetricsAbsent page": "active", "FlowmetricsAbsent page": "suppressed"}
    until(lambda: alertmanager.states() == wanted, f"states are {wanted}")


def test_a_silent_source_mutes_nothing_because_others_feed_the_same_value_streams(alertmanager: Alertmanager) -> None:
    alertmanager.fire(fired("FlowmetricsSourceStale"), fired("FlowTimeDrift"), fired("FlowEfficiencyDrift", "ticket"))
    until(lambda: len(alertmanager.states()) == 3, "all are there")
    until(lambda: len(alertmanager.notifications("chat")) == 3, "all are told")
    assert {*alertmanager.states().values()} == {"active"}


def test_whoever_was_paged_gets_no_ticket_for_the_same(alertmanager: Alertmanager) -> None:
    alertmanager.fire(
        fired("FlowTimeDrift"),
        fired("FlowTimeBudgetBurn", "ticket"),
        fired("FlowTimeBudgetBurn", "ticket", value_stream="search"),
        fired("FlowEfficiencyDrift", "ticket"),
        fired("FlowmetricsSeriesBudget", "ticket"),
    )
    wanted = {
        "FlowTimeDrift flow_time checkout page": "active",
        "FlowTimeBudgetBurn flow_time checkout ticket": "suppressed",
        "FlowTimeBudgetBurn flow_time search ticket": "active",
        "FlowEfficiencyDrift flow_efficiency checkout ticket": "active",
        "FlowmetricsSeriesBudget ticket": "active",
    }
    until(lambda: alertmanager.states() == wanted, f"states are {wanted}")


def test_a_page_says_what_moved_what_to_do_next_and_where_to_read_on(alertmanager: Alertmanager) -> None:
    alert = fired("FlowTimeDrift", owner="delivery")
    said = {
        "summary": "flow_time of checkout is 3d, more than in former weeks",
        "description": "It was 2d.",
        "next_step": "Look at what waits.",
        "runbook_url": "https://runbooks.example.com/FlowTimeDrift.md",
        "dashboard_url": "/d/flowmetrics-kpi",
    }
    alertmanager.fire(alert, **said)
    until(lambda: alertmanager.notifications("chat") and alertmanager.notifications("pagerduty"), "it is sent")
    (attachment,) = alertmanager.notifications("chat")[0]["attachments"]
    assert attachment["title"] == f"PAGE [production] [flow] {said['summary']}"
    assert attachment["title_link"] == said["runbook_url"]
    assert attachment["text"].splitlines() == [
        said["summary"],
        said["description"],
        "next: Look at what waits.",
        "runbook: https://runbooks.example.com/FlowTimeDrift.md",
        "board: http://localhost:3000/d/flowmetrics-kpi",
        "owner: delivery",
    ]
    page = alertmanager.notifications("pagerduty")[0]
    assert page["payload"]["summary"] == attachment["title"]
    assert page["payload"]["severity"] == "critical"
    assert page["payload"]["custom_details"]["next_step"] == said["next_step"]
    assert page["links"] == [{"href": said["runbook_url"], "text": "Runbook"}]
    alertmanager.fire(alert, ended=True, **said)
    until(lambda: all(len(alertmanager.notifications(place)) > 1 for place in ("chat", "pagerduty")), "the end is sent")
    assert alertmanager.notifications("chat")[1]["attachments"][0]["title"].startswith("RESOLVED")
    assert alertmanager.notifications("pagerduty")[1]["event_action"] == "resolve"


def test_a_runbook_that_is_a_path_is_told_as_text_and_the_link_leads_to_alertmanager(
    alertmanager: Alertmanager,
) -> None:
    (shipped,) = (alert for alert in rules.alerts(Configuration()) if alert.alert == "FlowTimeDrift")
    alertmanager.fire(fired("FlowTimeDrift"), **shipped.annotations)
    until(lambda: alertmanager.notifications("chat") and alertmanager.notifications("pagerduty"), "it is sent")
    (attachment,) = alertmanager.notifications("chat")[0]["attachments"]
    assert "runbook: docs/runbooks/FlowTimeDrift.md" in attachment["text"].splitlines()
    (link,) = alertmanager.notifications("pagerduty")[0]["links"]
    assert link == {"href": attachment["title_link"], "text": "Alertmanager"}
    assert urllib3.request("GET", link["href"], retries=False).status == 200


def test_a_page_of_many_alerts_names_the_kpi_and_every_value_stream(alertmanager: Alertmanager) -> None:
    for n in range(7):
        alertmanager.fire(fired("FlowTimeDrift", value_stream=f"stream {n}"), summary=f"flow_time of stream {n} moved")
    until(lambda: alertmanager.notifications("chat"), "it is sent")
    until(lambda: "7 in all" in alertmanager.notifications("chat")[-1]["attachments"][0]["text"], "all are in it")
    attachment = alertmanager.notifications("chat")[-1]["attachments"][0]
    assert attachment["title"] == "PAGE [production] [flow] FlowTimeDrift (7 alerts)"
    assert attachment["text"].count("flow_time of stream") == 5
    assert "… and more, 7 in all, stream 5, stream 6" in attachment["text"].splitlines()


def test_the_dead_mans_switch_hears_the_watchdog_at_once_even_while_the_engine_is_not_ready(
    alertmanager: Alertmanager,
) -> None:
    alertmanager.fire(fired("FlowmetricsNotReady"), fired("FlowmetricsWatchdog", "none"))
    until(lambda: alertmanager.notifications("switch"), "the switch hears it")
    assert alertmanager.notifications("switch")[0]["status"] == "firing"
