"""The chart as helm renders it: valid for Kubernetes, KEDA, the Prometheus Operator, and for the engine itself."""

from __future__ import annotations

import copy
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import yaml
from parts import DEPLOY, KUBERNETES, checker, fails, files, helm, of_kind, only, passes, plain, rendered, tool

from agents.kafka import topics as kafka_topics
from agents.settings import load_configuration
from flowmetrics import __version__

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
    assert {one["metadata"]["name"].removeprefix("fm-flowmetrics-"): one["spec"] for one in made} == shipped
    for one in made:
        file = tmp_path / f"{one['metadata']['name']}.yaml"
        file.write_text(yaml.safe_dump(one["spec"]))
        passes(tool("promtool"), "check", "rules", file)


def test_rules_of_ones_own_take_the_place_of_the_shipped_ones(tmp_path: Path) -> None:
    own = {"groups": [{"name": "own", "rules": [{"alert": "Own", "expr": "up == 0"}]}]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    words = ("--set-file", f"prometheusRule.files.own={tmp_path / 'own.yaml'}")
    assert only(rendered(*KAFKA, *words), "PrometheusRule")["spec"] == own


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
