"""The binary tensor data extension: tensors as bytes behind the JSON part of a body.

Source: Triton Inference Server, docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import json
import re
from typing import Any

from falcon_wsgi.errors import MalformedRequest
from falcon_wsgi.http.protocol.refusals import refusal

HEADER = "Inference-Header-Content-Length"
HEADER_IN_ENVIRON = "HTTP_INFERENCE_HEADER_CONTENT_LENGTH"
SIZE = "binary_data_size"
_PREFIX_BYTES = 4
_LENGTH = re.compile(r"[0-9]{1,10}")


class Attachment:
    """The bytes behind the JSON part, handed out in the order of the tensors."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._taken = 0

    def take(self, size: Any, pointer: str) -> bytes:
        """The next `size` bytes.

        Raises:
            ValidationFailed: `size`, which stands at `pointer`, is no size, or more than there is.
        """
        if type(size) is not int or size < 0:
            raise refusal(pointer, "the size must be a whole number of bytes, 0 or more", "int_type")
        left = len(self._raw) - self._taken
        if size > left:
            raise refusal(pointer, f"the tensor is of {size} bytes, and {left} are left", "binary_too_short")
        start, self._taken = self._taken, self._taken + size
        return self._raw[start : self._taken]

    def require_end(self) -> None:
        """Raises MalformedRequest where bytes are left over."""
        if left := len(self._raw) - self._taken:
            raise MalformedRequest(f"{left} bytes of binary data belong to no tensor")


def split(body: bytes, declared: str | None) -> tuple[bytes, Attachment]:
    """The JSON part of a body and what follows it. `declared` is the header's value, or None.

    Raises:
        MalformedRequest: the header is no length, or longer than the body.
    """
    if declared is None:
        return body, Attachment(b"")
    if not _LENGTH.fullmatch(declared):
        raise MalformedRequest(f"{HEADER} must be a number of bytes")
    length = int(declared)
    if length > len(body):
        raise MalformedRequest(f"{HEADER} is {length}, but the body has only {len(body)} bytes")
    return body[:length], Attachment(body[length:])


def split_texts(raw: bytes, pointer: str) -> list[bytes]:
    """The elements of a BYTES tensor: each after its length, 4 bytes, little-endian.

    Raises:
        ValidationFailed: the lengths do not add up.
    """
    elements: list[bytes] = []
    at = 0
    while at < len(raw):
        start = at + _PREFIX_BYTES
        at = start + int.from_bytes(raw[at:start], "little")
        if start > len(raw) or at > len(raw):
            raise refusal(
                pointer, f"element {len(elements)} goes beyond the tensor's end", "binary_too_short"
            )
        elements.append(raw[start:at])
    return elements


def end_of_json(body: bytes) -> int:
    """Length of the JSON object that a body begins with."""
    # Latin-1 has a character for each byte, and JSON's syntax none beyond ASCII: places stay as they are.
    return json.JSONDecoder().raw_decode(body.decode("latin-1"))[1]
