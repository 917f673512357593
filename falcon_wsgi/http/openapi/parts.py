"""Parts that the operations share: headers, problem responses, parameters, and ways to authenticate."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from falcon_wsgi import errors
from falcon_wsgi.http.idempotency_key import MAX_LENGTH
from falcon_wsgi.http.openapi import answers, protocol_answers
from falcon_wsgi.http.problems import CONTENT_TYPE, document
from falcon_wsgi.http.protocol import binary
from falcon_wsgi.http.protocol.schemas import InferenceBody

Json = dict[str, Any]

_ANSWERS = (
    answers.InferAnswer,
    answers.InferBatchAnswer,
    answers.PredictAnswer,
    answers.LivenessAnswer,
    answers.ReadinessAnswer,
    answers.HealthAnswer,
    answers.IndexAnswer,
    answers.Problem,
    protocol_answers.ServerMetadata,
    protocol_answers.Live,
    protocol_answers.Ready,
    protocol_answers.ModelMetadata,
    protocol_answers.ModelReady,
    protocol_answers.InferenceAnswer,
    protocol_answers.RepositoryIndex,
    protocol_answers.Done,
)


def ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def pydantic_schemas() -> Json:
    """Of all answers and of the protocol's request, by name. Examples stand with the operations."""
    described: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (answer, "serialization") for answer in _ANSWERS
    ]
    _, schema = models_json_schema(
        [*described, (InferenceBody, "validation")], ref_template="#/components/schemas/{model}"
    )
    schema["$defs"]["InferenceBody"].pop("examples", None)
    return dict(schema["$defs"])


def _header(description: str, *, always: bool = False, **schema: Any) -> Json:
    return {"description": description, "required": always, "schema": {"type": "string", **schema}}


HEADERS: dict[str, Json] = {
    "X-Request-ID": _header("The request's own id where it sent a valid one, else a new one.", always=True),
    "X-Worker-ID": _header("The worker that answered.", always=True),
    "Server-Timing": _header(
        "Milliseconds by stage: queue, cache, predict, log.", pattern=r"^queue;dur=[0-9.]+, cache;dur="
    ),
    "Retry-After": _header("Seconds after which to try again.", always=True, pattern="^[1-9][0-9]*$"),
    "Idempotency-Replayed": _header("`true`: this is the stored answer to an earlier request.", const="true"),
    "Idempotency-Status": _header(
        "`unavailable`: the key could not be honoured, and the request was served unprotected."
    ),
    "RateLimit": _header("Requests left to this client, and seconds until its whole quota is back."),
    "RateLimit-Policy": _header("The quota of a client and its window in seconds."),
    "WWW-Authenticate": _header("The ways to authenticate.", always=True),
    binary.HEADER: _header(
        "Length of the JSON part in bytes, where binary data follows it.", pattern="^[0-9]+$"
    ),
    "ETag": _header("Names this content.", always=True),
    "Vary": _header("The request headers that decide the content."),
    "Content-Security-Policy": _header("What the page may load: only from this origin.", always=True),
}


def headers(*names: str) -> Json:
    return {name: ref("headers", name) for name in ("X-Request-ID", "X-Worker-ID", *names)}


def parameter(name: str, where: str, description: str, **schema: Any) -> Json:
    return {"name": name, "in": where, "description": description, "schema": {"type": "string", **schema}}


# A key of visible characters; spaces inside are allowed, and further characters as far as HTTP lets them through.
_KEY = {"minLength": 1, "maxLength": MAX_LENGTH, "pattern": r"^[!#-~](?:[ -~]*[!-~])?$"}

PARAMETERS: dict[str, Json] = {
    "Idempotency-Key": parameter(
        "Idempotency-Key",
        "header",
        "A new key for each operation, the same for its repeats: they get the stored answer. Bare, or quoted.",
        **_KEY,
    ),
    "X-Idempotency-Key": parameter(
        "X-Idempotency-Key", "header", "The same under its older name. Send one of the two.", **_KEY
    ),
    "X-Request-ID": parameter(
        "X-Request-ID",
        "header",
        "Comes back in the response, the logs and the request log. Anything that is not valid is replaced.",
    ),
    "traceparent": parameter("traceparent", "header", "W3C trace context; its trace id is logged."),
    "If-None-Match": parameter("If-None-Match", "header", "An ETag; if it still holds, the answer is 304."),
}


def parameters(*names: str) -> list[Json]:
    return [ref("parameters", name) for name in names]


def _problem(
    code: str, status: int, when: str, detail: str, *own_headers: str, **more: Any
) -> tuple[int, Json]:
    example = document(status, detail, code=code, instance="/predict", request_id="order-17", **more)
    content = {CONTENT_TYPE: {"schema": ref("schemas", "Problem"), "example": example}}
    return status, response(when, content, *own_headers)


def response(description: str, content: Mapping[str, Any], *own_headers: str) -> Json:
    return {"description": description, "headers": headers(*own_headers), "content": dict(content)}


_MISSING = {"pointer": "/petal_width", "message": "Field required", "type": "missing"}

PROBLEMS: dict[int, Json] = dict(
    (
        _problem(
            errors.MalformedRequest.code,
            400,
            "Not JSON; or a header, an idempotency key or the query is not valid.",
            "the idempotency key is empty",
        ),
        _problem(
            errors.Unauthenticated.code,
            401,
            "No API key, or none that is valid.",
            "an API key is required: send Authorization: Bearer KEY, or X-API-Key: KEY",
            "WWW-Authenticate",
        ),
        _problem(
            errors.Forbidden.code,
            403,
            "The client may not do this.",
            "models are loaded with an administrator's API key only; this key is not one",
        ),
        _problem(
            errors.UnknownModel.code,
            404,
            "No such model or version is served.",
            "no model 'tulip' is served; there is: iris",
        ),
        _problem(
            errors.SlowRequest.code,
            408,
            "The body did not arrive in time.",
            "the body did not arrive within 10 s",
        ),
        _problem(
            errors.IdempotencyInProgress.code,
            409,
            "Another request with the same idempotency key is being answered.",
            "a request with this idempotency key is being processed",
            "Retry-After",
        ),
        _problem(
            errors.PayloadTooLarge.code, 413, "The body is over 1 MiB.", "the body is over 1048576 bytes"
        ),
        _problem(
            errors.UnsupportedMediaType.code,
            415,
            "The body is not declared as JSON.",
            "the body must be sent as Content-Type: application/json, in UTF-8",
        ),
        _problem(
            errors.ValidationFailed.code,
            422,
            "The body breaks the schema, with a pointer to each violation; or the idempotency key was used with "
            "a different request.",
            "the fields fit no model; the nearest is iris (missing: petal_width)",
            errors=[_MISSING],
        ),
        _problem(
            errors.Overloaded.code,
            429,
            "Over the admission limit of the worker, or the rate limit of the client.",
            "too many requests from this client",
            "Retry-After",
        ),
        _problem(
            errors.PredictionFailed.code,
            500,
            "The model failed on an input that its signature allows.",
            "iris failed on this input",
        ),
        _problem(
            errors.NotReady.code,
            503,
            "Not able to serve: draining, no model of this kind, or idempotency keys cannot be honoured.",
            "no model for rows is served",
            "Retry-After",
        ),
        _problem(
            errors.DeadlineExceeded.code,
            504,
            "The time allowed for the request passed.",
            "the prediction took longer than 10 s",
        ),
    )
)


def problem_name(status: int) -> str:
    """Of the component: `NotFound` for 404."""
    return "".join(word.capitalize() for word in HTTPStatus(status).phrase.replace("-", " ").split())


def problems(*statuses: int) -> Json:
    return {str(status): ref("responses", problem_name(status)) for status in statuses}


def problem_components(*, rate_limited: bool) -> Json:
    """The responses that `problems` refers to; a client with a quota is told of it when it is used up."""
    found = {problem_name(status): response for status, response in PROBLEMS.items()}
    if rate_limited:
        name = problem_name(HTTPStatus.TOO_MANY_REQUESTS)
        quota = headers("Retry-After", "RateLimit", "RateLimit-Policy")
        found[name] = found[name] | {"headers": quota}
    return found


def json_content(schema: Json, **more: Any) -> Json:
    return {"application/json": {"schema": schema, **more}}


SECURITY_SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer KEY"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "The key as the password, with any user name. What a browser asks for by itself.",
    },
}
