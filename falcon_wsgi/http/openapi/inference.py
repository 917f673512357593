"""`POST /infer`, `POST /infer/batch` and `POST /predict`, for the models that are served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from falcon_wsgi.http.openapi import inputs
from falcon_wsgi.http.openapi.facts import Facts
from falcon_wsgi.http.openapi.inputs import Described
from falcon_wsgi.http.openapi.parts import Json, json_content, parameter, parameters, problems, ref, response
from falcon_wsgi.models.manifest import GoldenExample
from falcon_wsgi.models.prediction import label_text

# Of a model route, beside 200 and what API keys add.
STATUSES = (400, 404, 408, 409, 413, 415, 422, 429, 500, 503, 504)

_TAG = "Predictions"


def schemas(models: Sequence[Described]) -> Json:
    """The components that the operations refer to."""
    found = {_input_name(model): inputs.body_schema(model) for model in models}
    return found | {_batch_name(model): inputs.batch_schema(model) for model in _of_texts(models)}


def paths(facts: Facts) -> Json:
    texts, rows = _of_texts(facts.models), [m for m in facts.models if not inputs.takes_texts(m)]
    return {
        "/infer": {
            "post": _operation(
                facts,
                texts,
                operation_id="infer",
                summary="Predict for one text",
                description="By default the model `sentiment`, or the only one for texts that there is.",
                body=_body(texts, _input_name, "anyOf", inputs.body_examples, "a text"),
                answer=json_content(ref("schemas", "InferAnswer"), **_answers(texts, _infer_answer)),
            )
        },
        "/infer/batch": {
            "post": _operation(
                facts,
                texts,
                operation_id="inferBatch",
                summary="Predict for up to 50 texts",
                description="One result for each text, in order. Each counts for the cache by itself.",
                body=_body(texts, _batch_name, "anyOf", lambda m: [inputs.batch_example(m)], "several texts"),
                answer=json_content(ref("schemas", "InferBatchAnswer")),
            )
        },
        "/predict": {
            "post": _operation(
                facts,
                rows,
                operation_id="predict",
                summary="Predict for one row",
                description="The model is the one whose signature the fields match, unless the query names it.",
                body=_body(rows, _input_name, "oneOf", inputs.body_examples, "a row"),
                answer=json_content(ref("schemas", "PredictAnswer"), **_answers(rows, _predict_answer)),
            )
        },
    }


def answer_headers(facts: Facts) -> list[str]:
    """Of an answer of a model route."""
    idempotency = ["Idempotency-Replayed", "Idempotency-Status"] if facts.idempotency else []
    return ["Server-Timing", *idempotency, *(["RateLimit", "RateLimit-Policy"] if facts.rate_limited else [])]


def request_headers(facts: Facts) -> list[Json]:
    """Of a request to a model route."""
    keys = ["Idempotency-Key", "X-Idempotency-Key"] if facts.idempotency else []
    return parameters(*keys, "X-Request-ID", "traceparent")


def _operation(
    facts: Facts,
    models: Sequence[Described],
    *,
    operation_id: str,
    summary: str,
    description: str,
    body: Json,
    answer: Json,
) -> Json:
    if not models:
        description += " No such model is served at present, so the answer is 503."
    return {
        "tags": [_TAG],
        "operationId": operation_id,
        "summary": summary,
        "description": description,
        "parameters": [_model_parameter(models), *request_headers(facts)],
        "requestBody": {"required": True, "content": json_content(**body)},
        "responses": {
            "200": response("The prediction.", answer, *answer_headers(facts)),
            **problems(*STATUSES),
        },
    }


def _model_parameter(models: Sequence[Described]) -> Json:
    names = {"enum": [model.name for model in models]} if models else {}
    return parameter("model", "query", "The model that is meant.", **names)


def _body(
    models: Sequence[Described],
    component: Callable[[Described], str],
    choice: str,
    examples: Callable[[Described], list[Json]],
    what: str,
) -> Json:
    refs = [ref("schemas", component(model)) for model in models]
    schema: Json = {"type": "object"} if not refs else refs[0] if len(refs) == 1 else {choice: refs}
    shown = {
        name: shown for model in models for name, shown in inputs.named(examples(model), model, what).items()
    }
    return {"schema": schema, **({"examples": shown} if shown else {})}


def _of_texts(models: Sequence[Described]) -> list[Described]:
    return [model for model in models if inputs.takes_texts(model)]


def _input_name(model: Described) -> str:
    return f"{model.name}-input"


def _batch_name(model: Described) -> str:
    return f"{model.name}-batch"


def _answers(models: Sequence[Described], answer: Callable[[Described, GoldenExample], Json]) -> Json:
    """What the first example of each model is answered with, as its manifest records it."""
    found = {
        model.name: {"summary": model.name, "value": answer(model, model.manifest.golden[0])}
        for model in models
    }
    return {"examples": found} if found else {}


def _infer_answer(model: Described, golden: GoldenExample) -> Json:
    return {
        "prediction": golden.prediction,
        "confidence": _confidence(golden),
        "probabilities": golden.probabilities,
        "cache_hit": False,
        **_origin(model),
    }


def _predict_answer(model: Described, golden: GoldenExample) -> Json:
    return {
        "prediction": golden.prediction,
        "predicted_class": golden.prediction if model.manifest.classifies else None,
        "confidence": _confidence(golden),
        "prediction_probabilities": golden.probabilities,
        "features_used": len(getattr(model.manifest.signature, "fields", ())),
        "cache_hit": False,
        **_origin(model),
    }


def _confidence(golden: GoldenExample) -> float | None:
    label: Any = golden.prediction
    return golden.probabilities[label_text(label)] if golden.probabilities else None


def _origin(model: Described) -> Json:
    return {
        "idempotency_hit": False,
        "worker_id": "worker-1",
        "processing_time_ms": 4.21,
        "model": model.name,
        "model_version": model.manifest.version,
        "request_id": "order-17",
    }
