"""A connection's requests are answered in order, however they arrive and whichever way each of them is read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import NoMoreData, ParseException

from falcon_wsgi.server.connection import Connection
from falcon_wsgi.server.plain import common_environ
from tests.unit.server.gunicorn_config import configured

PEER, LISTENER = ("192.0.2.7", 4711), ("192.0.2.1", 8000)
WAYS = {
    "plain": configured(),
    # Headers that could change the scheme leave every request to Gunicorn's parser.
    "strict": configured(secure_scheme_headers={"X-FORWARDED-PROTO": "https"}),
}


class FakeClient:
    """Gives one piece for each `recv`, then the end; keeps what is sent."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.sent = b""
        self.gone = False

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]

    def send(self, data: bytes) -> int:
        if self.gone:
            raise BrokenPipeError
        self.sent += data
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.send(data)

    def fileno(self) -> int:
        return 0

    def settimeout(self, timeout_s: float | None) -> None: ...

    def gettimeout(self) -> float | None:
        return None

    def shutdown(self, how: int) -> None: ...

    def close(self) -> None: ...


class FakeIdle:
    """Waits for nothing."""

    def receive(self, client: FakeClient, readable: Any) -> bytes:
        return client.recv(8192)


App = Callable[[dict[str, Any], Any], Iterable[bytes]]


class FakeServer:
    def __init__(self, cfg: Config, app: App) -> None:
        self.cfg = cfg
        self.wsgi = app
        self.alive = True
        self.idle: Any = FakeIdle()
        self.common_environ = common_environ(cfg)
        self.requests = 0

    def count_request(self) -> None:
        self.requests += 1

    def request_ended(self) -> None:
        pass


def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Path and body; the body stays unread at /unread."""
    unread = environ["PATH_INFO"] == "/unread"
    body = b"" if unread else environ["wsgi.input"].read()
    answer = b"%s[%s]" % (environ["PATH_INFO"].encode(), body)
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


@pytest.fixture(params=list(WAYS))
def cfg(request: pytest.FixtureRequest) -> Config:
    return WAYS[request.param]


def serve(cfg: Config, *pieces: bytes, app: App = echo) -> FakeClient:
    client = FakeClient(*pieces)
    Connection(FakeServer(cfg, app), LISTENER, client, PEER).serve()
    return client


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = [
        b"POST " + path + b" HTTP/1.1",
        b"Host: x",
        b"Content-Length: %d" % len(body),
        *headers,
        b"",
        b"",
    ]
    return b"\r\n".join(lines) + body


def get(path: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"Host: x", *headers, b"", b""])


CHUNKED = b"POST /chunked HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
MIXED = (
    post(b"/a", b"one")
    + get(b"/%62")
    + post(b"/unread", b"two")
    + CHUNKED
    + post(b"/c", b"three", b"X-A: 1", b"X-A: 2")
    + CHUNKED.replace(b"/chunked", b"/unread")
    + post(b"/d", b"GET /smuggled HTTP/1.1\r\n\r\n")
    + get(b"/e", b"Connection: close")
)
ANSWERED = [
    b"/a[one]",
    b"/b[]",
    b"/unread[]",
    b"/chunked[abcde]",
    b"/c[three]",
    b"/unread[]",
    b"/d[GET /smuggled HTTP/1.1\r\n\r\n]",
    b"/e[]",
]


def answers(client: FakeClient) -> list[bytes]:
    """By their lengths, as a client reads them."""
    found, rest = [], client.sent
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length, head
        found.append(rest[: int(length[1])])
        rest = rest[int(length[1]) :]
    return found


def test_requests_of_all_kinds_follow_one_another_wherever_the_stream_is_cut(cfg: Config) -> None:
    for place in range(1, len(MIXED)):
        assert answers(serve(cfg, MIXED[:place], MIXED[place:])) == ANSWERED, MIXED[:place]


def test_requests_that_come_byte_by_byte_are_answered(cfg: Config) -> None:
    assert answers(serve(cfg, *(MIXED[i : i + 1] for i in range(len(MIXED))))) == ANSWERED


def test_a_body_larger_than_a_read_is_whole(cfg: Config) -> None:
    body = bytes(range(48, 58)) * 5000
    assert answers(serve(cfg, post(b"/a", body), get(b"/b"))) == [b"/a[" + body + b"]", b"/b[]"]


def test_after_close_nothing_is_answered(cfg: Config) -> None:
    client = serve(cfg, get(b"/a", b"Connection: close") + get(b"/b"))
    assert answers(client) == [b"/a[]"]
    assert b"Connection: close" in client.sent


def test_a_worker_that_ends_says_so_and_closes(cfg: Config) -> None:
    client = FakeClient(get(b"/a") + get(b"/b"))
    server = FakeServer(cfg, echo)

    def last(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        server.alive = False  # while the app works
        return echo(environ, start_response)

    server.wsgi = last
    Connection(server, LISTENER, client, PEER).serve()
    assert answers(client) == [b"/a[]"]
    assert b"Connection: close" in client.sent
    assert server.requests == 1


def test_a_client_that_waits_for_100_is_told_to_go_on(cfg: Config) -> None:
    request = post(b"/a", b"one", b"Expect: 100-continue")
    client = serve(cfg, request[:-3], request[-3:])
    assert client.sent.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert client.sent.endswith(b"/a[one]")


def test_a_key_sent_twice_reaches_the_app_as_two(cfg: Config) -> None:
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        seen.append(environ["HTTP_IDEMPOTENCY_KEY"])
        return echo(environ, start_response)

    serve(
        cfg,
        get(b"/", b"Idempotency-Key: a", b"Idempotency-Key: b") + get(b"/", b"Idempotency-Key: a, b"),
        app=app,
    )
    assert seen == ["a\nb", "a, b"]


def test_a_body_too_large_to_throw_away_ends_the_connection(cfg: Config) -> None:
    request = post(b"/unread", b"x" * 3_000_000)
    assert answers(serve(cfg, request, get(b"/b"))) == [b"/unread[]"]


@pytest.mark.parametrize("part", [b"", b"POST", post(b"/a", b"")[:-2]])
def test_a_client_that_ends_before_its_request_does_reaches_no_app(cfg: Config, part: bytes) -> None:
    client = FakeClient(*filter(None, [part]))
    server = FakeServer(cfg, echo)
    with contextlib.suppress(NoMoreData):
        Connection(server, LISTENER, client, PEER).serve()
    assert (client.sent, server.requests) == (b"", 0)


@pytest.mark.parametrize("broken", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"])
def test_what_is_not_http_is_raised_and_ends_the_connection(cfg: Config, broken: bytes) -> None:
    client = FakeClient(get(b"/a") + broken + get(b"/b"))
    with pytest.raises(ParseException):
        Connection(FakeServer(cfg, echo), LISTENER, client, PEER).serve()
    assert answers(client) == [b"/a[]"]


def test_a_failure_before_the_answer_is_raised_for_the_caller_to_answer(cfg: Config) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise ZeroDivisionError

    client = FakeClient(get(b"/a"))
    with pytest.raises(ZeroDivisionError):
        Connection(FakeServer(cfg, app), LISTENER, client, PEER).serve()
    assert client.sent == b""


def test_an_answer_that_breaks_off_is_followed_by_nothing(
    cfg: Config, caplog: pytest.LogCaptureFixture
) -> None:
    closed = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield b"hal"
            raise ZeroDivisionError

        def close(self) -> None:
            closed.append(True)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        return Body()

    client = serve(cfg, get(b"/a") + get(b"/b"), app=app)
    assert client.sent.endswith(b"\r\n\r\nhal")
    assert client.sent.count(b"HTTP/1.1") == 1
    assert closed == [True]
    assert [record.message for record in caplog.records] == ["answer_broken_off"]


def test_a_client_that_is_gone_when_it_is_answered_is_raised(cfg: Config) -> None:
    client = FakeClient(get(b"/a"))
    client.gone = True
    with pytest.raises(BrokenPipeError):
        Connection(FakeServer(cfg, echo), LISTENER, client, PEER).serve()
