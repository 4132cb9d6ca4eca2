"""What checkpoints and recoveries cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.kafka.changelog import Record, Rows
from agents.kafka.log import Commits


@dataclass
class Effort:
    """What the checkpoints and recoveries of a unit cost since the worker began, however often it came and went."""

    checkpoints: int = 0
    checkpoint_seconds: float = 0.0
    checkpoint_bytes: int = 0
    recovery_seconds: float = 0.0
    """Of the latest recovery, until it had caught up."""
    histories_from_memory: int = 0
    histories_from_store: int = 0


class Measured:
    """A writer whose checkpoints are counted."""

    def __init__(self, writer: Commits, effort: Effort, ticks: Callable[[], float]) -> None:
        self._writer = writer
        self._effort = effort
        self._ticks = ticks

    async def commit(self, told: Sequence[Record], rows: Rows) -> int:
        """See `Commits`."""
        begun = self._ticks()
        after = await self._writer.commit(told, rows)
        self._effort.checkpoints += 1
        self._effort.checkpoint_seconds += self._ticks() - begun
        self._effort.checkpoint_bytes += sum(len(value or b"") for _, value in rows)
        self._effort.checkpoint_bytes += sum(len(record.value or b"") for record in told)
        return after

    async def close(self) -> None:
        """See `Commits`."""
        await self._writer.close()
