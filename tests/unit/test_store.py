"""What a worker's store believes of what it finds in its folder, and what it says where it cannot use it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.kafka import rocksdb
from agents.kafka.former import name_of
from agents.kafka.store import STALE_US, Store, take
from flowmetrics.errors import OperationError
from flowmetrics.instants import HOUR_US

NOW = 1_750_000_000_000_000
ROWS = [(b"k%04d" % n, os.urandom(1000)) for n in range(100)]

Open = Callable[..., Store]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "track-0"


@pytest.fixture
def opened(folder: Path) -> Iterator[Open]:
    """Opens the store at an instant, and closes it at the end, if nobody did before."""
    with ExitStack() as held:

        def one(now: int = NOW, origin: str = "ours") -> Store:
            made = Store(folder, origin, lambda: now)
            held.callback(made.close)
            return made

        yield one


@pytest.fixture
def on_disk(folder: Path, opened: Open) -> Path:
    """The one file of a store with rows."""
    store = opened()
    store.fill(ROWS, 100)
    store._db.flush()
    store.close()
    (table,) = folder.glob("*.sst")
    return table


def kept(store: Store) -> tuple[int, int]:
    """How far it is filled, and how many rows it holds."""
    return store.filled, len(list(store.beginning(b"k")))


def record(offset: int, at: int) -> Any:
    return SimpleNamespace(key=b"k%04d" % offset, value=b"v", offset=offset, timestamp=at // 1000)


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize(("age", "found"), [(0, (100, 100)), (STALE_US, (100, 100)), (STALE_US + 1, (0, 0))])
@pytest.mark.parametrize("direction", [1, -1])
def test_a_store_that_was_not_filled_for_so_long_that_tombstones_may_be_gone_begins_anew(
    opened: Open, age: int, found: tuple[int, int], direction: int
) -> None:
    assert kept(opened(NOW + direction * age)) == found


@pytest.mark.usefixtures("on_disk")
def test_a_store_of_other_topics_begins_anew(opened: Open) -> None:
    store = opened(origin="theirs")
    assert kept(store) == (0, 0)
    store.fill(ROWS[:1], 1)
    store.close()
    assert kept(opened(origin="theirs")) == (1, 1)


def test_a_store_of_a_version_that_did_not_say_whose_it_was_begins_anew(folder: Path, opened: Open) -> None:
    store = opened()
    store._db.put(b"\1filled", b"12")
    store._db.put(b"k", b"v")
    store.close()
    assert kept(opened()) == (0, 0)


@pytest.mark.usefixtures("on_disk")
def test_reading_some_of_a_changelog_makes_a_store_no_younger_than_what_was_read(opened: Open) -> None:
    store = opened(NOW + STALE_US)
    take(store, [record(100, NOW + HOUR_US)])
    store.close()
    store = opened(NOW + HOUR_US + STALE_US)
    assert kept(store) == (101, 101)
    store.close()
    assert kept(opened(NOW + HOUR_US + STALE_US + 1)) == (0, 0)


def test_a_store_that_began_anew_goes_on_where_it_was_though_what_it_read_is_old(opened: Open) -> None:
    store = opened()
    take(store, [record(0, NOW - 10 * STALE_US)])
    store.close()
    assert kept(opened(NOW + HOUR_US)) == (1, 1)


def test_a_store_whose_files_are_damaged_begins_anew(folder: Path, on_disk: Path, opened: Open) -> None:
    (manifest,) = folder.glob("MANIFEST-*")
    for damage in (
        lambda: on_disk.unlink(),
        lambda: on_disk.write_bytes(on_disk.read_bytes()[:-100]),
        lambda: manifest.unlink(),
        lambda: (folder / "CURRENT").write_bytes(b""),
    ):
        whole = {path: path.read_bytes() for path in folder.iterdir()}
        damage()
        store = opened()
        assert kept(store) == (0, 0)
        store.close()
        for path in folder.iterdir():
            path.unlink()
        for path, content in whole.items():
            path.write_bytes(content)
    assert kept(opened()) == (100, 100)


@pytest.mark.parametrize(
    "read", [lambda store: list(store.beginning(b"k")), lambda store: store.get([key for key, _ in ROWS])]
)
def test_a_block_that_is_damaged_is_noticed_when_it_is_read_and_the_store_begins_anew(
    on_disk: Path, opened: Open, read: Callable[[Store], object]
) -> None:
    content = bytearray(on_disk.read_bytes())
    content[len(content) // 2] ^= 255
    on_disk.write_bytes(content)
    store = opened()
    with pytest.raises(OSError, match="was damaged, and is filled anew"):
        read(store)
    assert kept(opened()) == (0, 0)


@pytest.mark.usefixtures("on_disk")
def test_a_store_that_another_process_has_open_is_left_alone_and_named(folder: Path, opened: Open) -> None:
    holds = "import sys; from pathlib import Path; from agents.kafka.store import Store"
    holds += f"; store = Store(Path({str(folder)!r}), 'ours', lambda: {NOW}); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(OperationError, match=rf"{folder} .*another process has it open: stop that"):
            opened()
        other.communicate()
    assert kept(opened()) == (100, 100)


@pytest.mark.usefixtures("on_disk")
def test_a_store_that_is_still_being_let_go_of_is_left_alone_and_may_be_asked_for_again(opened: Open) -> None:
    store = opened()
    with pytest.raises(OSError, match="it is being let go of"):
        opened()
    store.close()
    assert kept(opened()) == (100, 100)


@pytest.mark.usefixtures("on_disk")
def test_too_many_open_files_are_no_damage(opened: Open) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 3, hard))
    try:
        with pytest.raises(OperationError, match="Too many open files; let this process open more"):
            opened()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert kept(opened()) == (100, 100)


@pytest.mark.usefixtures("on_disk")
def test_a_full_disk_is_no_damage_and_may_pass(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise Exception("IO error: No space left on device: While appending to file")

    with monkeypatch.context() as patched:
        patched.setattr(rocksdb, "Rdict", full)
        with pytest.raises(OSError, match=r"No space left on device.*make room on its disk"):
            opened()
    assert kept(opened()) == (100, 100)


def test_a_worker_keeps_its_name_and_shares_it_with_none_on_another_machine_of_the_same_host_name(folder: Path) -> None:
    folder.mkdir()
    name = name_of(folder)
    assert name_of(folder) == name
    folder.rename(folder.with_name("machine"))
    folder.mkdir()  # the same path on another machine
    assert name_of(folder) != name
