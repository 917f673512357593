"""Rows as what an estimator takes: an array, or a data frame with the column types that it was fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from falcon_wsgi.models.forms import Input, Value
from falcon_wsgi.models.signature import (
    BooleanField,
    CategoryField,
    NumberField,
    StringField,
    TabularField,
    TabularSignature,
    TextSignature,
)

Matrix = Callable[[Sequence[Input]], Any]
Column = Callable[[Sequence[Value]], Any]


def matrix_of(signature: TextSignature | TabularSignature) -> Matrix:
    """What turns inputs of this signature into the X of the estimator's `predict`; n inputs give n rows."""
    if isinstance(signature, TextSignature):
        return list
    if signature.input == "frame":
        return frame_of(signature)
    return array_of(signature)


def array_of(signature: TabularSignature) -> Matrix:
    """float64 of shape (n, fields) with NaN for what is missing; float32 where every field is.

    Of objects where a field holds text; what is missing is NaN or None then, as its field says.
    """
    if is_numeric(signature):
        dtypes = {field.dtype if isinstance(field, NumberField) else None for field in signature.fields}
        dtype = np.float32 if dtypes == {"float32"} else np.float64
        return lambda rows: np.array(rows, dtype=dtype)
    missing = [_missing(field) for field in signature.fields]

    def objects(rows: Sequence[Input]) -> Any:
        array = np.empty((len(rows), len(missing)), dtype=object)
        for i, row in enumerate(rows):
            array[i] = [
                absent if value is None else value for value, absent in zip(row, missing, strict=True)
            ]
        return array

    return objects


def is_numeric(signature: TabularSignature) -> bool:
    """Whether every column is of numbers, or of true and false."""
    return all(map(_is_number, signature.fields))


def _is_number(field: TabularField) -> bool:
    match field:
        case NumberField() | BooleanField():
            return field.dtype != "object"
        case CategoryField():
            return field.dtype in ("int64", "float64", "bool")
    return False


def frame_of(signature: TabularSignature) -> Matrix:
    """A pandas.DataFrame with the fields as columns, each of the type that the signature records."""
    import pandas as pd  # 40 MB that only models fitted on data frames need

    columns = [(field.name, _column_of(field)) for field in signature.fields]

    def frame(rows: Sequence[Input]) -> Any:
        return pd.DataFrame(
            {
                name: make(values)
                for (name, make), values in zip(columns, zip(*rows, strict=True), strict=True)
            },
            copy=False,
        )

    return frame


def _column_of(field: TabularField) -> Column:
    """What makes the column of a data frame from a field's values."""
    match field:
        case CategoryField(dtype="category"):
            return _categorical(field)
        case StringField(dtype="str") | CategoryField(dtype="str"):
            return _series("str", np.nan)
        case NumberField(dtype=None):
            whole = field.type == "integer" and not field.nullable
            return _numbers(np.int64 if whole else np.float64)
        case NumberField(dtype="float32"):
            return _numbers(np.float32)
        case CategoryField(dtype="int64", nullable=False):
            return _numbers(np.int64)
        case CategoryField(dtype="int64" | "float64"):
            return _numbers(np.float64)
        case BooleanField(dtype=None, nullable=False) | CategoryField(dtype="bool", nullable=False):
            return _numbers(np.bool_)
        case BooleanField(dtype=None):
            return _numbers(np.float64)
    return _series(object, _missing(field))


def _numbers(dtype: Any) -> Column:
    # Of numbers, numpy's array is seven times quicker to put into a frame than a pandas.Series.
    return lambda values: np.array(values, dtype=dtype)


def _series(dtype: Any, missing: object) -> Column:
    import pandas as pd

    # As an array of objects pandas would take text for its own type of text.
    return lambda values: pd.Series(
        [missing if value is None else value for value in values], dtype=dtype, copy=False
    )


def _categorical(field: CategoryField) -> Column:
    import pandas as pd

    dtype = pd.CategoricalDtype(list(field.categories))
    codes: dict[Value, int] = {category: code for code, category in enumerate(field.categories)}
    codes[None] = -1
    return lambda values: pd.Categorical.from_codes([codes[value] for value in values], dtype=dtype)


def _missing(field: TabularField) -> object:
    return np.nan if isinstance(field, NumberField) or field.missing == "nan" else None
