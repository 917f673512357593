"""Cells of one column, checked together with the verdicts and values that the model's form gives one by one.

Fine here means fine there, with the same value. What is not fine here is not yet refused: the form decides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from falcon_wsgi.models.forms import Value
from falcon_wsgi.models.prediction import label_text
from falcon_wsgi.models.signature import (
    LARGEST_INTEGER,
    LARGEST_NUMBER,
    BooleanField,
    CategoryField,
    NumberField,
    StringField,
    TabularField,
)

Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_ARROW_NUMBER = rf"^{_NUMBER.pattern}$"
_BOOLEANS = {
    "true": True, "True": True, "TRUE": True, "1": True,
    "false": False, "False": False, "FALSE": False, "0": False,
}  # fmt: skip


@dataclass(slots=True)
class Column:
    """Values of one field, one for each row.

    Attributes:
        values: floats with NaN for what is missing, for numbers, true and false; else a list with None there.
        fine: where the form would take the cell. Where not, the value means nothing.
    """

    values: Floats | list[Value]
    fine: Mask


def lenient(field: TabularField, text: str) -> Value:
    """A cell of a text file as JSON would hold it: a number for "5.1", None for nothing.

    What is none of the field's type stays text, and the form refuses it. Nothing is an empty text, not a missing
    one, where the field may not be missing and can hold it.
    """
    if not text and (field.nullable or not _holds_empty(field)):
        return None
    match field:
        case NumberField():
            bare = text.strip(" \t")
            return float(bare) if _NUMBER.fullmatch(bare) else text
        case BooleanField():
            return _BOOLEANS.get(text, text)
        case CategoryField():
            return categories_by_text(field).get(text, text)
        case StringField():
            return text


def categories_by_text(field: CategoryField) -> dict[str, Value]:
    """The categories by what a text file calls them. Where two are written alike the text is meant."""
    spoken: dict[str, Value] = {}
    for category in field.categories:
        if isinstance(category, bool):
            spoken |= {
                text: category for text, value in _BOOLEANS.items() if value is category and text.isalpha()
            }
    spoken |= {label_text(c): c for c in field.categories if not isinstance(c, str)}
    return spoken | {c: c for c in field.categories if isinstance(c, str)}


def from_text(field: TabularField, cells: Any) -> Column:
    """Of an Arrow array of strings without nulls, from a text file."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(field, NumberField):
        empty = pc.equal(pc.binary_length(cells), 0)
        return _numbers(field, _parsed(pc.if_else(empty, None, cells)), _mask(empty))
    if isinstance(field, BooleanField):
        found = pc.index_in(cells, value_set=pa.array(list(_BOOLEANS)))
        truths = np.array([*map(float, _BOOLEANS.values())])
        indexes = found.fill_null(-1).to_numpy(zero_copy_only=False)
        values = np.where(indexes >= 0, truths[indexes], np.nan)
        return _nullable_floats(field, values, _mask(pc.equal(pc.binary_length(cells), 0)))
    if isinstance(field, CategoryField):
        known = categories_by_text(field)
        missing = None if field.nullable or "" not in known else known[""]
        chosen: list[Value] = [known.get(text) if text else missing for text in cells.to_pylist()]
        return _listed(field, chosen, [value is None and text == "" for value, text in _pairs(chosen, cells)])
    listed: list[Value] = [text or (None if field.nullable else "") for text in cells.to_pylist()]
    return from_values(field, listed)


def from_values(field: TabularField, cells: Sequence[Any]) -> Column:
    """Of decoded JSON; None is a missing cell."""
    types = set(map(type, cells))
    if isinstance(field, NumberField):
        right = types <= {int, float}
        usable = cells if right else [c if type(c) in (int, float) else math.nan for c in cells]
        values = np.array(usable, dtype=np.float64)
        missing = None if right else np.fromiter((c is None for c in cells), np.bool_, len(cells))
        return _numbers(field, values, missing)
    if isinstance(field, BooleanField):
        values = np.array([float(c) if c is True or c is False else math.nan for c in cells])
        return _nullable_floats(field, values, np.fromiter((c is None for c in cells), np.bool_, len(cells)))
    absent = [cell is None for cell in cells]
    if isinstance(field, CategoryField):
        known = {(type(c), c): c for c in field.categories}
        chosen: list[Value] = [
            known.get((type(c), c)) if type(c) in (str, int, bool) else None for c in cells
        ]
        return _listed(field, chosen, absent)
    limit = field.max_length
    texts: list[Value] = [
        c if type(c) is str and len(c) <= limit and "\x00" not in c else None for c in cells
    ]
    return _listed(field, texts, absent)


def from_arrow(field: TabularField, cells: Any) -> Column:
    """Of an Arrow array of one of the types in `TYPES`; a NaN is a missing cell."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    number = pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type)
    if isinstance(field, NumberField) and number:
        values = pc.cast(cells, pa.float64(), safe=False).fill_null(math.nan).to_numpy(zero_copy_only=False)
        return _numbers(field, values, np.isnan(values))
    return from_values(field, [json_value(cell) for cell in cells.to_pylist()])


def json_value(cell: Any) -> Any:
    """A cell of a Parquet file as JSON would hold it."""
    from decimal import Decimal

    if isinstance(cell, Decimal):
        return float(cell)
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def _parsed(cells: Any) -> Floats:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        parsed = pc.cast(cells, pa.float64())
    except pa.ArrowInvalid:
        readable = pc.match_substring_regex(cells, _ARROW_NUMBER)
        parsed = pc.cast(pc.if_else(readable, cells, None), pa.float64())
    floats: Floats = parsed.fill_null(math.nan).to_numpy(zero_copy_only=False)
    return floats


def _numbers(field: NumberField, values: Floats, missing: Mask | None) -> Column:
    largest = LARGEST_INTEGER if field.type == "integer" else LARGEST_NUMBER
    low = -largest if field.minimum is None else field.minimum
    high = largest if field.maximum is None else field.maximum
    fine = np.isfinite(values) & (values >= low) & (values <= high)
    if field.type == "integer":
        fine &= values == np.floor(values)
    if field.nullable and missing is not None:
        fine |= missing
    return Column(values, fine)


def _nullable_floats(field: BooleanField, values: Floats, missing: Mask) -> Column:
    fine = ~np.isnan(values)
    return Column(values, fine | missing if field.nullable else fine)


def _listed(field: TabularField, values: list[Value], absent: Sequence[bool]) -> Column:
    fine = np.fromiter((value is not None for value in values), np.bool_, len(values))
    return Column(values, fine | np.array(absent, dtype=np.bool_) if field.nullable else fine)


def _holds_empty(field: TabularField) -> bool:
    return isinstance(field, StringField) or (isinstance(field, CategoryField) and "" in field.categories)


def _pairs(values: Sequence[Value], cells: Any) -> Any:
    return zip(values, cells.to_pylist(), strict=True)


def _mask(flags: Any) -> Mask:
    mask: Mask = flags.to_numpy(zero_copy_only=False)
    return mask
