"""The idempotency key of a request: `Idempotency-Key` (quoted or bare) or `X-Idempotency-Key`."""

from __future__ import annotations

import re

from falcon_wsgi.errors import MalformedRequest

MAX_LENGTH = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def parse(standard: list[str], extended: list[str]) -> str | None:
    """The key, or None where neither header was sent.

    The quoted form is a string of RFC 8941, section 3.3.3, as draft-ietf-httpapi-idempotency-key-header asks;
    the bare form is what clients send in practice. `"abc"` and `abc` are the same key.

    Raises:
        MalformedRequest: empty, over 255 characters, control characters, a bad quote, or sent twice.
    """
    values = standard + extended
    if not values:
        return None
    if len(values) > 1:
        raise MalformedRequest("the idempotency key was sent more than once")
    key = _unquote(values[0].strip(" \t"))
    if not key.strip():
        raise MalformedRequest("the idempotency key is empty")
    if len(key) > MAX_LENGTH:
        raise MalformedRequest(f"the idempotency key is longer than {MAX_LENGTH} characters")
    if _CONTROL.search(key):
        raise MalformedRequest("the idempotency key holds control characters")
    return key


def _unquote(value: str) -> str:
    if not value.startswith('"'):
        return value
    if not re.fullmatch(r'"(?:[^"\\]|\\["\\])*"', value):
        raise MalformedRequest("the quoted idempotency key is not a valid string")
    return re.sub(r"\\(.)", r"\1", value[1:-1])
