"""An answer leaves in one piece, and is what Gunicorn's own response would have sent."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName
from gunicorn.http.wsgi import Response

from falcon_wsgi.server.response import OneWriteResponse
from tests.unit.server.gunicorn_config import configured

CFG = configured()
Headers = Sequence[tuple[str, str]]


class FakeSocket:
    """Takes `at_once` bytes with `send`, the rest with `sendall`."""

    def __init__(self, at_once: int = 1 << 20) -> None:
        self.at_once = at_once
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.sent.append(bytes(data[: self.at_once]))
        return len(self.sent[-1])

    def sendall(self, data: bytes) -> None:
        self.sent.append(bytes(data))


def request(method: str = "POST", version: tuple[int, int] = (1, 1), *, closes: bool = False) -> Any:
    return SimpleNamespace(method=method, version=version, should_close=lambda: closes)


def answered(
    kind: type[Response], asked: Any, status: str, headers: Headers, parts: Sequence[bytes]
) -> tuple[bytes, bool]:
    """What `kind` sends, and whether the connection closes."""
    client = FakeSocket()
    response = kind(asked, client, CFG)
    response.start_response(status, list(headers))
    for part in parts:
        response.write(part)
    response.close()
    return re.sub(rb"Date: [^\r]+", b"Date: now", b"".join(client.sent)), response.should_close()


LENGTH = [("Content-Type", "text/plain"), ("Content-Length", "5")]
CASES: list[tuple[str, Headers, list[bytes]]] = [
    ("200 OK", LENGTH, [b"hello"]),
    ("200 OK", LENGTH, [b"he", b"", b"llo"]),
    ("200 OK", LENGTH, [b"hello, more than announced"]),
    ("200 OK", [], [b"hello"]),
    ("200 OK", [], [b"hello", b"", b"world"]),
    ("200 OK", [], []),
    ("204 No Content", LENGTH, []),
    ("204 No Content", [], [b"dropped"]),
    ("304 Not Modified", LENGTH, []),
    ("404 Not Found", [("content-length", "0"), ("X-A", " \t a b\t"), ("X-A", "\xe9")], []),
    ("200 OK", [*LENGTH, ("Connection", "close"), ("Transfer-Encoding", "chunked"), ("TE", "x")], [b"hello"]),
    ("299", LENGTH, [b"hello"]),
]
ASKED = list(itertools.product(("GET", "HEAD"), ((1, 0), (1, 1)), (False, True)))


@pytest.mark.parametrize(("status", "headers", "parts"), CASES, ids=range(len(CASES)))
def test_it_sends_what_gunicorn_sends(status: str, headers: Headers, parts: list[bytes]) -> None:
    for method, version, closes in ASKED:
        asked = request(method, version, closes=closes)
        expected = answered(Response, asked, status, headers, parts)
        assert answered(OneWriteResponse, asked, status, headers, parts) == expected


def test_head_and_body_leave_with_one_call() -> None:
    client = FakeSocket()
    response = OneWriteResponse(request(), client, CFG)
    response.start_response("200 OK", list(LENGTH))
    response.write(b"hello")
    response.close()
    assert len(client.sent) == 1
    assert client.sent[0].endswith(b"\r\n\r\nhello")


def test_what_the_socket_does_not_take_at_once_follows() -> None:
    client = FakeSocket(at_once=7)
    response = OneWriteResponse(request(), client, CFG)
    response.start_response("200 OK", list(LENGTH))
    response.write(b"hello")
    assert client.sent[0] == b"HTTP/1."
    assert client.sent[1].startswith(b"1 200 OK\r\n")
    assert client.sent[1].endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\x00b", "\u20ac"])
@pytest.mark.parametrize("place", range(3))
def test_a_value_that_could_split_the_answer_is_refused_and_not_shown(value: str, place: int) -> None:
    headers = [*LENGTH]
    headers.insert(place, ("X-Key", value))
    client = FakeSocket()
    with pytest.raises(InvalidResponseHeader) as raised:
        OneWriteResponse(request(), client, CFG).start_response("200 OK", headers)
    assert "X-Key" in str(raised.value)
    assert value not in str(raised.value)
    assert client.sent == []


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "\xe9"])
def test_a_name_that_is_none_is_refused_each_time(name: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidResponseHeaderName):
            OneWriteResponse(request(), FakeSocket(), CFG).start_response("200 OK", [(name, "a")])


@pytest.mark.parametrize("header", [("X-A", 5), ("X-A", b"a"), (b"X-A", "a"), (5, "a")])
def test_what_is_no_string_is_refused(header: Any) -> None:
    with pytest.raises(TypeError):
        OneWriteResponse(request(), FakeSocket(), CFG).start_response("200 OK", [header])


def test_the_date_is_the_second_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def dated(moment: float) -> bytes:
        monkeypatch.setattr("falcon_wsgi.server.response.time.time", lambda: moment)
        client = FakeSocket()
        response = OneWriteResponse(request(), client, CFG)
        response.start_response("200 OK", list(LENGTH))
        response.close()
        found = re.search(rb"Date: ([^\r]+)", client.sent[0])
        assert found
        return found[1]

    assert dated(1_000_000_000.9) == b"Sun, 09 Sep 2001 01:46:40 GMT"
    assert dated(1_000_000_001.0) == b"Sun, 09 Sep 2001 01:46:41 GMT"
    assert dated(1_000_000_000.0) == b"Sun, 09 Sep 2001 01:46:40 GMT"
