"""The compose files, as far as they can be tried without Docker: by their schema, and by running what they start.

Prometheus, Kafka and the engine of this machine run with the words, settings and files of their services; only
addresses and folders are others. Grafana is not to be had here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import urllib3
import yaml
from broker import Broker
from engine import EngineProcess, done, until
from fleet import Worker
from parts import DEPLOY, checker, fails, passes, tool

from agents.program import Program
from agents.settings import load_configuration

Service: TypeAlias = dict[str, Any]

LOCAL: Final = DEPLOY / "compose.yaml"
KAFKA: Final = DEPLOY / "compose.kafka.yaml"


def services(*paths: Path) -> dict[str, Service]:
    """The services of several files; what a later file says of a service comes on top."""
    found: dict[str, Service] = {}
    for path in paths:
        for name, service in yaml.safe_load(path.read_text())["services"].items():
            found[name] = {**found.get(name, {}), **service}
    return found


def mounts(service: Service) -> dict[str, Path]:
    """The files and folders of the checkout that a service sees, by where it sees them."""
    parts = [one.split(":") for one in service.get("volumes", ()) if one.startswith(".")]
    return {to: (DEPLOY / source).resolve() for source, to, *_ in parts}


@pytest.mark.parametrize("path", [LOCAL, KAFKA], ids=lambda path: path.name)
def test_the_file_is_what_compose_takes(path: Path, tmp_path: Path) -> None:
    passes(checker("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", path)
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(path.read_text().replace("depends_on:", "dependson:"))
    assert "dependson" in fails(checker("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", wrong)


@pytest.mark.parametrize("paths", [(LOCAL,), (LOCAL, KAFKA)], ids=["local", "kafka"])
def test_what_services_see_of_the_checkout_is_there_and_cannot_be_written(paths: tuple[Path, ...]) -> None:
    for service in services(*paths).values():
        assert all(path.exists() for path in mounts(service).values())
        assert all(one.endswith(":ro") for one in service.get("volumes", ()) if one.startswith("."))
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("paths", [(LOCAL,), (LOCAL, KAFKA)], ids=["local", "kafka"])
def test_every_volume_that_is_used_is_declared_and_none_else(paths: tuple[Path, ...]) -> None:
    declared = {name for path in paths for name in yaml.safe_load(path.read_text())["volumes"]}
    used = {
        one.partition(":")[0]
        for path in paths
        for service in services(path).values()
        for one in service.get("volumes", ())
        if not one.startswith(".")
    }
    assert declared == used


def test_every_address_in_the_files_is_a_service() -> None:
    known = services(LOCAL, KAFKA)
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    (scraped,) = prometheus["scrape_configs"]
    (looked_up,) = scraped["dns_sd_configs"]
    assert set(looked_up["names"]) == {name for name, one in known.items() if one.get("image") == "flowmetrics"}
    (alerting,) = prometheus["alerting"]["alertmanagers"][0]["static_configs"]
    datasource = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    urls = [*alerting["targets"], datasource["datasources"][0]["url"].removeprefix("http://")]
    assert {url.partition(":")[0] for url in urls} <= known.keys()
    broker = load_configuration(str(DEPLOY / "docker" / "flowmetrics.kafka.yaml")).broker
    assert broker == known["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].replace("PLAINTEXT", "kafka")


def test_grafana_finds_its_boards_where_they_are_mounted() -> None:
    grafana = services(LOCAL)["grafana"]
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/flowmetrics.yaml").read_text())["providers"]
    assert mounts(grafana)[provider["options"]["path"]] == DEPLOY / "grafana"
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (mounts(grafana)[str(home.parent)] / home.name).exists()
    assert mounts(grafana)["/etc/grafana/provisioning"] == DEPLOY / "grafana" / "provisioning"


# --- what they start ----------------------------------------------------------------------------------------------
def test_promtool_has_nothing_to_say_about_the_configuration_of_prometheus() -> None:
    passes(tool("promtool"), "check", "config", DEPLOY / "prometheus" / "prometheus.yaml")


@contextmanager
def started_prometheus(folder: Path, words: list[str], target: str) -> Iterator[str]:
    """Prometheus with the words of its service, scraping one target."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / one) for one in config["rule_files"]]
    del config["scrape_configs"][0]["dns_sd_configs"], config["alerting"]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    here = {"/etc/prometheus/prometheus.yaml": folder / "prometheus.yaml", "/prometheus": folder / "prometheus"}
    program = Program(
        lambda address: [
            str(tool("prometheus")), *(_there(word, here) for word in words), f"--web.listen-address={address}",
        ],
        folder / "log",
    )  # fmt: skip
    try:
        program.start()
        yield program.url
    finally:
        program.kill()


def _there(word: str, here: dict[str, Path]) -> str:
    name, _, value = word.partition("=")
    return f"{name}={here.get(value, value)}"


def test_prometheus_runs_with_the_words_of_its_service_and_keeps_400_days(tmp_path: Path) -> None:
    words = services(LOCAL)["prometheus"]["command"]
    with (
        EngineProcess(tmp_path / "engine") as engine,
        started_prometheus(tmp_path, words, engine.ready().url.removeprefix("http://")) as url,
    ):
        engine.post(done("A-1"))

        def asked(path: str) -> Any:
            return urllib3.request("GET", f"{url}/api/v1/{path}", retries=False).json()["data"]

        assert asked("status/flags")["storage.tsdb.retention.time"] == "400d"
        velocity = "query?query=flowmetrics_kpi_value{kpi='flow_velocity',item_type='all',window='1d'}"
        until(lambda: [one["value"][1] for one in asked(velocity)["result"]] == ["1"], "it has scraped the engine")
        loaded = {rule["name"] for group in asked("rules")["groups"] for rule in group["rules"]}
        assert {"flowmetrics:kpi:trusted", "FlowTimeDrift"} <= loaded


@pytest.mark.long
def test_the_workers_run_over_a_kafka_with_the_settings_of_its_service(
    brokers: Callable[..., Broker], tmp_path: Path, prefix: str
) -> None:
    environment = services(KAFKA)["kafka"]["environment"]
    settings = {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in environment.items()}
    addresses = {"listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs"}
    settings = {name: value for name, value in settings.items() if name not in addresses}
    broker = brokers(settings={**settings, "group.initial.rebalance.delay.ms": "0"})
    with Worker(tmp_path / "worker", broker.address, f"topics: {{prefix: {prefix}}}\n") as worker:
        worker.start()
        until(lambda: worker.get("/readyz").status == 200, "the worker is ready", 120)
        worker.post(done("A-1"))
        worker.shows(lambda page: page.velocity(), 1, 120)
