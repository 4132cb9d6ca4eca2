"""Files as rows and events: each kind that is read, and how what cannot be read is told."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow
import pyarrow.parquet
import pytest

from agents.files import read_events, read_native, read_rows, sizes
from flowmetrics.errors import ConfigurationError, OperationError, Reason, Rejection
from flowmetrics.sources.rows import parse_mapping

MAPPING = parse_mapping(
    """
events:
  - type: flowmetrics.activity.v1
    source: shop
    time: {from: day, format: date}
    data: {customer: "${user}", value_stream: shop}
""",
    "map.yaml",
)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


Write = Callable[[str, bytes], Path]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "A.JSONL.GZ".lower(), "a.json.gz", "a.ndjson.gz"])
def test_json_lines_are_rows_with_the_number_of_their_line(file: Write, name: str) -> None:
    path = file(name, b'\xef\xbb\xbf{"user": "ann"}\r\n\n  {"user": {"n": 1}}')
    assert list(read_rows(path)) == [(1, {"user": "ann"}), (3, {"user": {"n": 1}})]


def test_a_line_that_is_no_row_is_refused_and_the_next_is_read(file: Write) -> None:
    path = file("a.jsonl", b'{"user": \n7\n"x"\n\xff\xfe\n{"user": "ann"}\n')
    rows = list(read_rows(path))
    assert [row.reason for _, row in rows if isinstance(row, Rejection)] == [Reason.NOT_JSON] * 4
    assert rows[-1] == (5, {"user": "ann"})


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("cut", [",", ";", "\t"])
def test_csv_is_rows_of_texts_and_an_empty_cell_is_none(file: Write, name: str, cut: str) -> None:
    text = '\ufeffuser, day ,note\nann,2025-03-02,"two\nlines"\n\nbob,,\neve\n'.replace(",", cut)
    assert list(read_rows(file(name, text.encode()))) == [
        (3, {"user": "ann", "day": "2025-03-02", "note": "two\nlines"}),
        (5, {"user": "bob", "day": None, "note": None}),
        (6, {"user": "eve"}),
    ]


def test_a_csv_row_with_more_cells_than_the_header_is_refused(file: Write) -> None:
    ((number, row),) = read_rows(file("a.csv", b"user\nann,7\n"))
    assert isinstance(row, Rejection)
    assert (number, row.reason, row.detail) == (2, Reason.WRONG_TYPE, "the row has 2 cells and the header 1")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.jsonl.gz"])
def test_an_empty_file_has_no_rows(file: Write, name: str) -> None:
    assert list(read_rows(file(name, b""))) == []


def test_parquet_is_rows_of_python_values_with_times_to_the_microsecond(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    at = pyarrow.array([1_740_909_600_123_456_789, None], pyarrow.timestamp("ns", "UTC"))
    pyarrow.parquet.write_table(pyarrow.table({"user": ["ann", "bob"], "score": [8.0, None], "at": at}), path)
    assert list(read_rows(path)) == [
        (1, {"user": "ann", "score": 8.0, "at": datetime(2025, 3, 2, 10, 0, 0, 123456, UTC)}),
        (2, {"user": "bob", "score": None, "at": None}),
    ]


def test_parquet_rows_are_numbered_through_its_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"n": list(range(1, 10_001))}), path)
    assert all(row == {"n": number} for number, row in read_rows(path))


def test_rows_become_events_and_refusals_name_their_place(file: Write) -> None:
    path = file("a.csv", b"user,day\nann,2025-03-02\nbob,soon\neve,2025-03-03,9\n")
    good, bad, shifted = read_events(path, MAPPING)
    assert isinstance(good, bytes)
    assert msgspec.json.decode(good)["data"] == {"customer": "ann", "value_stream": "shop"}
    assert isinstance(bad, Rejection)
    assert isinstance(shifted, Rejection)
    assert (bad.reason, bad.detail[:9]) == (Reason.BAD_TIME, "a.csv:3: ")
    assert (shifted.reason, shifted.detail[:9]) == (Reason.WRONG_TYPE, "a.csv:4: ")


def test_a_file_that_moved_makes_the_same_events(file: Write, tmp_path: Path) -> None:
    content = b'{"user": "ann", "day": "2025-03-02"}\n' * 2
    (tmp_path / "elsewhere").mkdir()
    first = list(read_events(file("a.jsonl", content), MAPPING))
    assert first == list(read_events(file("elsewhere/b.jsonl.gz", content), MAPPING))
    assert len(set(first)) == 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_native_lines_are_as_they_are_without_the_blank_ones(file: Write, name: str) -> None:
    path = file(name, b'{"id": 1}\n\n  \r\n{"id": \r\n')
    assert list(read_events(path, None)) == list(read_native(path)) == [b'{"id": 1}', b'{"id":']


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz"])
def test_progress_ends_at_the_size_of_the_stored_file(file: Write, name: str) -> None:
    path = file(name, b'{"user": "ann"}\n' * 100_000)
    seen: list[int] = []
    assert len(list(read_rows(path, seen.append))) >= 99_999
    assert seen == sorted(seen)
    assert seen[-1] == sizes([path]) == path.stat().st_size


def test_progress_of_parquet_ends_at_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"n": list(range(10_000))}), path)
    seen: list[int] = []
    assert len(list(read_rows(path, seen.append))) == 10_000
    assert len(seen) > 1
    assert seen[-1] == sizes([path])


def test_a_file_that_is_missing_is_refused_at_the_call_with_the_nearest_name(file: Write, tmp_path: Path) -> None:
    file("orders.csv", b"")
    for refuse in (read_rows, read_native, lambda path: sizes([path]), lambda path: read_events(path, MAPPING)):
        with pytest.raises(ConfigurationError, match=r"does not exist|not JSON Lines"):
            refuse(tmp_path / "gone" / "order.csv")
    with pytest.raises(ConfigurationError, match=r'does not exist; check the path. Did you mean "orders.csv"\?'):
        read_rows(tmp_path / "order.csv")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a directory"):
        read_rows(tmp_path)


def test_an_unknown_ending_is_refused_with_those_that_are_known(file: Write) -> None:
    with pytest.raises(ConfigurationError, match=r"known are \.jsonl, .*\.parquet\. Did you mean \"\.csv\"\?"):
        read_rows(file("a.cvs", b""))


def test_rows_without_a_mapping_are_refused(file: Write) -> None:
    with pytest.raises(ConfigurationError, match=r"holds rows, not events; give --map MAP\.yaml"):
        read_events(file("a.csv", b""), None)


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:20] + b"\0\xff\0" + b[23:], lambda b: b"no"]
)
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_a_damaged_gzip_is_told_after_what_could_be_read(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / name
    lines = "".join(f'{{"user": "{n * 7919 % 104729}"}}\n' for n in range(20_000))
    path.write_bytes(damage(gzip.compress(lines.encode())))
    with pytest.raises(OperationError, match="is damaged and must be copied again"):
        list(read_rows(path))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b'user\n"ann"x\n', r"a\.csv:2: this is not CSV"),
        (b'user\n"ann\n', r"a\.csv:2: this is not CSV"),
        (b"user,user\n1,2\n", 'two columns named "user"'),
        (b"user\n\xff\n", "is not UTF-8 .* save it as UTF-8"),
        ("user\nann\n".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_a_bad_csv_is_told_with_what_to_mend(file: Write, content: bytes, error: str) -> None:
    with pytest.raises(OperationError, match=error):
        list(read_rows(file("a.csv", content)))


@pytest.mark.parametrize("content", [b"", b"not parquet at all"])
def test_a_damaged_parquet_is_told(file: Write, content: bytes) -> None:
    with pytest.raises(OperationError, match="is damaged or not Parquet"):
        list(read_rows(file("a.parquet", content)))


def test_a_json_array_is_refused_with_the_way_out(file: Write) -> None:
    path = file("a.json", b'[\n{"user": "ann"}\n]')
    for read in (read_rows, read_native):
        with pytest.raises(OperationError, match=r"holds a JSON array; .* jq -c '\.\[\]'"):
            list(read(path))
