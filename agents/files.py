"""Files as rows and events: JSON Lines and CSV, also gzipped, and Parquet, read in a stream.

Each reader calls `progress` with the bytes of the file as it is stored that are read so far, so that the sum of
`sizes` is the end of a progress bar. A file that cannot be opened is refused at the call; one that turns out damaged
is refused where it breaks, after all that came before.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

import orjson

from flowmetrics.errors import ConfigurationError, OperationError, Reason, Rejection, nearest
from flowmetrics.sources.rows import RowMapping

if TYPE_CHECKING:
    import pyarrow

Row: TypeAlias = Mapping[str, object]
Progress: TypeAlias = Callable[[int], None]

_LINES: Final = (".jsonl", ".ndjson", ".json")
_KNOWN: Final = (*_LINES, ".csv", *(f"{ending}.gz" for ending in (*_LINES, ".csv")), ".parquet")
_CHUNK_BYTES: Final = 256 * 1024
_BATCH_ROWS: Final = 4096
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def sizes(paths: Iterable[Path]) -> int:
    """The bytes of files as they are stored. Raises ConfigurationError for the first that is no file to be read."""
    return sum(_stored(path).stat().st_size for path in paths)


def read_events(
    path: Path, mapping: RowMapping | None, progress: Progress | None = None
) -> Iterator[bytes | Rejection]:
    """The events of a file as native JSON: its lines as they are, or what a mapping makes of its rows.

    A row that cannot be read or mapped is a Rejection that names its place. Raises ConfigurationError, also where
    a file of rows has no mapping, and OperationError.
    """
    if mapping is not None:
        return _mapped(path, mapping, progress)
    if _ending(path) not in _LINES:
        raise ConfigurationError(f"{path} holds rows, not events; give --map MAP.yaml to say what they mean.")
    return read_native(path, progress)


def read_native(path: Path, progress: Progress | None = None) -> Iterator[bytes]:
    """The lines of a JSON Lines file that are not blank, as written. Raises ConfigurationError, OperationError."""
    if _ending(path) not in _LINES:
        raise ConfigurationError(f"{path} is not JSON Lines; native events are in {', '.join(_LINES)}, also with .gz.")
    return (line for _, line in _lines(_stored(path), progress))


def read_rows(path: Path, progress: Progress | None = None) -> Iterator[tuple[int, Row | Rejection]]:
    """The rows of a file, each with its number: that of the line, or in Parquet of the row, both from 1.

    A line that is not a row is a Rejection. A CSV cell without text is None; CSV may have `,`, `;` or tabs between
    cells. Raises ConfigurationError for a file that is missing or of another kind, OperationError for a damaged one.
    """
    ending = _ending(_stored(path))
    if ending in _LINES:
        return _json_rows(path, progress)
    return _csv_rows(path, progress) if ending == ".csv" else _parquet_rows(path, progress)


def _mapped(path: Path, mapping: RowMapping, progress: Progress | None) -> Iterator[bytes | Rejection]:
    rows = read_rows(path, progress)

    def events() -> Iterator[bytes | Rejection]:
        for number, row in rows:
            for event in [row] if isinstance(row, Rejection) else mapping.events(row, str(number)):
                if isinstance(event, Rejection):
                    yield Rejection(event.reason, f"{path.name}:{number}: {event.detail}")
                else:
                    yield event

    return events()


def _ending(path: Path) -> str:
    """The known ending of a name, without that of gzip. Raises ConfigurationError."""
    name = path.name.lower()
    for ending in _KNOWN:
        if name.endswith(ending):
            return ending.removesuffix(".gz")
    hint = nearest("".join(path.suffixes[-2:]).lower(), _KNOWN)
    raise ConfigurationError(f"{path} is of no kind that can be read; known are {', '.join(_KNOWN)}.{hint}")


def _stored(path: Path) -> Path:
    """The path, once it is sure that there is such a file and that it may be read."""
    try:
        with path.open("rb"):
            return path
    except FileNotFoundError:
        near = nearest(path.name, _neighbours(path))
        raise ConfigurationError(f"{path} does not exist; check the path.{near}") from None
    except IsADirectoryError:
        raise ConfigurationError(f"{path} is a directory; name the files in it.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be opened: {error.strerror}.") from None


def _neighbours(path: Path) -> list[str]:
    try:
        return [neighbour.name for neighbour in path.parent.iterdir()]
    except OSError:
        return []


class _Counted(io.RawIOBase):
    """A file that tells how far it is read."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._file = path.open("rb", buffering=0)
        self._progress = progress
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # typeshed has no Buffer on 3.11
        count = self._file.readinto(buffer) or 0
        self._read += count
        self._progress(self._read)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def _opened(path: Path, progress: Progress | None) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked. What breaks while they are read raises OperationError."""
    raw = _Counted(path, progress or (lambda _read: None))
    try:
        with io.BufferedReader(raw, _CHUNK_BYTES) as stored:
            if path.name.lower().endswith(".gz"):
                with gzip.GzipFile(fileobj=stored) as unpacked:
                    yield io.BufferedReader(unpacked, _CHUNK_BYTES)
            else:
                yield stored
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OperationError(f"{path} is damaged and must be copied again; gzip says: {error}.") from None
    except UnicodeDecodeError as error:
        raise OperationError(f"{path} is not UTF-8 (byte {error.object[error.start]:#x}); save it as UTF-8.") from None
    except OSError as error:
        raise OperationError(f"{path} cannot be read: {error.strerror or error}.") from None


def _lines(path: Path, progress: Progress | None) -> Iterator[tuple[int, bytes]]:
    with _opened(path, progress) as stream:
        for number, text in enumerate(stream, 1):
            line = text.strip()
            if number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
                if line.startswith(b"["):
                    raise OperationError(f"{path} holds a JSON array; write one object a line, as jq -c '.[]' does.")
            if line:
                yield number, line


def _json_rows(path: Path, progress: Progress | None) -> Iterator[tuple[int, Row | Rejection]]:
    for number, line in _lines(path, progress):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield number, Rejection(Reason.NOT_JSON, f"the line is not JSON: {error}")
            continue
        yield number, row if isinstance(row, dict) else Rejection(Reason.NOT_JSON, "the line is not a JSON object")


def _csv_rows(path: Path, progress: Progress | None) -> Iterator[tuple[int, Row | Rejection]]:
    with _opened(path, progress) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        first = text.readline()
        delimiter = max(",;\t", key=first.count)
        reader = csv.reader(chain([first], text), delimiter=delimiter, strict=True)
        try:
            names = [name.strip() for name in next(reader, [])]
            _refuse_twins(path, [name for name in names if name])
            for cells in reader:
                if cells:
                    yield reader.line_num, _csv_row(names, cells)
        except csv.Error as error:
            raise OperationError(f"{path}:{reader.line_num}: this is not CSV: {error}; mend the line.") from None


def _csv_row(names: list[str], cells: list[str]) -> Row | Rejection:
    """Missing cells at the end are absent; more cells than names mean that the row is shifted."""
    if len(cells) > len(names):
        return Rejection(Reason.WRONG_TYPE, f"the row has {len(cells)} cells and the header {len(names)}")
    return {name: cell or None for name, cell in zip(names, cells, strict=False) if name}


def _refuse_twins(path: Path, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise OperationError(f'{path} has two columns named "{name}"; rename one.')


def _parquet_rows(path: Path, progress: Progress | None) -> Iterator[tuple[int, Row | Rejection]]:
    # The largest library by far, and most imports are of other files.
    import pyarrow.parquet

    size, number = path.stat().st_size, 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = _microseconds(file.schema_arrow)
            _refuse_twins(path, schema.names)
            for batch in file.iter_batches(_BATCH_ROWS):
                for row in batch.cast(schema, safe=False).to_pylist():
                    number += 1
                    yield number, row
                if progress:
                    progress(size * number // file.metadata.num_rows)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise OperationError(f"{path} is damaged or not Parquet: {str(error).splitlines()[0].rstrip('.')}.") from None


def _microseconds(schema: pyarrow.Schema) -> pyarrow.Schema:
    """The schema with times to the microsecond: Python has no finer ones."""
    import pyarrow

    fields = []
    for field in schema:
        kind = field.type
        if pyarrow.types.is_timestamp(kind):
            kind = pyarrow.timestamp("us", kind.tz)
        elif pyarrow.types.is_duration(kind):
            kind = pyarrow.duration("us")
        elif pyarrow.types.is_time64(kind):
            kind = pyarrow.time64("us")
        fields.append(field.with_type(kind))
    return pyarrow.schema(fields)
