"""The JSON part of an inference request, as pydantic models. Members that are not listed here are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from falcon_wsgi.models.signature import MAX_FIELDS

MAX_ROWS = 1000
_MAX_DIMENSIONS = 8

DatatypeName = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]
Dimension = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Name = Annotated[str, Field(strict=True, min_length=1)]
Parameters = dict[str, Any] | None


class InputTensor(BaseModel):
    """`data` is flat or nested, row-major; or else `parameters.binary_data_size` bytes follow the JSON part."""

    name: Name
    shape: list[Dimension] = Field(min_length=1, max_length=_MAX_DIMENSIONS)
    datatype: DatatypeName
    parameters: Parameters = None
    data: SkipValidation[list[Any] | None] = None


class RequestedOutput(BaseModel):
    """`parameters.binary_data` asks for the tensor as binary data."""

    name: Name
    parameters: Parameters = None


class InferenceBody(BaseModel):
    """Body of `POST /v2/models/NAME/infer`. Without `outputs`, all that the model has are returned."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "42",
                    "inputs": [
                        {
                            "name": "text",
                            "shape": [1, 1],
                            "datatype": "BYTES",
                            "data": ["The food was great"],
                        }
                    ],
                    "outputs": [{"name": "predict"}],
                }
            ]
        }
    )

    id: Annotated[str, Field(strict=True)] | None = None
    parameters: Parameters = None
    inputs: list[InputTensor] = Field(min_length=1, max_length=MAX_FIELDS)
    outputs: Annotated[list[RequestedOutput], Field(max_length=MAX_FIELDS)] | None = None
