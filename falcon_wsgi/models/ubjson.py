"""XGBoost's UBJSON: read with bounds, and written as XGBoost itself writes it.

Only the part of the format that XGBoost writes is read (objects, arrays with a length, arrays of one numeric type,
strings, numbers, truth values, null). Arrays of one type are numpy arrays in native byte order, of exactly the
type that they were written in. https://ubjson.org/type-reference/
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

MAX_DEPTH = 32

_NUMBERS: dict[bytes, np.dtype[Any]] = {
    b"i": np.dtype(">i1"),
    b"U": np.dtype(">u1"),
    b"I": np.dtype(">i2"),
    b"l": np.dtype(">i4"),
    b"L": np.dtype(">i8"),
    b"d": np.dtype(">f4"),
    b"D": np.dtype(">f8"),
}
_MARKERS = {dtype.newbyteorder("="): marker for marker, dtype in _NUMBERS.items()}
_CONSTANTS = {b"T": True, b"F": False, b"Z": None}


def decode(contents: bytes) -> Any:
    """The value that `contents` holds, and nothing after it.

    Raises:
        ValueError: it is not of this form, is cut off, or is nested more than `MAX_DEPTH` deep.
    """
    reader = _Reader(contents)
    value = reader.value(reader.take(1), 0)
    if reader.position != len(contents):
        raise ValueError("there is something after the end of the model")
    return value


def encode(value: Any) -> bytes:
    """The inverse of `decode`."""
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


class _Reader:
    def __init__(self, contents: bytes) -> None:
        self._contents = contents
        self.position = 0

    def take(self, n: int) -> bytes:
        end = self.position + n
        if n < 0 or end > len(self._contents):
            raise ValueError("the model is cut off")
        taken = self._contents[self.position : end]
        self.position = end
        return taken

    def value(self, marker: bytes, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("the model is nested too deeply")
        if marker == b"{":
            return self._object(depth)
        if marker == b"[":
            return self._array(depth)
        if marker == b"S":
            return self._string()
        if marker in _NUMBERS:
            return np.frombuffer(self.take(_NUMBERS[marker].itemsize), _NUMBERS[marker])[0].item()
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        raise ValueError(f"marker {marker!r} does not belong into a model")

    def _object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while (marker := self.take(1)) != b"}":
            key = self.take(self._length(marker)).decode()
            if key in members:
                raise ValueError(f"key {key!r} stands twice")
            members[key] = self.value(self.take(1), depth + 1)
        return members

    def _array(self, depth: int) -> Any:
        marker = self.take(1)
        if marker == b"$":
            dtype = _NUMBERS.get(self.take(1))
            if dtype is None or self.take(1) != b"#":
                raise ValueError("an array of one type is not of numbers")
            n = self._length(self.take(1))
            items = np.frombuffer(self.take(n * dtype.itemsize), dtype)
            return items.astype(dtype.newbyteorder("="))
        if marker != b"#":
            raise ValueError("an array does not say its length")
        n = self._length(self.take(1))
        return [self.value(self.take(1), depth + 1) for _ in range(n)]

    def _length(self, marker: bytes) -> int:
        dtype = _NUMBERS.get(marker)
        if dtype is None or dtype.kind not in "iu":
            raise ValueError(f"marker {marker!r} in the place of a length")
        n = int(np.frombuffer(self.take(dtype.itemsize), dtype)[0])
        if not 0 <= n <= len(self._contents) - self.position:  # each item takes a byte at least
            raise ValueError("the model is cut off")
        return n

    def _string(self) -> str:
        return self.take(self._length(self.take(1))).decode()


def _write(value: Any, parts: list[bytes]) -> None:
    if isinstance(value, dict):
        parts.append(b"{")
        for key, member in value.items():
            _write_text(key, parts)
            _write(member, parts)
        parts.append(b"}")
    elif isinstance(value, np.ndarray):
        marker = _MARKERS[value.dtype]
        parts.append(b"[$" + marker + b"#L" + struct.pack(">q", len(value)))
        parts.append(value.astype(_NUMBERS[marker]).tobytes())
    elif isinstance(value, list):
        parts.append(b"[#L" + struct.pack(">q", len(value)))
        for item in value:
            _write(item, parts)
    elif isinstance(value, str):
        parts.append(b"S")
        _write_text(value, parts)
    elif isinstance(value, float):
        parts.append(b"d" + struct.pack(">f", value))
    else:
        parts.append(b"L" + struct.pack(">q", value))


def _write_text(text: str, parts: list[bytes]) -> None:
    encoded = text.encode()
    parts.append(b"L" + struct.pack(">q", len(encoded)) + encoded)
