"""Row groups written apart are one Parquet file."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falcon_wsgi.scoring.parquet_parts import MAGIC, framed, row_group, whole_footer

SCHEMA = pa.schema(
    [
        ("number", pa.float64()),
        ("whole", pa.int64()),
        ("flag", pa.bool_()),
        ("text", pa.string()),
        ("list", pa.list_(pa.int32())),
        ("time", pa.timestamp("us", tz="UTC")),
        ("wörd", pa.dictionary(pa.int32(), pa.string())),
    ]
)


def table(rows: int, seed: int = 0) -> Any:
    span = range(seed, seed + rows)
    return pa.table(
        {
            "number": [i / 7 for i in span],
            "whole": [None if i % 3 else i for i in span],
            "flag": [i % 2 == 0 for i in span],
            "text": [f"text {i}" for i in span],
            "list": [[i, i + 1] for i in span],
            "time": [i * 1_000_000 for i in span],
            "wörd": pa.array([f"w{i % 4}" for i in span]).dictionary_encode(),
        },
        schema=SCHEMA,
    )


def assembled(tables: list[Any], schema: Any = SCHEMA) -> bytes:
    contents, footers = MAGIC, b""
    for each in tables:
        body, footer = row_group(each)
        footers += framed(footer, len(contents))
        contents += body
    return contents + whole_footer(schema, io.BytesIO(footers))


@settings(deadline=None)
@given(st.lists(st.integers(1, 300), max_size=5))
def test_the_rows_of_all_parts_are_read_back_in_order(sizes: list[int]) -> None:
    tables = [table(size, seed=1000 * i) for i, size in enumerate(sizes)]
    read = pq.read_table(io.BytesIO(assembled(tables)))
    expected = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    assert read.to_pylist() == expected.to_pylist()
    assert read.schema == SCHEMA


def test_more_row_groups_than_a_short_list_holds_are_found_one_by_one() -> None:
    file = pq.ParquetFile(io.BytesIO(assembled([table(3, seed=i) for i in range(40)])))
    assert file.num_row_groups == 40
    assert file.read_row_group(31)["text"].to_pylist() == ["text 31", "text 32", "text 33"]
    assert file.metadata.row_group(39).column(0).statistics.min == 39 / 7


def test_many_columns_and_page_checksums_survive() -> None:
    schema = pa.schema([(f"c{i}", pa.float64()) for i in range(200)])
    one = pa.table({f"c{i}": [float(i), 2.0] for i in range(200)}, schema=schema)
    read = pq.read_table(io.BytesIO(assembled([one, one], schema)), page_checksum_verification=True)
    assert read.num_rows == 4
    assert read["c199"].to_pylist() == [199.0, 2.0, 199.0, 2.0]


def test_equal_tables_give_equal_bytes() -> None:
    assert assembled([table(50)]) == assembled([table(50)])


def test_a_file_cut_short_is_no_parquet() -> None:
    with pytest.raises(pa.ArrowInvalid):
        pq.read_table(io.BytesIO(assembled([table(5)])[:-9]))
