"""Request bodies of the native routes, as pydantic models: limits, and errors as JSON pointers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from falcon_wsgi.errors import MalformedRequest, ValidationFailed
from falcon_wsgi.models.forms import issues_of, not_blank
from falcon_wsgi.models.signature import MAX_TEXT_LENGTH

MAX_BATCH = 50

# A character that is not white space, for JSON Schema, whose \s is another one than Python's.
NOT_BLANK = r"[^\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"

# As wide as a signature may be; a model of a narrower one checks each text again.
Text = Annotated[
    str,
    Field(strict=True, min_length=1, max_length=MAX_TEXT_LENGTH, json_schema_extra={"pattern": NOT_BLANK}),
    AfterValidator(not_blank),
]


class InferBody(BaseModel):
    """Body of `POST /infer`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "The food was great"}]})

    text: Text = Field(description="1 to 10,000 characters, not only white space.")

    def inputs(self) -> Sequence[str]:
        return (self.text,)

    @staticmethod
    def located(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Each text with its JSON pointer."""
        yield "/text", texts[0]


class InferBatchBody(BaseModel):
    """Body of `POST /infer/batch`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"texts": ["The food was great", "It arrived on Tuesday"]}]}
    )

    texts: list[Text] = Field(min_length=1, max_length=MAX_BATCH, description="1 to 50 texts.")

    def inputs(self) -> Sequence[str]:
        return self.texts

    @staticmethod
    def located(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Each text with its JSON pointer."""
        return ((f"/texts/{i}", text) for i, text in enumerate(texts))


Body = TypeVar("Body", bound=BaseModel)


def json_object(raw: bytes) -> dict[str, Any]:
    """Parse a JSON body.

    orjson holds to RFC 8259, where pydantic's own parser takes NaN and Infinity for numbers. Of equal keys the
    last one counts.

    Raises:
        MalformedRequest: not JSON, not UTF-8, nested too deep, or a number beyond a double.
        ValidationFailed: not an object.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValidationFailed("the body must be a JSON object", [_NOT_AN_OBJECT])
    return value


_NOT_AN_OBJECT = {"pointer": "", "message": "the body must be a JSON object", "type": "model_type"}


def parse(schema: type[Body], raw: bytes) -> Body:
    """Parse and validate a JSON body.

    Raises:
        MalformedRequest: see `json_object`.
        ValidationFailed: with one issue for each violation.
    """
    with violations():
        return schema.model_validate(json_object(raw))


class violations:
    """Turns pydantic's ValidationError into ValidationFailed, as a `with` block. `at` points to what is validated."""

    __slots__ = ("_at",)

    def __init__(self, at: str = "") -> None:
        self._at = at

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ValidationError):
            raise _failure(error, self._at) from None


def _failure(error: ValidationError, at: str) -> ValidationFailed:
    issues = issues_of(error.errors(include_url=False, include_context=False, include_input=False), at)
    first = issues[0]
    more = f" (and {len(issues) - 1} more)" if len(issues) > 1 else ""
    where = f"{first['pointer']}: " if first["pointer"] else ""
    return ValidationFailed(f"{where}{first['message']}{more}", issues)
