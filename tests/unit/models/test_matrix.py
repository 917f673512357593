"""Rows reach an estimator with the columns and types that it was fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits
from xgboost import XGBRegressor

from falcon_wsgi.models import columns, examples
from falcon_wsgi.models.examples import Wishes
from falcon_wsgi.models.forms import Input
from falcon_wsgi.models.matrix import array_of, frame_of, matrix_of
from falcon_wsgi.models.signature import (
    BooleanField,
    CategoryField,
    NumberField,
    StringField,
    TabularField,
    TabularSignature,
    TextSignature,
)

CITIES = ["Berlin", "Paris", "Rome"]
NOTES = ["a good day", "a bad night", "so so", "x y"]


def data() -> pd.DataFrame:
    """Every usual type of column, without missing values."""
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, 60),
            "income": rng.normal(50, 10, 60),
            "member": rng.random(60) < 0.5,
            "city": pd.Series(rng.choice(CITIES, 60), dtype="str"),
            "level": rng.integers(1, 4, 60),
            "note": pd.Series(rng.choice(NOTES, 60), dtype=object),
        }
    )


def holed(*names: str) -> pd.DataFrame:
    """With missing values in these columns, as pandas has them."""
    frame = data()
    for shift, name in enumerate(names):
        frame.loc[shift::7, name] = np.nan
    return frame


def with_none() -> pd.DataFrame:
    cities = data()["city"].astype(object)
    cities[::5] = None
    return data().assign(city=cities)


def encoded(encoder: Any, *numbers: str, text: str = "city") -> ColumnTransformer:
    return ColumnTransformer([("text", encoder, [text]), ("numbers", "passthrough", list(numbers))])


def filled(encoder: Any) -> Any:
    return make_pipeline(SimpleImputer(strategy="most_frequent"), encoder)


FITTED: dict[str, Callable[[], tuple[Any, pd.DataFrame]]] = {
    "imputer-onehot-boosting": lambda: (
        make_pipeline(
            encoded(filled(OneHotEncoder()), "age", "income", "member"),
            HistGradientBoostingRegressor(max_iter=5),
        ),
        holed("income", "city")[["income", "age", "city", "member"]],
    ),
    "none-is-a-category": lambda: (
        make_pipeline(encoded(OneHotEncoder(), "age"), Ridge()),
        with_none()[["age", "city"]],
    ),
    "nan-is-a-category": lambda: (
        make_pipeline(encoded(OneHotEncoder(), "age"), Ridge()),
        holed("city")[["age", "city"]],
    ),
    "ordinal-with-unknown": lambda: (
        make_pipeline(
            encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), "age", "member"),
            Ridge(),
        ),
        data()[["member", "city", "age"]],
    ),
    "column-selector": lambda: (
        make_pipeline(
            make_column_transformer(
                (OneHotEncoder(), make_column_selector(dtype_include="str")),
                (
                    make_pipeline(SimpleImputer(), StandardScaler()),
                    make_column_selector(dtype_include="number"),
                ),
            ),
            Ridge(),
        ),
        holed("income")[["age", "income", "city"]],
    ),
    "categories-from-dtype": lambda: (
        HistGradientBoostingRegressor(max_iter=5, categorical_features="from_dtype"),
        holed("city", "level").astype({"city": "category"})[["age", "city", "level"]],
    ),
    "whole-numbers-as-categories": lambda: (
        make_pipeline(encoded(OneHotEncoder(), "income", text="level"), Ridge()),
        data().astype({"level": "category"})[["level", "income"]],
    ),
    "whole-numbers-encoded": lambda: (
        make_pipeline(encoded(OneHotEncoder(), "income", text="level"), Ridge()),
        data()[["level", "income"]],
    ),
    "words-in-a-column": lambda: (
        make_pipeline(
            ColumnTransformer([("note", TfidfVectorizer(), "note"), ("age", "passthrough", ["age"])]), Ridge()
        ),
        data()[["note", "age"]],
    ),
    "xgboost": lambda: (
        XGBRegressor(n_estimators=5, n_jobs=1),
        holed("age", "income")[["age", "income", "member"]],
    ),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Many small predictions: threads would only wait for each other."""
    with threadpool_limits(1):
        yield


@cache
def fitted(name: str) -> tuple[Any, pd.DataFrame, TabularSignature]:
    estimator, frame = FITTED[name]()
    estimator.fit(frame, np.random.default_rng(2).normal(size=len(frame)))
    found = columns.read(frame, estimator)
    signature = examples.infer(found, estimator, Wishes())
    assert isinstance(signature, TabularSignature)
    return estimator, frame, signature


def values_of(field: TabularField) -> st.SearchStrategy[Any]:
    match field:
        case NumberField(type="integer"):
            values: st.SearchStrategy[Any] = st.integers(-(2**31), 2**31)
        case NumberField():
            values = st.floats(-1e6, 1e6)
        case BooleanField():
            values = st.booleans()
        case CategoryField():
            values = st.sampled_from(field.categories)
        case StringField():
            values = st.sampled_from([*CITIES, *NOTES, "", "unknown", "Ünïcode 日本"])
    return st.one_of(st.none(), values) if field.nullable else values


def as_fitted(frame: pd.DataFrame, signature: TabularSignature, rows: Sequence[Input]) -> pd.DataFrame:
    """The rows in a frame as a user would make it by hand: of the types that the estimator was fitted on."""
    made = pd.DataFrame(index=range(len(rows)))
    for field, values in zip(signature.fields, zip(*rows, strict=True), strict=True):
        dtype = frame[field.name].dtype
        gone = None in values
        if gone and dtype.kind in "ib" and isinstance(dtype, np.dtype):
            dtype = np.dtype(float)
        missing = None if frame[field.name].map(lambda value: value is None).any() else np.nan
        made[field.name] = pd.Series([missing if v is None else v for v in values], dtype=dtype)
    return made


@pytest.mark.parametrize("name", FITTED)
@given(drawn=st.data())
@settings(max_examples=15, deadline=None)
def test_answers_are_those_to_a_data_frame_of_the_fitted_types(name: str, drawn: st.DataObject) -> None:
    estimator, frame, signature = fitted(name)
    row = st.tuples(*map(values_of, signature.fields))
    rows = drawn.draw(st.lists(row, min_size=1, max_size=4))
    ours = estimator.predict(matrix_of(signature)(rows))
    theirs = estimator.predict(as_fitted(frame, signature, rows))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FITTED)
def test_rows_of_the_examples_come_back_as_the_frame_they_were(name: str) -> None:
    _, frame, signature = fitted(name)
    found = columns.read(frame, None)
    ours = frame_of(signature)(examples.inputs_of(examples.rows_of(found), signature))
    for field in signature.fields:
        theirs = frame[field.name]
        if field.nullable and theirs.dtype.kind in "ib" and isinstance(theirs.dtype, np.dtype):
            continue  # nothing is missing in the examples; where something may be, the type is a wider one
        assert ours[field.name].dtype == theirs.dtype, field.name
        assert ours[field.name].isna().tolist() == theirs.isna().tolist()
        assert [v is None for v in ours[field.name]] == [v is None for v in theirs]


def signature(*fields: TabularField) -> TabularSignature:
    return TabularSignature(fields=fields)


NUMBER = NumberField(name="a", type="number", nullable=True)
SINGLE = NumberField(name="a", type="number", dtype="float32")


def test_array_of_numbers_has_nan_where_a_value_is_missing() -> None:
    level = CategoryField(name="c", type="category", categories=(1, 2), dtype="int64")
    made = array_of(signature(NUMBER, BooleanField(name="b", type="boolean"), level))([(None, True, 2)])
    assert made.dtype == np.float64
    assert np.isnan(made[0, 0])
    assert made[0, 1:].tolist() == [1.0, 2.0]


def test_array_of_32_bit_numbers_stays_one() -> None:
    assert array_of(signature(SINGLE))([(0.1,)]).dtype == np.float32


def test_array_with_texts_is_of_objects_and_keeps_none_and_nan_apart() -> None:
    text = StringField(name="b", type="string", nullable=True, missing="none")
    made = array_of(signature(NUMBER, text))([(None, None), (1.0, "x")])
    assert made.dtype == object
    assert np.isnan(made[0, 0])
    assert made[0, 1] is None
    assert made[1].tolist() == [1.0, "x"]


@pytest.mark.parametrize(
    ("field", "value", "dtype"),
    [
        (SINGLE, 0.5, "float32"),
        (NumberField(name="a", type="integer"), 5, "int64"),
        (NumberField(name="a", type="integer", nullable=True), None, "float64"),
        (NumberField(name="a", type="integer", dtype="object"), 5, "object"),
        (BooleanField(name="a", type="boolean"), True, "bool"),
        (BooleanField(name="a", type="boolean", nullable=True), None, "float64"),
        (BooleanField(name="a", type="boolean", dtype="object", nullable=True), None, "object"),
        (CategoryField(name="a", type="category", categories=(1, 2), dtype="float64"), 1, "float64"),
        (
            CategoryField(name="a", type="category", categories=(1,), dtype="int64", nullable=True),
            None,
            "float64",
        ),
        (CategoryField(name="a", type="category", categories=(True,), dtype="bool"), True, "bool"),
        (CategoryField(name="a", type="category", categories=("x",)), "x", "object"),
        (
            CategoryField(name="a", type="category", categories=("x",), dtype="str", nullable=True),
            None,
            "str",
        ),
        (StringField(name="a", type="string", dtype="str"), "x", "str"),
    ],
)
def test_column_has_the_recorded_type(field: TabularField, value: Any, dtype: str) -> None:
    made = frame_of(signature(field))([(value,)])["a"]
    assert made.dtype == dtype
    assert made.isna().tolist() == [value is None]


def test_categorical_column_has_all_its_levels() -> None:
    field = CategoryField(name="a", type="category", categories=("x", "y"), dtype="category", nullable=True)
    made = frame_of(signature(field))([("y",), (None,)])["a"]
    assert made.dtype.categories.tolist() == ["x", "y"]
    assert made.cat.codes.tolist() == [1, -1]


def test_texts_stay_a_list() -> None:
    assert matrix_of(TextSignature())(("a", "b")) == ["a", "b"]
