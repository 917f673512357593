"""The Flask app: an inventory of what it is made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, request
from flask.wrappers import Response

from falcon_wsgi.http import auth, exporter, inference, operations, pages, problems
from falcon_wsgi.http.context import ContextFactory
from falcon_wsgi.http.edge import Edge
from falcon_wsgi.http.protocol import routes as protocol
from falcon_wsgi.http.shortcut import Shortcut
from falcon_wsgi.observability.events import AuthEvents
from falcon_wsgi.observability.logs import AccessLog

if TYPE_CHECKING:
    from falcon_wsgi.services import Services


def create_app(services: Services) -> Flask:
    """The app that answers with `services`. Starts nothing: the server calls `services.start()`."""
    settings = services.settings
    app = Flask(__name__, static_folder=None)
    # A path means itself or nothing: no answer is a redirect.
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.extensions["falcon"] = services

    model_routes = inference.handlers(services)
    app.register_blueprint(inference.blueprint(model_routes))
    app.register_blueprint(protocol.blueprint(services))
    app.register_blueprint(operations.blueprint(services))
    app.register_blueprint(pages.blueprint(services))
    problems.register(app)
    check = None
    if services.keys is not None:
        check = auth.KeyRequired(services.keys, AuthEvents(services.metrics)).check
        app.before_request(partial(_before_request, check))

    @app.after_request
    def note_rule(response: Response) -> Response:
        if request.url_rule is not None:
            request.environ["falcon.context"].rule = request.url_rule.rule
        return response

    contexts = ContextFactory(settings.trusted_proxies, settings.request_timeout_seconds)
    access_log = AccessLog(services.worker_id, settings.log_level, settings.access_log_sample)
    http_metrics = exporter.LeanExporter(app, services.metrics)
    answering = Shortcut(app.wsgi_app, model_routes, check)
    app.wsgi_app = Edge(answering, contexts, services.worker_id, access_log, http_metrics)  # type: ignore[method-assign]
    return app


def _before_request(check: Callable[[dict[str, Any]], None]) -> None:
    check(request.environ)
