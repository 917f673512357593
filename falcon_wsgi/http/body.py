"""The body of a request: its declared type, its size, the time it may take, and its framing."""

from __future__ import annotations

import re
from typing import Any

import gevent
from gunicorn.http.errors import ParseException

from falcon_wsgi.errors import MalformedRequest, PayloadTooLarge, SlowRequest, UnsupportedMediaType
from falcon_wsgi.resilience.deadline import Deadline

MAX_BODY_BYTES = 1024 * 1024
# A client that needs longer than this for a mebibyte holds a place that another could use.
_TIMEOUT_S = 10.0

_JSON = re.compile(
    r"application/json[ \t]*(?:;[ \t]*(?:charset=\"?(?:utf-?8|us-ascii)\"?[ \t]*)?)*", re.IGNORECASE
)


def require_json(environ: dict[str, Any]) -> None:
    """Raises UnsupportedMediaType unless the body is declared as JSON, and in UTF-8 if it names a charset."""
    declared = environ.get("CONTENT_TYPE", "")
    if declared != "application/json" and not _JSON.fullmatch(declared):
        raise UnsupportedMediaType("the body must be sent as Content-Type: application/json, in UTF-8")


def read_body(environ: dict[str, Any], deadline: Deadline) -> bytes:
    """The whole body, with a declared length or in chunks.

    Raises:
        PayloadTooLarge: over 1 MiB; a declared length is believed before anything is read.
        SlowRequest: not here within 10 s, or within the request's own deadline.
        MalformedRequest: it ends before its declared length, or its chunks are misframed.
    """
    # Gunicorn lets only digits through, and refuses a length beside a transfer coding.
    declared = environ.get("CONTENT_LENGTH")
    length = int(declared) if declared else None
    if length is not None and length > MAX_BODY_BYTES:
        raise _too_large()
    timeout_s = min(_TIMEOUT_S, deadline.remaining_s())
    try:
        with gevent.Timeout(timeout_s, TimeoutError):
            body: bytes = environ["wsgi.input"].read(MAX_BODY_BYTES + 1 if length is None else length)
    except TimeoutError:
        raise SlowRequest(f"the body did not arrive within {timeout_s:.3g} s") from None
    except (OSError, ParseException):
        raise MalformedRequest("the body broke off, or its chunks are not valid") from None
    if length is not None and len(body) < length:
        raise MalformedRequest(f"the body broke off after {len(body)} of {length} bytes")
    if len(body) > MAX_BODY_BYTES:
        raise _too_large()
    return body


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is over {MAX_BODY_BYTES} bytes")
