"""What is below the app: a request read, an answer sent, each in the usual way and by Gunicorn alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from gunicorn.config import Config
from gunicorn.http import get_parser, wsgi
from gunicorn.http.wsgi import Response

from conftest import TEXT, Measure
from falcon_wsgi.server.connection import Connection
from falcon_wsgi.server.plain import PlainReader, common_environ
from falcon_wsgi.server.response import OneWriteResponse

_BODY = orjson.dumps({"text": TEXT})
_REQUEST = (
    b"POST /infer HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n"
    b"X-Request-ID: b3f9a2c1e0-w1-17\r\nContent-Length: %d\r\n\r\n" % len(_BODY)
) + _BODY
_ANSWER = b"x" * 350
_HEADERS = [
    ("Content-Type", "application/json"),
    ("Content-Length", str(len(_ANSWER))),
    ("X-Request-ID", "01a1feac-f39d-7173-a9a5-5bca01c7ca31"),
    ("X-Worker-ID", "worker-2"),
    ("Server-Timing", "queue;dur=0.045, cache;dur=0.434, predict;dur=0.299, log;dur=1.227"),
]
_PEER, _LISTENER = ("192.0.2.7", 4711), ("192.0.2.1", 8000)


class Client:
    """Takes what it is sent; asks the same again, `asks` times in all."""

    def __init__(self, asks: int = 0) -> None:
        self.asks = asks

    def recv(self, size: int) -> bytes:
        self.asks -= 1
        return _REQUEST if self.asks >= 0 else b""

    def send(self, data: bytes) -> int:
        return len(data)

    def sendall(self, data: bytes) -> None: ...

    def settimeout(self, timeout_s: float) -> None: ...

    def fileno(self) -> int:
        return 0


class Server:
    """A worker whose app answers a constant."""

    alive = True

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.common_environ = common_environ(cfg)
        self.idle: Any = self

    def receive(self, client: Client, readable: Any) -> bytes:
        return client.recv(8192)

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["wsgi.input"].read(len(_BODY))
        start_response("200 OK", list(_HEADERS))
        return [_ANSWER]

    def count_request(self) -> None: ...

    def request_ended(self) -> None: ...


def _config() -> Config:
    cfg = Config()
    cfg.set("secure_scheme_headers", {})
    return cfg


def bench_read_request(measure: Measure) -> None:
    cfg = _config()
    measure(PlainReader(cfg, common_environ(cfg), Client(), _PEER, _LISTENER).read, _REQUEST)


def bench_read_request_by_gunicorn(measure: Measure) -> None:
    cfg, client = _config(), Client()

    def read() -> Any:
        parser = get_parser(cfg, [_REQUEST], _PEER)
        return wsgi.create(next(parser), client, _PEER, _LISTENER, cfg)

    measure(read)


def _bench_send(measure: Measure, kind: type[Response]) -> None:
    cfg, client = _config(), Client()
    request = PlainReader(cfg, common_environ(cfg), client, _PEER, _LISTENER).read(_REQUEST)

    def send() -> None:
        response = kind(request, client, cfg)
        response.start_response("200 OK", list(_HEADERS))
        response.write(_ANSWER)
        response.close()

    measure(send)


def bench_send_answer(measure: Measure) -> None:
    _bench_send(measure, OneWriteResponse)


def bench_send_answer_by_gunicorn(measure: Measure) -> None:
    _bench_send(measure, Response)


def bench_ten_requests_of_a_connection(measure: Measure) -> None:
    server = Server(_config())
    measure(lambda: Connection(server, _LISTENER, Client(10), _PEER).serve())
