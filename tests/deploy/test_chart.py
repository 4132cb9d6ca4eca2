"""The chart as helm renders it: valid for Kubernetes, KEDA, the Prometheus Operator, and for the engine itself."""

from __future__ import annotations

import copy
import gzip
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeAlias

import pytest
import yaml
from parts import DEPLOY, KUBERNETES, checker, fails, files, helm, of_kind, only, passes, plain, rendered, tool

from agents.kafka import topics as kafka_topics
from agents.settings import load_configuration
from flowmetrics import __version__
from flowmetrics.configuration import Configuration
from flowmetrics.publishing.rules import files as rules

Resource: TypeAlias = dict[str, Any]

pytestmark = pytest.mark.long

CHART: Final = DEPLOY / "chart"
KAFKA: Final = ("--values", CHART / "examples" / "kafka.yaml")
EVERYTHING: Final = {"local": (), "kafka": KAFKA}
CUSTOM: Final = {"KafkaTopic", "KafkaUser", "PodMonitor", "PrometheusRule", "ScaledObject"}
MODELS: Final = Path(__file__).with_name("crds.py")
MODELLED: Final = {"PodMonitor", "PrometheusRule", "ScaledObject"}

shapes = pytest.mark.parametrize("values", EVERYTHING.values(), ids=EVERYTHING.keys())


def refused(*words: str | Path) -> str:
    """What helm says of values that it refuses."""
    return fails(*helm("template", "fm", CHART, "--kube-version", KUBERNETES, *words))


def valid(resources: list[Resource], folder: Path) -> None:
    """Kubernetes' own schemas, in which an unknown field is a mistake."""
    (folder / "resources.yaml").write_text(yaml.safe_dump_all(resources))
    version = ".".join(KUBERNETES.split(".")[:2])
    passes(checker("kubernetes-validate"), "--strict", "--kubernetes-version", version, folder / "resources.yaml")


# --- it is well made ----------------------------------------------------------------------------------------------
@shapes
def test_helm_has_nothing_to_say_about_the_chart(values: tuple[str | Path, ...]) -> None:
    passes(*helm("lint", "--strict", "--kube-version", KUBERNETES, CHART, *values))


@shapes
def test_kubernetes_knows_every_field(values: tuple[str | Path, ...], tmp_path: Path) -> None:
    valid([one for one in rendered(*values) if one["kind"] not in CUSTOM], tmp_path)


def test_a_field_that_kubernetes_does_not_know_is_found(tmp_path: Path) -> None:
    stateful_set = only(rendered(), "StatefulSet")
    stateful_set["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(AssertionError, match="readynessProbe"):
        valid([stateful_set], tmp_path)


def test_keda_and_the_prometheus_operator_know_every_field() -> None:
    custom = [one for one in rendered(*KAFKA) if one["kind"] in MODELLED]
    assert {one["kind"] for one in custom} == MODELLED
    passes(checker("python"), MODELS, text=json.dumps(custom))


def test_fields_that_keda_does_not_know_are_found() -> None:
    changes: dict[str, Callable[[Resource], object]] = {
        "unknown": lambda spec: spec.update(minReplicas=1),
        "wrong-type": lambda spec: spec.update(maxReplicaCount="many"),
        "missing": lambda spec: spec["triggers"][0].pop("type"),
        "below": lambda spec: spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleUp"].update(
            seconds=1
        ),
    }
    wrong = []
    for name, change in changes.items():
        scaled = copy.deepcopy(only(rendered(*KAFKA), "ScaledObject"))
        scaled["metadata"]["name"] = name
        change(scaled["spec"])
        wrong.append(scaled)
    said = fails(checker("python"), MODELS, text=json.dumps(wrong))
    assert [name for name in changes if f"ScaledObject/{name}" not in said] == []


def test_the_chart_is_of_the_version_of_the_engine() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


def test_names_stay_short_enough_however_long_that_of_the_release_is() -> None:
    release = "a" * 53  # helm takes no longer ones
    said = passes(*helm("template", release, CHART, "--kube-version", KUBERNETES, *KAFKA))
    names = [
        one["metadata"]["name"] for one in yaml.safe_load_all(said) if one and one["kind"] in ("Service", "StatefulSet")
    ]
    assert max(map(len, names)) <= 52, "a Service has 63 letters, and a pod eleven more than its StatefulSet"


def test_a_release_fits_into_the_secret_in_which_helm_keeps_it() -> None:
    kept = b"".join(path.read_bytes() for path in CHART.glob("**/*") if path.is_file())
    linked = b"".join(path.read_bytes() for path in (*files("prometheus/rules/*.yaml"), *files("grafana/*.json")))
    manifest = yaml.safe_dump_all(rendered(*KAFKA)).encode()
    assert len(gzip.compress(kept + linked + manifest)) * 4 / 3 < 900 * 1024, "a Secret holds a megabyte"


# --- the engine reads what the chart writes -----------------------------------------------------------------------
def configuration(resources: list[Resource], folder: Path) -> Any:
    """The configuration as the engine reads it."""
    file = folder / "flowmetrics.yaml"
    file.write_text(
        only([one for one in of_kind(resources, "ConfigMap") if "flowmetrics.yaml" in one["data"]], "ConfigMap")[
            "data"
        ]["flowmetrics.yaml"]
    )
    return load_configuration(str(file))


def test_the_engine_reads_the_configuration_of_the_chart(tmp_path: Path) -> None:
    read = configuration(rendered(), tmp_path)
    assert (read.broker, read.listen) == ("local:///var/lib/flowmetrics", "0.0.0.0:8080")


def test_large_numbers_and_every_kind_of_key_arrive_as_they_were_said(tmp_path: Path) -> None:
    said = {
        "broker": "local:///var/lib/flowmetrics",
        "memory": {"hot_entities": 2_000_000},
        "log": {"retention": "90d"},
        "value_streams": {"*": {"states": {"done": ["Done", "3.10", "yes"]}}},
        "surveys": {"smiles": {"scale": [1, 3], "better": "low"}},
    }
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"config": said}))
    (tmp_path / "said.yaml").write_text(yaml.safe_dump({**said, "http": {"listen": "0.0.0.0:8080"}}))
    read = configuration(rendered("--values", tmp_path / "values.yaml"), tmp_path)
    assert read == load_configuration(str(tmp_path / "said.yaml"))


def test_strimzi_lets_the_worker_in_and_what_was_said_wins(tmp_path: Path) -> None:
    read = configuration(rendered(*KAFKA), tmp_path)
    assert (read.kafka_security, read.kafka_user) == ("sasl_tls", "fm-flowmetrics")
    assert read.kafka_password_file == "/run/secrets/fm-flowmetrics/password"
    assert read.kafka_ca_file == "/run/secrets/events-cluster-ca-cert/ca.crt"
    assert read.kafka_store == "/var/lib/flowmetrics/store"
    said = configuration(rendered(*KAFKA, "--set", "config.kafka.mechanism=SCRAM-SHA-256"), tmp_path)
    assert said.kafka_mechanism == "SCRAM-SHA-256"


def test_every_file_that_the_configuration_names_is_mounted(tmp_path: Path) -> None:
    resources = rendered(*KAFKA)
    read = configuration(resources, tmp_path)
    pod = only(resources, "StatefulSet")["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]} | {"state"}
    readable = [mount["mountPath"] for mount in mounts.values() if mount.get("readOnly")]
    named = (read.token_file, read.pseudonym_key_file, read.kafka_password_file, read.kafka_ca_file)
    assert all(os.path.dirname(file) in readable for file in named)
    writable = {mount["mountPath"] for mount in mounts.values() if not mount.get("readOnly")}
    assert writable == {"/tmp", "/var/lib/flowmetrics"}
    assert read.kafka_store.startswith("/var/lib/flowmetrics/")


def test_strimzi_makes_the_topics_that_the_engine_would_make(tmp_path: Path) -> None:
    resources = rendered(*KAFKA, "--set", "config.log.retention=90d")
    read = configuration(resources, tmp_path)
    names = kafka_topics.topics_of(read)
    made = {one["spec"]["topicName"]: one["spec"] for one in of_kind(resources, "KafkaTopic")}
    wanted = kafka_topics.settings_of(names, read, copies=3)
    assert {name: spec["config"] for name, spec in made.items()} == {n: plain(s) for n, s in wanted.items()}
    assert {name: spec["partitions"] for name, spec in made.items()} == {name: names.count(name) for name in wanted}


def test_the_operators_find_what_has_the_labels_that_they_select() -> None:
    words = [f"{of}.labels.release=other" for of in ("podMonitor", "prometheusRule")]
    resources = rendered(*KAFKA, *(word for each in words for word in ("--set", each)))
    found = [one for kind in ("PodMonitor", "PrometheusRule") for one in of_kind(resources, kind)]
    assert len(found) == 4
    assert {one["metadata"]["labels"]["release"] for one in found} == {"other"}


def test_a_strimzi_of_before_its_first_version_is_asked_in_its_words() -> None:
    def asked(*words: str | Path) -> set[str]:
        return {one["apiVersion"] for one in rendered(*KAFKA, *words) if one["kind"] in ("KafkaTopic", "KafkaUser")}

    assert asked() == {"kafka.strimzi.io/v1"}
    assert asked("--set", "strimzi.apiVersion=kafka.strimzi.io/v1beta2") == {"kafka.strimzi.io/v1beta2"}


def test_a_change_of_the_configuration_restarts_the_workers_and_nothing_else_does() -> None:
    def mark(*words: str | Path) -> str:
        pod = only(rendered(*words), "StatefulSet")["spec"]["template"]
        return str(pod["metadata"]["annotations"]["flowmetrics/configuration"])

    assert mark() == mark("--set", "replicas=1")
    assert mark() != mark("--set", "config.timezone=Asia/Seoul")


# --- how it runs --------------------------------------------------------------------------------------------------
@shapes
def test_a_pod_may_do_no_more_than_it_must(values: tuple[str | Path, ...]) -> None:
    pod = only(rendered(*values), "StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_broker_that_is_away_takes_workers_out_of_the_service_and_restarts_none() -> None:
    resources = rendered(*KAFKA)
    (container,) = only(resources, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    asked = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert asked == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    pods, events = sorted(of_kind(resources, "Service"), key=lambda one: "clusterIP" not in one["spec"])
    assert pods["spec"]["publishNotReadyAddresses"] is True
    assert "publishNotReadyAddresses" not in events["spec"]
    assert only(resources, "StatefulSet")["spec"]["serviceName"] == pods["metadata"]["name"]


@pytest.mark.parametrize(
    ("values", "affinity"),
    [((), None), (KAFKA, "ClientIP"), ((*KAFKA, "--set=service.type=LoadBalancer"), None)],
    ids=["one pod", "workers", "a load balancer, which AWS refuses to make with an affinity"],
)
def test_a_browser_stays_with_one_of_several_workers(values: tuple[str | Path, ...], affinity: str | None) -> None:
    (events,) = (one["spec"] for one in of_kind(rendered(*values), "Service") if "clusterIP" not in one["spec"])
    assert events.get("sessionAffinity") == affinity


@shapes
def test_a_drain_takes_one_pod_at_a_time_and_is_never_stuck(values: tuple[str | Path, ...]) -> None:
    resources = rendered(*values)
    budget = only(resources, "PodDisruptionBudget")["spec"]
    pods = only(resources, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert (budget["maxUnavailable"], "minAvailable" in budget) == (1, False)
    assert budget["selector"]["matchLabels"].items() <= pods.items()


def test_keda_and_helm_do_not_both_say_how_many_workers_there_are() -> None:
    resources = rendered(*KAFKA)
    scaled, stateful_set = only(resources, "ScaledObject")["spec"], only(resources, "StatefulSet")
    assert "replicas" not in stateful_set["spec"]
    assert scaled["scaleTargetRef"]["name"] == stateful_set["metadata"]["name"]
    assert scaled["maxReplicaCount"] <= 12


def test_the_network_lets_in_who_is_named_and_out_to_kafka_alone() -> None:
    policy = only(rendered(*KAFKA), "NetworkPolicy")["spec"]
    assert [peer for rule in policy["ingress"] for peer in rule["from"]]
    dns, kafka = policy["egress"]
    assert [port["port"] for port in dns["ports"]] == [53, 53]
    assert [port["port"] for port in kafka["ports"]] == [9093]
    assert kafka["to"] == [{"podSelector": {"matchLabels": {"strimzi.io/cluster": "events"}}}]
    assert only(rendered(), "NetworkPolicy")["spec"]["egress"] == []


# --- rules and boards ---------------------------------------------------------------------------------------------
def test_the_rules_are_those_of_deploy_prometheus_and_promtool_takes_them(tmp_path: Path) -> None:
    shipped = {path.stem: yaml.safe_load(path.read_text()) for path in files("prometheus/rules/*.yaml")}
    made = of_kind(rendered(*KAFKA), "PrometheusRule")
    assert shipped
    assert {one["metadata"]["name"].removeprefix("fm-"): one["spec"] for one in made} == shipped
    for one in made:
        file = tmp_path / f"{one['metadata']['name']}.yaml"
        file.write_text(yaml.safe_dump(one["spec"]))
        passes(tool("promtool"), "check", "rules", file)


OWN: Final = {"groups": [{"name": "own", "rules": [{"alert": "Own", "expr": "up == 0"}]}]}


@pytest.mark.parametrize("name", ["kpis", "flowmetrics-kpis"])
def test_a_file_of_rules_takes_the_place_of_the_shipped_one_of_its_name_and_of_no_other(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(OWN))
    own = rendered(*KAFKA, "--set-file", f"prometheusRule.files.{name}={tmp_path / 'own.yaml'}")
    shipped = {one["metadata"]["name"]: one["spec"] for one in of_kind(rendered(*KAFKA), "PrometheusRule")}
    made = {one["metadata"]["name"]: one["spec"] for one in of_kind(own, "PrometheusRule")}
    assert len(shipped) == 3
    assert made == {**shipped, "fm-flowmetrics-kpis": OWN}


def test_a_file_of_rules_of_another_name_comes_beside_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(OWN))
    own = of_kind(rendered(*KAFKA, "--set-file", f"prometheusRule.files.own={tmp_path / 'own.yaml'}"), "PrometheusRule")
    assert len(own) == 4
    assert OWN in [one["spec"] for one in own]


SAID: Final[dict[str, Any]] = {
    "alerts": {"owner": "delivery"},
    "eligible": {"checkout": {"segment": ["pro"]}},
    "expectations": {"flow_time": {"within": "8d", "share": "85%"}},
    "horizon": "300d",
    "kpis": ["flow_time"],
    "labels": {"max_per_metric": 100},
    "log": {"retention": "90d"},
    "percentiles": [50],
    "resolution": "1m",
    "surveys": {"smiles": {"scale": [1, 3], "better": "low"}},
    "time_to_value": {"within": ["30d"]},
    "timezone": "Asia/Seoul",
    "value_streams": {"checkout": {}},
    "windows": ["7d"],
}
"""Keys of the configuration, each with a value that is not the default."""


@pytest.mark.parametrize("key", SAID)
def test_the_shipped_rules_are_refused_where_the_configuration_makes_others(key: str, tmp_path: Path) -> None:
    (tmp_path / "flowmetrics.yaml").write_text(yaml.safe_dump({key: SAID[key]}))
    read, default = load_configuration(str(tmp_path / "flowmetrics.yaml")), Configuration()
    assert read != default
    config = {"broker": "local:///var/lib/flowmetrics", key: SAID[key]}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"config": config, "prometheusRule": {"enabled": True}}))
    values = ("--values", tmp_path / "values.yaml")
    if rules.groups(read) == rules.groups(default):
        rendered(*values)
        return
    said = refused(*values)
    assert f"config.{key}" in said
    assert "flowmetrics generate rules" in said
    given = [f"--set-file={words}" for words in re.findall(r"--set-file (\S+)", said)]
    assert len(of_kind(rendered(*values, *given), "PrometheusRule")) == 3
    assert f"config.{key}" in refused(*values, *given[1:])
    rendered(*values, "--set", "prometheusRule.enabled=false")


def test_the_notes_say_that_a_runbook_without_an_address_is_no_link(tmp_path: Path) -> None:
    chart = shutil.copytree(CHART, tmp_path / "chart")
    shutil.copy(CHART / "templates" / "NOTES.txt", chart / "notes.txt")
    (chart / "templates" / "notes.yaml").write_text('{notes: {{ tpl (.Files.Get "notes.txt") . | toJson }}}')

    def notes(*words: str | Path) -> str:
        """What helm would say after an installation, as a resource: it says it nowhere else without a cluster."""
        words = ("--kube-version", KUBERNETES, "--set", "prometheusRule.enabled=true", *words)
        said = passes(*helm("template", "fm", chart, "--show-only", "templates/notes.yaml", *words))
        return str(yaml.safe_load(said)["notes"])

    own = [f"--set-file=prometheusRule.files.{path.stem}={path}" for path in files("prometheus/rules/*.yaml")]
    assert "config.alerts.runbooks" in notes()
    assert "config.alerts.runbooks" not in notes("--set", "config.alerts.runbooks=https://runbooks.example", *own)


def test_each_board_is_a_config_map_of_its_own() -> None:
    boards = {path.name: path.read_text() for path in files("grafana/*.json")}
    made = [one for one in of_kind(rendered(*KAFKA), "ConfigMap") if "grafana_dashboard" in one["metadata"]["labels"]]
    assert boards
    assert {name: text for one in made for name, text in one["data"].items()} == boards


# --- bad values are refused before anything is installed ----------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "replicas=lots"), "replicas"),
        (("--set", "replica=2"), "replica"),
        (("--set", "replicas=2"), "config.broker: kafka://"),
        (("--set", "config.broker=local:///tmp/x"), "outside of the volume"),
        (("--set", "config.brokers=kafka://a:9092"), "brokers"),
        (("--set", "config.windows={1y}"), "windows"),
        (("--set", "strimzi.user.enabled=true"), "config.broker: kafka://"),
        ((*KAFKA, "--set", "autoscaling.max=13"), "config.topics.partitions 12"),
        ((*KAFKA, "--set", "autoscaling.min=13", "--set", "autoscaling.max=12"), "autoscaling.min"),
        ((*KAFKA, "--set", "autoscaling.enabled=false", "--set", "replicas=13"), "config.topics.partitions 12"),
        ((*KAFKA, "--set", "strimzi.cluster="), "strimzi.cluster is missing"),
        (("--set", "prometheusRule.files.x=1"), "files"),
    ],
    ids=lambda value: "" if isinstance(value, tuple) else value,
)
def test_values_that_cannot_work_are_refused(words: tuple[str | Path, ...], said: str) -> None:
    assert said in refused(*words)


@pytest.fixture
def installed() -> Iterator[tuple[str, ...]]:
    """What has helm ask a cluster in which the topics of the example lie."""
    of_track = only(
        [one for one in rendered(*KAFKA) if one["metadata"]["name"] == "fm-flowmetrics-track"], "KafkaTopic"
    )
    version, name = of_track["apiVersion"], of_track["metadata"]["name"]
    kind = {"name": "kafkatopics", "namespaced": True, "kind": "KafkaTopic", "verbs": ["get"]}
    there = {
        f"/apis/{version}": {"kind": "APIResourceList", "groupVersion": version, "resources": [kind]},
        f"/apis/{version}/namespaces/flow/kafkatopics/{name}": of_track,
    }

    class Cluster(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = there.get(self.path.partition("?")[0])
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer or {"kind": "Status", "status": "Failure", "code": 404}).encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Cluster) as server:
        Thread(target=server.serve_forever).start()
        yield "--namespace=flow", "--dry-run=server", f"--kube-apiserver=http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_partitions_are_not_added_to_topics_that_are_there(installed: tuple[str, ...]) -> None:
    told = "config.topics.partitions is 18 and the topics of this release have 12, which is fixed; say 12"
    assert told in refused(*KAFKA, *installed, "--set=config.topics.partitions=18")
    for same in ("--set=config.topics.partitions=12", "--set=strimzi.namespace=elsewhere"):
        passes(*helm("template", "fm", CHART, "--kube-version", KUBERNETES, *KAFKA, *installed, same))


def test_the_page_on_kubernetes_knows_what_helm_says_of_another_strimzi(installed: tuple[str, ...]) -> None:
    told = "unable to get apiresource from unstructured: kafka.strimzi.io/v1beta2, Kind=KafkaTopic"
    assert told in refused(*KAFKA, *installed, "--set=strimzi.apiVersion=kafka.strimzi.io/v1beta2")
    assert told.replace("v1beta2", "v1") in Path("docs/how-to/kubernetes.md").read_text()
