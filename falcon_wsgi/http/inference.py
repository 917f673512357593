"""`POST /infer`, `POST /infer/batch` and `POST /predict`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, Response, request

from falcon_wsgi.http import problems
from falcon_wsgi.http.answer import Answer, Handler
from falcon_wsgi.http.reading import RowReader, TextReader
from falcon_wsgi.http.schemas import InferBatchBody, InferBody
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.pipeline.request import InferenceRequest, Reader, Renderer, RequestContext

if TYPE_CHECKING:
    from falcon_wsgi.services import Services


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


class Row:
    """Bodies of `POST /predict`. A regressor has no class, confidence or probabilities: null."""

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id

    def render(
        self, request: InferenceRequest, predictions: Sequence[Prediction], hits: Sequence[bool]
    ) -> bytes:
        prediction = predictions[0]
        return orjson.dumps(
            {
                "prediction": prediction.output,
                "predicted_class": prediction.output if request.served.manifest.classifies else None,
                "confidence": prediction.confidence,
                "prediction_probabilities": prediction.probabilities,
                "features_used": len(request.inputs[0]),
                "cache_hit": hits[0],
                "idempotency_hit": False,
                **_origin(request, self._worker_id),
            }
        )

    def recall(self, body: bytes) -> tuple[list[Prediction], list[bool]]:
        answer = orjson.loads(body)
        prediction = Prediction(
            answer["prediction"], answer["confidence"], answer["prediction_probabilities"]
        )
        return [prediction], [answer["cache_hit"]]


def handlers(services: Services) -> dict[str, Handler]:
    """What answers each of these routes."""
    models, worker_id = services.models, services.worker_id

    def handler(route: str, read: Callable[[dict[str, Any]], Reader], renderer: Renderer) -> Handler:
        def answer(environ: dict[str, Any]) -> Answer:
            services.count_request()
            context: RequestContext = environ["falcon.context"]
            outcome = services.pipeline.run(InferenceRequest(context, route, read(environ), renderer))
            return Answer(outcome.status, outcome.body)

        return answer

    routes: tuple[tuple[str, Callable[[dict[str, Any]], Reader], Renderer], ...] = (
        ("/infer", lambda environ: TextReader(environ, models, InferBody), Single(worker_id)),
        ("/infer/batch", lambda environ: TextReader(environ, models, InferBatchBody), Batch(worker_id)),
        ("/predict", lambda environ: RowReader(environ, models), Row(worker_id)),
    )
    return {route: handler(route, read, renderer) for route, read, renderer in routes}


def blueprint(handlers: Mapping[str, Handler]) -> Blueprint:
    routes = Blueprint("inference", __name__)

    def view(handler: Handler) -> Callable[[], Response]:
        return lambda: problems.response(handler(request.environ))

    for route, handler in handlers.items():
        routes.add_url_rule(route, route, view(handler), methods=["POST"])
    return routes
