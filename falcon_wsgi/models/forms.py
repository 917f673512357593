"""Inputs of a model: checked against its signature, in their normal form, and as bytes that name them.

A text is a `str`. A row is a tuple with a value for each field of the signature, in that order: float, int, bool
or str, and None where the value is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import orjson
from pydantic_core import PydanticCustomError, PydanticKnownError, SchemaValidator, core_schema

from falcon_wsgi.models.normal_form import nfc
from falcon_wsgi.models.signature import (
    LARGEST_INTEGER,
    LARGEST_NUMBER,
    BooleanField,
    Category,
    CategoryField,
    NumberField,
    StringField,
    TabularField,
    TabularSignature,
    TextSignature,
)

Value: TypeAlias = float | int | bool | str | None
Input: TypeAlias = str | tuple[Value, ...]

# A column may have 100,000 categories; a message need not.
_CATEGORIES_SHOWN = 20


class Form(Protocol):
    """What one signature makes of inputs. Equal `canonical` bytes mean equal answers of the model."""

    def validate(self, sent: Any) -> Input:
        """The input that decoded JSON holds. Raises pydantic_core.ValidationError."""

    def normalise(self, input_: Input) -> Input:
        """The form that the model sees."""

    def normalise_all(self, inputs: Sequence[Input]) -> list[Input]:
        """`normalise` of each."""

    def canonical(self, input_: Input) -> bytes:
        """Unambiguous bytes of an input, for keys, hashes and fingerprints."""

    def length(self, input_: Input) -> int | None:
        """Characters of a text; None for a row."""

    def payload(self, input_: Input) -> dict[str, Any]:
        """The input as JSON, as the request log keeps it where LOG_PAYLOADS is on."""


class TextForm:
    """Of a `TextSignature`. `widest` says that it is the widest there is, which the text routes check by themselves."""

    def __init__(self, signature: TextSignature) -> None:
        self.widest = signature == TextSignature()
        self._validator = SchemaValidator(text_schema(signature.min_length, signature.max_length))

    def validate(self, sent: Any) -> Input:
        text: str = self._validator.validate_python(sent)
        return text

    def normalise(self, input_: Input) -> Input:
        assert isinstance(input_, str)
        return normalise_text(input_)

    def normalise_all(self, inputs: Sequence[Any]) -> list[Input]:
        # What `normalise_text` does, without three calls for each text.
        return [" ".join((text if text.isascii() else nfc(text)).split()) for text in inputs]

    def canonical(self, input_: Any) -> bytes:
        return input_.encode()  # type: ignore[no-any-return]

    def length(self, input_: Input) -> int | None:
        return len(input_)

    def payload(self, input_: Input) -> dict[str, Any]:
        return {"text": input_}


class TabularForm:
    """Of a `TabularSignature`. A validated row is its own normal form.

    Attributes:
        names: of the fields, in order.
        required: those that a request must give.
    """

    def __init__(self, signature: TabularSignature) -> None:
        self.names = signature.names
        self.required = frozenset(field.name for field in signature.fields if not field.nullable)
        self._all = frozenset(self.names)
        self._validator = SchemaValidator(row_schema(signature))

    def fits(self, given: frozenset[str]) -> bool:
        """Whether these are the names of a row of this signature."""
        return self.required <= given <= self._all

    def validate(self, sent: Any) -> Input:
        row: dict[str, Value] = self._validator.validate_python(sent)
        return tuple(map(row.get, self.names))

    def normalise(self, input_: Input) -> Input:
        return input_

    def normalise_all(self, inputs: Sequence[Input]) -> list[Input]:
        return list(inputs)

    def canonical(self, input_: Input) -> bytes:
        return orjson.dumps(input_)

    def length(self, input_: Input) -> int | None:
        return None

    def payload(self, input_: Input) -> dict[str, Any]:
        return dict(zip(self.names, input_, strict=True))


def form_of(signature: TextSignature | TabularSignature) -> TextForm | TabularForm:
    return TextForm(signature) if isinstance(signature, TextSignature) else TabularForm(signature)


def normalise_text(text: str) -> str:
    """Unicode NFC with every run of white space as one space and none at the ends. Case is kept.

    The model is given this form too, so inputs with equal cache keys have equal answers.
    """
    return " ".join(nfc(text).split())


def text_schema(min_length: int, max_length: int) -> core_schema.CoreSchema:
    text = core_schema.str_schema(strict=True, min_length=min_length, max_length=max_length)
    return core_schema.no_info_after_validator_function(not_blank, text)


def row_schema(signature: TabularSignature) -> core_schema.CoreSchema:
    """Of a JSON object with the signature's fields and no others."""
    return core_schema.typed_dict_schema(
        {
            field.name: core_schema.typed_dict_field(_field_schema(field), required=not field.nullable)
            for field in signature.fields
        },
        extra_behavior="forbid",
    )


def not_blank(text: str) -> str:
    if not text or text.isspace():
        raise PydanticCustomError("blank", "the text must not be blank")
    return text


def _field_schema(field: TabularField) -> core_schema.CoreSchema:
    schema = _value_schema(field)
    return core_schema.nullable_schema(schema) if field.nullable else schema


def _value_schema(field: TabularField) -> core_schema.CoreSchema:
    match field:
        case NumberField(type="number"):
            return _number_schema(field, LARGEST_NUMBER)
        case NumberField():
            # JSON knows one kind of number: 5.0 is the whole number 5 (RFC 8259, section 6).
            return core_schema.no_info_after_validator_function(
                _whole, _number_schema(field, LARGEST_INTEGER)
            )
        case BooleanField():
            return core_schema.bool_schema(strict=True)
        case CategoryField():
            return core_schema.no_info_plain_validator_function(_one_of(field.categories))
        case StringField():
            text = core_schema.str_schema(strict=True, max_length=field.max_length)
            return core_schema.no_info_after_validator_function(_storable, text)


def _number_schema(field: NumberField, largest: float) -> core_schema.CoreSchema:
    return core_schema.float_schema(
        strict=True,
        allow_inf_nan=False,
        ge=-largest if field.minimum is None else field.minimum,
        le=largest if field.maximum is None else field.maximum,
    )


def _one_of(categories: Sequence[Category]) -> Callable[[Any], Category]:
    """Values of the same type only, where pydantic's literals take true for 1. 5.0 is the whole number 5."""
    known = {(type(category), category): category for category in categories}
    shown = [
        repr(category) if isinstance(category, str) else str(category).lower() for category in categories
    ]
    rest = len(shown) - _CATEGORIES_SHOWN
    expected = ", ".join(shown[:_CATEGORIES_SHOWN]) + (f" or one of {rest} others" if rest > 0 else "")

    def validate(sent: Any) -> Category:
        value = int(sent) if isinstance(sent, float) and sent.is_integer() else sent
        try:
            return known[type(value), value]
        except (KeyError, TypeError):
            raise PydanticKnownError("literal_error", {"expected": expected}) from None

    return validate


def _whole(number: float) -> int:
    if not number.is_integer():
        raise PydanticCustomError("int_from_float", "Input should be a whole number")
    return int(number)


def _storable(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("string_nul", "the text must not hold U+0000")
    return text


def issues_of(details: Iterable[Mapping[str, Any]], at: str = "") -> list[dict[str, str]]:
    """pydantic's error details as `errors` of a problem document: JSON pointer (RFC 6901), message and type."""
    return [
        {
            "pointer": at + "".join(map(pointer_step, detail["loc"])),
            "message": detail["msg"],
            "type": detail["type"],
        }
        for detail in details
    ]


def pointer_step(part: object) -> str:
    return "/" + str(part).replace("~", "~0").replace("/", "~1")
