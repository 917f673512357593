"""The reader of `POST /v2/models/NAME/infer`."""

from __future__ import annotations

from typing import Any

import orjson

from falcon_wsgi.errors import ValidationFailed
from falcon_wsgi.http.protocol import binary, bodies
from falcon_wsgi.http.protocol.inputs import inputs_of
from falcon_wsgi.http.protocol.outputs import KnownOutputs, Output
from falcon_wsgi.http.protocol.refusals import MAX_ISSUES, refusal
from falcon_wsgi.http.protocol.schemas import InferenceBody, Parameters, RequestedOutput
from falcon_wsgi.http.protocol.tensors import read_tensors
from falcon_wsgi.http.reading import KeyedReader
from falcon_wsgi.http.schemas import parse
from falcon_wsgi.models.catalogue import Catalogue
from falcon_wsgi.pipeline.request import Asked

# What would give another kind of answer than the client gets, so that it is refused rather than ignored.
_UNSUPPORTED = ("classification", "shared_memory_region")


class InferReader(KeyedReader):
    """Reads tensors for a named model.

    Attributes:
        id: to be echoed, if the request has one.
        wanted: the outputs in the order of the answer, each with whether it is to be binary.
    """

    __slots__ = ("_models", "_name", "_outputs", "_version", "id", "wanted")

    def __init__(
        self,
        environ: dict[str, Any],
        models: Catalogue,
        outputs: KnownOutputs,
        name: str,
        version: str | None = None,
    ) -> None:
        super().__init__(environ)
        self._models = models
        self._outputs = outputs
        self._name = name
        self._version = version
        self.id: str | None = None
        self.wanted: list[tuple[Output, bool]] = []

    def read(self) -> Asked:
        served = self._models.named(self._name, self._version)
        self.served = served = served if self._version is not None else self.chosen(self._models, served)
        text, attachment = binary.split(bodies.read(self.environ), self.environ.get(binary.HEADER_IN_ENVIRON))
        body = _parsed(text)
        self.id = body.id
        self.wanted = wanted(body, self._outputs.of(served), served.name)
        inputs = inputs_of(read_tensors(body.inputs, attachment), served)
        return Asked(inputs, self._options())

    def _options(self) -> bytes:
        outputs = [(output.name, is_binary) for output, is_binary in self.wanted]
        return orjson.dumps((self._version, self.id, outputs))


def _parsed(text: bytes) -> InferenceBody:
    try:
        return parse(InferenceBody, text)
    except ValidationFailed as error:  # one for each of a thousand tensors would be a large answer
        raise ValidationFailed(str(error), error.issues[:MAX_ISSUES]) from None


def wanted(body: InferenceBody, outputs: dict[str, Output], model: str) -> list[tuple[Output, bool]]:
    """What is to be answered, and whether as binary data.

    Raises:
        ValidationFailed: an output that the model does not have, or one asked for twice or in a form that is not
            supported.
    """
    usually = _flag(body.parameters, "binary_data_output", "", default=False)
    if not body.outputs:
        return [(output, usually) for output in outputs.values()]
    asked: dict[str, tuple[Output, bool]] = {}
    for i, requested in enumerate(body.outputs):
        pointer = f"/outputs/{i}"
        if requested.name not in outputs:
            has = " and ".join(outputs)
            raise refusal(f"{pointer}/name", f"{model} has no such output; it has {has}", "unknown_output")
        if requested.name in asked:
            raise refusal(f"{pointer}/name", "the output is asked for twice", "twice")
        asked[requested.name] = (outputs[requested.name], _is_binary(requested, pointer, usually))
    return list(asked.values())


def _is_binary(requested: RequestedOutput, pointer: str, usually: bool) -> bool:
    for name in _UNSUPPORTED:
        if name in (requested.parameters or {}):
            raise refusal(f"{pointer}/parameters/{name}", "this is not supported", "unsupported")
    return _flag(requested.parameters, "binary_data", pointer, default=usually)


def _flag(parameters: Parameters, name: str, pointer: str, *, default: bool) -> bool:
    value = (parameters or {}).get(name, default)
    if not isinstance(value, bool):
        raise refusal(f"{pointer}/parameters/{name}", "this is true or false", "bool_type")
    return value
