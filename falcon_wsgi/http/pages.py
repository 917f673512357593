"""What people look at: the demo page, the API docs, their files, and the OpenAPI document."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, Response, abort, current_app, request, send_file

from falcon_wsgi import __version__
from falcon_wsgi.http.assets import OWN_FOLDER, Assets
from falcon_wsgi.http.openapi.document import build
from falcon_wsgi.http.openapi.facts import Facts
from falcon_wsgi.http.operations import json_response

if TYPE_CHECKING:
    from falcon_wsgi.services import Services

# Nothing inline, nothing from elsewhere. `data:` are Swagger UI's own icons.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_ASSET_RULE = "/assets/<digest>/<name>"
_FOR_EVER = "private, max-age=31536000, immutable"


class Kept:
    """A body that stays the same for the life of the worker, named by its ETag."""

    def __init__(self, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
        self._body = body
        self._content_type = content_type
        self._headers = headers or {}
        self._etag = hashlib.sha256(body).hexdigest()[:32]

    def response(self) -> Response:
        """The body, or 304 to a client that has it."""
        answer = Response(self._body, content_type=self._content_type, headers=self._headers)
        answer.set_etag(self._etag)
        answer.headers["Cache-Control"] = "no-cache"
        answer.make_conditional(request)
        return answer


def page(name: str, assets: Assets) -> Kept:
    """An HTML file of the package, with the addresses of its files filled in."""
    html = (OWN_FOLDER / name).read_text(encoding="utf-8").replace("{{assets}}", f"/assets/{assets.digest}")
    return Kept(html.encode(), "text/html; charset=utf-8", _PAGE_HEADERS)


def prefers_html() -> bool:
    """Whether the client asks for HTML before JSON, as browsers do and other clients do not."""
    return request.accept_mimetypes.best_match(("application/json", "text/html")) == "text/html"


def _index() -> dict[str, Any]:
    rules = {rule.rule for rule in current_app.url_map.iter_rules()}
    return {
        "status": "ok",
        "service": "falcon",
        "version": __version__,
        "endpoints": sorted(rules - {"/", _ASSET_RULE}),
    }


def blueprint(services: Services) -> Blueprint:
    routes = Blueprint("pages", __name__)
    assets = Assets()
    # Served models and features do not change in the life of a worker.
    document = Kept(orjson.dumps(build(Facts.of(services))), "application/json")
    docs, demo = page("docs.html", assets), page("demo.html", assets)

    @routes.get("/")
    def index() -> Response:
        answer = demo.response() if prefers_html() else json_response(_index())
        answer.vary.add("Accept")
        return answer

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return document.response()

    @routes.get("/docs")
    def show_docs() -> Response:
        return docs.response()

    @routes.get(_ASSET_RULE)
    def asset(digest: str, name: str) -> Response:
        path = assets.find(name)
        if path is None:
            abort(404)
        answer = send_file(path, mimetype=assets.content_type(path))
        # While workers of two releases answer, one may be asked for the other's.
        answer.headers["Cache-Control"] = _FOR_EVER if digest == assets.digest else "no-store"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer

    return routes
