"""FastAPI with the model called inside the route: no cache, no log, no keys. Run by uvicorn; needs BENCHMARK_STORE.

Answers are encoded by orjson directly, which spares FastAPI its response model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field, create_model

from falcon_wsgi.models.signature import TabularSignature
from tests.benchmarks.models import DirectModel, load

_STORE = Path(os.environ["BENCHMARK_STORE"])

app = FastAPI()
sentiment = load(_STORE, "sentiment")


class One(BaseModel):
    text: str = Field(min_length=1, max_length=10_000)


class Batch(BaseModel):
    texts: list[str] = Field(min_length=1, max_length=50)


@app.get("/ready")
async def ready() -> str:
    return "ready"


@app.post("/infer")
async def infer(body: One) -> Response:
    return _json(_fields(sentiment, sentiment.probabilities([body.text])[0]))


@app.post("/infer/batch")
async def infer_batch(body: Batch) -> Response:
    rows = sentiment.probabilities(body.texts)
    return _json({"results": [_fields(sentiment, row) for row in rows]})


def _fields(model: DirectModel, row: Sequence[float]) -> dict[str, Any]:
    confidence = max(row)
    return {
        "prediction": model.labels[row.index(confidence)],
        "confidence": confidence,
        "probabilities": dict(zip(model.labels, row, strict=True)),
    }


def _json(answer: dict[str, Any]) -> Response:
    return Response(orjson.dumps(answer), media_type="application/json")


def _serve_rows(name: str) -> None:
    model = load(_STORE, name)
    signature = model.manifest.signature
    assert isinstance(signature, TabularSignature)
    fields: dict[str, Any] = dict.fromkeys(signature.names, (float, ...))
    schema = create_model(f"{name.title()}Row", __config__=ConfigDict(extra="forbid"), **fields)

    async def predict(body: schema) -> Response:  # type: ignore[valid-type]
        row = tuple(body.__dict__.values())  # type: ignore[attr-defined]
        return _json(_fields(model, model.probabilities([row])[0]))

    predict.__annotations__ = {"body": schema, "return": Response}
    app.post(f"/predict/{name}")(predict)


_serve_rows("iris")
_serve_rows("performance")
