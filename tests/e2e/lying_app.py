"""A WSGI app that answers every request in the right form, and with the same prediction whatever it is asked."""

from __future__ import annotations

from typing import Any

import orjson

LIE = {
    "prediction": "positive",
    "confidence": 0.9,
    "probabilities": {"negative": 0.05, "neutral": 0.05, "positive": 0.9},
}


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [orjson.dumps(LIE)]
