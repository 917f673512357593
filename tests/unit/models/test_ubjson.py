"""XGBoost's UBJSON is read as XGBoost writes it, and written so that it reads the same."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.models import ubjson
from tests.unit.models import fitted_models

ARRAYS = [
    np.array([1, -2], np.int8),
    np.array([0, 255], np.uint8),
    np.array([-300], np.int16),
    np.array([2**31 - 1, -5], np.int32),
    np.array([2**40], np.int64),
    np.array([0.1, np.inf], np.float32),
    np.array([0.1], np.float64),
    np.array([], np.int32),
]
VALUES = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    if isinstance(value, list | np.ndarray):
        return [plain(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return value


@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    assert ubjson.decode(ubjson.encode(value)) == value


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_an_array_keeps_its_type_and_values(array: Any) -> None:
    read = ubjson.decode(ubjson.encode({"a": array}))["a"]
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)


def test_a_fraction_is_written_as_a_single_precision_number() -> None:
    assert ubjson.decode(ubjson.encode([0.1])) == [float(np.float32(0.1))]


@pytest.mark.parametrize("name", ["xgboost", "xgboost dart", "xgboost linear"])
def test_xgboosts_own_files_hold_the_same_in_both_formats(name: str) -> None:
    binary = plain(ubjson.decode(fitted_models.boosters()[f"{name} ubj"][0]))
    text = json.loads(fitted_models.boosters()[f"{name} json"][0])
    assert binary["learner"]["learner_model_param"] == text["learner"]["learner_model_param"]
    assert binary["learner"]["gradient_booster"].keys() == text["learner"]["gradient_booster"].keys()


@pytest.mark.parametrize("contents", [b"", b"{", b"[", b"[$d#L", b"[#i\x05", b"{i\x01", b"Si", b"{i\x01a}"])
def test_what_is_cut_off_is_refused(contents: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|length|marker"):
        ubjson.decode(contents)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_model_that_is_cut_off_is_refused(cut: int) -> None:
    contents = fitted_models.boosters()["xgboost ubj"][0]
    with pytest.raises(ValueError, match="cut off"):
        ubjson.decode(contents[: -cut * len(contents) // 64])


@pytest.mark.parametrize(
    ("contents", "match"),
    [
        (b"[#L" + (2**62).to_bytes(8, "big"), "cut off"),
        (b"[$L#L" + (2**60).to_bytes(8, "big"), "cut off"),
        (b"[#L" + (-1).to_bytes(8, "big", signed=True), "cut off"),
        (b"[#i\x01" * 100, "nested too deeply"),
        (b"{i\x01ai\x01i\x01ai\x02}", "stands twice"),
        (b"[$S#i\x01", "not of numbers"),
        (b"[]", "does not say its length"),
        (b"x", "does not belong"),
        (b"Zrest", "after the end"),
        (b"Sd\x00\x00\x00\x00", "place of a length"),
    ],
)
def test_what_xgboost_never_writes_is_refused(contents: bytes, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ubjson.decode(contents)
