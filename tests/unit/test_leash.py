"""Children go when the process that started them is killed, and those that they started go too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from engine import PATIENCE_SECONDS

from agents.leash import leashed

STARTS = """
import sys
from agents.leash import leashed
leashed(["sh", "-c", "sleep 60 & echo begun; sleep 60"], sys.stdout.buffer).wait()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has started a child, and this one another; all three hold its standard output."""
    with subprocess.Popen([sys.executable, "-c", STARTS], stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"begun\n"
        yield one
        one.kill()


def test_what_a_process_started_ends_when_it_is_killed(parent: subprocess.Popen[bytes]) -> None:
    parent.kill()
    assert parent.communicate(timeout=PATIENCE_SECONDS) == (b"", None)  # nobody holds its output any more


def test_a_child_ends_as_it_wants_to_and_what_it_left_behind_is_killed() -> None:
    told = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with told:
        assert told.stdin is not None
        with leashed(["sh", "-c", "sleep 60 & exit 3"], told.stdin) as child:  # type: ignore[arg-type]
            assert child.wait(PATIENCE_SECONDS) == 3
        assert told.communicate(timeout=PATIENCE_SECONDS) == (b"", None)
