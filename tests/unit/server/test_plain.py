"""A request is read plainly only where that gives exactly what Gunicorn's parser gives; all else is left to it."""

from __future__ import annotations

import string
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser, wsgi
from hypothesis import example, given, settings
from hypothesis import strategies as st

from falcon_wsgi.server.plain import PlainReader, PlainRequest, common_environ
from tests.unit.server.gunicorn_config import configured

PEER, LISTENER = ("192.0.2.7", 4711), ("192.0.2.1", 8000)
CLIENT = object()
CFG = configured()

POST = b"POST /infer HTTP/1.1\r\nHost: falcon:8000\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"


def plainly(
    received: bytes, cfg: Config = CFG, *, peer: Any = PEER, listener: Any = LISTENER
) -> PlainRequest | None:
    return PlainReader(cfg, common_environ(cfg), CLIENT, peer, listener).read(received)


def strictly(received: bytes) -> tuple[Any, dict[str, Any], bytes]:
    """Gunicorn's request, its environ, and what comes after the head."""
    parser = get_parser(CFG, [received], PEER)
    request = next(parser)
    rest = parser.unreader.take_buffered()
    _, environ = wsgi.create(request, CLIENT, PEER, LISTENER, CFG)
    return request, environ | {"wsgi.multithread": True}, rest


def comparable(environ: dict[str, Any]) -> dict[str, Any]:
    # Streams have no equality; early hints are a function of Gunicorn's that nothing here calls.
    unlike = ("wsgi.errors", "wsgi.input", "wsgi.early_hints")
    return {key: value for key, value in environ.items() if key not in unlike}


def assert_same(received: bytes, plain: PlainRequest) -> None:
    request, environ, rest = strictly(received)
    assert comparable(plain.environ) == comparable(environ)
    assert received[plain.after :] == rest
    assert (plain.method, plain.version) == (request.method, request.version)
    assert plain.should_close() == request.should_close()
    assert not request._expected_100_continue
    body = request.body.reader
    assert type(body).__name__ == "LengthReader"
    assert body.length == plain.length


REGULAR = [
    POST,
    POST + POST,
    POST[:-3],
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /v2/models/sentiment/versions/1.0.0/ready?a=b&c=%20?/// HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /healthz? HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a//b/../c HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost:x\r\nX-Empty:\r\nX-Spaces: \t a\tb c \t \r\nX-Latin: \xe9\xff\r\n\r\n",
    b"GET /x HTTP/1.1\r\nhost: x\r\nCONNECTION: Keep-Alive\r\nIdempotency-Key: a, b\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: ::1, 10.0.0.1\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: 007\r\nProxy: http://evil\r\n\r\n",
    b"GET /x HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(100)) + b"\r\n",
]


@pytest.mark.parametrize("received", REGULAR, ids=range(len(REGULAR)))
def test_what_is_regular_is_read_as_gunicorn_reads_it(received: bytes) -> None:
    plain = plainly(received)
    assert plain is not None
    assert_same(received, plain)


UNUSUAL = [
    POST.replace(b"1.1", b"1.0"),
    POST.replace(b"POST", b"HEAD"),
    POST.replace(b"POST", b"CONNECT"),
    POST.replace(b"POST", b"post"),
    POST.replace(b"/infer", b"/in%66er"),
    POST.replace(b"/infer", b"//elsewhere/infer"),
    POST.replace(b"/infer", b"http://elsewhere/infer"),
    POST.replace(b"/infer", b"/infer#part"),
    POST.replace(b"/infer", b"/infer?a#part"),
    POST.replace(b"/infer", b"*"),
    POST.replace(b"/infer", b"/inf\xe9r"),
    POST.replace(b" HTTP", b"  HTTP"),
    POST.replace(b"Length: 5", b"Length: 5, 5"),
    POST.replace(b"Length: 5", b"Length: +5"),
    POST.replace(b"Length: 5", b"Length: -5"),
    POST.replace(b"Length: 5", b"Length: 5_0"),
    POST.replace(b"Length: 5", b"Length: \xb2"),
    POST.replace(b"Length: 5", b"Length: "),
    POST.replace(b"Length: 5", b"Length: " + b"9" * 5000),
    POST.replace(b"Length: 5", b"Length: " + b"9" * 11),
    POST.replace(b"Host:", b"Host :"),
    POST.replace(b"Host:", b" Host:"),
    POST.replace(b"Host:", b"H\xf6st:"),
    POST.replace(b"Host:", b":"),
    POST.replace(b"Host: falcon:8000", b"no colon"),
    POST.replace(b"Host: falcon:8000", b"Host: a\r\n folded"),
    POST.replace(b"Host: falcon:8000", b"Host: a\nX-B: c"),
    POST.replace(b"Host: falcon:8000", b"Host: a\rb"),
    POST.replace(b"Host: falcon:8000", b"Host: a\x00b"),
    POST.replace(b"Host: falcon:8000", b"Host: a\x7fb"),
    POST.replace(b"\r\n", b"\n"),
    b"\r\n" + POST,
    POST[: POST.index(b"\r\n\r\n") + 2],
    b"",
    b"\x16\x03\x01\x02\x00",
    *(
        POST.replace(b"Host: falcon:8000", line)
        for line in (
            b"Host: a\r\nHost: a",
            b"Content-Type: text/plain",
            b"Content-Length: 5",
            b"X-A: 1\r\nx-a: 2",
            b"Idempotency-Key: a\r\nIdempotency-Key: b",
            b"Transfer-Encoding: chunked",
            b"TRANSFER-ENCODING:",
            b"Transfer_Encoding: chunked",
            b"SCRIPT_NAME: /evil",
            b"Expect: 100-continue",
            b"Connection: upgrade",
            b"Connection: keep-alive, close",
            b"Connection: close\r\nConnection: keep-alive",
        )
    ),
]


@pytest.mark.parametrize("received", UNUSUAL, ids=range(len(UNUSUAL)))
def test_what_is_unusual_or_broken_is_left_to_gunicorn(received: bytes) -> None:
    assert plainly(received) is None


def test_a_head_beyond_any_limit_is_left_to_gunicorn() -> None:
    longest = b"GET /x HTTP/1.1\r\nX: " + b"a" * (4094 - 24) + b"\r\n\r\n"
    assert plainly(longest) is not None
    assert plainly(longest.replace(b"X: ", b"X: a")) is None
    assert (
        plainly(b"GET /x HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(101)) + b"\r\n") is None
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"secure_scheme_headers": {"X-FORWARDED-PROTO": "https"}},
        {"proxy_protocol": True},
        {"casefold_http_method": True},
        {"certfile": "cert.pem"},
        {"limit_request_fields": 0},
        {"limit_request_line": 0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_configuration_that_gives_requests_a_further_meaning_leaves_nothing_plain(
    changes: dict[str, Any],
) -> None:
    assert plainly(POST, configured(**changes)) is None


def test_a_socket_file_leaves_nothing_plain() -> None:
    assert plainly(POST, peer="") is None
    assert plainly(POST, listener="/run/falcon.sock") is None


@pytest.mark.parametrize("mount", ["/falcon", "/"])
def test_an_app_that_is_mounted_below_a_path_leaves_nothing_plain(
    monkeypatch: pytest.MonkeyPatch, mount: str
) -> None:
    monkeypatch.setenv("SCRIPT_NAME", mount)
    assert plainly(POST) is None


def test_requests_of_one_connection_share_no_environ() -> None:
    reader = PlainReader(CFG, common_environ(CFG), CLIENT, PEER, LISTENER)
    first = reader.read(POST.replace(b"Host", b"X-Request-ID: secret\r\nHost"))
    second = reader.read(POST)
    assert first is not None
    assert second is not None
    assert "HTTP_X_REQUEST_ID" in first.environ
    assert "HTTP_X_REQUEST_ID" not in second.environ


_names = st.text(string.ascii_letters + string.digits + "-!#$%&'*+.^_`|~", min_size=1, max_size=12).map(
    str.encode
) | st.sampled_from(
    [b"Host", b"Content-Length", b"Content-Type", b"Connection", b"Transfer-Encoding", b"Expect"]
)
_values = (
    st.text(string.printable, max_size=15).map(str.encode)
    | st.binary(max_size=8)
    | st.sampled_from([b"5", b"0", b"close", b"keep-alive", b"chunked", b"100-continue", b" a ", b"\t5"])
)
_fields = st.tuples(_names, st.sampled_from([b": ", b":", b":\t", b" :", b""]), _values).map(b"".join)
_targets = st.text(string.ascii_letters + "/?#%:;@[]&=+~.-*", max_size=20).map(
    lambda text: b"/" + text.encode()
)
_heads = st.builds(
    lambda method, target, version, fields, ending, body: (
        ending.join([b" ".join([method, target, version]), *fields, b"", b""]) + body
    ),
    st.sampled_from([b"GET", b"POST", b"HEAD", b"get", b"PUT"]),
    _targets | st.binary(max_size=10),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 "]),
    st.lists(_fields, max_size=6),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]),
    st.binary(max_size=10),
)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(_heads | st.binary(max_size=60) | st.sampled_from(REGULAR + UNUSUAL))
@example(b"GET /?[ HTTP/1.1\r\n\r\n")
@example(b"GET /:@ HTTP/1.1\r\n\r\n")
def test_nothing_is_read_otherwise_than_gunicorn_reads_it(received: bytes) -> None:
    if (plain := plainly(received)) is not None:
        assert_same(received, plain)  # fails too where Gunicorn refuses


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(REGULAR), st.integers(0, 400), st.binary(min_size=1, max_size=2), st.booleans())
def test_a_regular_head_with_any_byte_changed_is_read_as_gunicorn_reads_it(
    received: bytes, place: int, byte: bytes, insert: bool
) -> None:
    place %= len(received)
    changed = received[:place] + byte + received[place + (0 if insert else len(byte)) :]
    if (plain := plainly(changed)) is not None:
        assert_same(changed, plain)
