"""What a model accepts, as its manifest records it: one text, or a row of named and bounded fields."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

MAX_TEXT_LENGTH = 10_000
MAX_FIELDS = 4096
MAX_CATEGORIES = 100_000
# Trees and XGBoost compute in 32 bits: what lies beyond is infinite to them, and they refuse it.
LARGEST_NUMBER = 3.4028234663852886e38
# Beyond it two whole numbers can be the same JSON number (RFC 8259, section 6).
LARGEST_INTEGER = 2**53 - 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextSignature(_Strict):
    """One text. Lengths are counted in Unicode code points."""

    type: Literal["text"] = "text"
    min_length: int = Field(default=1, ge=1)
    max_length: int = Field(default=MAX_TEXT_LENGTH, ge=1, le=MAX_TEXT_LENGTH)


class _Field(_Strict):
    """A column. Where `nullable`, a request may leave it out or send null: the value is missing then."""

    name: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
    nullable: bool = False
    description: str | None = Field(default=None, max_length=500)


class NumberField(_Field):
    """A finite number, or a whole one. Bounds are inclusive.

    Without bounds a number lies within ±`LARGEST_NUMBER`, a whole one within ±`LARGEST_INTEGER`. `dtype` is the
    column's type where it is not the usual one: int64 for whole numbers that are never missing, else float64.
    """

    type: Literal["number", "integer"]
    minimum: float | None = Field(default=None, allow_inf_nan=False)
    maximum: float | None = Field(default=None, allow_inf_nan=False)
    dtype: Literal["float32", "object"] | None = None

    @model_validator(mode="after")
    def _bounds_in_order(self) -> NumberField:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"the minimum of {self.name} is above its maximum")
        return self


class _ObjectField(_Field):
    """A column that may hold objects. `missing` is what stands there for a missing value."""

    missing: Literal["nan", "none"] = "nan"


class BooleanField(_ObjectField):
    """true or false. The column is of type bool; where a value may be missing it is float64, 1.0 and 0.0.

    `dtype` is "object" where the model was fitted on a column of objects.
    """

    type: Literal["boolean"]
    dtype: Literal["object"] | None = None


Category = StrictBool | StrictInt | StrictStr


class CategoryField(_ObjectField):
    """One of a fixed set of values. `dtype` is the column's type in a data frame that is given to the model.

    A column of int64 that may miss values is of float64, one of bool is of objects.
    """

    type: Literal["category"]
    categories: tuple[Category, ...] = Field(min_length=1, max_length=MAX_CATEGORIES)
    dtype: Literal["object", "category", "str", "int64", "float64", "bool"] = "object"

    @model_validator(mode="after")
    def _no_value_twice(self) -> CategoryField:
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"a category of {self.name} is listed twice (true counts as 1, false as 0)")
        return self

    @model_validator(mode="after")
    def _column_can_hold_them(self) -> CategoryField:
        fitting = _HELD_BY.get(self.dtype, (bool, int, str))
        if not all(type(category) in fitting for category in self.categories):
            raise ValueError(f"a column of {self.dtype} cannot hold every category of {self.name}")
        return self


_HELD_BY: dict[str, tuple[type, ...]] = {"str": (str,), "int64": (int,), "float64": (int,), "bool": (bool,)}


class StringField(_ObjectField):
    """Any text of limited length, taken as it is. `dtype` is the column's type in a data frame."""

    type: Literal["string"]
    max_length: int = Field(default=1000, ge=1, le=MAX_TEXT_LENGTH)
    dtype: Literal["object", "str"] = "object"


TabularField = Annotated[
    NumberField | BooleanField | CategoryField | StringField, Field(discriminator="type")
]


class TabularSignature(_Strict):
    """A row. The order of the fields is that of the model's columns.

    `input` is what the model was fitted on: an array, or a data frame whose columns it finds by name.
    """

    type: Literal["tabular"] = "tabular"
    fields: tuple[TabularField, ...] = Field(min_length=1, max_length=MAX_FIELDS)
    input: Literal["array", "frame"] = "array"

    @model_validator(mode="after")
    def _no_name_twice(self) -> TabularSignature:
        names = [field.name for field in self.fields]
        twice = {name for name in names if names.count(name) > 1} if len(set(names)) != len(names) else set()
        if twice:
            raise ValueError(f"there are two fields named {min(twice)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)


Signature = Annotated[TextSignature | TabularSignature, Field(discriminator="type")]
