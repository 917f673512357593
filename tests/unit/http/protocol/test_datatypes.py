"""Elements of each datatype in JSON and as bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.http.protocol.binary import split_texts
from falcon_wsgi.http.protocol.datatypes import DATATYPES, NoElement, from_binary, from_json, to_binary

INTEGERS = [name for name, datatype in DATATYPES.items() if datatype.kind == "int"]
FLOATS = [name for name, datatype in DATATYPES.items() if datatype.kind == "float"]


def elements_of(name: str) -> st.SearchStrategy[Any]:
    datatype = DATATYPES[name]
    if datatype.kind == "int":
        return st.integers(datatype.minimum, datatype.maximum)
    if datatype.kind == "float":
        return st.floats(width=datatype.size * 8, allow_nan=False, allow_infinity=False)
    return st.booleans() if datatype.kind == "bool" else st.text()


@given(st.sampled_from(sorted(DATATYPES)).flatmap(lambda n: st.tuples(st.just(n), st.lists(elements_of(n)))))
def test_elements_survive_bytes_and_json_unchanged(case: tuple[str, list[Any]]) -> None:
    name, elements = case
    datatype = DATATYPES[name]
    raw = to_binary(datatype, elements)
    if datatype.kind == "text":
        assert [element.decode() for element in split_texts(raw, "")] == elements
    else:
        assert from_binary(datatype, raw) == elements
        assert len(raw) == len(elements) * datatype.size
    assert from_json(datatype, elements) == elements


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_outside_their_range_are_named_by_place(name: str) -> None:
    datatype = DATATYPES[name]
    for beyond in (datatype.minimum - 1, datatype.maximum + 1):
        with pytest.raises(NoElement, match=f"{datatype.minimum} to {datatype.maximum}") as refused:
            from_json(datatype, [0, None, beyond])
        assert refused.value.index == 2


@pytest.mark.parametrize(
    ("name", "element"),
    [
        ("UINT8", 300),
        ("INT64", 1.5),
        ("INT32", True),
        ("FP64", True),
        ("FP32", "1.0"),
        ("FP32", 1e39),
        ("FP16", 70000),
        ("BOOL", 1),
        ("BOOL", "true"),
        ("BYTES", 1),
        ("BYTES", ["a"]),
        ("FP64", {}),
    ],
)
def test_what_a_datatype_does_not_have_is_refused(name: str, element: Any) -> None:
    with pytest.raises(NoElement):
        from_json(DATATYPES[name], [element])


def test_a_whole_number_may_be_written_with_a_fraction() -> None:
    found = from_json(DATATYPES["INT8"], [5.0, None])
    assert found == [5, None]
    assert isinstance(found[0], int)


@given(st.floats(min_value=-3e38, max_value=3e38))
def test_fp32_in_json_is_what_it_is_in_binary(number: float) -> None:
    datatype = DATATYPES["FP32"]
    assert from_json(datatype, [number]) == from_binary(datatype, np.float32(number).tobytes())


@pytest.mark.parametrize("name", FLOATS)
def test_nan_is_missing_and_infinity_stays_for_the_signature_to_refuse(name: str) -> None:
    datatype = DATATYPES[name]
    raw = np.array([1, math.nan, math.inf], datatype.format).tobytes()
    assert from_binary(datatype, raw) == [1.0, None, math.inf]


def test_a_byte_that_is_no_bool_is_named_by_place() -> None:
    with pytest.raises(NoElement) as refused:
        from_binary(DATATYPES["BOOL"], b"\x00\x01\x02")
    assert refused.value.index == 2
