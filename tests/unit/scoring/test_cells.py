"""Columns get the verdicts and values that the form gives cell by cell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from falcon_wsgi.models.forms import TabularForm
from falcon_wsgi.models.signature import (
    BooleanField,
    CategoryField,
    NumberField,
    StringField,
    TabularField,
    TabularSignature,
)
from falcon_wsgi.scoring.cells import Column, from_arrow, from_text, from_values, json_value, lenient

FIELDS: dict[str, TabularField] = {
    "number": NumberField(name="f", type="number"),
    "bounded": NumberField(name="f", type="number", minimum=-1, maximum=1.5),
    "nullable": NumberField(name="f", type="number", nullable=True, minimum=0),
    "integer": NumberField(name="f", type="integer"),
    "nullable integer": NumberField(name="f", type="integer", nullable=True, maximum=9),
    "boolean": BooleanField(name="f", type="boolean"),
    "nullable boolean": BooleanField(name="f", type="boolean", nullable=True),
    "category": CategoryField(name="f", type="category", categories=("a", "1", "true")),
    "empty category": CategoryField(name="f", type="category", categories=("a", ""), nullable=False),
    "level": CategoryField(name="f", type="category", categories=(1, 2), nullable=True),
    "flag": CategoryField(name="f", type="category", categories=(True, False)),
    "mixed": CategoryField(name="f", type="category", categories=("1", 1, False)),
    "string": StringField(name="f", type="string", max_length=3),
    "nullable string": StringField(name="f", type="string", nullable=True),
}
NUMBERS = (
    st.floats(allow_nan=False)
    | st.integers(-(2**63), 2**63)
    | st.sampled_from([0, 1, 1.5, 9, 10, -0.0, 2**53])
)
WORDS = st.sampled_from(
    ["", "a", "1", "0", "true", "True", "FALSE", "yes", "5.0", " 5 ", "5.", ".5", "+5", "-.5e1", "1e400", "nan", "NaN",
     "inf", "Infinity", "-inf", "1_0", "0x10", "1,5", "٣", "1e", "e5", "-", ".", "é", "abcd", "a\x00", "1e-400", "--1"]
)  # fmt: skip
TEXTS = WORDS | st.text(max_size=5) | NUMBERS.map(str)
VALUES: st.SearchStrategy[Any] = st.none() | st.booleans() | NUMBERS | TEXTS | st.just([1]) | st.just({})
EACH_FIELD = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
REFUSED = object()


def verdict(field: TabularField, cell: Any, *, absent_if_none: bool) -> Any:
    """What the form says of a row with this cell: its value, or that it is refused."""
    sent = {} if cell is None and absent_if_none else {"f": cell}
    try:
        (value,) = TabularForm(TabularSignature(fields=(field,))).validate(sent)
    except ValidationError:
        return REFUSED
    return value


def assert_never_wrong(field: TabularField, column: Column, verdicts: list[Any]) -> None:
    """What the column takes, the form takes with the same value. What it does not, the form is asked about."""
    for fine, value, expected in zip(column.fine.tolist(), _listed(column), verdicts, strict=True):
        if fine:
            assert expected is not REFUSED
            assert value == (math.nan if expected is None else expected) or (
                expected is None and _missing(value)
            )


def _listed(column: Column) -> list[Any]:
    return column.values.tolist() if isinstance(column.values, np.ndarray) else column.values


def _missing(value: Any) -> bool:
    return value is None or value != value


@EACH_FIELD
@settings(max_examples=40, deadline=None)
@given(cells=st.lists(TEXTS, min_size=1, max_size=6))
def test_cells_of_text_are_taken_only_as_the_form_takes_them(field: TabularField, cells: list[str]) -> None:
    column = from_text(field, pa.array(cells, type=pa.string()))
    verdicts = [verdict(field, lenient(field, cell), absent_if_none=True) for cell in cells]
    assert_never_wrong(field, column, verdicts)


@EACH_FIELD
@settings(max_examples=40, deadline=None)
@given(cells=st.lists(VALUES, min_size=1, max_size=6))
def test_decoded_json_is_taken_only_as_the_form_takes_it(field: TabularField, cells: list[Any]) -> None:
    column = from_values(field, cells)
    assert_never_wrong(field, column, [verdict(field, cell, absent_if_none=False) for cell in cells])


ARROW: dict[str, st.SearchStrategy[Any]] = {
    "double": st.none() | st.floats(),
    "float": st.none() | st.floats(width=32),
    "int64": st.none() | st.integers(-(2**63), 2**63 - 1),
    "uint8": st.none() | st.integers(0, 255),
    "bool": st.none() | st.booleans(),
    "string": st.none() | TEXTS,
}


@EACH_FIELD
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_cells_of_parquet_are_taken_only_as_the_form_takes_them(
    field: TabularField, data: st.DataObject
) -> None:
    type_ = data.draw(st.sampled_from(sorted(ARROW)))
    array = pa.array(data.draw(st.lists(ARROW[type_], min_size=1, max_size=6)), type=pa.type_for_alias(type_))
    cells = [json_value(cell) for cell in array.to_pylist()]
    verdicts = [verdict(field, cell, absent_if_none=True) for cell in cells]
    assert_never_wrong(field, from_arrow(field, array), verdicts)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("number", ["5.1", "-3", "1e-7"]),
        ("nullable", ["", "2"]),
        ("integer", ["5", "5.0"]),
        ("boolean", ["true", "False", "1", "0"]),
        ("category", ["a", "1", "true"]),
        ("level", ["1", "2", ""]),
        ("string", ["", "abc"]),
    ],
)
def test_usual_cells_need_no_second_look(name: str, good: list[str]) -> None:
    assert from_text(FIELDS[name], pa.array(good)).fine.all()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("number", "5.1", 5.1),
        ("number", " 5\t", 5.0),
        ("integer", "5.0", 5.0),
        ("number", "", None),
        ("boolean", "TRUE", True),
        ("boolean", "0", False),
        ("boolean", "yes", "yes"),
        ("flag", "true", True),
        ("level", "2", 2),
        ("mixed", "1", "1"),
        ("mixed", "False", False),
        ("empty category", "", ""),
        ("string", "", ""),
        ("nullable string", "", None),
        ("number", "nan", "nan"),
        ("number", "1_000", "1_000"),
    ],
)
def test_a_text_is_read_as_what_its_field_takes(name: str, text: str, value: Any) -> None:
    found = lenient(FIELDS[name], text)
    assert (found, type(found)) == (value, type(value))


def test_a_dictionary_and_a_decimal_are_read_as_their_values() -> None:
    from decimal import Decimal

    words = pa.array(["a", "1", "a"]).dictionary_encode()
    assert from_arrow(FIELDS["category"], words).values == ["a", "1", "a"]
    decimals = pa.array([Decimal("1.25"), None])
    assert from_arrow(FIELDS["nullable"], decimals).fine.tolist() == [True, True]
