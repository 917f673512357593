"""The stages of a request's path, by the code that a sample or a profile names."""

from __future__ import annotations

from collections.abc import Iterable

OTHER = "event loop and rest"

# Paths are matched as parts of a file's name, functions whole. The first rule that fits counts.
_RULES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("send the answer", "falcon_wsgi/server/response.py", ()),
    (
        "send the answer",
        "gunicorn/http/wsgi.py",
        ("write", "send_headers", "process_headers", "start_response"),
    ),
    ("send the answer", "gunicorn/http/wsgi.py", ("default_headers", "close", "should_close", "is_chunked")),
    ("environ", "gunicorn/http/wsgi.py", ()),
    ("parse HTTP", "gunicorn/http/", ()),
    ("parse HTTP", "falcon_wsgi/server/plain.py", ()),
    ("parse HTTP", "falcon_wsgi/server/connection.py", ("_next_request", "_find_body", "_read_strictly")),
    ("context and headers", "falcon_wsgi/http/context.py", ()),
    ("context and headers", "falcon_wsgi/http/edge.py", ()),
    ("context and headers", "falcon_wsgi/observability/trace.py", ()),
    ("body and validation", "falcon_wsgi/http/body.py", ()),
    ("body and validation", "falcon_wsgi/http/reading.py", ()),
    ("body and validation", "falcon_wsgi/http/schemas.py", ()),
    ("body and validation", "falcon_wsgi/models/forms.py", ()),
    ("body and validation", "falcon_wsgi/models/catalogue.py", ()),
    ("body and validation", "pydantic/", ()),
    ("idempotency", "falcon_wsgi/pipeline/idempotency.py", ()),
    ("idempotency", "falcon_wsgi/pipeline/claims.py", ()),
    ("idempotency", "falcon_wsgi/http/idempotency_key.py", ()),
    ("cache", "falcon_wsgi/pipeline/cache.py", ()),
    ("cache", "falcon_wsgi/pipeline/encoding.py", ()),
    ("cache", "falcon_wsgi/pipeline/single_flight.py", ()),
    ("cache", "falcon_wsgi/pipeline/predictions.py", ()),
    ("cache", "falcon_wsgi/models/prediction.py", ("encode", "decode", "_is_output", "_are_probabilities")),
    ("Redis client", "falcon_wsgi/backends/redis", ()),
    ("Redis client", "/redis/", ()),
    ("breakers, deadlines, limits", "falcon_wsgi/resilience/", ()),
    ("breakers, deadlines, limits", "falcon_wsgi/pipeline/rate_limit.py", ()),
    ("breakers, deadlines, limits", "pybreaker", ()),
    ("predict", "falcon_wsgi/models/", ()),
    ("predict", "/sklearn/", ()),
    ("predict", "/xgboost/", ()),
    ("predict", "/numpy/", ()),
    ("predict", "/scipy/", ()),
    ("render", "falcon_wsgi/http/inference.py", ("render", "_fields", "_origin", "recall", "_prediction")),
    ("journal", "falcon_wsgi/pipeline/journal.py", ()),
    ("journal", "falcon_wsgi/pipeline/rows.py", ()),
    ("journal", "falcon_wsgi/log_rows.py", ()),
    ("ship the log", "falcon_wsgi/pipeline/shipper.py", ()),
    ("ship the log", "falcon_wsgi/backends/postgres.py", ()),
    ("ship the log", "falcon_wsgi/backends/journal/backlog.py", ()),
    ("ship the log", "psycopg", ()),
    ("journal", "falcon_wsgi/backends/journal", ()),
    ("metrics", "falcon_wsgi/observability/metrics.py", ()),
    ("metrics", "falcon_wsgi/observability/events.py", ()),
    ("metrics", "falcon_wsgi/http/exporter.py", ()),
    ("metrics", "prometheus_client/", ()),
    ("metrics", "prometheus_flask_exporter/", ()),
    ("access log", "falcon_wsgi/observability/logs.py", ()),
    ("Flask", "/flask/", ()),
    ("Flask", "/werkzeug/", ()),
    ("Flask", "/blinker/", ()),
    ("Flask", "falcon_wsgi/app.py", ()),
    ("Flask", "falcon_wsgi/http/", ()),
    ("pipeline", "falcon_wsgi/pipeline/", ()),
    ("pipeline", "falcon_wsgi/observability/timing.py", ()),
    ("connection loop", "falcon_wsgi/server/", ()),
    ("connection loop", "/gunicorn/", ()),
    ("gauges and housekeeping", "falcon_wsgi/services.py", ()),
)

STAGES = tuple(dict.fromkeys(stage for stage, _, _ in _RULES))


def stage_of_frame(path: str, function: str) -> str | None:
    """The stage that a function of a file belongs to; None for what serves any stage: gevent, the standard library."""
    rooted = f"/{path}"  # py-spy names files from their package on: flask/app.py
    for stage, part, functions in _RULES:
        if part in rooted and (not functions or function in functions):
            return stage
    return None


def stage_of_stack(frames: Iterable[tuple[str, str]]) -> str:
    """Of a stack as (path, function), the innermost frame first."""
    return next(filter(None, (stage_of_frame(path, function) for path, function in frames)), OTHER)
