"""Lines of the request log: what is put into a field comes out of it."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi import log_rows

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def line(**fields: str) -> bytes:
    return "\t".join(fields.get(name, log_rows.NULL) for name in log_rows.COLUMNS).encode() + b"\n"


def read(payload: bytes) -> list[dict[str, Any]]:
    rows = orjson.loads(b"[%b]" % log_rows.as_json(payload))
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


@given(ANY_TEXT)
def test_any_text_comes_back_and_stays_in_its_field(value: str) -> None:
    assert read(line(request_id=log_rows.text(value))) == [{"request_id": value}]


@pytest.mark.parametrize(
    "value", ["", "\\N", "\\.", "\\", "\\t", "a\tb", "\n", "\r\n", "\x00\x0b\x0c\x7f\x85\u2028"]
)
def test_what_copy_reads_in_a_way_of_its_own_is_no_exception(value: str) -> None:
    assert read(line(error_message=log_rows.text(value))) == [{"error_message": value}]


@given(st.dictionaries(ANY_TEXT, FINITE | ANY_TEXT | st.booleans() | st.none()))
def test_any_document_comes_back(value: dict[str, Any]) -> None:
    assert read(line(payload=log_rows.document(value))) == [{"payload": value}]


@given(st.lists(FINITE, min_size=1))
def test_numbers_come_back_exactly(values: list[float]) -> None:
    assert [float(field) for field in log_rows.numbers(values)] == values


def test_what_is_no_number_is_null() -> None:
    assert log_rows.numbers([None, math.nan, math.inf, 0.5]) == [log_rows.NULL] * 3 + ["0.5"]
    assert log_rows.numbers([]) == []


def test_lines_follow_one_another() -> None:
    payload = line(status="200", success="t") + line(status="503", success="f", confidence="0.25")
    assert read(payload) == [
        {"status": 200, "success": True},
        {"status": 503, "success": False, "confidence": 0.25},
    ]


def test_rows_of_an_earlier_version_are_left_as_they_are() -> None:
    payload = b'{"event_id":"0190"},{"event_id":"0191"}'
    assert log_rows.is_json(payload)
    assert log_rows.as_json(payload) == payload
    assert not log_rows.is_json(line(event_id="0190"))


@pytest.mark.parametrize(
    "payload",
    [b"", b"\n", b"no row\n", line()[:-1] + b"\tmore\n", line(status="many"), line(payload="{"), b"\xff\n"],
)
def test_what_is_no_line_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        log_rows.as_json(payload)
