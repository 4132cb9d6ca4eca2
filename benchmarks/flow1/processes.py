"""What processes use, read from /proc as on Linux: CPU, memory, and what everybody else used meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

TICK: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
LOOK_SECONDS: Final = 0.1


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, with that of children that ended; 0 where it is gone."""
    fields = _stat(pid)
    return sum(int(field) for field in fields[11:15]) / TICK if fields else 0.0


def machine_cpu_seconds() -> float:
    """User and system time of the whole machine."""
    user, nice, system, _, _, *interrupts = (int(n) for n in Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) / TICK


def tree(roots: Sequence[int]) -> list[int]:
    """Processes and all their descendants."""
    parents = {int(path.name): _stat(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found, new = list[int](), list(roots)
    while new:
        found += new
        new = [pid for pid, fields in parents.items() if fields and int(fields[1]) in new]
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on, the parent being the second; none where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


class Watch:
    """Looks at processes and their children while they run: a context. `broker` is told apart."""

    def __init__(self, roots: Sequence[int], broker: int) -> None:
        self._roots = roots
        self._broker = broker
        self._resident: list[int] = []
        self._cpu: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._before = machine_cpu_seconds(), cpu_seconds(self._broker), time.process_time()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        machine, broker, bench = self._before
        self.broker_cpu_s = cpu_seconds(self._broker) - broker
        ours = self.broker_cpu_s + sum(self._cpu.values()) + time.process_time() - bench
        self.other_cpu_s = max(0.0, machine_cpu_seconds() - machine - ours)

    @property
    def peak_rss_mb(self) -> int:
        """The most memory that all of them held at one time."""
        return max(self._resident, default=0) * PAGE_BYTES >> 20

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            stats = {pid: fields for pid in tree(self._roots) if (fields := _stat(pid))}
            self._resident.append(sum(int(fields[21]) for fields in stats.values()))
            self._cpu |= {pid: (int(fields[11]) + int(fields[12])) / TICK for pid, fields in stats.items()}
