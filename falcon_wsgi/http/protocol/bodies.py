"""The body of a protocol request: what it may be declared as, and compressed bodies, within the usual bound."""

from __future__ import annotations

import zlib
from typing import Any

import gevent

from falcon_wsgi.errors import MalformedRequest, PayloadTooLarge, UnsupportedMediaType
from falcon_wsgi.http.body import MAX_BODY_BYTES, read_body, require_json

# Triton's client declares no type at all; with binary tensors the type is octet-stream.
_UNDECLARED = frozenset({"", "application/octet-stream"})
# zlib's window bits for each content coding (RFC 9110, section 8.4.1).
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
# Inflated before other greenlets get a turn.
_SLICE_BYTES = 128 * 1024


def read(environ: dict[str, Any]) -> bytes:
    """The body as the client wrote it. Raises a leaf of RequestError."""
    if environ.get("CONTENT_TYPE", "") not in _UNDECLARED:
        require_json(environ)
    body = read_body(environ, environ["falcon.context"].deadline)
    coding = environ.get("HTTP_CONTENT_ENCODING")
    if coding is None or (coding := coding.strip().lower()) == "identity":
        return body
    return inflate(body, coding)


def inflate(body: bytes, coding: str) -> bytes:
    """Raises a leaf of RequestError: an unknown coding, broken data, or more than a body may have."""
    if coding not in _WINDOWS:
        raise UnsupportedMediaType(f"the content coding must be gzip or deflate, not {coding[:50]!r}")
    inflater = zlib.decompressobj(_WINDOWS[coding])
    parts: list[bytes] = []
    size = 0
    while not inflater.eof:
        try:
            part = inflater.decompress(body, _SLICE_BYTES)
        except zlib.error:
            raise MalformedRequest(f"the body is not valid {coding} data") from None
        if not part and not inflater.eof:
            raise MalformedRequest(f"the {coding} data of the body breaks off")
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise PayloadTooLarge(f"the body is over {MAX_BODY_BYTES} bytes once it is inflated")
        body = inflater.unconsumed_tail
        gevent.sleep(0)
    if inflater.unused_data:
        raise MalformedRequest(f"bytes follow the {coding} data of the body")
    return b"".join(parts)
