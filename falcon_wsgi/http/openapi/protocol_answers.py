"""Bodies of answers of the Open Inference Protocol, as pydantic models."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, RootModel

from falcon_wsgi.http.openapi.answers import Answer, left_open
from falcon_wsgi.http.protocol.schemas import DatatypeName


class ServerMetadata(Answer):
    name: str
    version: str
    extensions: list[str]


class Live(Answer):
    live: bool


class Ready(Answer):
    ready: bool
    live: bool


class ModelReady(Answer):
    name: str
    ready: bool


class TensorMetadata(Answer):
    """A dimension of -1 is the number of rows."""

    name: str
    datatype: DatatypeName
    shape: list[int]
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="`optional`: may be left out. `labels`: of the probabilities."
    )


class ModelMetadata(Answer):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class OutputTensor(Answer):
    """`data` is flat, row-major; absent where it follows as binary data."""

    name: str
    datatype: DatatypeName
    shape: list[int]
    parameters: dict[str, Any]
    data: list[Any] = Field(default_factory=list)


class InferParameters(Answer):
    request_id: str
    cache_hits: int = Field(ge=0)


class InferenceAnswer(Answer):
    """One tensor for each requested output."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=left_open, protected_namespaces=())

    model_name: str
    model_version: str
    id: str = Field(default="", description="The request's; absent where it has none.")
    parameters: InferParameters
    outputs: list[OutputTensor] = Field(min_length=1)


class IndexEntry(Answer):
    name: str
    version: str
    state: str = Field(description="READY, or UNAVAILABLE.")
    reason: str


class RepositoryIndex(RootModel[list[IndexEntry]]):
    """The versions that are served, and the others that the store has."""


class Done(Answer):
    """Nothing more to say."""
