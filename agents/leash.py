"""Processes that end with the one that starts them, however it ends: also where it is killed, on Linux and on macOS."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import BinaryIO, Final

_GUARDED: Final = 'exec 3<&0; (read -r _ <&3; kill -KILL 0) & exec "$@" </dev/null 3<&-'
"""A shell waits for the end of a pipe that only our process writes to, then kills the group that it is in. As long as
it waits there, nobody else can have the number of that group."""


def leashed(command: Sequence[str], log: BinaryIO) -> subprocess.Popen[bytes]:
    """Start a command that says everything into `log`, in a session of its own: Ctrl-C does not reach it.

    When our process has ended, or leaves the context of this one, all that is left of that session is killed.
    """
    return subprocess.Popen(
        ["sh", "-c", _GUARDED, "sh", *command], stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
    )
