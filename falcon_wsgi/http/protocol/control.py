"""Routes of the model repository extension.

A worker serves the versions that it was started with, so nothing is loaded or unloaded in it. To load a model means
here what `falcon reload` does: the instance verifies the store's current versions, and replaces its workers by ones
that serve them. To unload one is refused: all workers would have to agree, and the store's current versions are
what an instance serves.

Source: Triton Inference Server, docs/protocol/extension_model_repository.md.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from falcon_wsgi.errors import Forbidden, ModelControlRefused, ValidationFailed
from falcon_wsgi.http.context import HttpContext
from falcon_wsgi.http.operations import json_response
from falcon_wsgi.http.protocol import bodies, metadata
from falcon_wsgi.http.protocol.refusals import refusal
from falcon_wsgi.http.schemas import json_object
from falcon_wsgi.models.store import ModelStore

if TYPE_CHECKING:
    from falcon_wsgi.services import Services

log = logging.getLogger(__name__)


def add_routes(routes: Blueprint, services: Services) -> None:
    store = ModelStore(services.settings.model_store)
    served = metadata.served_versions(services.models, services.trials)

    @routes.post("/v2/repository/index")
    def index() -> Response:
        ready = _body().get("ready", False)
        if not isinstance(ready, bool):
            raise refusal("/ready", "this is true or false", "bool_type")
        return json_response(metadata.index(served, store, ready_only=ready))

    @routes.post("/v2/repository/models/<name>/load")
    def load(name: str) -> Response:
        context = _require_admin(services)
        if _body().get("parameters"):
            raise ModelControlRefused(
                "a model is loaded as the store has it; add and promote a version instead of sending parameters"
            )
        log.info("model_load_requested", extra={"model": name, "client": context.client})
        services.take_over(name, context.deadline)
        return json_response({})

    @routes.post("/v2/repository/models/<name>/unload")
    def unload(name: str) -> Response:
        _require_admin(services)
        services.models.named(name)
        raise ModelControlRefused(
            f"{name} stays: an instance serves the current version of every model in its store. "
            "To end that, remove the model from the store and load another one"
        )


def _body() -> dict[str, object]:
    """Raises a leaf of RequestError."""
    raw = bodies.read(request.environ)
    if not raw.strip():
        return {}
    body = json_object(raw)
    parameters = body.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise ValidationFailed("/parameters: this must be an object")
    return body


def _require_admin(services: Services) -> HttpContext:
    """Raises Forbidden, also where nobody could be authorised: asking for a key would help no client there."""
    context: HttpContext = request.environ["falcon.context"]
    if services.keys is None:
        raise Forbidden("models are loaded with an administrator's API key only; this instance has no keys")
    # A browser that knows the key from an earlier page would add it to a request that another site makes.
    if request.environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin"):
        raise Forbidden("models are not loaded by pages of other sites")
    if not context.admin:
        raise Forbidden("models are loaded with an administrator's API key only; this key is not one")
    return context
