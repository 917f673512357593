"""Bodies of `POST /v2/models/NAME/infer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from falcon_wsgi.http.protocol import binary
from falcon_wsgi.http.protocol.datatypes import DATATYPES, from_binary, to_binary
from falcon_wsgi.http.protocol.outputs import Output, predictions_of
from falcon_wsgi.http.protocol.reader import InferReader
from falcon_wsgi.models.prediction import Prediction, label_text
from falcon_wsgi.pipeline.request import InferenceRequest


class InferRenderer:
    """Renders one answer, with the outputs that its reader has found to be wanted.

    Attributes:
        json_bytes: length of the body's JSON part where binary data follows it, else None.
    """

    __slots__ = ("_reader", "json_bytes")

    def __init__(self, reader: InferReader) -> None:
        self._reader = reader
        self.json_bytes: int | None = None

    def render(
        self, request: InferenceRequest, predictions: Sequence[Prediction], hits: Sequence[bool]
    ) -> bytes:
        served = request.served
        tensors, attached = [], []
        for output, is_binary in self._reader.wanted:
            tensor, data = _tensor(output, predictions, is_binary=is_binary)
            tensors.append(tensor)
            attached.append(data)
        answer: dict[str, Any] = {"model_name": served.name, "model_version": served.version}
        if self._reader.id is not None:
            answer["id"] = self._reader.id
        answer["parameters"] = {"request_id": request.context.request_id, "cache_hits": sum(hits)}
        answer["outputs"] = tensors
        text = orjson.dumps(answer)
        self._note_length(len(text))
        return b"".join((text, *attached))

    def recall(self, body: bytes) -> tuple[list[Prediction], list[bool]]:
        """What the body tells. Hits are known of all rows or none; where only some were, they count as none."""
        end = binary.end_of_json(body)
        self._note_length(end)
        answer = orjson.loads(body[:end])
        served = self._reader.served
        assert served is not None, "the reader has read the request that is answered here"
        predictions = predictions_of(
            _elements(answer["outputs"], body[end:]), list(map(label_text, served.manifest.labels))
        )
        return predictions, [answer["parameters"]["cache_hits"] == len(predictions)] * len(predictions)

    def _note_length(self, length: int) -> None:
        if any(is_binary for _, is_binary in self._reader.wanted):
            self.json_bytes = length


def _tensor(
    output: Output, predictions: Sequence[Prediction], *, is_binary: bool
) -> tuple[dict[str, Any], bytes]:
    """The tensor's JSON, and the binary data that belongs to it."""
    elements = [element for prediction in predictions for element in output.elements(prediction)]
    tensor: dict[str, Any] = {
        "name": output.name,
        "datatype": output.datatype,
        "shape": (len(predictions), output.width),
    }
    if is_binary:
        data = to_binary(DATATYPES[output.datatype], elements)
        return tensor | {"parameters": {binary.SIZE: len(data)}}, data
    tensor["parameters"] = {"content_type": "str" if output.datatype == "BYTES" else "np"}
    tensor["data"] = elements
    return tensor, b""


def _elements(
    tensors: Sequence[dict[str, Any]], attached: bytes
) -> dict[str, tuple[list[int], Sequence[Any]]]:
    """Shape and elements of rendered tensors, by name."""
    found: dict[str, tuple[list[int], Sequence[Any]]] = {}
    attachment = binary.Attachment(attached)
    for tensor in tensors:
        elements = tensor.get("data")
        if elements is None:
            raw = attachment.take(tensor["parameters"][binary.SIZE], "")
            if tensor["datatype"] == "BYTES":
                elements = [element.decode() for element in binary.split_texts(raw, "")]
            else:
                elements = from_binary(DATATYPES[tensor["datatype"]], raw)
        found[tensor["name"]] = (tensor["shape"], elements)
    return found
