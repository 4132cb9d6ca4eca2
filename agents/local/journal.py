"""The one SQLite file of a data directory: log, histories, panes, position; what is written together stays together.

Two connections write, one at a time: intake appends to the log with a full sync before it answers, the runner commits
checkpoints. A checkpoint is one transaction of outputs, dirty state and position; it need not reach the disk at once,
because its input, the log, already has. WAL keeps the commits in order, so after a power cut the file is as it was
after some checkpoint.

    log        first offset, count, arrival stamp, events as lines         appended by intake, read by track;
                                                                           an empty line: of an erased person
    histories  key, latest instant, facts and what they contributed
    held       accepted events ahead of now
    series     numbers of series, the same in all epochs
    shown      the number under which tally shows a series                 of an epoch
    changes    what track gave and tally has not stored yet                of an epoch; a crash costs a short re-read
    segments   panes of one value stream and day                           of an epoch
    rejected   what was refused, and why
    erased     persons to be erased from the log: key, up to which instant, before which offset nothing is left
    meta       position, clock, counters, which key makes the pseudonyms; of the published epoch the configuration
               and its fingerprints; how far the coming one is

What is deleted is overwritten (secure_delete), because it may be what an erased person did.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import msgspec

from flowmetrics.errors import OperationError, Reason, Rejection
from flowmetrics.steps.series import Series

FILE: Final = "flowmetrics.db"
FORMAT: Final = 2
"""Of the file. One of format 1, which had no epochs, loses its panes, and the runner makes them anew from the
histories; one of any other format is refused."""

_OF_EPOCHS: Final = """
CREATE TABLE series (number INTEGER PRIMARY KEY, series BLOB);
CREATE TABLE shown (epoch INTEGER, number INTEGER, shown INTEGER, PRIMARY KEY (epoch, number)) WITHOUT ROWID;
CREATE TABLE changes (id INTEGER PRIMARY KEY, epoch INTEGER, body BLOB);
CREATE TABLE segments (
  epoch INTEGER, stream TEXT, day INTEGER, body BLOB, PRIMARY KEY (epoch, stream, day)
) WITHOUT ROWID;
"""
_SCHEMA: Final = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE log (first INTEGER PRIMARY KEY, count INTEGER, arrived_at INTEGER, body BLOB);
CREATE TABLE histories (key TEXT PRIMARY KEY, told_at INTEGER, body BLOB) WITHOUT ROWID;
CREATE TABLE held (id INTEGER PRIMARY KEY, at INTEGER, body BLOB);
CREATE INDEX held_at ON held (at);
CREATE TABLE rejected (id INTEGER PRIMARY KEY, arrived_at INTEGER, reason TEXT, detail TEXT, body BLOB);
CREATE TABLE erased (key TEXT PRIMARY KEY, until INTEGER, swept INTEGER) WITHOUT ROWID;
{_OF_EPOCHS}"""
_FROM_1: Final = f"DROP TABLE series; DROP TABLE changes; DROP TABLE segments; {_OF_EPOCHS}"
_KEYS_A_QUERY: Final = 500
_BUSY_MS: Final = 30_000
_MEND: Final = "restore it from a backup, or move it away and import the events again"
REJECTED_KEPT_MAX: Final = 100_000
"""Refused events kept for reading back; the oldest go first."""

Fault = Callable[[str], None]
"""Called with the name of each write before it happens: where the simulation lets the process die."""


def no_fault(write: str) -> None:
    """Nothing goes wrong."""


class Journal:
    """The file of a data directory. Raises OperationError, saying what to do, when the file or the disk fails."""

    def __init__(self, directory: Path, fault: Fault = no_fault) -> None:
        self.path = directory / FILE
        self._fault = fault
        self._writing = threading.Lock()
        with self.told():
            directory.mkdir(parents=True, exist_ok=True)
            self._log = self._connect("FULL")
            self._state = self._connect("NORMAL")
            self._check()
        self.end = self._end()
        """The offset after the last event of the log."""

    def close(self) -> None:
        """Close the file; what was not committed is gone."""
        self._log.close()
        self._state.close()

    # --- log ------------------------------------------------------------------------------------------------------
    def append(self, lines: Sequence[bytes], arrived_at: int, refused: Iterable[tuple[Rejection, bytes]] = ()) -> None:
        """Append events to the log, durably, and keep what was refused. Lines must not hold a line break."""
        with self.told(), self._writing, self._transaction(self._log):
            if lines:
                row = (self.end, len(lines), arrived_at, b"\n".join(lines))
                self._write(self._log, "log", "INSERT INTO log VALUES (?, ?, ?, ?)", [row])
            rows = [(arrived_at, r.reason.value, r.detail, body) for r, body in refused]
            if rows:
                sql = "INSERT INTO rejected (arrived_at, reason, detail, body) VALUES (?, ?, ?, ?)"
                self._write(self._log, "rejected", sql, rows)
                kept = "DELETE FROM rejected WHERE id <= (SELECT max(id) FROM rejected) - ?"
                self._write(self._log, "rejected", kept, [(REJECTED_KEPT_MAX,)])
            self._fault("append commit")
        self.end += len(lines)

    def read(self, position: int, most: int) -> Iterator[tuple[int, list[bytes]]]:
        """(arrival stamp, lines) from an offset on, about `most` events."""
        with self.told():
            rows = self._state.execute(
                "SELECT first, count, arrived_at, body FROM log WHERE first >= "
                "(SELECT coalesce(max(first), 0) FROM log WHERE first <= ?) ORDER BY first",
                (position,),
            )
            taken = 0
            for first, count, arrived_at, body in rows:
                if first + count > position:
                    lines = body.split(b"\n")[max(0, position - first) :]
                    taken += len(lines)
                    yield arrived_at, lines
                if taken >= most:
                    rows.close()
                    return

    def trim(self, before: int, position: int) -> int:
        """Drop the events of the log that arrived before an instant and were taken, up to the first that stays.

        Returns how many. Arrival stamps go back when the clock does; the log never has a hole.
        """
        with self.told(), self._writing, self._transaction(self._log):
            stays = "SELECT min(first) FROM log WHERE arrived_at >= ? OR first + count > ?"
            gone = f"FROM log WHERE first < coalesce(({stays}), {2**63 - 1})"
            row = self._log.execute(f"SELECT coalesce(sum(count), 0) {gone}", (before, position)).fetchone()
            self._write(self._log, "trim", f"DELETE {gone}", [(before, position)])
        return int(row[0])

    def bodies(self, start: int, end: int, most: int) -> list[tuple[int, int, bytes]]:
        """(first offset, count, lines) of what was appended together from an offset on, about `most` bytes."""
        return self._some(
            "SELECT first, count, body FROM log WHERE first >= ? AND first < ? ORDER BY first", (start, end), most
        )

    def refused(self, after: int, most: int) -> list[tuple[int, int, bytes]]:
        """(number, arrival stamp, bytes) of refused events after a number, about `most` bytes."""
        return self._some("SELECT id, arrived_at, body FROM rejected WHERE id > ? ORDER BY id", (after,), most)

    @property
    def untouched(self) -> bool:
        """Whether no event was ever stored."""
        return self.end == 0 and not self.refused(-1, 1)

    def first(self) -> int:
        """The offset of the first event that is still in the log."""
        first = self._select("SELECT min(first) FROM log")[0][0]
        return self.end if first is None else int(first)

    def rejected(self) -> Iterator[tuple[int, int, Rejection, bytes]]:
        """(number, arrival stamp, rejection, the bytes as they came), oldest first."""
        with self.told():
            for number, at, reason, detail, body in self._state.execute("SELECT * FROM rejected ORDER BY id"):
                yield number, at, Rejection(Reason(reason), detail), body

    def drop_rejected(self, numbers: Iterable[int]) -> None:
        """Forget refused events that were taken after all, or whose person was erased."""
        with self.told(), self._writing, self._transaction(self._log):
            rows = [(number,) for number in numbers]
            self._write(self._log, "rejected", "DELETE FROM rejected WHERE id = ?", rows)

    # --- state ----------------------------------------------------------------------------------------------------
    @contextmanager
    def checkpoint(self) -> Iterator[Checkpoint]:
        """One transaction: everything written inside is there afterwards, or nothing of it."""
        with self.told(), self._writing, self._transaction(self._state):
            yield Checkpoint(self._state, self._write)
            self._fault("commit")

    def meta(self, name: str) -> bytes | None:
        """A stored word of the engine about itself."""
        rows = self._select("SELECT value FROM meta WHERE name = ?", (name,))
        return bytes(rows[0][0]) if rows else None

    def histories(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """(key, history) of those that are stored."""
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = keys[start : start + _KEYS_A_QUERY]
            marks = ",".join("?" * len(some))
            yield from self._select(f"SELECT key, body FROM histories WHERE key IN ({marks})", some)

    def keys(self) -> Iterator[str]:
        """Every key that has a history, in order."""
        after = ""
        while page := self.keys_after(after, 10_000):
            yield from page
            after = page[-1]

    def keys_after(self, after: str, most: int) -> list[str]:
        """The next keys that have a history, in order, which is that of their bytes."""
        sql = "SELECT key FROM histories WHERE key > ? ORDER BY key LIMIT ?"
        return [key for (key,) in self._select(sql, (after, most))]

    def histories_count(self) -> int:
        """How many histories there are; it takes a reading of all of them."""
        return int(self._select("SELECT count(*) FROM histories")[0][0])

    def held(self, now: int) -> list[tuple[int, int, bytes]]:
        """(number, instant, event) of held events whose time has come, at most 10,000."""
        sql = "SELECT id, at, body FROM held WHERE at <= ? ORDER BY at LIMIT 10000"
        return self._select(sql, (now,))

    def series(self) -> list[tuple[int, Series]]:
        """(number, series)."""
        rows = self._select("SELECT number, series FROM series ORDER BY number")
        with self.told():
            return [(number, tuple(msgspec.msgpack.decode(series))) for number, series in rows]

    def shown(self, epoch: int) -> list[tuple[int, int]]:
        """(number, number it is shown under) of the series of an epoch."""
        return self._select("SELECT number, shown FROM shown WHERE epoch = ?", (epoch,))

    def segments(self, epoch: int) -> Iterator[tuple[int, bytes]]:
        """(day, panes) of every value stream."""
        yield from self._select("SELECT day, body FROM segments WHERE epoch = ?", (epoch,))

    def changes(self) -> list[tuple[int, int, bytes]]:
        """(number, epoch, changes) that tally has not stored, in the order in which track gave them."""
        return self._select("SELECT id, epoch, body FROM changes ORDER BY id")

    def given(self) -> int:
        """The number of the last changes; 0 when tally has stored all."""
        return int(self._select("SELECT coalesce(max(id), 0) FROM changes")[0][0])

    def former(self, kept: Sequence[int]) -> list[int]:
        """The epochs of which panes are left, but for those that are kept."""
        return sorted({epoch for (epoch,) in self._select("SELECT DISTINCT epoch FROM segments")} - {*kept})

    def erased(self) -> list[tuple[str, int, int]]:
        """(key, instant of the erasure, offset of the log before which nothing is left) of erased persons."""
        return self._select("SELECT key, until, swept FROM erased")

    def fold(self) -> None:
        """Take what was written ahead into the file proper, so that nothing deleted is left beside it.

        While another process reads the file it is left for the next time.
        """
        with self.told(), self._writing:
            self._state.execute("PRAGMA busy_timeout=0")
            self._state.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._state.execute(f"PRAGMA busy_timeout={_BUSY_MS}")

    # --- inside ---------------------------------------------------------------------------------------------------
    def _connect(self, synchronous: str) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        for pragma in (
            f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", f"synchronous={synchronous}", "cache_size=-32768",
            "temp_store=MEMORY", "secure_delete=ON",
        ):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _check(self) -> None:
        found = self._state.execute("PRAGMA user_version").fetchone()[0]
        if found == 0 and not self._state.execute("SELECT 1 FROM sqlite_master").fetchone():
            self._state.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={FORMAT}; COMMIT;")
        elif found == 1:
            self._state.executescript(f"BEGIN; {_FROM_1} PRAGMA user_version={FORMAT}; COMMIT;")
        elif found != FORMAT:
            raise OperationError(f"{self.path} has format {found}, this version writes {FORMAT}; use another directory")

    def _end(self) -> int:
        with self.told():
            row = self._log.execute("SELECT first + count FROM log ORDER BY first DESC LIMIT 1").fetchone()
            stored = self.meta("position")
        position = msgspec.msgpack.decode(stored) if stored else 0
        return max(int(row[0]) if row else 0, position)

    def _write(self, connection: sqlite3.Connection, name: str, sql: str, rows: Iterable[Sequence[object]]) -> None:
        self._fault(name)
        connection.executemany(sql, rows)

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _select(self, sql: str, arguments: Sequence[object] = ()) -> list[Any]:
        with self.told():
            return self._state.execute(sql, arguments).fetchall()

    def _some(self, sql: str, arguments: Sequence[object], most: int) -> list[Any]:
        """Rows up to about `most` bytes in their last column."""
        found, size = [], 0
        with self.told(), closing(self._state.execute(sql, arguments)) as rows:
            for row in rows:
                found.append(row)
                size += len(row[-1])
                if size >= most:
                    break
        return found

    @contextmanager
    def told(self) -> Iterator[None]:
        """Whatever goes wrong with the file inside is an OperationError that says what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise OperationError(_advice(self.path, error)) from error
        except msgspec.MsgspecError as error:
            raise OperationError(f"{self.path} is damaged ({error}); {_MEND}") from error
        except OSError as error:
            raise OperationError(
                f"{self.path}: {error.strerror}; make the directory writable or name another"
            ) from error


class Snapshot(Journal):
    """The file as it is at one moment, to be read while an engine goes on writing it. Nothing can be written.

    It is a context; the file cannot be folded while it is open, so it should not be open for long. Raises
    OperationError where there is no journal, or one of another format.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        with self.told():
            self._log = self._state = sqlite3.connect(
                f"file:{quote(str(self.path))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            self._state.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
            self._state.execute("BEGIN")
            if self._state.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
                raise OperationError(f"{self.path} has another format; start flowmetrics run once, which renews it")
        self.end = self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stored_histories(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """(key, history) of every entity of a kind, in the order of keys; read as they are asked for."""
        sql = "SELECT key, body FROM histories WHERE key >= ? AND key < ? ORDER BY key"
        with self.told(), closing(self._state.execute(sql, (f"{prefix}:", f"{prefix};"))) as rows:
            yield from rows


class Checkpoint:
    """The writes of one transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        write: Callable[[sqlite3.Connection, str, str, Iterable[Sequence[object]]], None],
    ) -> None:
        self._connection = connection
        self._put = write

    def write(self, name: str, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Execute one statement for each row."""
        self._put(self._connection, name, sql, rows)

    def meta(self, name: str, value: object) -> None:
        """Store a word of the engine about itself."""
        self.write(name, "INSERT OR REPLACE INTO meta VALUES (?, ?)", [(name, msgspec.msgpack.encode(value))])

    def histories(self, rows: Iterable[tuple[str, bytes]], told_at: int) -> None:
        """Store histories of which something was told at an instant: key, body."""
        told = ((key, told_at, body) for key, body in rows)
        self.write("histories", "INSERT OR REPLACE INTO histories VALUES (?, ?, ?)", told)

    def histories_again(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Store histories of which nothing was told since: key, body."""
        self.write("sweep", "UPDATE histories SET body = ? WHERE key = ?", ((body, key) for key, body in rows))

    def forget_histories(self, before: int) -> None:
        """Drop the histories of which nothing was told since an instant."""
        self.write("forget", "DELETE FROM histories WHERE told_at < ?", [(before,)])

    def empty(self, *tables: str) -> None:
        """Drop everything in some tables."""
        for table in tables:
            self.write("empty", f"DELETE FROM {table}", [()])

    def hold(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Keep events until their time comes: instant, event."""
        self.write("hold", "INSERT INTO held (at, body) VALUES (?, ?)", rows)

    def release(self, numbers: Iterable[int]) -> None:
        """Drop held events that are part of this checkpoint."""
        self.write("release", "DELETE FROM held WHERE id = ?", [(number,) for number in numbers])

    def erased(self, rows: Iterable[tuple[str, int]]) -> None:
        """Remember to erase persons from the log: key, up to which instant."""
        sql = "INSERT INTO erased VALUES (?, ?, 0) ON CONFLICT (key) DO UPDATE SET until = excluded.until, swept = 0 "
        self.write("erased", f"{sql} WHERE excluded.until > until", rows)

    def blank(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Put other lines, as many, where some begin in the log: first offset, lines."""
        self.write("blank", "UPDATE log SET body = ? WHERE first = ?", [(body, first) for first, body in rows])

    def swept(self, rows: Iterable[tuple[str, int]], position: int) -> None:
        """Note that nothing of erased persons is left before a position: key, up to which instant.

        Who is forgotten altogether contributes nothing any more, and is not looked for again.
        """
        done = [(position, key, until) for key, until in rows]
        self.write("swept", "UPDATE erased SET swept = ? WHERE key = ? AND until = ?", done)
        remembered = "SELECT 1 FROM histories WHERE histories.key = erased.key"
        self.write("swept", f"DELETE FROM erased WHERE NOT EXISTS ({remembered})", [()])

    def series(self, new: Iterable[tuple[int, Series]]) -> None:
        """Store new series numbers."""
        rows = [(number, msgspec.msgpack.encode(series)) for number, series in new]
        if rows:
            self.write("series", "INSERT OR IGNORE INTO series (number, series) VALUES (?, ?)", rows)

    def shown(self, epoch: int, admissions: Iterable[tuple[int, int]]) -> None:
        """Store under which number each series is shown."""
        rows = [(epoch, number, shown) for number, shown in admissions]
        if rows:
            self.write("shown", "INSERT OR REPLACE INTO shown VALUES (?, ?, ?)", rows)

    def changes(self, number: int, epoch: int, body: bytes) -> None:
        """Store what track gave."""
        self.write("changes", "INSERT INTO changes VALUES (?, ?, ?)", [(number, epoch, body)])

    def stored_changes(self, number: int) -> None:
        """Drop the changes up to a number: tally has stored them."""
        self.write("stored changes", "DELETE FROM changes WHERE id <= ?", [(number,)])

    def segment(self, epoch: int, stream: str, day: int, body: bytes | None) -> None:
        """Store the panes of a value stream and day; None drops them."""
        place = (epoch, stream, day)
        if body is None:
            self.write("segment", "DELETE FROM segments WHERE epoch = ? AND stream = ? AND day = ?", [place])
        else:
            self.write("segment", "INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?)", [(*place, body)])

    def keep_epochs(self, published: int, coming: int) -> None:
        """Drop what is small of all other epochs; their panes are dropped in portions."""
        for table in ("shown", "changes"):
            self.write("keep epochs", f"DELETE FROM {table} WHERE epoch NOT IN (?, ?)", [(published, coming)])

    def drop_panes(self, epoch: int, most: int) -> None:
        """Drop some of the panes of an epoch."""
        some = "SELECT stream, day FROM segments WHERE epoch = ? LIMIT ?"
        sql = f"DELETE FROM segments WHERE epoch = ? AND (stream, day) IN ({some})"
        self.write("drop panes", sql, [(epoch, epoch, most)])


def _advice(path: Path, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorname", "") or ""
    if code.startswith("SQLITE_FULL"):
        return f"{path}: the disk is full; free some space and start again, nothing that was accepted is lost"
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return f"{path} is damaged ({error}); {_MEND}"
    if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return f"{path} cannot be written ({error}); make it writable for this user or name another directory"
    if code.startswith("SQLITE_IOERR"):
        return f"{path}: the disk failed ({error}, {code}); look at the machine's log and its free space"
    return f"{path}: {error} ({code})"
