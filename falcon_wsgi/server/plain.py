"""Reads a plainly regular request straight into a WSGI environ, for a tenth of the processor time of the strict way.

Regular is what nearly every client of a service sends: a whole head of HTTP/1.1 in one piece, GET or POST, a path
without escapes, each header once, a body of known length. All else, broken or only unusual, is left to Gunicorn's
parser: nothing is refused here, so there is one place that decides what is not HTTP. What is regular gets the environ
that Gunicorn would have made of it, but for `wsgi.early_hints`, a function made for each request that nothing calls.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from gunicorn.http import get_parser, wsgi
from gunicorn.http.errors import ConfigurationProblem
from gunicorn.http.message import MAX_REQUEST_LINE

Environ = dict[str, Any]

# RFC 9112 and 9110, less what needs a second look: escapes, fragments and an authority in the target (a path that
# begins with two slashes looks like one), underscores in names (they would pass for hyphens in an environ). Possessive,
# so that a head that does not match costs one pass.
_HEAD = re.compile(
    rb"(GET|POST) ((/(?!/)[A-Za-z0-9._~/-]*+)(?:\?([!-\"$-~]*+))?) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n)*+)\r\n"
)
# These change what the request is, or where it ends, in ways that the strict parser knows.
_NOT_PLAIN = frozenset({"HTTP_EXPECT", "HTTP_TRANSFER_ENCODING"})
_STAYS_OPEN = {"keep-alive": True, "close": False}
_LENGTH_DIGITS = 10
_NOBODY = ("", 0)


class PlainRequest:
    """A request whose head has been read; `after` is where in the received bytes the head ended."""

    __slots__ = ("after", "body", "environ", "keep_alive", "length", "method")

    version = (1, 1)

    def __init__(self, environ: Environ, method: str, length: int, keep_alive: bool, after: int) -> None:
        self.environ = environ
        self.method = method
        self.length = length
        self.keep_alive = keep_alive
        self.after = after
        self.body: Any = None

    def should_close(self) -> bool:
        return not self.keep_alive

    def give_body(self, body: Any) -> None:
        self.body = self.environ["wsgi.input"] = body


class PlainReader:
    """Reads the heads of one connection's requests.

    Args:
        cfg: Gunicorn's configuration.
        common: of `common_environ`.
        client, peer, listener_name: the socket and the addresses of its two ends.
    """

    def __init__(self, cfg: Any, common: Environ | None, client: Any, peer: Any, listener_name: Any) -> None:
        self._most_bytes = 0
        if common is None or not isinstance(peer, tuple) or not isinstance(listener_name, tuple):
            return  # nothing is plain; the addresses of a socket file take a second look, too
        # A head of no more bytes breaks no limit, whatever it consists of.
        self._most_bytes = min(cfg.limit_request_line, cfg.limit_request_field_size, MAX_REQUEST_LINE)
        self._most_fields = cfg.limit_request_fields
        self._common = common | {
            "gunicorn.socket": client,
            "REMOTE_ADDR": peer[0],
            "REMOTE_PORT": str(peer[1]),
            "SERVER_NAME": listener_name[0],
            "SERVER_PORT": str(listener_name[1]),
        }

    def read(self, received: bytes) -> PlainRequest | None:
        """The request at the beginning of `received`, without its body; None if it is not plain."""
        head = _HEAD.match(received)
        if head is None or head.end() > self._most_bytes:
            return None
        environ = self._common.copy()
        fields = head[5].decode("latin-1").split("\r\n")
        del fields[-1]
        if len(fields) > self._most_fields:
            return None
        for field in fields:
            name, _, value = field.partition(":")
            key = _environ_key(name)
            if key in environ or key in _NOT_PLAIN:
                return None
            environ[key] = value.strip(" \t")
        length = _length(environ)
        keep_alive = _STAYS_OPEN.get(environ.get("HTTP_CONNECTION", "keep-alive").lower())
        if length is None or keep_alive is None:
            return None
        method, target, path, query = head.group(1, 2, 3, 4)
        environ["REQUEST_METHOD"] = method = method.decode()
        environ["RAW_URI"] = target.decode()
        environ["PATH_INFO"] = path.decode()
        environ["QUERY_STRING"] = query.decode() if query else ""
        return PlainRequest(environ, method, length, keep_alive, head.end())


def common_environ(cfg: Any) -> Environ | None:
    """What Gunicorn puts into the environ of each request, whatever its head and its connection.

    None if nothing is plain: under a configuration that gives headers or paths a further meaning.
    """
    limits = (cfg.limit_request_line, cfg.limit_request_fields, cfg.limit_request_field_size)
    further_meaning = (
        cfg.is_ssl or cfg.proxy_protocol != "off" or cfg.secure_scheme_headers or cfg.casefold_http_method
    )
    if further_meaning or min(limits) <= 0:
        return None
    try:
        sample = next(get_parser(cfg, [b"GET / HTTP/1.1\r\n\r\n"], _NOBODY))
        environ: Environ = wsgi.create(sample, None, _NOBODY, _NOBODY, cfg)[1]
    except ConfigurationProblem:
        return None  # SCRIPT_NAME is set, so the app is mounted below another path than this one
    del environ["wsgi.early_hints"]
    return None if environ["SCRIPT_NAME"] else environ | {"wsgi.multithread": True}


@lru_cache(256)
def _environ_key(name: str) -> str:
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def _length(environ: Environ) -> int | None:
    """Bytes of the body; None if the header does not plainly say."""
    declared: str | None = environ.get("CONTENT_LENGTH")
    if declared is None:
        return 0
    plain = declared.isascii() and declared.isdecimal() and len(declared) <= _LENGTH_DIGITS
    return int(declared) if plain else None
