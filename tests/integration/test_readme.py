"""The README as a newcomer follows it: each block and each command within the text in turn, word for word, in a fresh
copy with an empty home.

Four things differ from what a newcomer does. Port 8080 may be taken here, so the system chooses one: `make demo` is
told so by the environment, `flowmetrics run` by a flowmetrics.yaml, and where a block says 127.0.0.1:8080 it is read as
the address that was told. No terminal is here, so that file also asks for the words that one would show. The command
`flowmetrics top` is told where to look, and to look once. And pip may use what it has downloaded before.

A block that is not in `STEPS` fails the tests: say there how it is tried, or why it is not.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
import pytest
import urllib3
import yaml
from engine import SERVES, Metrics, free_port, until

from flowmetrics.configuration import Configuration
from flowmetrics.publishing.rules.files import alerts

ROOT: Final = Path(__file__).parents[2]
INSTALL_SECONDS: Final = 300.0
"""Seconds to install and start; ten with what pip has, minutes where it has to download."""
TICKETS: Final = """\
key,type,status,changed_at
T-1,Bug,Ready,2025-03-01T09:00:00Z
T-1,Bug,In Progress,2025-03-01T10:00:00Z
T-1,Bug,Done,2025-03-01T11:00:00Z
T-2,Bug,Done,2025-03-02T00:00:01Z
T-3,Bug,Done,2525-03-02T00:00:00Z
"""
INLINE: Final = r"`((?:\.venv/bin/\w+|make) [^`\n]+)`"
FLOW_TIME: Final = {"value_stream": "checkout", "item_type": "defect", "window": "1d", "percentile": "p50"}


@dataclass(frozen=True)
class Block:
    """A command with the output that the README shows for it, or another fenced block, or a command within the text."""

    words: str
    output: str = ""


def blocks(text: str) -> list[Block]:
    """What is to be tried, in order: each command of the console blocks and of the text, other blocks as a whole."""
    found = []
    for kind, body, inline in re.findall(rf"^```(\w*)\n(.*?)^```$|{INLINE}", text, re.M | re.S):
        if kind != "console":
            found.append(Block(inline or body))
            continue
        for command in re.split(r"^\$ ", body, flags=re.M)[1:]:
            first, *rest = command.splitlines()
            words = [first, *(line for line in rest if line.startswith(" "))]
            found.append(Block("\n".join(words), "\n".join(line for line in rest if not line.startswith(" "))))
    return found


class Newcomer:
    """Somebody with the project's files, an empty home, and Python, make, curl and a shell."""

    def __init__(self, place: Path) -> None:
        self.place = place / "flowmetrics"
        self.address = ""
        self.told = place / "told.txt"
        self._running: subprocess.Popen[bytes] | None = None
        home = place / "home"
        home.mkdir()
        of_pip = {
            name: value for name, value in os.environ.items() if re.match(r"PIP_|\w+_PROXY$|SSL_CERT", name, re.I)
        }
        cache = subprocess.run(
            [sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=False
        )
        tools = {str(Path(shutil.which(tool) or pytest.fail(f"{tool} is missing")).parent) for tool in ("make", "curl")}
        self.environment = {
            "PIP_CACHE_DIR": cache.stdout.strip(),
            **of_pip,
            "HOME": str(home),
            "PATH": ":".join(sorted({*tools, "/usr/bin", "/bin"})),
            "PYTHON": getattr(sys, "_base_executable", sys.executable),
            "LISTEN": "127.0.0.1:0",
        }

    def types(self, words: str) -> str:
        """Type words into a shell and wait; what they said."""
        done = subprocess.run(
            ["bash", "-c", self.here(words)], cwd=self.place, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"exit code {done.returncode} of {words}: {done.stdout}"
        return done.stdout

    def starts(self, words: str, serves: str) -> str:
        """Type words that serve until Ctrl-C; what they said until they named their address."""
        self.kill()  # what a step that failed has left running
        with self.told.open("wb") as told:
            self._running = subprocess.Popen(
                ["bash", "-c", words], cwd=self.place, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=told, stderr=told, start_new_session=True,
            )  # fmt: skip
        running = self._running

        def address() -> str:
            match = re.search(serves, self.told.read_text())
            assert match or running.poll() is None, f"it ended: {self.told.read_text()}"
            return match[1] if match else ""

        self.address = until(address, f"{words} serves", INSTALL_SECONDS)
        return self.told.read_text()

    def ends(self) -> str:
        """Ctrl-C; what was said in all."""
        assert self._running is not None
        os.killpg(self._running.pid, signal.SIGINT)
        code = self._running.wait(15)
        self._running = None
        assert code in (0, -signal.SIGINT), self.told.read_text()  # make dies of the signal that reaches it too …
        assert "***" not in self.told.read_text(), (
            self.told.read_text()
        )  # … and says so when its command did not end well
        return self.told.read_text()

    def kill(self) -> None:
        """End what still runs."""
        if self._running is not None:
            os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()
            self._running = None

    def metrics(self) -> Metrics:
        """What Prometheus would read."""
        return Metrics(urllib3.request("GET", f"{self.address}/metrics", timeout=10, retries=False).data.decode())

    def here(self, words: str) -> str:
        """Words with the address that was told."""
        return words.replace("127.0.0.1:8080", self.address.removeprefix("http://"))


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """One newcomer for all steps, with what git knows of or would add, as it is now."""
    one = Newcomer(tmp_path_factory.mktemp("newcomer"))
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().strip("\0").split("\0"):
        if (ROOT / name).is_file():  # not removed since
            (one.place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, one.place / name)
    yield one
    one.kill()
    shutil.rmtree(one.place / ".venv", ignore_errors=True)


def clone(newcomer: Newcomer, block: Block) -> None:
    """Left out: it names no repository. The copy stands for it."""
    assert block.words == "git clone <this repository> flowmetrics && cd flowmetrics"
    assert {path.name for path in newcomer.place.iterdir()} >= {"README.md", "Makefile", "requirements.lock"}
    assert not (newcomer.place / ".venv").exists()


def demo(newcomer: Newcomer, block: Block) -> None:
    newcomer.starts(block.words, r"metrics     (http://\S+)/metrics")
    for name, labels in (
        ("flow_velocity_items", {"item_type": "all", "window": "30d"}),
        ("flow_time_seconds", {"item_type": "all", "window": "30d", "percentile": "p85"}),
        ("flow_load_items", {"item_type": "feature", "state": "active"}),
        ("requests_open", {"channel": "all"}),
        ("active_users", {"window": "1d"}),
        ("nps_responses", {"touchpoint": "all", "segment": "all", "window": "30d"}),
    ):
        for stream in ("checkout", "search", "mobile-app"):
            at = {"value_stream": stream, **labels}
            until(lambda: (newcomer.metrics()(name, **at) or 0) > 0, f"{name} of {stream} is shown")  # noqa: B023
    assert "Ctrl-C" in newcomer.told.read_text()
    live = urllib3.request("GET", f"{newcomer.address}/", timeout=10)
    assert (live.status, live.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


def top(newcomer: Newcomer, block: Block) -> None:
    told = newcomer.types(f"{block.words} --once --url {newcomer.address}")
    assert re.search(r"flow time 7d p85 +checkout", told)
    assert re.search(r"nps 7d +mobile-app", told)


def page(newcomer: Newcomer, block: Block) -> None:
    """What a pager shows: `tests/e2e/test_demo.py` waits until it arrives; here its words are those of the rules."""
    (alert,) = (alert for alert in alerts(Configuration()) if alert.alert == "NpsScoreDrop")
    first, next_step, runbook = block.words.splitlines()
    assert first.startswith(f"{alert.labels['severity'].upper()} {alert.alert}: ")
    assert first.endswith(alert.annotations["summary"].rpartition("}}")[2])
    assert next_step == f"  next step  {alert.annotations['next_step']}"
    assert (newcomer.place / runbook.split()[-1]).is_file()


def elsewhere(newcomer: Newcomer, block: Block) -> None:
    """After Ctrl-C, which keeps nothing, on another port; the system says which one is free."""
    assert "nothing of it is kept" in newcomer.ends()
    port = free_port()
    newcomer.starts(block.words.replace("9090", str(port)), r"metrics     (http://\S+)/metrics")
    assert newcomer.address == f"http://127.0.0.1:{port}"
    assert "nothing of it is kept" in newcomer.ends()
    assert not (newcomer.place / "flowmetrics-data").exists()


def run(newcomer: Newcomer, block: Block) -> None:
    (newcomer.place / "flowmetrics.yaml").write_text('http: {listen: "127.0.0.1:0"}\nlogging: {format: console}\n')
    told = newcomer.starts(block.words, SERVES.pattern)
    _, _, shown = block.output.partition("Z ")
    assert told.strip().partition("Z ")[2] == shown.replace("http://127.0.0.1:8080", newcomer.address)
    until(lambda: newcomer.metrics()("engine_ready") == 1, "the engine is ready")
    assert (newcomer.place / "flowmetrics-data").is_dir()


def tell(newcomer: Newcomer, block: Block) -> None:
    assert newcomer.types(block.words) == block.output == '{"accepted":1,"rejected":[]}'


def show(newcomer: Newcomer, block: Block) -> None:
    labels = {"value_stream": "checkout", "item_type": "feature", "state": "active"}
    until(lambda: newcomer.metrics()("flow_load_items", **labels) == 1, "it counts")  # the README says: a second later
    assert newcomer.types(block.words).strip() == block.output != ""


def send(newcomer: Newcomer, block: Block) -> None:
    (newcomer.place / "send.py").write_text(newcomer.here(block.words))
    assert newcomer.types(".venv/bin/python send.py") == ""
    labels = {"value_stream": "checkout", "item_type": "feature", "window": "1d"}
    until(lambda: newcomer.metrics()("flow_velocity_items", **labels) == 1, "the item is done")


def scrape(newcomer: Newcomer, block: Block) -> None:
    (job,) = yaml.safe_load(block.words)["scrape_configs"]
    assert job["static_configs"] == [{"targets": [Configuration().listen]}]


def mapping(newcomer: Newcomer, block: Block) -> None:
    (newcomer.place / "tickets.yaml").write_text(block.words)
    (newcomer.place / "tickets.csv").write_text(TICKETS)
    assert "all well" in newcomer.types(".venv/bin/flowmetrics validate tickets.yaml")


def replay(newcomer: Newcomer, block: Block) -> None:
    rows = [orjson.loads(line) for line in newcomer.types(block.words).splitlines() if line.startswith("{")]
    found = {row["name"]: row["value"] for row in rows if FLOW_TIME.items() >= row["labels"].items() and row["labels"]}
    assert found["flowmetrics_flow_velocity_items"] == 1, "of two that are done one is done later"
    assert found["flowmetrics_flow_time_seconds"] == pytest.approx(2 * 3600, rel=0.01)
    assert {row["at"] for row in rows} == {"2025-03-02T00:00:00Z"}


def import_(newcomer: Newcomer, block: Block) -> None:
    for _ in range(2):
        told = newcomer.types(block.words)
        assert f"sent to it at {newcomer.address}" in told
        assert "4 events are in the log; refused: 1 too_far_ahead" in told


def configure(newcomer: Newcomer, block: Block) -> None:
    (newcomer.place / "flowmetrics.yaml").write_text(block.words)
    assert "all well" in newcomer.types(".venv/bin/flowmetrics validate flowmetrics.yaml")
    assert '"$schema"' in newcomer.types(".venv/bin/flowmetrics validate --schema")


def rejected(newcomer: Newcomer, block: Block) -> None:
    row, again = [orjson.loads(line) for line in newcomer.types(block.words).splitlines()]
    assert row["reason"] == again["reason"] == "too_far_ahead"
    assert "T-3" in row["event"]


def explain(newcomer: Newcomer, block: Block) -> None:
    told = newcomer.types(block.words)
    assert "'In Progress' = active" in told
    assert "'Done' = done" in told
    assert "flowmetrics_flow_velocity_items" in told


def audit(newcomer: Newcomer, block: Block) -> None:
    newcomer.ends()  # the README says: stop it first
    assert "histories and panes agree" in newcomer.types(block.words)


def itself(newcomer: Newcomer, block: Block) -> None:
    """Left out: it would run this test again, without end. Make only says what it would do."""
    assert "-m pytest" in newcomer.types(f"{block.words} --dry-run")


STEPS: Final[dict[str, Callable[[Newcomer, Block], None]]] = {
    "git clone ": clone,
    "make demo": demo,
    ".venv/bin/flowmetrics top": top,
    "PAGE NpsScoreDrop": page,
    "make demo LISTEN=": elsewhere,
    ".venv/bin/flowmetrics run": run,
    "curl -s http://127.0.0.1:8080/events ": tell,
    "curl -s http://127.0.0.1:8080/metrics ": show,
    "from agents.client import Client": send,
    "scrape_configs:": scrape,
    "# tickets.yaml": mapping,
    ".venv/bin/flowmetrics replay ": replay,
    ".venv/bin/flowmetrics import ": import_,
    "windows: [1d, 7d, 30d]": configure,
    ".venv/bin/flowmetrics rejected": rejected,
    ".venv/bin/flowmetrics explain ": explain,
    ".venv/bin/flowmetrics audit": audit,
    "make test": itself,
}
"""What a block begins with, in the order of the README, and how it is tried."""
BLOCKS: Final = blocks((ROOT / "README.md").read_text(encoding="utf-8"))


def begins(block: Block) -> list[str]:
    known = [begin for begin in STEPS if block.words.startswith(begin)]
    return [max(known, key=len)] if known else []


def test_every_block_of_the_readme_has_a_step_of_its_own() -> None:
    assert [begins(block) for block in BLOCKS] == [[begin] for begin in STEPS]


@pytest.mark.parametrize(("begin", "block"), [(begin, block) for block in BLOCKS for begin in begins(block)])
def test_the_readme_is_true(newcomer: Newcomer, begin: str, block: Block) -> None:
    STEPS[begin](newcomer, block)


def test_a_command_that_the_readme_gains_is_a_block_of_its_own_with_its_output() -> None:
    text = "```console\n$ one\n  two\nout\nput\n$ three\n```\n`text`\n```yaml\na: 1\n```\n`make it`\n```\nbare\n```\n"
    yaml_block, inline, bare = Block("a: 1\n"), Block("make it"), Block("bare\n")
    assert blocks(text) == [Block("one\n  two", "out\nput"), Block("three"), yaml_block, inline, bare]


def test_every_picture_is_shown_and_every_picture_that_is_shown_is_there() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {
        (page.parent / name).resolve()
        for page in pages
        for name in re.findall(r"\]\(([^()\s:]+\.png)\)", page.read_text(encoding="utf-8"))
    }
    assert named == {path.resolve() for path in (ROOT / "docs").rglob("*.png")}
    assert len(re.findall(r"^!\[.+\]\(docs/pictures/", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)) >= 2
