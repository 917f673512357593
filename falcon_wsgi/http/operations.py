"""Routes for operators and their tools: health, readiness and metrics."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, Response, request
from prometheus_client.exposition import choose_encoder

from falcon_wsgi.observability.scrape import Scrape

if TYPE_CHECKING:
    from falcon_wsgi.models.trials import Trial
    from falcon_wsgi.services import Services


def json_response(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, content_type="application/json")


def blueprint(services: Services) -> Blueprint:
    routes = Blueprint("operations", __name__)
    scrape = Scrape(services.settings.metrics_path)

    @routes.get("/healthz")
    def liveness() -> Response:
        return json_response(
            {
                "status": "healthy",
                "worker_id": services.worker_id,
                "timestamp": _now(),
                "uptime_seconds": round(time.monotonic() - services.started_at, 3),
            }
        )

    @routes.get("/readyz")
    def readiness() -> Response:
        ready = services.ready
        body = {
            "ready": ready,
            "worker_id": services.worker_id,
            "checks": {
                "model_loaded": bool(services.models.current),
                "redis_available": services.redis_available,
                "database_available": services.database_available,
            },
            "timestamp": _now(),
        }
        return _retry_later(json_response(body, 200 if ready else 503))

    @routes.get("/health")
    def health() -> Response:
        healthy = services.ready
        body = {
            "status": "healthy" if healthy else "unhealthy",
            "message": services.condition,
            "models": {
                model.name: {
                    "version": model.version,
                    "digest": model.digest,
                    "predictor": model.predictor.name,
                    "loaded": True,
                    **_on_trial("canary", services.trials.canary.get(model.name)),
                    **_on_trial("shadow", services.trials.shadow.get(model.name)),
                }
                for model in services.models
            },
        }
        return _retry_later(json_response(body, 200 if healthy else 503))

    @routes.get("/metrics")
    def metrics() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(scrape.text(encode, content_type), content_type=content_type)

    return routes


def _on_trial(kind: str, trial: Trial | None) -> dict[str, Any]:
    if trial is None:
        return {}
    model = trial.model
    return {kind: {"version": model.version, "digest": model.digest, "fraction": trial.fraction}}


def _retry_later(response: Response) -> Response:
    if response.status_code == 503:
        response.headers["Retry-After"] = "1"
    return response


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
