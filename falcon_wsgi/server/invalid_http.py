"""Requests that never reach the app because they are not valid HTTP: what they are answered with."""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import Any

import orjson
from gunicorn.http import errors

from falcon_wsgi.http.context import uuid7
from falcon_wsgi.http.problems import CONTENT_TYPE, document

log = logging.getLogger(__name__)


class SlowHead(Exception):
    """The head of a request did not arrive in time."""


# Status, reason and what the client is told; the nearest match counts.
_CLIENT_ERRORS: tuple[tuple[type[BaseException], int, str, str], ...] = (
    (SlowHead, 408, "Request Timeout", "the head of the request did not arrive in time"),
    (
        errors.LimitRequestHeaders,
        431,
        "Request Header Fields Too Large",
        "the headers are too many or too long",
    ),
    (errors.LimitRequestLine, 414, "URI Too Long", "the request line is too long"),
    (errors.ExpectationFailed, 417, "Expectation Failed", "the only expectation that is met is 100-continue"),
    (errors.UnsupportedTransferCoding, 501, "Not Implemented", "the only transfer coding is chunked"),
    (errors.ForbiddenProxyRequest, 403, "Forbidden", "the request may not come through this proxy"),
    (errors.InvalidRequestLine, 400, "Bad Request", "the request line is not valid HTTP/1.1"),
    (errors.InvalidRequestMethod, 400, "Bad Request", "the method is not valid"),
    (errors.InvalidHTTPVersion, 400, "Bad Request", "the version of HTTP is not 1.0 or 1.1"),
    (errors.ObsoleteFolding, 400, "Bad Request", "a header is folded over two lines"),
    (errors.InvalidHeaderName, 400, "Bad Request", "the name of a header is not valid"),
    (errors.InvalidHeader, 400, "Bad Request", "a header is not valid, or was sent more than once"),
    (errors.ParseException, 400, "Bad Request", "the request is not valid HTTP"),
)


def answer(client: socket.socket, error: BaseException, worker_id: str) -> None:
    """Send the problem document for `error`, which is being handled, and log it. The caller closes."""
    status, reason, detail = _describe(error)
    request_id = uuid7()
    if status == 500:
        log.exception("request_failed_below_app", extra={"answered_as": request_id})
    else:
        fields = {"error_type": type(error).__name__, "status": status, "answered_as": request_id}
        log.warning("invalid_http", extra=fields)
    body = orjson.dumps(document(status, detail, code="invalid_http", instance="", request_id=request_id))
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        f"X-Request-ID: {request_id}\r\nX-Worker-ID: {worker_id}\r\nConnection: close\r\n\r\n"
    )
    with contextlib.suppress(OSError):
        client.sendall(head.encode("ascii") + body)


def _describe(error: BaseException) -> tuple[int, str, str]:
    for kind, status, reason, detail in _CLIENT_ERRORS:
        if isinstance(error, kind):
            return status, reason, detail
    return 500, "Internal Server Error", "the connection failed"


def mark_repeated_key(request: Any) -> None:
    """Join a repeated idempotency header with a line feed, which no header value can hold.

    Gunicorn joins repeated fields with a comma, and then a key sent twice looks like one key with a comma in it.
    """
    values: dict[str, list[str]] = {}
    for name, value in request.headers:
        if name in ("IDEMPOTENCY-KEY", "X-IDEMPOTENCY-KEY"):
            values.setdefault(name, []).append(value)
    for name, sent in values.items():
        if len(sent) > 1:
            request.headers = [pair for pair in request.headers if pair[0] != name]
            request.headers.append((name, "\n".join(sent)))
