"""The tools of Prometheus as a backfill uses them: OpenMetrics into blocks, rules over blocks, a server for a while."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agents.backfill import Span
from agents.program import Program
from flowmetrics.errors import OperationError
from flowmetrics.instants import SECOND_US, duration_text, instant_text

BLOCK_HOURS_MAX: Final = 744
"""Of the blocks of a backfill. By default promtool makes blocks of two hours, some hundred a month: 70 times slower."""
POINTS_MAX: Final = 11_000
"""Prometheus answers a range query with at most so many for each series; promtool asks for a block at a time."""
QUERY_SAMPLES_MAX: Final = 1_000_000_000
_REFUSED: Final = "rule importer error:"
"""How promtool begins a line where a rule cannot be evaluated; some versions exit with 0 all the same."""


def block_hours(step_us: int) -> int:
    """The longest block, in hours, over which rules can be evaluated every `step_us`.

    promtool makes a block of each rule, so the fewer the better: 300 of them take seconds to open.

    >>> block_hours(300 * SECOND_US), block_hours(60 * SECOND_US)
    (916, 183)
    """
    return step_us * POINTS_MAX // (3600 * SECOND_US)


def blocks_command(openmetrics: Path, directory: Path) -> list[str]:
    """The command that makes blocks of an OpenMetrics file in a data directory of Prometheus.

    The flag is not among those that promtool shows.
    """
    flag = f"--max-block-duration={BLOCK_HOURS_MAX}h"
    return ["promtool", "tsdb", "create-blocks-from", flag, "openmetrics", str(openmetrics), str(directory)]


def must_be_installed() -> None:
    """Raises OperationError where one of the programs is missing."""
    for program in ("promtool", "prometheus"):
        if shutil.which(program) is None:
            raise OperationError(
                f"there is no {program} on this machine; install Prometheus (Debian: apt-get install prometheus), or "
                "write --openmetrics OUT here and make blocks of it where Prometheus is"
            )


def fill(
    openmetrics: Path, passes: Sequence[str], directory: Path, folder: Path, span: Span, progress: Callable[[int], None]
) -> int:
    """Put an OpenMetrics file, and what rule files record of it, into a data directory as blocks; how many.

    `passes` are rule files (YAML), of which each reads what those before it have recorded. `folder` must lie on the
    same file system as the directory: nothing appears there before all is done. `progress` is told of each part.
    Raises OperationError with what the tools of Prometheus say.
    """
    blocks = folder / "blocks"
    blocks.mkdir()
    _run(blocks_command(openmetrics, blocks), folder)
    progress(1)
    for number, text in enumerate(passes):
        rules, recorded = folder / "rules.yaml", folder / f"recorded-{number}"
        rules.write_text(text)
        recorded.mkdir()
        with serving(blocks, folder, span.step) as address:
            _run(_rules_command(rules, address, span, recorded), folder)
        _move(recorded, blocks)
        progress(1)
    return _move(blocks, directory)


def _rules_command(rules: Path, address: str, span: Span, recorded: Path) -> list[str]:
    return [
        "promtool", "tsdb", "create-blocks-from", f"--max-block-duration={block_hours(span.step)}h", "rules",
        f"--url={address}", f"--start={instant_text(span.first)}", f"--end={instant_text(span.last)}",
        f"--output-dir={recorded}", str(rules),
    ]  # fmt: skip


def _move(source: Path, target: Path) -> int:
    """Move the blocks of one directory into another."""
    blocks = [meta.parent for meta in source.glob("*/meta.json")]
    for block in blocks:
        block.rename(target / block.name)
    return len(blocks)


def _run(command: Sequence[str], folder: Path) -> None:
    """Run a tool, whose temporary files are in the folder too: it leaves them behind where it is killed."""
    surroundings = {**os.environ, "TMPDIR": str(folder)}
    ran = subprocess.run(command, env=surroundings, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    said = (ran.stdout + ran.stderr).decode("utf-8", "replace").splitlines()
    refused = [line for line in said if line.startswith(_REFUSED)]
    if ran.returncode or refused:
        told = refused or said or [str(ran.returncode)]
        raise OperationError(f"{' '.join(command[:3])} failed: {told[-1]}")


@contextmanager
def serving(directory: Path, folder: Path, step: int) -> Iterator[str]:
    """The address of a Prometheus that answers from a data directory, and scrapes nothing, until it is left.

    Its configuration and what it says lie in `folder`. A sample counts until the next step at least.
    Raises OperationError where it does not start.
    """
    configuration = folder / "prometheus.yml"
    configuration.write_text("global: {}\n")
    prometheus = Program(
        lambda address: [
            "prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={directory}",
            "--storage.tsdb.retention.time=100y", f"--web.listen-address={address}",
            f"--query.max-samples={QUERY_SAMPLES_MAX}", "--query.timeout=1h",
            f"--query.lookback-delta={duration_text(max(step, 300 * SECOND_US))}",
        ],
        folder / "prometheus.log",
    )  # fmt: skip
    try:
        prometheus.start()
        yield prometheus.url
    finally:
        prometheus.stop()
