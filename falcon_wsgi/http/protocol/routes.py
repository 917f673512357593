"""Routes of the Open Inference Protocol.

Source: Open Inference Protocol, specification/protocol/inference_rest.md. Each path stands for itself, without and
with a version; only the server's metadata has two, because clients ask for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from falcon_wsgi.errors import NotReady
from falcon_wsgi.http.operations import json_response
from falcon_wsgi.http.protocol import binary, control, metadata
from falcon_wsgi.http.protocol.outputs import KnownOutputs
from falcon_wsgi.http.protocol.reader import InferReader
from falcon_wsgi.http.protocol.renderer import InferRenderer
from falcon_wsgi.pipeline.request import InferenceRequest

if TYPE_CHECKING:
    from falcon_wsgi.services import Services

_MODEL = "/v2/models/<name>"
_VERSION = "/v2/models/<name>/versions/<version>"
# The scope of idempotency keys on both paths of `infer`; which model is asked is part of the fingerprint.
_ROUTE = "/v2/infer"


def blueprint(services: Services) -> Blueprint:
    routes = Blueprint("protocol", __name__)
    models, outputs = services.models, KnownOutputs()
    versions = metadata.served_versions(models, services.trials)

    @routes.get("/v2")
    @routes.get("/v2/")
    def server_metadata() -> Response:
        return json_response(metadata.of_server())

    @routes.get("/v2/health/live")
    def server_live() -> Response:
        return json_response({"live": True})

    @routes.get("/v2/health/ready")
    def server_ready() -> Response:
        _require_ready(services)
        return json_response({"ready": True, "live": True})

    @routes.get(_MODEL)
    @routes.get(_VERSION)
    def model_metadata(name: str, version: str | None = None) -> Response:
        return json_response(metadata.of_model(models.named(name, version), versions[name]))

    @routes.get(f"{_MODEL}/ready")
    @routes.get(f"{_VERSION}/ready")
    def model_ready(name: str, version: str | None = None) -> Response:
        served = models.named(name, version)
        _require_ready(services)
        return json_response({"name": served.name, "ready": True})

    @routes.post(f"{_MODEL}/infer")
    @routes.post(f"{_VERSION}/infer")
    def infer(name: str, version: str | None = None) -> Response:
        services.count_request()
        environ = request.environ
        reader = InferReader(environ, models, outputs, name, version)
        renderer = InferRenderer(reader)
        asked = InferenceRequest(environ["falcon.context"], _ROUTE, reader, renderer)
        outcome = services.pipeline.run(asked)
        if renderer.json_bytes is None:
            return Response(outcome.body, outcome.status, content_type="application/json")
        response = Response(outcome.body, outcome.status, content_type="application/octet-stream")
        response.headers[binary.HEADER] = str(renderer.json_bytes)
        return response

    control.add_routes(routes, services)
    return routes


def _require_ready(services: Services) -> None:
    if not services.ready:
        raise NotReady(services.condition)
