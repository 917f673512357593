"""What a served model takes, from its signature: JSON Schemas, and examples from its golden ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import BaseModel

from falcon_wsgi.http.schemas import MAX_BATCH, InferBatchBody, InferBody
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.signature import (
    LARGEST_INTEGER,
    LARGEST_NUMBER,
    BooleanField,
    CategoryField,
    NumberField,
    StringField,
    TabularField,
    TabularSignature,
    TextSignature,
)

Schema = dict[str, Any]

# A longer list of categories is not written out: the document is for people too.
MAX_LISTED_CATEGORIES = 500
MAX_EXAMPLES = 3


class Described(Protocol):
    """What is asked of a served model here."""

    @property
    def name(self) -> str: ...

    @property
    def manifest(self) -> Manifest: ...


def takes_texts(model: Described) -> bool:
    return isinstance(model.manifest.signature, TextSignature)


def body_schema(model: Described) -> Schema:
    """Of the body of `POST /infer` or `POST /predict` for this model."""
    signature = model.manifest.signature
    if isinstance(signature, TextSignature):
        return _with_lengths(InferBody, "text", signature) | _heading(model, "a text")
    return row_schema(signature) | _heading(model, "a row")


def batch_schema(model: Described) -> Schema:
    """Of the body of `POST /infer/batch` for this text model."""
    signature = model.manifest.signature
    assert isinstance(signature, TextSignature)
    return _with_lengths(InferBatchBody, "texts", signature) | _heading(model, f"1 to {MAX_BATCH} texts")


def body_examples(model: Described) -> list[Schema]:
    """Bodies that work, because the model proves them each time it is loaded."""
    inputs = [example.input for example in model.manifest.golden[:MAX_EXAMPLES]]
    return [{"text": text} for text in inputs] if takes_texts(model) else inputs


def batch_example(model: Described) -> Schema:
    return {"texts": [example.input for example in model.manifest.golden[:MAX_EXAMPLES]]}


def named(examples: Sequence[Any], model: Described, what: str) -> dict[str, Schema]:
    """OpenAPI's Example Objects: the first carries the model's name, the others are numbered after it."""
    return {
        model.name if number == 1 else f"{model.name}.{number}": {
            "summary": f"{model.name}: {what}" + (f", {number}" if number > 1 else ""),
            "value": example,
        }
        for number, example in enumerate(examples, 1)
    }


def row_schema(signature: TabularSignature) -> Schema:
    return {
        "type": "object",
        "properties": {field.name: _field_schema(field) for field in signature.fields},
        "required": [field.name for field in signature.fields if not field.nullable],
        "additionalProperties": False,
    }


def _heading(model: Described, what: str) -> Schema:
    manifest = model.manifest
    about = f"{what[0].upper()}{what[1:]} for `{manifest.name}` {manifest.version} ({manifest.kind})."
    return {"title": f"{manifest.name}: {what}", "description": about}


def _with_lengths(body: type[BaseModel], field: str, signature: TextSignature) -> Schema:
    schema = body.model_json_schema()
    schema.pop("examples", None)
    text = schema["properties"][field]
    text = text.get("items", text)
    text |= {"minLength": signature.min_length, "maxLength": signature.max_length}
    return schema


def _field_schema(field: TabularField) -> Schema:
    schema = _value_schema(field)
    if field.description:
        schema["description"] = field.description
    if field.nullable:
        if "type" in schema:
            schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def _value_schema(field: TabularField) -> Schema:
    match field:
        case NumberField():
            largest = LARGEST_NUMBER if field.type == "number" else LARGEST_INTEGER
            return {
                "type": field.type,
                "minimum": -largest if field.minimum is None else field.minimum,
                "maximum": largest if field.maximum is None else field.maximum,
            }
        case BooleanField():
            return {"type": "boolean"}
        case CategoryField() if len(field.categories) <= MAX_LISTED_CATEGORIES:
            return {"enum": list(field.categories)}
        case CategoryField():
            return {
                "examples": list(field.categories[:3]),
                "$comment": f"one of {len(field.categories)} values",
            }
        case StringField():
            return {"type": "string", "maxLength": field.max_length, "pattern": r"^[^\u0000]*$"}
