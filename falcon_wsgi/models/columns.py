"""Example rows of any usual form as columns of JSON values, with the types that they have in the user's data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from falcon_wsgi.errors import CandidateInvalid
from falcon_wsgi.models.forms import Value

_MASKED = re.compile(r"(U?Int(8|16|32|64)|Float(32|64)|boolean)")
_FORMS = "a pandas.DataFrame, a numpy array of rows, a list of dictionaries, or a list of texts"
_REMEDY = "turn it into numbers or text before the pipeline is fitted"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the examples.

    Attributes:
        kind: of its values, without the missing ones.
        dtype: its type in a data frame, where that is not the usual one for its kind (`signature`).
        values: one for each example; None where it is missing.
        missing: what stands for a missing value in the user's data; None if none is missing.
        levels: all values of a categorical column; None for any other column.
    """

    name: str
    kind: Literal["number", "integer", "boolean", "text"]
    dtype: Literal["float32", "object", "str", "category"] | None
    values: Sequence[Value]
    missing: Literal["nan", "none"] | None
    levels: tuple[Value, ...] | None = None

    def only(self, chosen: Iterable[int]) -> Column:
        """The same column of some of the examples."""
        return replace(self, values=[self.values[i] for i in chosen])


@dataclass(frozen=True, slots=True)
class Examples:
    """What a user gave as examples.

    Attributes:
        given: as it is handed to the estimator: texts, an array, or a data frame.
        columns: of rows; None for texts.
    """

    given: Any
    columns: tuple[Column, ...] | None

    def __len__(self) -> int:
        return len(self.given)


def read(examples: Any, estimator: Any, field_names: Sequence[str] | None = None) -> Examples:
    """Texts as a list; rows with the columns that the estimator was fitted on, in its order.

    Args:
        field_names: names of an array's columns; by default those that the estimator was fitted on, else x0, x1, ...

    Raises:
        CandidateInvalid: the examples are of no known form, or a column's type cannot be sent as JSON.
    """
    import pandas as pd

    if isinstance(examples, pd.Series):
        examples = examples.tolist()
    if isinstance(examples, np.ndarray) and examples.ndim == 1:
        examples = examples.tolist()
    if isinstance(examples, list | tuple):
        if examples and all(isinstance(text, str) for text in examples):
            return Examples([str(text) for text in examples], None)
        if not examples or not all(isinstance(row, Mapping) for row in examples):
            raise CandidateInvalid(f"examples are {_FORMS}; at least one")
        examples = pd.DataFrame([dict(row) for row in examples])
    if isinstance(examples, pd.DataFrame):
        return _of_frame(examples, estimator, field_names)
    if isinstance(examples, np.ndarray) and examples.ndim == 2 and len(examples):
        return _of_array(examples, estimator, field_names)
    raise CandidateInvalid(f"examples are {_FORMS}, not {type(examples).__name__}; at least one")


def _of_frame(frame: Any, estimator: Any, field_names: Sequence[str] | None) -> Examples:
    if not len(frame):
        raise CandidateInvalid("there is no example")
    if field_names is not None:
        raise CandidateInvalid("field_names is for arrays; a data frame's columns have names")
    unnamed = [name for name in frame.columns if not isinstance(name, str)]
    if unnamed:
        raise CandidateInvalid(f"the name of a column must be text, not {unnamed[0]!r}")
    if not frame.columns.is_unique:
        raise CandidateInvalid("two columns of the examples have the same name")
    fitted = fitted_names(estimator)
    if fitted is not None:
        frame = frame[[name for name in fitted if name in frame.columns]]
    if not len(frame.columns):
        raise CandidateInvalid("the examples have none of the columns that the model was fitted on")
    columns = tuple(column_of(name, frame[name]) for name in frame.columns)
    # Fitted on an array, it would warn of a frame's names at every call.
    by_position = fitted is None and hasattr(estimator, "n_features_in_")
    return Examples(frame.to_numpy() if by_position else frame, columns)


def _of_array(array: Any, estimator: Any, field_names: Sequence[str] | None) -> Examples:
    import pandas as pd

    if array.dtype.kind not in "biufUO":
        raise CandidateInvalid(f"an array of {array.dtype} cannot be sent as JSON; {_REMEDY}")
    names = list(field_names or fitted_names(estimator) or (f"x{i}" for i in range(array.shape[1])))
    if len(names) != array.shape[1]:
        raise CandidateInvalid(f"there are {len(names)} field names for {array.shape[1]} columns")
    kept = object if array.dtype.kind in "UO" else array.dtype
    columns = tuple(
        column_of(name, pd.Series(array[:, i].tolist() if kept is object else array[:, i], dtype=kept))
        for i, name in enumerate(names)
    )
    return Examples(array, columns)


def fitted_names(estimator: Any) -> list[str] | None:
    """Names of the columns that the estimator was fitted on; None where it was an array."""
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def column_of(name: str, series: Any) -> Column:
    """Raises CandidateInvalid for a type that has no form in JSON."""
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _categorical(name, series)
    known = isinstance(dtype, np.dtype | pd.StringDtype) or _MASKED.fullmatch(dtype.name)
    if not known or dtype.kind not in "biufO" or dtype in (np.float16, np.longdouble):
        raise CandidateInvalid(f"{name}: a column of {dtype} cannot be sent as JSON; {_REMEDY}")
    absent = series.isna().to_numpy()
    values = [None if gone else _plain(value) for value, gone in zip(series.tolist(), absent, strict=True)]
    if dtype.kind == "O":
        text = isinstance(dtype, pd.StringDtype)
        missing = None if not absent.any() else "none" if None in series.tolist() else "nan"
        kind = "text" if text else _kind_of_objects(name, values)
        return Column(name, kind, "str" if text else "object", values, missing)  # type: ignore[arg-type]
    kind = {"b": "boolean", "f": "number"}.get(dtype.kind, "integer")
    exact = "float32" if dtype == np.float32 else None
    return Column(name, kind, exact, values, "nan" if absent.any() else None)  # type: ignore[arg-type]


def _categorical(name: str, series: Any) -> Column:
    levels = tuple(_whole(_plain(level)) for level in series.cat.categories.tolist())
    kind = _kind_of_objects(name, levels)
    if kind == "number":
        raise CandidateInvalid(f"{name}: a category is a whole number, a text, or true or false; {_REMEDY}")
    absent = series.isna().tolist()
    values = [
        None if gone else _whole(_plain(value)) for value, gone in zip(series.tolist(), absent, strict=True)
    ]
    return Column(name, kind, "category", values, "nan" if any(absent) else None, levels)  # type: ignore[arg-type]


def _kind_of_objects(name: str, values: Sequence[Any]) -> str:
    types = {type(value) for value in values if value is not None}
    if types == {str}:
        return "text"
    if types == {bool}:
        return "boolean"
    if types == {int}:
        return "integer"
    if types and types <= {int, float}:
        return "number"
    if not types:
        raise CandidateInvalid(f"{name}: no example has a value")
    held = ", ".join(sorted(each.__name__ for each in types))
    raise CandidateInvalid(
        f"{name}: a column is of texts, of numbers, or of true and false, not of {held}; {_REMEDY}"
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
