"""The document as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from falcon_wsgi import __version__
from falcon_wsgi.http.openapi import inference, operations, parts, protocol
from falcon_wsgi.http.openapi.facts import Facts
from falcon_wsgi.http.openapi.parts import Json

_ABOUT = """\
Predictions of the served models over HTTP.

Every answer carries `X-Request-ID` and `X-Worker-ID`. Every answer that is not 2xx or 3xx is a problem document
(RFC 9457). A route that is not listed here answers 404, a method that is not 405 with `Allow`; every GET route
also takes HEAD, every route OPTIONS.

A request with an `Idempotency-Key` can be repeated safely: the repeat gets the stored answer."""


def build(facts: Facts) -> Json:
    """The OpenAPI 3.1 document of a worker that serves these models with these features."""
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "Falcon",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "Predictions", "description": "One text, several texts, or one row."},
            {
                "name": "Open Inference Protocol",
                "description": "Version 2, with the binary tensor data and model repository extensions.",
            },
            {"name": "Operations", "description": "Health and metrics."},
            {"name": "Pages", "description": "For people."},
        ],
        "paths": {**inference.paths(facts), **protocol.paths(facts), **operations.paths()},
        "components": {
            "schemas": {**inference.schemas(facts.models), **parts.pydantic_schemas()},
            "responses": parts.problem_components(rate_limited=facts.rate_limited),
            "headers": dict(parts.HEADERS),
            "parameters": dict(parts.PARAMETERS),
        },
    }
    if facts.keyed:
        _require_keys(document)
    _drop_unused(document)
    return document


def _require_keys(document: Json) -> None:
    document["components"]["securitySchemes"] = parts.SECURITY_SCHEMES
    document["security"] = [{name: []} for name in parts.SECURITY_SCHEMES]
    for methods in document["paths"].values():
        for operation in methods.values():
            if operation.get("security") != []:
                operation["responses"] = dict(
                    sorted({**operation["responses"], **parts.problems(401)}.items())
                )


def _drop_unused(document: Json) -> None:
    """Components that nothing refers to, for instance the header of a feature that is off."""
    components = document["components"]
    used: set[str] = set()
    pending = set(_refs(document["paths"]))
    while pending:
        used |= pending
        pending = {
            inner
            for kind, name in (reference.split("/")[2:] for reference in pending)
            for inner in _refs(components[kind][name])
        } - used
    for kind in ("schemas", "responses", "headers", "parameters"):
        components[kind] = {
            name: part for name, part in components[kind].items() if f"#/components/{kind}/{name}" in used
        }


def _refs(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from _refs(value)
    elif isinstance(part, list):
        for value in part:
            yield from _refs(value)
