"""From input tensors to the inputs of a model, and what a model's signature is as tensors.

A text model takes one BYTES tensor of any name. A tabular model takes a tensor for each field, under the field's name,
or one tensor of any name with the fields as its columns, in the signature's order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gevent
from pydantic import ValidationError

from falcon_wsgi.http.protocol.refusals import issue, refusal, refusal_of
from falcon_wsgi.http.protocol.tensors import Tensor
from falcon_wsgi.models.forms import Input, Value
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.signature import BooleanField, CategoryField, NumberField, TabularField, TextSignature

TEXT_INPUT = "text"
_MATRIX_DIMENSIONS = 2
# Rows that are checked before other greenlets get a turn.
_SLICE_ROWS = 64

_Column = tuple[Tensor, int, int]  # the elements of a field: from the second, every third-th


def inputs_of(tensors: Sequence[Tensor], served: ServedModel) -> list[Input]:
    """One valid input for each row. Raises ValidationFailed."""
    if isinstance(served.manifest.signature, TextSignature):
        return _texts(tensors, served)
    return _rows(tensors, served.manifest.signature.fields, served)


def _texts(tensors: Sequence[Tensor], served: ServedModel) -> list[Input]:
    if len(tensors) != 1:
        raise refusal(
            "/inputs/1", f"{served.name} takes one input tensor, {TEXT_INPUT!r}", "unexpected_input"
        )
    tensor = tensors[0]
    if tensor.datatype.kind != "text":
        raise refusal(f"{tensor.pointer}/datatype", f"{served.name} takes BYTES", "tensor_datatype")
    _require_column(tensor)
    return _validated(served, tensor.elements, [(tensor, 0, 1)])


def _rows(tensors: Sequence[Tensor], fields: Sequence[TabularField], served: ServedModel) -> list[Input]:
    if _is_matrix(tensors, fields):
        columns = {field.name: (tensors[0], i, len(fields)) for i, field in enumerate(fields)}
    else:
        columns = _columns(tensors, fields, served)
    given = [field for field in fields if field.name in columns]
    values = [_fitted(field, *columns[field.name]) for field in given]
    names = [field.name for field in given]
    rows = (dict(zip(names, row, strict=True)) for row in zip(*values, strict=True))
    return _validated(served, rows, [columns[name] for name in names], names)


def _is_matrix(tensors: Sequence[Tensor], fields: Sequence[TabularField]) -> bool:
    """Whether there is one tensor, of all fields."""
    if len(tensors) != 1 or len(shape := tensors[0].shape) != _MATRIX_DIMENSIONS:
        return False
    return shape[1] == len(fields) and (shape[1] > 1 or tensors[0].name != fields[0].name)


def _columns(
    tensors: Sequence[Tensor], fields: Sequence[TabularField], served: ServedModel
) -> dict[str, _Column]:
    known = {field.name: field for field in fields}
    columns: dict[str, _Column] = {}
    issues: list[dict[str, str]] = []
    for tensor in tensors:
        if tensor.name not in known:
            issues.append(
                issue(f"{tensor.pointer}/name", f"{served.name} has no such input", "extra_forbidden")
            )
        elif tensor.name in columns:
            issues.append(issue(f"{tensor.pointer}/name", "the input is given twice", "twice"))
        else:
            columns[tensor.name] = (tensor, 0, 1)
    missing = [name for name, field in known.items() if name not in columns and not field.nullable]
    issues += [issue("/inputs", f"the input {name!r} is missing", "missing") for name in missing]
    if issues:
        raise _with_hint(refusal_of(issues), tensors, len(fields))
    for tensor, _, _ in columns.values():
        _require_column(tensor)
        if tensor.shape[0] != tensors[0].shape[0]:
            raise refusal(
                f"{tensor.pointer}/shape/0",
                f"all inputs must have as many rows: {tensors[0].name!r} has {tensors[0].shape[0]}",
                "row_count",
            )
    return columns


def _with_hint(error: Any, tensors: Sequence[Tensor], width: int) -> Any:
    """One tensor under a name that is no field's was meant for all fields; say what shape that has."""
    if len(tensors) == 1 and error.issues[0]["type"] == "extra_forbidden":
        shape = list(tensors[0].shape)
        message = f"one tensor for all fields has the shape [rows, {width}], not {shape}"
        return refusal(f"{tensors[0].pointer}/shape", message, "tensor_shape")
    return error


def _require_column(tensor: Tensor) -> None:
    """Raises ValidationFailed unless the tensor has one element for each row."""
    if tensor.shape[1:] not in ((), (1,)):
        raise refusal(f"{tensor.pointer}/shape", "the shape must be [rows] or [rows, 1]", "tensor_shape")


def _fitted(field: TabularField, tensor: Tensor, start: int, step: int) -> Sequence[Value]:
    """A column in the types that the field takes: numbers stand for booleans and whole categories."""
    values = tensor.elements[start::step]
    if isinstance(field, BooleanField) and tensor.datatype.kind in ("int", "float"):
        return [bool(value) if value in (0, 1) else value for value in values]
    if isinstance(field, CategoryField) and tensor.datatype.kind == "float":
        return [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]
    return values


def _validated(
    served: ServedModel, sent: Iterable[Any], columns: Sequence[_Column], names: Sequence[str] = ()
) -> list[Input]:
    """What the rows hold, as inputs of the model. `names` are those of the columns where a row has any."""
    validate = served.form.validate
    inputs: list[Input] = []
    issues: list[dict[str, str]] = []
    for number, row in enumerate(sent):
        if number and number % _SLICE_ROWS == 0:
            gevent.sleep(0)
        try:
            inputs.append(validate(row))
        except ValidationError as error:
            issues += _located(error, number, columns, names)
    if issues:
        raise refusal_of(issues)
    return inputs


def _located(
    error: ValidationError, row: int, columns: Sequence[_Column], names: Sequence[str]
) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        tensor, start, step = columns[names.index(str(detail["loc"][0])) if names else 0]
        index = start + row * step
        where = f"element {index}: " if tensor.form == "binary" else ""
        missing = tensor.elements[index] is None
        message, kind = ("the value is missing", "missing") if missing else (detail["msg"], detail["type"])
        found.append(issue(tensor.place(index), f"{where}{message}", kind))
    return found


# The signature as the model's metadata shows it.


def described(manifest: Manifest) -> list[dict[str, Any]]:
    """`inputs` of the model's metadata, a tensor for each field. What may be missing is marked as optional."""
    signature = manifest.signature
    if isinstance(signature, TextSignature):
        return [{"name": TEXT_INPUT, "datatype": "BYTES", "shape": [-1, 1]}]
    return [
        {"name": field.name, "datatype": _datatype(field), "shape": [-1, 1]}
        | ({"parameters": {"optional": True}} if field.nullable else {})
        for field in signature.fields
    ]


def _datatype(field: TabularField) -> str:
    match field:
        case NumberField(type="number"):
            return "FP64"
        case NumberField():
            return "INT64"
        case BooleanField():
            return "BOOL"
        case CategoryField():
            return datatype_of(field.categories)
    return "BYTES"


def datatype_of(values: Iterable[Any]) -> str:
    """Of labels or categories: INT64 or BOOL where all are of that kind, else BYTES."""
    kinds = set(map(type, values))
    if kinds == {bool}:
        return "BOOL"
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return "INT64"
    return "BYTES"
