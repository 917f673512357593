"""From example rows and the fitted estimator to a signature: types, categories, what may be missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from falcon_wsgi.errors import CandidateInvalid
from falcon_wsgi.models.columns import Column, Examples
from falcon_wsgi.models.encoders import Met, met_by
from falcon_wsgi.models.forms import Input, form_of
from falcon_wsgi.models.signature import (
    MAX_TEXT_LENGTH,
    BooleanField,
    CategoryField,
    NumberField,
    StringField,
    TabularField,
    TabularSignature,
    TextSignature,
)

Bounds: TypeAlias = Mapping[str, tuple[float | None, float | None]] | Literal["examples"]

# A column of text that no encoder and no vectorizer names is taken for categories up to this many.
_MOST_CATEGORIES = 50


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user says of fields, by name; it goes before what is inferred.

    Attributes:
        bounds: lowest and highest value, None for none; "examples" takes those of the examples.
        categories: the values that are allowed, None for any.
        nullable: fields that may be missing, beside those that are found to be.
    """

    bounds: Bounds = field(default_factory=dict)
    categories: Mapping[str, Sequence[Any] | None] = field(default_factory=dict)
    nullable: Iterable[str] = ()
    descriptions: Mapping[str, str] = field(default_factory=dict)

    def check(self, names: Sequence[str]) -> None:
        """Raises CandidateInvalid where a name is none of these."""
        given = {
            "bounds": () if self.bounds == "examples" else self.bounds,
            "categories": self.categories,
            "nullable": self.nullable,
            "descriptions": self.descriptions,
        }
        for option, named in given.items():
            unknown = sorted(set(named) - set(names))
            if unknown:
                raise CandidateInvalid(f"{option} names {', '.join(unknown)}, but there is no such field")


def infer(examples: Examples, estimator: Any, wishes: Wishes) -> TextSignature | TabularSignature:
    """The signature that the examples and the estimator's own encoders and imputers tell.

    Args:
        estimator: None where it is not known; the examples alone decide then.

    Raises:
        CandidateInvalid: a field cannot be described, or a wish does not fit.
    """
    if examples.columns is None:
        wishes.check(())
        return TextSignature()
    wishes.check([column.name for column in examples.columns])
    met = [Met() for _ in examples.columns]
    if estimator is not None:
        met = _met(examples, estimator)
    fields = tuple(_field(column, seen, wishes) for column, seen in zip(examples.columns, met, strict=True))
    frame = hasattr(examples.given, "columns")
    return _signature(fields, "frame" if frame else "array")


def _met(examples: Examples, estimator: Any) -> list[Met]:
    """Of the columns that are given, among those that the estimator was fitted on."""
    assert examples.columns is not None
    names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    if not names:
        return met_by(estimator, len(examples.columns))
    by_name = dict(zip(names, met_by(estimator, len(names)), strict=True))
    return [by_name.get(column.name, Met()) for column in examples.columns]


def _signature(fields: tuple[TabularField, ...], given_as: Any) -> TabularSignature:
    try:
        return TabularSignature(fields=fields, input=given_as)
    except ValidationError as error:
        raise CandidateInvalid(_first(error)) from None


def _field(column: Column, met: Met, wishes: Wishes) -> TabularField:
    common: dict[str, Any] = {
        "name": column.name,
        "nullable": column.missing is not None or met.may_be_missing or column.name in set(wishes.nullable),
        "description": wishes.descriptions.get(column.name),
    }
    marker = column.missing or met.missing or "nan"
    try:
        categories = _categories(column, met, wishes)
        if categories is not None:
            dtype = _category_dtype(column, categories)
            found: TabularField = CategoryField(
                type="category",
                categories=categories,
                dtype=dtype,  # type: ignore[arg-type]
                missing=marker,
                **common,
            )
        elif column.kind == "boolean":
            objects: Any = "object" if column.dtype == "object" else None
            found = BooleanField(type="boolean", dtype=objects, missing=marker, **common)
        elif column.kind == "text":
            text_dtype: Any = "str" if column.dtype == "str" else "object"
            if met.text:
                common["max_length"] = MAX_TEXT_LENGTH
            found = StringField(type="string", dtype=text_dtype, missing=marker, **common)
        else:
            low, high = _bounds(column, wishes)
            number_dtype: Any = column.dtype if column.dtype in ("float32", "object") else None
            found = NumberField(type=column.kind, minimum=low, maximum=high, dtype=number_dtype, **common)
    except ValidationError as error:
        raise CandidateInvalid(f"{column.name}: {_first(error)}") from None
    if wishes.bounds != "examples" and column.name in wishes.bounds and not isinstance(found, NumberField):
        raise CandidateInvalid(f"{column.name}: only a field of numbers has bounds, this is a {found.type}")
    return found


def _categories(column: Column, met: Met, wishes: Wishes) -> tuple[Any, ...] | None:
    """The closed set of values, or None if any value of the type may come."""
    if column.name in wishes.categories:
        wished = wishes.categories[column.name]
        return None if wished is None else tuple(_whole(column, wished))
    seen = {value for value in column.values if value is not None}
    if met.categories is not None:
        if not met.closed or column.kind == "boolean":
            return None
        known = tuple(
            value for value in _whole(column, met.categories) if value in seen or value not in met.filled_with
        )
        return column.levels if column.levels is not None and set(known) == set(column.levels) else known
    if column.levels is not None:
        return column.levels
    if column.kind != "text" or met.text or len(seen) > _MOST_CATEGORIES:
        return None
    return tuple(sorted(map(str, seen)))


def _whole(column: Column, values: Iterable[Any]) -> Iterable[Any]:
    """5.0 is the category 5."""
    for value in values:
        plain = value.item() if hasattr(value, "item") else value
        if not isinstance(plain, float):
            yield plain
        elif plain.is_integer():
            yield int(plain)
        else:
            raise CandidateInvalid(
                f"{column.name}: {plain} cannot be a category; those are whole numbers, texts, or true and false. "
                "Give the encoder whole numbers or texts, or handle_unknown='ignore' for any number"
            )


def _category_dtype(column: Column, categories: Sequence[Any]) -> str:
    if column.dtype == "category":
        # A frame's categorical column has all its levels, in their order; of fewer the codes would be others.
        return "category" if tuple(categories) == column.levels else "object"
    if column.dtype is not None:
        return "object" if column.dtype == "float32" else column.dtype
    return {"boolean": "bool", "integer": "int64", "number": "float64"}[column.kind]


def _bounds(column: Column, wishes: Wishes) -> tuple[float | None, float | None]:
    if wishes.bounds == "examples":
        present = [float(value) for value in column.values if value is not None]
        return (min(present), max(present)) if present else (None, None)
    return wishes.bounds.get(column.name, (None, None))


def rows_of(examples: Examples) -> list[Any]:
    """The examples as decoded JSON: texts, or an object with every field."""
    if examples.columns is None:
        return list(examples.given)
    names = [column.name for column in examples.columns]
    return [
        dict(zip(names, row, strict=True)) for row in zip(*(c.values for c in examples.columns), strict=True)
    ]


def inputs_of(rows: Sequence[Any], signature: TextSignature | TabularSignature) -> list[Input]:
    """The rows as the form of this signature makes them. Raises CandidateInvalid where one does not fit."""
    form = form_of(signature)
    inputs = []
    for i, row in enumerate(rows):
        try:
            inputs.append(form.normalise(form.validate(row)))
        except ValidationError as error:
            raise CandidateInvalid(f"example {i} does not fit the signature: {_first(error)}") from None
    return inputs


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = "".join(f"/{part}" for part in first["loc"])
    return f"{where}{': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
