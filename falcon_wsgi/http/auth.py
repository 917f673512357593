"""API keys: every route but liveness and readiness needs a listed one. Where there is no list, none does."""

from __future__ import annotations

import base64
from typing import Any, Protocol

from falcon_wsgi.errors import Unauthenticated
from falcon_wsgi.http.context import HttpContext

# For load balancers and orchestrators, which have no key. They say nothing that needs one.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})


class Holder(Protocol):
    """Whom a key stands for."""

    @property
    def client(self) -> str: ...

    @property
    def admin(self) -> bool: ...


class KeyRing(Protocol):
    def identify(self, key: str) -> Holder:
        """Raises Unauthenticated."""


class AuthObserver(Protocol):
    def refused(self, reason: str) -> None: ...


class KeyRequired:
    """Runs before each request, also before a 404 or 405, so that a stranger does not learn the routes."""

    def __init__(self, keys: KeyRing, observer: AuthObserver) -> None:
        self._keys = keys
        self._observer = observer

    def check(self, environ: dict[str, Any]) -> None:
        """Raises Unauthenticated."""
        if environ["PATH_INFO"] in OPEN_PATHS:
            return
        try:
            holder = self._keys.identify(presented_key(environ))
        except Unauthenticated as refusal:
            self._observer.refused(refusal.reason)
            raise
        context: HttpContext = environ["falcon.context"]
        context.client, context.admin = holder.client, holder.admin


def presented_key(environ: dict[str, Any]) -> str:
    """The key as sent: X-API-Key, a bearer token (RFC 6750), or the password of Basic (RFC 7617), for browsers.

    X-API-Key comes first: a browser adds the Basic credentials that it was once given to every request, also to
    one for which a page sets another key.

    Raises:
        Unauthenticated: there is none, or the Basic credentials cannot be decoded.
    """
    if key := environ.get("HTTP_X_API_KEY"):
        return str(key)
    scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return str(credentials.strip())
        case "basic":
            return _password(credentials.strip())
    raise Unauthenticated(
        "an API key is required: send Authorization: Bearer KEY, or X-API-Key: KEY", "missing"
    )


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        raise Unauthenticated("the Basic credentials are not valid", "malformed") from None
