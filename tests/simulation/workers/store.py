"""A machine's stores: tables that outlive the process on it, as `agents.kafka.store.Store` promises them.

A table that was not filled for long is filled anew: Kafka may have dropped tombstones that it never saw.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import Final, TypeAlias

from agents.kafka.store import is_stale

Rows: TypeAlias = Iterable[tuple[bytes, bytes | None]]

STATES_MAX: Final = 3
"""So many earlier states may come back after a power cut."""


class Table:
    """What lies in one folder."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.filled = 0
        self.filled_at = 0
        """See `agents.kafka.store`."""
        self.held = False
        """A process has it open: another one could not."""
        self._earlier: deque[tuple[dict[bytes, bytes], int, int]] = deque(maxlen=STATES_MAX)

    def fill(self, rows: Rows, filled: int, now: int = 0) -> None:
        """Take rows up to an offset, as one."""
        self._earlier.append((dict(self.rows), self.filled, self.filled_at))
        for key, value in rows:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        self.filled, self.filled_at = filled, now

    def cut_power(self, rng: Random) -> None:
        """Come back as it was a few writes ago: they need not have reached the disk."""
        if self._earlier:
            self.rows, self.filled, self.filled_at = rng.choice(self._earlier)
            self._earlier.clear()

    def freshen(self, now: int) -> None:
        """Forget everything if it is stale."""
        if is_stale(self.filled_at, now):
            self.rows, self.filled, self.filled_at = {}, 0, now
            self._earlier.clear()


class SimulatedStore:
    """A table that a process has open."""

    trusting = False
    """Whether a table is believed however old it is, which is broken."""

    def __init__(self, table: Table, clock: Callable[[], int] = int) -> None:
        assert not table.held, "a store is open twice"
        table.held = True
        if not self.trusting:
            table.freshen(clock())
        self._table = table
        self._clock = clock

    @property
    def filled(self) -> int:
        """See `Store`."""
        return self._table.filled

    def fill(self, rows: Rows, offset: int, at: int | None = None) -> None:
        """See `Store`."""
        assert self._table.held, "a store is used that was let go of"
        self._table.fill(rows, offset, self._clock() if at is None else max(at, self._table.filled_at))

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store`."""
        return [self._table.rows.get(key) for key in keys]

    def beginning(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See `Store`."""
        rows = sorted((key, value) for key, value in self._table.rows.items() if key.startswith(prefix))
        return ((key[len(prefix) :], value) for key, value in rows)

    def after(self, prefix: bytes, key: bytes, most: int) -> list[bytes]:
        """See `Store`."""
        return [found for found, _ in self.beginning(prefix) if found > key][:most]

    def count(self) -> int:
        """See `Store`."""
        return len(self._table.rows)

    def close(self) -> None:
        """See `Store`."""
        self._table.held = False
