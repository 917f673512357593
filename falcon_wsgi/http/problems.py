"""Exceptions to HTTP, in this file only: status, title, headers and the problem document (RFC 9457)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import orjson
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from falcon_wsgi import errors
from falcon_wsgi.http.answer import Answer

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
# As WSGI wants them; werkzeug shouts its reason phrases.
STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

# The nearest class in an exception's ancestry decides.
STATUS: dict[type[BaseException], int] = {
    errors.FalconError: 500,
    errors.RequestError: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.UnknownModel: 404,
    errors.SlowRequest: 408,
    errors.PayloadTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.ValidationFailed: 422,
    errors.IdempotencyKeyReused: 422,
    errors.IdempotencyInProgress: 409,
    errors.IdempotencyUnavailable: 503,
    errors.Overloaded: 429,
    errors.RateLimited: 429,
    errors.NotReady: 503,
    errors.DependencyError: 503,
    errors.DeadlineExceeded: 504,
}

_RETRY_AFTER_S = 1


def status_of(error: BaseException) -> int:
    """The status that an exception is answered with; 500 for any that is not of the tree."""
    for ancestor in type(error).__mro__:
        if ancestor in STATUS:
            return STATUS[ancestor]
    return 500


def document(
    status: int, detail: str, *, code: str, instance: str, request_id: str, **more: Any
) -> dict[str, Any]:
    """A problem document. `error` repeats `detail` for Open Inference Protocol clients."""
    return {
        "type": f"urn:falcon:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
        "request_id": request_id,
        "error": detail,
        **more,
    }


def answer_to(error: errors.FalconError, environ: dict[str, Any]) -> Answer:
    """The answer to a request that ended in `error`."""
    status = status_of(error)
    more: dict[str, Any] = {}
    if isinstance(error, errors.ValidationFailed) and error.issues:
        more["errors"] = error.issues
    if status == 500:  # 503 and 504 are answers that the service is designed to give
        log.error("request_failed", exc_info=error, extra={"error_type": error.code})
    return _answer(environ, status, str(error), error.code, _headers_of(error, status), **more)


def unforeseen(environ: dict[str, Any]) -> Answer:
    """The answer to a request that ended in an error that nobody foresaw. Who caught it has logged it."""
    detail = "an unexpected error occurred; the log holds it under this request id"
    return _answer(environ, 500, detail, "internal_error")


def _answer(
    environ: dict[str, Any],
    status: int,
    detail: str,
    code: str,
    headers: Sequence[tuple[str, str]] = (),
    **more: Any,
) -> Answer:
    # A path may hold bytes that are not UTF-8; WSGI hands each byte over as one character.
    path = "/" + environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace").lstrip("/")
    request_id = environ["falcon.context"].request_id
    body = document(status, detail, code=code, instance=path, request_id=request_id, **more)
    return Answer(status, orjson.dumps(body), CONTENT_TYPE, headers)


def _headers_of(error: errors.FalconError, status: int) -> list[tuple[str, str]]:
    headers = []
    if status in (409, 429, 503):
        wait_s = getattr(error, "retry_after_s", _RETRY_AFTER_S)
        headers.append(("Retry-After", str(max(1, math.ceil(wait_s)))))
    if isinstance(error, errors.Unauthenticated):
        headers += [("WWW-Authenticate", challenge) for challenge in _challenges(error)]
    return headers


def register(app: Flask) -> None:
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(errors.FalconError, lambda error: response(answer_to(error, request.environ)))
    app.register_error_handler(Exception, _unforeseen)


def _unforeseen(error: Exception) -> Response:
    log.error("request_crashed", exc_info=error)
    return response(unforeseen(request.environ))


def response(answer: Answer) -> Response:
    """The answer as Flask takes it."""
    return Response(
        answer.body, answer.status, headers=list(answer.headers), content_type=answer.content_type
    )


def _challenges(error: errors.Unauthenticated) -> tuple[str, str]:
    """How to authenticate (RFC 9110, section 11.6.1). Basic is offered because browsers can ask for it.

    RFC 6750, section 3.1: a request without a key is told of no error.
    """
    sent = f', error="invalid_token", error_description="{error}"' if error.reason != "missing" else ""
    return f'Bearer realm="falcon"{sent}', 'Basic realm="falcon", charset="UTF-8"'


def _http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    title = HTTPStatus(status).phrase
    detail = "there is no such route" if status == 404 else error.description or title
    result = response(_answer(request.environ, status, detail, title.lower().replace(" ", "_")))
    for name, value in error.get_headers(request.environ):
        if name.lower() not in ("content-type", "content-length"):
            result.headers[name] = value
    return result
