"""Input tensors, decoded and checked against their own shape and datatype."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from falcon_wsgi.errors import ValidationFailed
from falcon_wsgi.http.protocol import binary
from falcon_wsgi.http.protocol.binary import Attachment
from falcon_wsgi.http.protocol.datatypes import DATATYPES, Datatype, NoElement, from_binary, from_json
from falcon_wsgi.http.protocol.refusals import refusal
from falcon_wsgi.http.protocol.schemas import MAX_ROWS, InputTensor
from falcon_wsgi.models.forms import Value

# What MLServer's codecs write as `parameters.content_type` of an input. The first say nothing that the datatype does
# not say, or what a client makes of a column; the others how the strings of BYTES are to be read.
_PLAIN = (None, "np", "pd", "str")
_BASE64, _JSON_ELEMENTS = "base64", "pd_json"
_SHARED = "shared_memory_region"


@dataclass(frozen=True, slots=True)
class Tensor:
    """Elements in row-major order.

    Attributes:
        pointer: JSON pointer of the tensor in the request.
        form: of its elements there: "flat", "nested", or "binary".
    """

    name: str
    shape: tuple[int, ...]
    datatype: Datatype
    elements: list[Value]
    pointer: str
    form: str

    def place(self, index: int) -> str:
        """JSON pointer of an element; the tensor's own where its elements are no JSON."""
        if self.form == "binary":
            return self.pointer
        if self.form == "flat":
            return f"{self.pointer}/data/{index}"
        steps: list[str] = []
        for size in reversed(self.shape):
            index, step = divmod(index, size)
            steps.append(str(step))
        return f"{self.pointer}/data/{'/'.join(reversed(steps))}"


def read_tensors(tensors: Iterable[InputTensor], attachment: Attachment) -> list[Tensor]:
    """Raises ValidationFailed, or MalformedRequest where binary data is left over."""
    found = [_read(tensor, attachment, f"/inputs/{i}") for i, tensor in enumerate(tensors)]
    attachment.require_end()
    return found


def _read(tensor: InputTensor, attachment: Attachment, pointer: str) -> Tensor:
    datatype, shape, parameters = DATATYPES[tensor.datatype], tuple(tensor.shape), tensor.parameters or {}
    if not 1 <= shape[0] <= MAX_ROWS:
        raise refusal(f"{pointer}/shape/0", f"a request has 1 to {MAX_ROWS} rows", "row_count")
    if _SHARED in parameters:
        raise refusal(f"{pointer}/parameters/{_SHARED}", "shared memory is not supported", "unsupported")
    if binary.SIZE not in parameters:
        sent, form = _json_elements(tensor.data, shape, pointer)
    elif tensor.data is None:
        raw = attachment.take(parameters[binary.SIZE], f"{pointer}/parameters/{binary.SIZE}")
        sent, form = _binary_elements(datatype, raw, math.prod(shape), pointer), "binary"
    else:
        raise refusal(f"{pointer}/data", "the tensor is sent twice: as JSON and as binary data", "twice")
    try:
        elements = _meant(sent, datatype, parameters.get("content_type"), pointer, as_bytes=form == "binary")
    except NoElement as wrong:
        raise _located(wrong, Tensor(tensor.name, shape, datatype, [], pointer, form)) from None
    return Tensor(tensor.name, shape, datatype, elements, pointer, form)


def _located(wrong: NoElement, tensor: Tensor) -> ValidationFailed:
    where = f"element {wrong.index}: " if tensor.form == "binary" else ""
    return refusal(tensor.place(wrong.index), f"{where}{wrong}", "tensor_element")


def _meant(
    sent: list[Any], datatype: Datatype, content_type: Any, pointer: str, *, as_bytes: bool
) -> list[Value]:
    """Elements as their datatype and content type say. Those of binary data are values already, or bytes."""
    if content_type not in _PLAIN:
        return _converted(sent, content_type, datatype, pointer)
    if not as_bytes:
        return from_json(datatype, sent)
    return [_text(i, element) for i, element in enumerate(sent)] if datatype.kind == "text" else sent


def _binary_elements(datatype: Datatype, raw: bytes, count: int, pointer: str) -> list[Any]:
    """Elements as Python values; those of BYTES as bytes."""
    if datatype.kind == "text":
        texts = binary.split_texts(raw, pointer)
        if len(texts) != count:
            raise refusal(
                pointer, f"the shape asks for {count} elements, the data has {len(texts)}", "tensor_shape"
            )
        return texts
    if len(raw) != count * datatype.size:
        raise refusal(
            f"{pointer}/parameters/{binary.SIZE}",
            f"{count} elements of {datatype.name} are {count * datatype.size} bytes, not {len(raw)}",
            "tensor_shape",
        )
    try:
        return from_binary(datatype, raw)
    except NoElement as wrong:
        raise refusal(pointer, f"element {wrong.index}: {wrong}", "tensor_element") from None


def _json_elements(data: Any, shape: tuple[int, ...], pointer: str) -> tuple[list[Any], str]:
    """Elements, and whether they were "nested" or "flat"."""
    if not isinstance(data, list):
        raise refusal(f"{pointer}/data", "the tensor's data must be given, as an array", "missing")
    if len(shape) > 1 and data and isinstance(data[0], list):
        return _flattened(data, shape, pointer), "nested"
    if len(data) != (count := math.prod(shape)):
        raise refusal(
            f"{pointer}/data",
            f"the shape asks for {count} elements, the data has {len(data)}",
            "tensor_shape",
        )
    return data, "flat"


def _flattened(data: list[Any], shape: tuple[int, ...], pointer: str) -> list[Any]:
    """Arrays in arrays, one level for each dimension, each as long as the shape says."""
    level: list[Any] = [data]
    for depth, size in enumerate(shape):
        for part in level:
            if not isinstance(part, list) or len(part) != size:
                raise refusal(
                    f"{pointer}/data",
                    f"nested data must have arrays of length {size} at depth {depth}, as its shape says",
                    "tensor_shape",
                )
        level = [element for part in level for element in part]
    return level


def _converted(elements: list[Any], content_type: Any, datatype: Datatype, pointer: str) -> list[Value]:
    """Elements whose content type says more than their datatype. Those of binary data are bytes."""
    if datatype.kind == "text" and content_type == _BASE64:
        return [None if e is None else _text(i, _from_base64(i, e)) for i, e in enumerate(elements)]
    if datatype.kind == "text" and content_type == _JSON_ELEMENTS:
        return [None if e is None else _from_json_text(i, e) for i, e in enumerate(elements)]
    allowed = ", ".join(sorted([*_PLAIN[1:], _BASE64, _JSON_ELEMENTS]))
    raise refusal(
        f"{pointer}/parameters/content_type",
        f"the content type of a {datatype.name} tensor cannot be {str(content_type)[:100]!r}; known are: {allowed}",
        "content_type",
    )


def _from_base64(index: int, element: Any) -> bytes:
    try:
        return base64.b64decode(element, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise NoElement(index, "the element is not valid base64") from None


def _from_json_text(index: int, element: Any) -> Value:
    try:
        value = orjson.loads(element)
    except orjson.JSONDecodeError:
        raise NoElement(index, "the element is not valid JSON") from None
    if value is not None and not isinstance(value, str | bool | int | float):
        raise NoElement(index, "the element must hold one value")
    return value


def _text(index: int, element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise NoElement(index, "the element is not valid UTF-8") from None
