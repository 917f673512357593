"""Record boundaries are those that Python's csv module finds by parsing."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falcon_wsgi.scoring.splitting import ends_open, record_ends, records

# A carriage return alone is no part of a line end; the csv module would not put it in quotation marks.
CELLS = st.lists(st.sampled_from(["a", "b", ",", '"', "\n", "\r\n", " ", "é"]), max_size=6).map("".join)
TABLES = st.lists(st.tuples(CELLS, CELLS), max_size=8)


def written(table: list[tuple[str, str]], line_end: str) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator=line_end).writerows(table)
    return file.getvalue().encode()


def pieces(text: bytes, quoted: bool = True) -> list[bytes]:
    found = records(text, quoted)
    return [text[start:end] for start, end in zip(found.starts, found.ends, strict=True)]


@settings(deadline=None)
@given(TABLES, st.sampled_from(["\n", "\r\n"]))
def test_each_record_of_any_table_parses_to_its_row(table: list[tuple[str, str]], line_end: str) -> None:
    rows = [
        next(csv.reader(io.StringIO(piece.decode(), newline="")))
        for piece in pieces(written(table, line_end))
    ]
    assert [tuple(row) for row in rows] == table


@settings(deadline=None)
@given(TABLES, st.data())
def test_what_is_known_of_a_beginning_stays_true_of_the_whole(
    table: list[tuple[str, str]], data: st.DataObject
) -> None:
    text = written(table, "\n")
    cut = data.draw(st.integers(0, len(text)))
    whole = record_ends(text, quoted=True)
    assert record_ends(text[:cut], quoted=True).tolist() == whole[whole < cut].tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (b"\n\r\n\n", []),
        (b"a\n\nb", [b"a", b"b"]),
        (b"a,b\r\nc", [b"a,b", b"c"]),
        (b'5" pipe,x\nnext\n', [b'5" pipe,x', b"next"]),
        (b'"a""\nb",x\nc\n', [b'"a""\nb",x', b"c"]),
        (b'x,"a,\n"\ny\n', [b'x,"a,\n"', b"y"]),
    ],
)
def test_empty_lines_and_stray_quotation_marks_end_no_record_wrongly(
    text: bytes, expected: list[bytes]
) -> None:
    assert pieces(text) == expected


def test_json_lines_know_no_quotation_across_lines() -> None:
    assert pieces(b'{"a\n"b"}\n', quoted=False) == [b'{"a', b'"b"}']


def test_line_numbers_count_the_lines_inside_quotes() -> None:
    assert records(b'\n"a\nb"\n\nc\n', quoted=True).lines.tolist() == [1, 4]


@pytest.mark.parametrize(
    ("text", "is_open"),
    [(b'a,"b', True), (b'"', True), (b'"a""', True), (b'"a"', False), (b'a"', False), (b"", False)],
)
def test_a_quoted_field_without_its_end_is_seen(text: bytes, is_open: bool) -> None:
    assert ends_open(text) is is_open
