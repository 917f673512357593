"""`POST /infer` and `POST /infer/batch`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, Response, request

from falcon_wsgi.http import idempotency_key
from falcon_wsgi.http.body import read_body, require_json
from falcon_wsgi.http.schemas import InferBatchBody, InferBody, parse
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.pipeline.request import InferenceRequest, RequestContext

if TYPE_CHECKING:
    from falcon_wsgi.services import Services

Schema = type[InferBody] | type[InferBatchBody]


class JsonReader:
    """Reads a JSON body of one schema."""

    __slots__ = ("_environ", "_schema")

    def __init__(self, environ: dict[str, Any], schema: Schema) -> None:
        self._environ = environ
        self._schema = schema

    def idempotency_key(self) -> str | None:
        standard = self._environ.get("HTTP_IDEMPOTENCY_KEY")
        extended = self._environ.get("HTTP_X_IDEMPOTENCY_KEY")
        if standard is None and extended is None:
            return None
        return idempotency_key.parse(_each_sent(standard), _each_sent(extended))

    def read(self) -> Sequence[str]:
        require_json(self._environ)
        deadline = self._environ["falcon.context"].deadline
        return parse(self._schema, read_body(self._environ, deadline)).inputs()


def _each_sent(header: str | None) -> list[str]:
    """The values of a header that was sent any number of times (`server.worker` joins them with a line feed)."""
    return [] if header is None else header.split("\n")


class Single:
    """Bodies of `POST /infer`."""

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id

    def render(
        self, request: InferenceRequest, predictions: Sequence[Prediction], hits: Sequence[bool]
    ) -> bytes:
        return orjson.dumps(
            {
                **_fields(predictions[0]),
                "cache_hit": hits[0],
                "idempotency_hit": False,
                **_origin(request, self._worker_id),
            }
        )

    def recall(self, body: bytes) -> tuple[list[Prediction], list[bool]]:
        answer = orjson.loads(body)
        return [_prediction(answer)], [answer["cache_hit"]]


class Batch:
    """Bodies of `POST /infer/batch`."""

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id

    def render(
        self, request: InferenceRequest, predictions: Sequence[Prediction], hits: Sequence[bool]
    ) -> bytes:
        return orjson.dumps(
            {
                "results": [
                    {**_fields(prediction), "cache_hit": hit}
                    for prediction, hit in zip(predictions, hits, strict=True)
                ],
                "batch_size": len(predictions),
                "cache_hits": sum(hits),
                "idempotency_hit": False,
                **_origin(request, self._worker_id),
            }
        )

    def recall(self, body: bytes) -> tuple[list[Prediction], list[bool]]:
        results = orjson.loads(body)["results"]
        return [_prediction(result) for result in results], [result["cache_hit"] for result in results]


def _fields(prediction: Prediction) -> dict[str, Any]:
    return {
        "prediction": prediction.output,
        "confidence": prediction.confidence,
        "probabilities": prediction.probabilities,
    }


def _prediction(fields: dict[str, Any]) -> Prediction:
    return Prediction(fields["prediction"], fields["confidence"], fields["probabilities"])


def _origin(request: InferenceRequest, worker_id: str) -> dict[str, Any]:
    context = request.context
    return {
        "worker_id": worker_id,
        "processing_time_ms": round((time.perf_counter() - context.started) * 1000, 3),
        "model": request.served.name,
        "model_version": request.served.version,
        "request_id": context.request_id,
    }


def blueprint(services: Services) -> Blueprint:
    routes = Blueprint("inference", __name__)
    single, batch = Single(services.worker_id), Batch(services.worker_id)

    def view(route: str, schema: Schema, renderer: Single | Batch) -> Callable[[], Response]:
        def infer() -> Response:
            services.count_request()
            environ = request.environ
            context: RequestContext = environ["falcon.context"]
            reader = JsonReader(environ, schema)
            call = InferenceRequest(context, route, services.text_model(), reader, renderer)
            outcome = services.pipeline.run(call)
            return Response(outcome.body, outcome.status, content_type="application/json")

        return infer

    routes.add_url_rule("/infer", "infer", view("/infer", InferBody, single), methods=["POST"])
    routes.add_url_rule(
        "/infer/batch", "infer_batch", view("/infer/batch", InferBatchBody, batch), methods=["POST"]
    )
    return routes
