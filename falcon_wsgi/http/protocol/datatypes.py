"""The tensor datatypes of the protocol: their ranges, and their elements in JSON and in binary form.

Elements are float, int, bool or str here, and None where a value is missing: null in JSON, NaN in binary data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from falcon_wsgi.models.forms import Value

Kind = Literal["bool", "int", "float", "text"]
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Datatype:
    """`size` is an element's in bytes, 0 where it varies; `format` numpy's name of its little-endian form."""

    name: str
    kind: Kind
    size: int
    format: str

    @property
    def minimum(self) -> int:
        return int(np.iinfo(self.format).min)

    @property
    def maximum(self) -> int:
        return int(np.iinfo(self.format).max)


def _all() -> dict[str, Datatype]:
    found = [Datatype("BOOL", "bool", 1, "|b1"), Datatype("BYTES", "text", 0, "")]
    for bits in (8, 16, 32, 64):
        found.append(Datatype(f"UINT{bits}", "int", bits // 8, f"<u{bits // 8}"))
        found.append(Datatype(f"INT{bits}", "int", bits // 8, f"<i{bits // 8}"))
    found += [Datatype(f"FP{bits}", "float", bits // 8, f"<f{bits // 8}") for bits in (16, 32, 64)]
    return {datatype.name: datatype for datatype in found}


DATATYPES = _all()
_JSON_TYPES: dict[Kind, frozenset[type]] = {
    "bool": frozenset({bool, type(None)}),
    "int": frozenset({int, float, type(None)}),
    "float": frozenset({int, float, type(None)}),
    "text": frozenset({str, type(None)}),
}
_CALLED: dict[Kind, str] = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "text": "a string",
}


class NoElement(ValueError):
    """An element that its datatype does not have. `index` is its place in row-major order."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def from_json(datatype: Datatype, elements: list[Any]) -> list[Value]:
    """Decoded JSON as elements of the datatype; a number that FP32 or FP16 does not have becomes its nearest.

    Raises:
        NoElement: for the first that is of another type, or outside of the datatype's range.
    """
    allowed = _JSON_TYPES[datatype.kind]
    found = set(map(type, elements))
    if not found <= allowed:
        index = next(i for i, element in enumerate(elements) if type(element) not in allowed)
        raise NoElement(index, f"{datatype.name} takes {_CALLED[datatype.kind]}")
    if datatype.kind == "int":
        return _whole_numbers(datatype, elements, with_fractions=float in found)
    if datatype.kind == "float" and datatype.size < 8:
        return _rounded(datatype, elements)
    return elements


def _whole_numbers(datatype: Datatype, elements: list[Any], *, with_fractions: bool) -> list[Value]:
    if with_fractions:
        for i, element in enumerate(elements):
            if isinstance(element, float) and not element.is_integer():
                raise NoElement(i, f"{datatype.name} takes {_CALLED['int']}")
        elements = [None if element is None else int(element) for element in elements]
    given = [element for element in elements if element is not None]
    lowest, highest = datatype.minimum, datatype.maximum
    if given and not (lowest <= min(given) and max(given) <= highest):
        index = next(i for i, e in enumerate(elements) if e is not None and not lowest <= e <= highest)
        raise NoElement(index, f"{datatype.name} is from {lowest} to {highest}")
    return elements


def _rounded(datatype: Datatype, elements: list[Any]) -> list[Value]:
    exact = np.array([NAN if element is None else element for element in elements], dtype=np.float64)
    with np.errstate(over="ignore"):
        rounded = exact.astype(datatype.format)
    beyond = np.flatnonzero(np.isinf(rounded))
    if beyond.size:
        raise NoElement(int(beyond[0]), f"{datatype.name} does not reach that far")
    return _with_gaps(rounded)


def from_binary(datatype: Datatype, raw: bytes) -> list[Value]:
    """Elements of a fixed size. `raw` is of a whole number of them.

    Raises:
        NoElement: a byte of BOOL is neither 0 nor 1.
    """
    if datatype.kind == "bool":
        if left := raw.translate(None, b"\x00\x01"):
            raise NoElement(raw.index(left[:1]), "a BOOL is a byte 0 or 1")
        return list(map(bool, raw))
    numbers = np.frombuffer(raw, dtype=datatype.format)
    return _with_gaps(numbers) if datatype.kind == "float" else numbers.tolist()


def _with_gaps(numbers: Any) -> list[Value]:
    values: list[Value] = numbers.tolist()
    if np.isnan(numbers).any():
        return [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    return values


def to_binary(datatype: Datatype, elements: Sequence[Any]) -> bytes:
    """The inverse of `from_binary` for finite elements; text as `binary.split_texts` reads it."""
    if datatype.kind == "text":
        encoded = [element.encode() for element in elements]
        return b"".join([len(one).to_bytes(4, "little") + one for one in encoded])
    return np.array(elements, dtype=datatype.format).tobytes()
