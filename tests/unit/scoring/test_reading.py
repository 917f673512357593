"""Files as chunks: whole rows, each once, the same ones from wherever one begins."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from falcon_wsgi.errors import InputUnreadable
from falcon_wsgi.scoring import reading
from falcon_wsgi.scoring.chunk import Chunk, Position
from falcon_wsgi.scoring.formats import place_of
from falcon_wsgi.scoring.reading import fingerprint, open_source

CSV = b'a,b\n1,2\n\n3,"x\ny"\r\n5,6\n7,8'


def chunks(path: Path, rows: int = 2, start: Position | None = None) -> list[Chunk]:
    return list(open_source(place_of(str(path), None, ""), rows).chunks(start or Position()))


def written(path: Path, contents: bytes) -> Path:
    path.write_bytes(gzip.compress(contents) if path.suffix == ".gz" else contents)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_chunks_are_the_file_without_its_header(tmp_path: Path, name: str) -> None:
    found = chunks(written(tmp_path / name, CSV))
    assert b"".join(chunk.payload for chunk in found) == CSV[4:]
    assert [chunk.rows for chunk in found] == [1, 2, 1]
    assert found[-1].end == Position(len(CSV), 4, 6)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_the_end_of_any_chunk_is_where_the_rest_begins(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, CSV)
    found = chunks(path, rows=1)
    for i, chunk in enumerate(found):
        rest = chunks(path, 1, chunk.end)
        assert [(c.start, c.payload) for c in rest] == [(c.start, c.payload) for c in found[i + 1 :]]


def test_chunks_do_not_depend_on_how_much_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.csv", b"a\n" + b"".join(b'"%d\n"\n' % i for i in range(400)))
    whole = [c.payload for c in chunks(path, 7)]
    monkeypatch.setattr(reading, "_BLOCK", 5)
    monkeypatch.setattr(reading, "_WINDOW", 3)
    assert [c.payload for c in chunks(path, 7)] == whole
    assert len(whole) == 58


def test_a_chunk_is_bounded_in_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_CHUNK_BYTES", 10)
    path = written(tmp_path / "a.jsonl", b'{"a":1}\n' * 3 + b'{"a":"' + b"x" * 30 + b'"}\n' + b'{"a":1}\n')
    assert [len(c.payload) for c in chunks(path, 100)] == [8, 8, 8, 39, 8]


@pytest.mark.parametrize("limit", range(1, 40))
def test_a_bounded_chunk_too_does_not_depend_on_where_one_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(reading, "MAX_CHUNK_BYTES", limit)
    path = written(tmp_path / "a.jsonl", b"1\n22\n\n333333333\n4\n55555\n6")
    found = chunks(path, rows=3)
    assert b"".join(chunk.payload for chunk in found) == path.read_bytes()
    for window in (1, 4, 100):
        monkeypatch.setattr(reading, "_WINDOW", window)
        for i, chunk in enumerate(found):
            assert chunks(path, 3, chunk.start if i else None) == found[i:]


def test_a_byte_order_mark_belongs_to_no_name(tmp_path: Path) -> None:
    source = open_source(place_of(str(written(tmp_path / "a.csv", b"\xef\xbb\xbf" + CSV)), None, ""), 10)
    assert source.columns == ("a", "b")
    assert next(source.chunks(Position())).payload == CSV[4:]


def test_a_header_may_be_quoted_over_lines(tmp_path: Path) -> None:
    source = open_source(place_of(str(written(tmp_path / "a.csv", b'"a\nb",c\r\n1,2\n')), None, ""), 10)
    assert source.columns == ("a\nb", "c")
    assert next(source.chunks(Position())).start.line == 2


def test_a_file_with_a_header_only_has_no_chunks(tmp_path: Path) -> None:
    assert chunks(written(tmp_path / "a.csv", b"a,b\n")) == []
    assert chunks(written(tmp_path / "b.csv", b"a,b")) == []
    assert chunks(written(tmp_path / "a.jsonl", b"")) == []


@pytest.mark.parametrize(
    ("name", "contents", "reason"),
    [
        ("a.csv", b"", "is empty; its first line must name the columns"),
        ("a.csv", b"\xff\xfea\x00", "is UTF-16; save it as UTF-8"),
        ("a.csv", b"\xe9,b\n1,2\n", "header of .* cannot be read"),
        ("a.csv", b'a,b\n1,2\n3,"4\n5,6\n', "ends inside a quoted field of the record at line 3"),
        ("a.parquet", b"PAR1 no PAR1", "cannot be read as Parquet"),
        ("a.parquet", b"", "cannot be read as Parquet"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(
    tmp_path: Path, name: str, contents: bytes, reason: str
) -> None:
    with pytest.raises(InputUnreadable, match=reason) as refused:
        chunks(written(tmp_path / name, contents))
    assert "\n" not in str(refused.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match="is not there"):
        chunks(tmp_path / "a.csv")
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(InputUnreadable, match="is a folder"):
        chunks(tmp_path / "b.csv")


def test_a_gzip_file_that_breaks_off_is_refused_and_one_that_is_damaged_too(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    whole = gzip.compress(b"a\n" + b"".join(b"%d\n" % (i * i) for i in range(1000)))
    path.write_bytes(whole[:-20])
    with pytest.raises(InputUnreadable, match="breaks off"):
        chunks(path)
    path.write_bytes(whole[:500] + b"\0\0\0\0" + whole[504:])
    with pytest.raises(InputUnreadable, match="is damaged"):
        chunks(path)


def test_a_quotation_mark_without_an_end_does_not_swallow_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_CHUNK_BYTES", 100)
    monkeypatch.setattr(reading, "MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr(reading, "_WINDOW", 64)
    with pytest.raises(InputUnreadable, match=r"record at line 2 .* closing quotation mark"):
        chunks(written(tmp_path / "a.csv", b'a\n"' + b"x\n" * 5000))


def parquet(path: Path, groups: list[int]) -> Path:
    with pq.ParquetWriter(path, pa.schema([("a", pa.int64()), ("b", pa.string())])) as writer:
        for first, rows in enumerate(groups):
            values = range(first * 1000, first * 1000 + rows)
            writer.write_table(pa.table({"a": values, "b": map(str, values)}, schema=writer.schema))
    return path


def rows_in(chunk: Chunk) -> list[Any]:
    return pa.ipc.open_stream(chunk.payload).read_all()["a"].to_pylist()


def test_parquet_is_read_group_by_group_from_any_row_that_ended_a_chunk(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [5, 1, 4])
    found = chunks(path)
    assert [rows_in(chunk) for chunk in found] == [[0, 1], [2, 3], [4], [1000], [2000, 2001], [2002, 2003]]
    for i, chunk in enumerate(found):
        assert chunks(path, 2, chunk.end) == found[i + 1 :]


def test_only_the_wanted_columns_of_parquet_are_read(tmp_path: Path) -> None:
    source = open_source(place_of(str(parquet(tmp_path / "a.parquet", [2])), None, ""), 10)
    source.wanted = ["a"]  # type: ignore[attr-defined]
    assert pa.ipc.open_stream(next(source.chunks(Position())).payload).schema.names == ["a"]


def test_a_fingerprint_tells_contents_apart(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", CSV)
    former = fingerprint(path)
    assert fingerprint(path) == former
    path.write_bytes(CSV[:-1] + b"9")
    assert fingerprint(path)["sha256_of_edges"] != former["sha256_of_edges"]
