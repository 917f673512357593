"""Request bodies of the native routes, as pydantic models: limits, and errors as JSON pointers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from falcon_wsgi.errors import MalformedRequest, ValidationFailed
from falcon_wsgi.models.signature import MAX_TEXT_LENGTH

MAX_BATCH = 50


def _not_blank(text: str) -> str:
    if not text or text.isspace():
        raise PydanticCustomError("blank", "the text must not be blank")
    return text


Text = Annotated[
    str, Field(strict=True, min_length=1, max_length=MAX_TEXT_LENGTH), AfterValidator(_not_blank)
]


class InferBody(BaseModel):
    """Body of `POST /infer`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "The food was great"}]})

    text: Text = Field(description="1 to 10,000 characters, not only white space.")

    def inputs(self) -> Sequence[str]:
        return (self.text,)


class InferBatchBody(BaseModel):
    """Body of `POST /infer/batch`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"texts": ["The food was great", "It arrived on Tuesday"]}]}
    )

    texts: list[Text] = Field(min_length=1, max_length=MAX_BATCH, description="1 to 50 texts.")

    def inputs(self) -> Sequence[str]:
        return self.texts


Body = TypeVar("Body", bound=BaseModel)


def parse(schema: type[Body], raw: bytes) -> Body:
    """Parse and validate a JSON body.

    orjson holds to RFC 8259, where pydantic's own parser takes NaN and Infinity for numbers. Of equal keys the
    last one counts.

    Raises:
        MalformedRequest: not JSON, not UTF-8, nested too deep, or a number beyond a double.
        ValidationFailed: with one issue for each violation.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValidationFailed("the body must be a JSON object", [_NOT_AN_OBJECT])
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
    issues = [_issue(detail) for detail in details]
    first = issues[0]
    more = f" (and {len(issues) - 1} more)" if len(issues) > 1 else ""
    raise ValidationFailed(f"{first['pointer']}: {first['message']}{more}", issues)


_NOT_AN_OBJECT = {"pointer": "", "message": "the body must be a JSON object", "type": "model_type"}


def _issue(detail: ErrorDetails) -> dict[str, str]:
    pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in detail["loc"])
    return {"pointer": pointer, "message": detail["msg"], "type": detail["type"]}
