"""What is written reads back as what it was."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falcon_wsgi.scoring import encoding

TEXTS = st.lists(st.none() | st.text(alphabet='ab,"\n\r\\é\x01 ', max_size=6), min_size=1, max_size=5)


@settings(deadline=None)
@given(TEXTS, st.floats(allow_nan=False, allow_infinity=False))
def test_csv_reads_back_any_text_and_the_very_number(texts: list[str | None], number: float) -> None:
    columns = [pa.array(texts, type=pa.string()), pa.array([number] * len(texts))]
    rows = list(csv.reader(io.StringIO(encoding.csv_body(columns).decode(), newline="")))
    assert [row[0] for row in rows] == [text or "" for text in texts]
    assert {float(row[1]) for row in rows} == {number}


@settings(deadline=None)
@given(TEXTS, st.floats(allow_nan=False, allow_infinity=False))
def test_json_reads_back_any_text_and_the_very_number(texts: list[str | None], number: float) -> None:
    columns = [pa.array(texts, type=pa.string()), pa.array([number] * len(texts))]
    lines = encoding.json_body(['te"xt', "n"], columns).splitlines(keepends=True)
    assert [json.loads(line) for line in lines] == [{'te"xt': text, "n": number} for text in texts]


def test_plain_texts_carry_no_quotation_marks_in_csv() -> None:
    assert encoding.csv_body([pa.array(["a b", "c"]), pa.array([True, None])]) == b"a b,true\nc,\n"


@pytest.mark.parametrize(
    ("cell", "as_csv", "as_json"),
    [
        ([1, 2], "[1, 2]", [1, 2]),
        (Decimal("1.50"), "1.50", "1.50"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00.000000Z", "2026-01-02T00:00:00+00:00"),
        (b"\x00a", '"\\u0000a"', "\x00a"),
        (math.nan, "nan", None),
        (7, "7", 7),
    ],
)
def test_kept_cells_of_other_types_are_written_readably(cell: object, as_csv: str, as_json: object) -> None:
    column = pa.array([cell])
    (row,) = csv.reader(io.StringIO(encoding.csv_body([column]).decode(), newline=""))
    assert row == [as_csv] or json.loads(row[0]) == json.loads(as_csv)
    assert json.loads(encoding.json_body(["c"], [column])) == {"c": as_json}


def test_members_are_added_to_objects_as_they_were_written() -> None:
    objects = ['{"a": 1.50 }', "{}", '{"b":"}"} ']
    body = encoding.json_objects(objects, ["p"], [pa.array([1, 2, 3])])
    assert body == b'{"a": 1.50,"p":1}\n{"p":2}\n{"b":"}","p":3}\n'


def test_members_of_gzip_are_one_file_and_the_same_each_time() -> None:
    joined = encoding.gzipped(b"a") + encoding.gzipped(b"") + encoding.gzipped(b"b")
    assert gzip.decompress(joined) == b"ab"
    assert encoding.gzipped(b"a") == encoding.gzipped(b"a")
