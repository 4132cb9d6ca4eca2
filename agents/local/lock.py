"""One process per data directory: who holds it is written in the lock, and a second process is told."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from flowmetrics.errors import OperationError


class DirectoryLock:
    """Held while the context is open. The kernel lets go of it when the process dies, however it dies."""

    def __init__(self, directory: Path, purpose: str) -> None:
        self._path = directory / "flowmetrics.lock"
        self._purpose = purpose

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+")
        except OSError as error:
            raise OperationError(f"{self._path}: {error.strerror}; name a directory that can be written") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise OperationError(
                f"{self._path.parent} is held by {holder}; stop it, or name another directory"
            ) from None
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} (flowmetrics {self._purpose})")
        self._file.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.truncate(0)
        self._file.close()
