"""Real Kafka brokers for tests: nodes in KRaft mode on free ports, from the jars of `pom.xml`, as child processes.

The jars are fetched once into `.kafka/` beside the checkout's other caches. A broker can be paused, stopped, killed and
started again over the same files, and have further listeners that ask for a password or speak TLS.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
JARS: Final = HERE.parents[1] / ".kafka"
HEAP: Final = ("-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
START_SECONDS: Final = 120.0


def can_run() -> bool:
    """Whether this machine has what a broker of its own needs."""
    return shutil.which("java") is not None and shutil.which("mvn") is not None


def jars() -> Path:
    """The folder of the broker's jars, fetched with Maven when it is not there yet. Raises RuntimeError."""
    if not any(JARS.glob("kafka-tools-[0-9]*.jar")):
        if not can_run():
            raise RuntimeError("Kafka needs java and mvn; install them, or name a broker in FLOWMETRICS_TEST_BROKER")
        command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        with tempfile.TemporaryDirectory(prefix=".kafka-", dir=JARS.parent) as folder:
            subprocess.run([*command, f"-DoutputDirectory={folder}/jars"], check=True)
            with suppress(OSError):  # another run on the same checkout was first, and what is there is whole
                Path(folder, "jars").rename(JARS)
    return JARS


def free_port() -> int:
    """A port that nobody listens on now, below those that the system gives to whoever asks for any."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Broker:
    """One broker over a folder; `address` is where it listens. Start it before use, and stop it at the end.

    `listeners` are further ones, by name, with the security protocol of each; `scram` are mechanisms, each with the
    name=…,password=… that it knows. `number` is its place among `controllers`, the addresses of a cluster of several.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        scram: Mapping[str, str] | None = None,
        number: int = 1,
        controllers: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        protocols = {"PLAINTEXT": "PLAINTEXT", **(listeners or {})}
        self.addresses = {name: f"127.0.0.1:{free_port()}" for name in protocols}
        self.address = self.addresses["PLAINTEXT"]
        controllers = controllers or [f"127.0.0.1:{free_port()}"]
        listening = {**self.addresses, "CONTROLLER": controllers[number - 1]}
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "server.properties"
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(number),
            "controller.quorum.voters": ",".join(f"{n}@{address}" for n, address in enumerate(controllers, 1)),
            "listeners": ",".join(f"{name}://{address}" for name, address in listening.items()),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in {**protocols, "CONTROLLER": "PLAINTEXT"}.items()
            ),
            "log.dirs": str(folder / "log"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            "log.flush.offset.checkpoint.interval.ms": "1000",
            **(settings or {}),
        }
        self._file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        known = [word for mechanism, who in (scram or {}).items() for word in ("-S", f"{mechanism}=[{who}]")]
        self.java("kafka.tools.StorageTool", "format", "-t", "flowmetricsTestCluster", "-c", str(self._file), *known)
        self._process: subprocess.Popen[bytes] | None = None

    def java(self, main: str, *words: str) -> str:
        """What one of Kafka's own programs says. Raises RuntimeError where it fails."""
        command = ["java", *HEAP, "-cp", f"{jars()}/*", main, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{main}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.spawn()
        self.listening()

    def spawn(self) -> None:
        """Start it."""
        out = (self.folder / "out").open("ab")
        log4j = "-Dlog4j2.level=ERROR"
        command = ["java", *HEAP, log4j, "-cp", f"{jars()}/*", "kafka.Kafka", str(self._file)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        out.close()

    def listening(self) -> None:
        """Wait until it answers. Raises RuntimeError when it does not."""
        assert self._process is not None
        host, _, port = self.address.partition(":")
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"the broker did not start: {(self.folder / 'out').read_text()[-2000:]}")

    def pause(self) -> None:
        """SIGSTOP: connections stay open, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it, in order or by SIGKILL."""
        if self._process is not None:
            os.kill(self._process.pid, how)
            self._process.wait(60)
            self._process = None


class Cluster:
    """Three brokers, of which two are enough for everything; `address` names all of them."""

    SETTINGS: Final = {
        **{f"{name}.replication.factor": "3" for name in ("offsets.topic", "transaction.state.log")},
        "share.coordinator.state.topic.replication.factor": "3",
        "transaction.state.log.min.isr": "2",
    }

    def __init__(self, folder: Path) -> None:
        controllers = [f"127.0.0.1:{free_port()}" for _ in range(3)]
        self.brokers = [
            Broker(folder / str(number), self.SETTINGS, number=number, controllers=controllers) for number in (1, 2, 3)
        ]
        self.address = ",".join(broker.address for broker in self.brokers)

    def start(self) -> None:
        """Start all, and wait until each answers, which none does alone."""
        for broker in self.brokers:
            broker.spawn()
        for broker in self.brokers:
            broker.listening()

    def stop(self) -> None:
        """Kill all."""
        for broker in self.brokers:
            broker.stop(signal.SIGKILL)
