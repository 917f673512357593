"""What a manifest may say of a model's inputs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from falcon_wsgi.models.signature import CategoryField, Signature, TabularSignature, TextSignature

SIGNATURE: TypeAdapter[TextSignature | TabularSignature] = TypeAdapter(Signature)


def tabular(*fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "tabular", "fields": list(fields), **more}


def test_every_type_of_field_comes_back_from_json_as_it_was() -> None:
    signature = SIGNATURE.validate_python(
        tabular(
            {"name": "a", "type": "number", "minimum": 0, "dtype": "float32"},
            {"name": "b", "type": "integer", "nullable": True},
            {"name": "c", "type": "boolean", "nullable": True, "missing": "none"},
            {"name": "d", "type": "category", "categories": ["x", 1, True][:2], "dtype": "object"},
            {"name": "e", "type": "string", "max_length": 5, "dtype": "str"},
            input="frame",
        )
    )
    assert SIGNATURE.validate_json(SIGNATURE.dump_json(signature)) == signature


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "video"},
        {"type": "text", "max_length": 10_001},
        tabular(),
        tabular({"name": "a", "type": "number"}, {"name": "a", "type": "boolean"}),
        tabular({"name": "a", "type": "number", "minimum": 2, "maximum": 1}),
        tabular({"name": "a", "type": "number", "minimum": float("nan")}),
        tabular({"name": "a", "type": "number", "missing": "none"}),
        tabular({"name": "a", "type": "category", "categories": []}),
        tabular({"name": "a", "type": "category", "categories": ["x", "x"]}),
        tabular({"name": "a", "type": "category", "categories": [1, True]}),
        tabular({"name": "a", "type": "category", "categories": [1.5]}),
        tabular({"name": "\x00", "type": "number"}),
        tabular({"name": "a", "type": "number"}, input="tensor"),
    ],
)
def test_signature_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SIGNATURE.validate_python(wrong)


@pytest.mark.parametrize(
    ("dtype", "categories"), [("int64", ("a",)), ("bool", (1,)), ("str", (1,)), ("float64", (True,))]
)
def test_column_must_be_able_to_hold_the_categories(dtype: Any, categories: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError, match=f"a column of {dtype} cannot hold"):
        CategoryField(name="a", type="category", categories=categories, dtype=dtype)
