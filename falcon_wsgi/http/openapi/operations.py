"""The routes for operators and people: health, metrics, the pages and this document itself."""

from __future__ import annotations

from typing import Any

from falcon_wsgi.http.openapi.parts import Json, json_content, parameters, ref, response

_OPERATIONS = "Operations"
_PAGES = "Pages"
_TEXT: Json = {"schema": {"type": "string"}}


def paths() -> Json:
    health = json_content(ref("schemas", "HealthAnswer"))
    readiness = json_content(ref("schemas", "ReadinessAnswer"))
    return {
        "/healthz": _get(
            _OPERATIONS,
            "liveness",
            "Whether the process can answer",
            {"200": response("It can.", json_content(ref("schemas", "LivenessAnswer")))},
            security=[],
        ),
        "/readyz": _get(
            _OPERATIONS,
            "readiness",
            "Whether to send requests here",
            {
                "200": response("Every model is loaded, verified and warm.", readiness),
                "503": response("Draining, or no model.", readiness, "Retry-After"),
            },
            security=[],
            description="Redis or Postgres being away never makes it fail.",
        ),
        "/health": _get(
            _OPERATIONS,
            "health",
            "The state, for people",
            {
                "200": response("Serving; the message says without what.", health),
                "503": response("Draining, or no model.", health, "Retry-After"),
            },
        ),
        "/metrics": _get(
            _OPERATIONS,
            "metrics",
            "Metrics of all workers of the instance",
            {
                "200": response(
                    "In Prometheus' text format, or OpenMetrics where the request accepts it.",
                    {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
                )
            },
        ),
        "/openapi.json": _page("openapi", "This document", json_content({"type": "object"}), "ETag"),
        "/docs": _page("docs", "This document in Swagger UI", {"text/html": _TEXT}, *_PAGE_HEADERS),
        "/": _index(),
    }


_PAGE_HEADERS = ("ETag", "Content-Security-Policy")


def _index() -> Json:
    content = json_content(ref("schemas", "IndexAnswer")) | {"text/html": _TEXT}
    return _get(
        _PAGES,
        "index",
        "The demo page, or an index",
        {
            "200": response("A browser gets the page, any other client JSON.", content, "Vary"),
            **_NOT_MODIFIED,
        },
        parameters=parameters("If-None-Match"),
    )


_NOT_MODIFIED: Json = {"304": {"description": "The ETag that was sent still holds."}}


def _page(operation_id: str, summary: str, content: Json, *own_headers: str) -> Json:
    return _get(
        _PAGES,
        operation_id,
        summary,
        {"200": response(f"{summary}.", content, *own_headers), **_NOT_MODIFIED},
        parameters=parameters("If-None-Match"),
    )


def _get(tag: str, operation_id: str, summary: str, responses: Json, **more: Any) -> Json:
    return {
        "get": {
            "tags": [tag],
            "operationId": operation_id,
            "summary": summary,
            "responses": responses,
            **more,
        }
    }
