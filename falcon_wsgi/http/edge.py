"""The outermost layer: context, headers, access record and HTTP metrics of every request, also of failed ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from falcon_wsgi.http.context import ContextFactory
from falcon_wsgi.http.problems import STATUS_LINES
from falcon_wsgi.observability.logs import AccessLog, current_request

Environ = dict[str, Any]
WsgiApp = Callable[[Environ, Any], Iterable[bytes]]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_STAGES = ("queue", "cache", "predict", "log")
_TIMINGS = ", ".join(f"{stage};dur=%.3f" for stage in _STAGES)


class HttpObserver(Protocol):
    def http_request(self, method: str, rule: str, status: int, seconds: float) -> None: ...


class Edge:
    """WSGI middleware around the whole app."""

    def __init__(
        self,
        app: WsgiApp,
        contexts: ContextFactory,
        worker_id: str,
        access_log: AccessLog,
        observer: HttpObserver,
    ) -> None:
        self._app = app
        self._contexts = contexts
        self._worker_id = worker_id
        self._access_log = access_log
        self._observer = observer

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        context = self._contexts.build(environ)
        environ["falcon.context"] = context
        token = current_request.set(context)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            context.status = code = int(status[:3])
            headers.append(("X-Request-ID", context.request_id))
            headers.append(("X-Worker-ID", self._worker_id))
            if context.timings:
                headers.append(("Server-Timing", server_timing(context.timings)))
            headers += context.headers
            return start_response(STATUS_LINES.get(code, status), headers, exc_info)

        try:
            return self._app(environ, start)
        finally:
            seconds = time.perf_counter() - context.started
            method = environ["REQUEST_METHOD"]
            # Without a status the connection was cut off at the end of a drain.
            status = context.status or 500
            self._observer.http_request(
                method if method in _METHODS else "OTHER", context.rule, status, seconds
            )
            self._access_log.write(context, status, method, environ["PATH_INFO"], seconds)
            current_request.reset(token)


def server_timing(timings: Mapping[str, float]) -> str:
    """Milliseconds by stage (https://www.w3.org/TR/server-timing/)."""
    return _TIMINGS % tuple([timings.get(stage, 0.0) * 1000 for stage in _STAGES])
