"""The model routes without Flask's request cycle."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from falcon_wsgi.errors import FalconError
from falcon_wsgi.http import problems
from falcon_wsgi.http.answer import Handler

log = logging.getLogger(__name__)

Environ = dict[str, Any]
WsgiApp = Callable[[Environ, Any], Iterable[bytes]]


class Shortcut:
    """WSGI middleware that answers `POST` on an exact path itself, and leaves everything else to the app.

    Flask's cycle for a request (two contexts, session, URL matching, request and response objects, signals) costs as
    much as all that is done for an answer from the cache, and these routes use none of it. The app has them as
    well, for its other methods and its map of URLs; both ways end in the same handlers and the same problems.

    Args:
        handlers: by path.
        check: raises a FalconError for a request that may not be answered, as the app's `before_request` does.
    """

    def __init__(
        self, app: WsgiApp, handlers: Mapping[str, Handler], check: Callable[[Environ], None] | None = None
    ) -> None:
        self._app = app
        self._handlers = handlers
        self._check = check

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        handler = self._handlers.get(path) if environ["REQUEST_METHOD"] == "POST" else None
        if handler is None:
            return self._app(environ, start_response)
        environ["falcon.context"].rule = path
        try:
            if self._check is not None:
                self._check(environ)
            answer = handler(environ)
        except FalconError as error:
            answer = problems.answer_to(error, environ)
        except Exception:
            log.exception("request_crashed")
            answer = problems.unforeseen(environ)
        length = str(len(answer.body))
        headers = [("Content-Type", answer.content_type), ("Content-Length", length), *answer.headers]
        start_response(problems.STATUS_LINES[answer.status], headers)
        return (answer.body,)
