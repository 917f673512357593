"""Served models and requests for the protocol's unit tests; the models are formulas, so that answers are known."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from falcon_wsgi.http.context import ContextFactory
from falcon_wsgi.http.protocol.binary import HEADER_IN_ENVIRON
from falcon_wsgi.http.protocol.outputs import KnownOutputs
from falcon_wsgi.http.protocol.reader import InferReader
from falcon_wsgi.models.catalogue import Catalogue
from falcon_wsgi.models.forms import Input, form_of
from falcon_wsgi.models.manifest import MODEL_FILE, GoldenExample, Manifest, StoredFile
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.signature import (
    BooleanField,
    CategoryField,
    NumberField,
    StringField,
    TabularSignature,
    TextSignature,
)


class Formula:
    """A predictor that is a function of one input."""

    name = "formula"

    def __init__(self, answer: Callable[[Any], Prediction]) -> None:
        self.answer = answer

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        return list(map(self.answer, inputs))


def served(
    name: str, signature: Any, answer: Callable[[Any], Prediction], labels: tuple[Any, ...] = ()
) -> ServedModel:
    kind = ("text" if signature.type == "text" else "tabular") + (
        "_classification" if labels else "_regression"
    )
    golden = answer("golden" if signature.type == "text" else (1,) * len(signature.fields))
    manifest = Manifest(
        format=1,
        name=name,
        version="1.2.3",
        kind=kind,
        signature=signature,
        labels=labels,
        files={MODEL_FILE: StoredFile(sha256="0" * 64, bytes=1)},
        libraries={},
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
        metrics={},
        data={},
        golden=(GoldenExample(input="golden", prediction=golden.output, probabilities=golden.probabilities),),
    )
    return ServedModel(manifest, manifest.digest, form_of(signature), Formula(answer), False, 0.0)


def _tone(text: str) -> Prediction:
    share = 0.75 if len(text) % 2 else 0.25
    return Prediction(
        "odd" if share > 0.5 else "even", max(share, 1 - share), {"even": 1 - share, "odd": share}
    )


MIXED = TabularSignature(
    fields=(
        NumberField(type="number", name="size", minimum=0, maximum=1e9, nullable=True),
        NumberField(type="integer", name="count"),
        BooleanField(type="boolean", name="new"),
        CategoryField(type="category", name="colour", categories=("red", "blue")),
        CategoryField(type="category", name="grade", categories=(1, 2)),
        StringField(type="string", name="note", nullable=True),
    )
)
PAIR = TabularSignature(fields=tuple(NumberField(type="number", name=name) for name in ("a", "b")))

TONE = served("tone", TextSignature(max_length=20), _tone, ("even", "odd"))
MIX = served("mix", MIXED, lambda row: Prediction(bool(row[2])), (False, True))
SUM = served("sum", PAIR, lambda row: Prediction(float(row[0] + row[1])))
CATALOGUE = Catalogue({model.name: model for model in (TONE, MIX, SUM)})


def environ(body: bytes, length: int | None = None, **more: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "REMOTE_ADDR": "127.0.0.1",
        **more,
    }
    if length is not None:
        found[HEADER_IN_ENVIRON] = str(length)
    found["falcon.context"] = ContextFactory((), 30).build(found)
    return found


def reader(
    model: str, body: bytes | Mapping[str, Any], length: int | None = None, version: str | None = None
) -> InferReader:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return InferReader(environ(raw, length), CATALOGUE, KnownOutputs(), model, version)


def tensor(name: str, shape: Sequence[int], datatype: str, data: Any, **parameters: Any) -> dict[str, Any]:
    found = {"name": name, "shape": shape, "datatype": datatype, "data": data}
    return {**found, "parameters": parameters} if parameters else found


def mixed_row(**changes: dict[str, Any] | None) -> dict[str, Any]:
    """A request for `mix` of one row; `changes` replace tensors, or leave them out."""
    tensors = {
        "size": tensor("size", [1], "FP64", [1.5]),
        "count": tensor("count", [1], "INT32", [3]),
        "new": tensor("new", [1, 1], "BOOL", [True]),
        "colour": tensor("colour", [1], "BYTES", ["red"]),
        "grade": tensor("grade", [1], "UINT8", [2]),
        "note": tensor("note", [1], "BYTES", ["x"]),
    }
    return {"inputs": [found for found in (tensors | changes).values() if found is not None]}
