"""The other engines: what each needs, how it is run, and what it answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.flow1.installed import PEERS, Java, Needs, Venv
from benchmarks.flow1.oracle import wrong_answers
from benchmarks.flow1.processes import Watch
from benchmarks.flow1.row import Row, today, wrong_in_short
from benchmarks.flow1.workload import remove
from tests.kafka.broker import Broker

PATIENCE_SECONDS: Final = 900.0
"""How long a peer may take; the slowest needs a minute on an idle machine."""


@dataclass(frozen=True)
class Peer:
    """An engine that is not ours. `words` follow its program; `events_max` is set for one that is slow."""

    name: str
    needs: Needs
    state: str
    words: tuple[object, ...]
    remark: str = ""
    events_max: int | None = None

    def events(self, wanted: int) -> int:
        """How many it is given."""
        return min(wanted, self.events_max or wanted)

    def home(self, folder: Path) -> Path:
        """Where what it needs is kept."""
        return folder / self.name.rstrip("2")


_OPEN: Final = tuple(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("util", "lang", "time"))
_HAND: Final = Venv(("confluent-kafka==2.16.1", "msgspec==0.21.1"))

_PEERS: Final = (
    Peer(
        "flink", Java("flink", "Flow1", ("-Xmx2g", *_OPEN)), "RocksDB, local checkpoints", (1,),
        "1.20, parallelism 1",
    ),
    Peer(
        "kstreams", Java("kstreams", "Flow1", ("-Xmx1g",)), "RocksDB, changelogs", (1,),
        "4.1, 1 thread, record cache off",
    ),
    Peer(
        "bytewax", Venv(("bytewax[kafka]==0.21.1", "orjson==3.13.0")), "SQLite", (PEERS / "bytewax/main.py",),
        "0.21, 1 worker",
    ),
    Peer(
        "quix", Venv(("quixstreams==3.28.1",)), "RocksDB, changelogs", (PEERS / "quix/main.py",),
        "quixstreams 3.28",
    ),
    Peer(
        "faust", Venv(("faust-streaming==0.15.3", "orjson==3.13.0")), "changelogs", (PEERS / "faust/main.py",),
        "faust-streaming 0.15, idiomatic", 100_000,
    ),
    Peer("handloop", _HAND, "none", (PEERS / "handloop/main.py", 1), "1 process; a bound, not an engine"),
    Peer("handloop2", _HAND, "none", (PEERS / "handloop/main.py", 2), "2 processes; a bound, not an engine"),
    Peer(
        "duckdb", Venv(("duckdb==2.0.0",)), "none needed", (PEERS / "duckdb/main.py",),
        "computed anew from the file, no broker",
    ),
)  # fmt: skip
ALL: Final = {peer.name: peer for peer in _PEERS}
"""By the name under which ENGINES asks for it."""


def run(peer: Peer, folder: Path, broker: Broker, topic: str, rows: Path, events: int, right: dict[str, Any]) -> Row:
    """Run it over a topic to its end, and judge its answer."""
    name = f"{peer.name}-{uuid.uuid4().hex[:8]}"
    state, result, said = folder / "runs" / name, folder / "runs" / f"{name}.json", folder / "runs" / f"{name}.log"
    state.mkdir(parents=True)
    told = {
        "BROKER": broker.address, "TOPIC": topic, "EVENTS": str(events), "EVENTS_FILE": str(rows), "RUN_ID": name,
        "STATE_DIR": str(state), "RESULT": str(result), "PYTHONPATH": str(PEERS / "lib"),
    }  # fmt: skip
    command = peer.needs.command(peer.home(folder), *peer.words)
    begun = time.monotonic()
    with said.open("wb") as out:
        process = subprocess.Popen(
            command, env=os.environ | told, cwd=state, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
    with Watch([process.pid], broker.pid) as watch:
        ended = _end(process)
    wall_s = time.monotonic() - begun
    asyncio.run(remove(broker.address, name))
    shutil.rmtree(state)
    answer = orjson.loads(result.read_bytes()) if result.exists() else {}
    last = (said.read_text(errors="replace").splitlines() or ["it said nothing"])[-1]
    wrong = wrong_answers(right, answer["answer"]) if answer else [f"{ended}: {last}"]
    if not wrong:
        result.unlink()
        said.unlink()
    return Row(
        engine=peer.name,
        date=today(),
        events=events,
        events_per_s=answer.get("events_per_s"),
        cpu_s_per_million=answer.get("cpu_s_per_million"),
        peak_rss_mb=watch.peak_rss_mb,
        correct=not wrong,
        broker_cpu_s_per_million=watch.broker_cpu_s / events * 1e6,
        other_cpu_s=watch.other_cpu_s,
        wall_s=wall_s,
        state=peer.state,
        remark="; ".join(filter(None, [peer.remark, wrong_in_short(wrong)])),
    )


def _end(process: subprocess.Popen[bytes]) -> str:
    """Wait for the end of a process and of its children; says how it ended."""
    try:
        return f"it ended with {process.wait(PATIENCE_SECONDS)} and without an answer"
    except subprocess.TimeoutExpired:
        return f"no answer in {PATIENCE_SECONDS:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the session that was made for it
        process.wait()
