"""Routes for operators and their tools: health, readiness, metrics, and the index."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, Response, current_app, request
from prometheus_client.exposition import choose_encoder

from falcon_wsgi import __version__
from falcon_wsgi.observability.metrics import expose

if TYPE_CHECKING:
    from falcon_wsgi.services import Services


def json_response(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, content_type="application/json")


def blueprint(services: Services) -> Blueprint:
    routes = Blueprint("operations", __name__)

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
                "model_loaded": bool(services.models),
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
                }
                for model in services.models.values()
            },
        }
        return _retry_later(json_response(body, 200 if healthy else 503))

    @routes.get("/metrics")
    def metrics() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = expose(encode, str(services.settings.metrics_path))
        return Response(body, content_type=content_type)

    @routes.get("/")
    def index() -> Response:
        rules = {rule.rule for rule in current_app.url_map.iter_rules()}
        return json_response(
            {
                "status": "ok",
                "service": "falcon",
                "version": __version__,
                "endpoints": sorted(rules - {"/"}),
            }
        )

    return routes


def _retry_later(response: Response) -> Response:
    if response.status_code == 503:
        response.headers["Retry-After"] = "1"
    return response


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
