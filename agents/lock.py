"""One process per data directory: who holds it is written in the lock, and a second process is told.

The lock file has a line that names the holder and, once it serves, a line with its address. They count only as long
as the lock is held: what a killed process leaves behind is never read.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from flowmetrics.errors import OperationError


class HeldError(OperationError):
    """Another process holds the directory: `holder` names it, `address` is where it serves if it has said so."""

    def __init__(self, directory: Path, told: str) -> None:
        lines = told.split("\n")[:-1]  # what comes after the last line break is still being written
        self.directory = directory
        self.holder = lines[0] if lines else "another process"
        self.address = lines[1] if len(lines) > 1 else None
        super().__init__(f"{directory} is held by {self.holder}; stop it, or name another directory")

    def is_for(self, purpose: str) -> bool:
        """Whether the holder took the directory for this purpose."""
        return self.holder.endswith(_for(purpose))


class DirectoryLock:
    """Held while the context is open. The kernel lets go of it when the process dies, however it dies."""

    def __init__(self, directory: Path, purpose: str) -> None:
        self._path = directory / "flowmetrics.lock"
        self._purpose = purpose

    def __enter__(self) -> Self:
        """Take the directory. Raises HeldError, or OperationError where it cannot be written."""
        with self._advice():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab+", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with self._file as file:
                file.seek(0)
                raise HeldError(self._path.parent, file.read().decode("utf-8", "replace")) from None
        self._file.truncate(0)
        self._tell(f"process {os.getpid()} {_for(self._purpose)}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.truncate(0)
        self._file.close()

    def serves(self, address: str) -> None:
        """Tell other processes where this one serves; once. Raises OperationError."""
        self._tell(address)

    def _tell(self, line: str) -> None:
        with self._advice():
            self._file.write(f"{line}\n".encode())

    @contextmanager
    def _advice(self) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise OperationError(f"{self._path.parent} is a file; name a directory under `broker`") from None
        except OSError as error:
            raise OperationError(f"{self._path}: {error.strerror}; name a directory that can be written") from None


def _for(purpose: str) -> str:
    return f"(flowmetrics {purpose})"
