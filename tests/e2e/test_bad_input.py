"""Whatever a client sends, it gets an answer or a closed connection, and the service goes on as if nothing were."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from falcon_wsgi.backends import migrations
from falcon_wsgi.launch.embedded import EmbeddedRedis
from tests.conftest import FreshDatabase
from tests.e2e.instance import Instance, wait_until

MIB = 1024 * 1024
GOOD = b'{"text": "good food"}'
NEVER_SHOWN = re.compile(
    rb"Traceback|File \"|\.py\b|site-packages|gunicorn\.|werkzeug|falcon_wsgi|pydantic|orjson|[A-Z][a-z]+Error\b"
    rb"|Invalid[A-Z]|/tmp/|/work/|/home/"
)


class Reply:
    """What came back on a connection: the answers to its requests, and how it ended."""

    def __init__(self, raw: bytes, ended: str) -> None:
        self.raw = raw
        self.ended = ended  # "closed", "reset", or "open" where nothing more came for a while

    @property
    def statuses(self) -> list[int]:
        return [int(code) for code in re.findall(rb"HTTP/1\.\d (\d{3}) ", self.raw)]

    @property
    def status(self) -> int:
        assert self.statuses, f"no answer; the connection is {self.ended}"
        return self.statuses[-1]

    @property
    def problem(self) -> dict[str, Any]:
        head, _, body = self.raw.rpartition(b"\r\n\r\n")
        assert b"content-type: application/problem+json" in head.lower(), self.raw
        document: dict[str, Any] = json.loads(body)
        return document


def send(
    port: int, *parts: bytes, end: bool = False, patience_s: float = 60.0, pause_s: float = 0.0
) -> Reply:
    """Send the parts on one connection, then read until it closes. `end` ends the sending side."""
    received = bytearray()
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=patience_s)) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause_s)
            if end:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the answer may have come before all was sent
        try:
            while data := connection.recv(65536):
                received += data
        except TimeoutError:
            return Reply(bytes(received), "open")
        except OSError:
            return Reply(bytes(received), "reset")
    return Reply(bytes(received), "closed")


def post(body: bytes, *headers: bytes, path: bytes = b"/infer", length: bool = True) -> bytes:
    """A request after which the connection closes."""
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: falcon", b"Connection: close", *headers]
    if not any(header.lower().startswith(b"content-type") for header in headers):
        lines.append(b"Content-Type: application/json")
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def get(path: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join(
        [b"GET " + path + b" HTTP/1.1", b"Host: falcon", b"Connection: close", *headers, b"", b""]
    )


def chunked(*chunks: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + last
    return post(framed, b"Transfer-Encoding: chunked", length=False)


@pytest.fixture(scope="module", autouse=True)
def nothing_was_harmed(plain_instance: Instance) -> Iterator[None]:
    """After all that this module sends: the same workers, ready, and no error in the log."""
    before = plain_instance.workers()
    yield
    assert plain_instance.workers() == before
    for pid in before.values():
        os.kill(pid, 0)
    assert plain_instance.get("/readyz").status == 200
    assert plain_instance.infer("still here").status == 200
    records = plain_instance.log_records()
    assert [r for r in records if r["level"] in ("ERROR", "CRITICAL")] == []
    assert all(line.startswith("{") for line in plain_instance.log_text().splitlines())
    statuses = {r["status"] for r in records if r["message"] == "request"}
    assert not {status for status in statuses if status >= 500}, statuses


@pytest.fixture
def talk(plain_instance: Instance) -> Callable[..., Reply]:
    def exchange(*parts: bytes, **how: Any) -> Reply:
        reply = send(plain_instance.port, *parts, **how)
        assert not NEVER_SHOWN.search(reply.raw), reply.raw[-600:]
        return reply

    return exchange


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b" ", 400),
        (b"null", 422),
        (b"true", 422),
        (b"5", 422),
        (b'"text"', 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"text": null}', 422),
        (b'{"text": 5}', 422),
        (b'{"text": true}', 422),
        (b'{"text": 1.5}', 422),
        (b'{"text": ["a"]}', 422),
        (b'{"text": {"text": "a"}}', 422),
        (b'{"text": ""}', 422),
        (b'{"text": " \\t\\n\\u2003\\u00a0"}', 422),
        (b'{"texts": ["a"]}', 422),
        (b'{"text": "a", "text": ""}', 422),
        (b'{"text": "", "text": "a"}', 200),
        (b'{"text": "a", "more": {"nested": [1, 2]}}', 200),
        (b'{"text": "a\\u0000b"}', 200),
        (b'{"text": "\\u0000"}', 200),
        (b'{"text": "a\x00b"}', 400),
        (b'{"text": NaN}', 400),
        (b'{"text": "a", "x": NaN}', 400),
        (b'{"text": "a", "x": Infinity}', 400),
        (b'{"text": "a", "x": -Infinity}', 400),
        (b'{"text": "a", "x": 1e400}', 400),
        (b'{"text": "a", "x": ' + b"1" * 5000 + b"}", 400),
        (b'{"text": "\xff\xfe"}', 400),
        (b'{"text": "\xc3"}', 400),
        (b'{"text": "\xed\xa0\x80"}', 400),
        (b'{"text": "\\ud800"}', 400),
        (b'{"text": "\\udc00\\ud800"}', 400),
        (b'{"text": "\\ud83d\\ude00"}', 200),
        (b"\xef\xbb\xbf" + GOOD, 400),
        (GOOD.decode().encode("utf-16"), 400),
        (b"[" * 100_000, 400),
        (b'{"text":' * 100_000, 400),
        (b'{"text": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"text": "a"', 400),
        (b'{"text": "a"} {"text": "b"}', 400),
        (b"{'text': 'a'}", 400),
        (b'{"text": "a",}', 400),
        (b'{"text": "a\nb"}', 400),
        (b"text=a", 400),
        (b'{"text": "' + b"x" * 10_000 + b'"}', 200),
        (b'{"text": "' + b"x" * 10_001 + b'"}', 422),
        (b'{"text": "' + b"\\ud83d\\ude00" * 10_000 + b'"}', 200),
        (b'{"text": "' + b"\\ud83d\\ude00" * 10_001 + b'"}', 422),
        (b'{"text": "' + b" " * 10_001 + b'"}', 422),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_bodies_of_infer(talk: Callable[..., Reply], body: bytes, status: int) -> None:
    reply = talk(post(body))
    assert reply.status == status, reply.raw
    if status != 200:
        assert reply.problem["status"] == status
        assert ("errors" in reply.problem) == (status == 422)


def processor_seconds(instance: Instance) -> float:
    """What the workers have used so far."""
    stats = [
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in instance.worker_pids()
    ]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("texts", "pointers"),
    [
        (b"[]", ["/texts"]),
        (b"null", ["/texts"]),
        (b'"abc"', ["/texts"]),
        (b'{"0": "a"}', ["/texts"]),
        (b'[["a"]]', ["/texts/0"]),
        (b'["a", null, "", 5]', ["/texts/1", "/texts/2", "/texts/3"]),
        (b"[" + b",".join([b'"a"'] * 51) + b"]", ["/texts"]),
        (b"[" + b",".join([b"1"] * 500_000) + b"]", ["/texts"]),
        (b"[" + b",".join([b'""'] * 340_000) + b"]", ["/texts"]),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else None,
)
def test_bodies_of_batch(
    plain_instance: Instance, talk: Callable[..., Reply], texts: bytes, pointers: list[str]
) -> None:
    before = processor_seconds(plain_instance)
    reply = talk(post(b'{"texts": ' + texts + b"}", path=b"/infer/batch"))
    assert reply.status == 422
    assert {error["pointer"] for error in reply.problem["errors"]} >= set(pointers[:1])
    assert len(reply.raw) < 20_000
    assert processor_seconds(plain_instance) - before < 2


def test_a_body_may_have_a_mebibyte_and_not_a_byte_more(talk: Callable[..., Reply]) -> None:
    exact = GOOD + b" " * (MIB - len(GOOD))
    assert talk(post(exact)).status == 200
    assert talk(chunked(exact[:500_000], exact[500_000:])).status == 200
    for request in (post(exact + b" "), chunked(exact, b" "), chunked(exact + b" "), post(exact * 8)):
        reply = talk(request)
        assert reply.status == 413
        assert reply.problem["type"] == "urn:falcon:problem:payload_too_large"
        assert reply.ended == "closed", "the client could not read the answer in peace"


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(talk: Callable[..., Reply]) -> None:
    head = post(b"", b"Content-Length: 1000000000000", b"Expect: 100-continue", length=False)
    reply = talk(head)
    assert reply.status == 413
    assert reply.ended != "open"


@pytest.mark.parametrize(
    ("request_bytes", "how"),
    [
        (post(GOOD, b"Content-Length: 500", length=False), {"end": True}),
        (chunked(GOOD, last=b""), {"end": True}),
        (chunked(GOOD, last=b"zz\r\n\r\n"), {}),
        (chunked(GOOD, last=b"-1\r\n\r\n"), {}),
        (chunked(GOOD, last=b"0x0\r\n\r\n"), {}),
        (chunked(GOOD, last=b"0\r\nbad trailer\r\n\r\n"), {}),
        (chunked(GOOD, last=b"0\r\nContent-Length: 5\r\n\r\n"), {}),
        (chunked(GOOD, last=b"f" * 17 + b"\r\n"), {"end": True}),
        (chunked(GOOD, last=b"1" * 10_000), {}),
        (chunked(GOOD, last=b"0;" + b"x" * 10_000), {}),
        (post(GOOD + b"0\r\n\r\n", b"Transfer-Encoding: chunked", length=False), {}),
    ],
    ids=range(11),
)
def test_a_misframed_body_is_malformed_and_ends_the_connection(
    talk: Callable[..., Reply], request_bytes: bytes, how: dict[str, Any]
) -> None:
    reply = talk(request_bytes.replace(b"Connection: close\r\n", b""), get(b"/healthz"), **how)
    assert reply.statuses == [400]
    assert reply.problem["type"] == "urn:falcon:problem:malformed_request"
    assert reply.ended != "open"


@pytest.mark.parametrize(
    "headers",
    [
        [b"Content-Length: -1"],
        [b"Content-Length: +21"],
        [b"Content-Length: 0x15"],
        [b"Content-Length: 21, 21"],
        [b"Content-Length: 21", b"Content-Length: 21"],
        [b"Content-Length: 21", b"Content-Length: 5"],
        [b"Content-Length: " + b"9" * 5000],
        [b"Content-Length: \xb2"],
        [b"Content-Length: "],
        [b"Content-Length: 21", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked, identity"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: chunked\x0b"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer_Encoding: chunked", b"Transfer-Encoding: x"],
        [b"X-A: b\r\n folded"],
        [b"X-A: b\x00c"],
        [b"X-A: b\rc"],
        [b"X-A: b\nX-B: c"],
        [b"X-A\x00: b"],
        [b"X A: b"],
        [b": b"],
        [b"no colon"],
        [b"Host: another"],
        [b"Content-Type: application/json", b"Content-Type: text/plain"],
        [b"Idempotency-Key: a\x01b"],
    ],
    ids=lambda headers: repr(b" | ".join(headers)[:50]),
)
def test_headers_that_break_the_syntax_or_smuggle(talk: Callable[..., Reply], headers: list[bytes]) -> None:
    smuggled = b"0\r\n\r\n" + get(b"/healthz")
    request = post(GOOD + smuggled, *headers, length=False).replace(b"Connection: close\r\n", b"")
    reply = talk(request)
    assert len(reply.statuses) == 1, reply.raw
    assert reply.status in (400, 501), reply.raw
    assert reply.problem["status"] == reply.status
    assert reply.ended != "open"


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (b"GET /\r\n\r\n", {400}),
        (b"GET / HTTP/1.1\n\n", {400}),
        (b"GET / HTTP/2.0\r\n\r\n", {400}),
        (b"GET / HTTP/1.1.1\r\n\r\n", {400}),
        (b"GET / FTP/1.1\r\n\r\n", {400}),
        (b"GET\r\n\r\n", {400}),
        (b"GET  /  HTTP/1.1\r\n\r\n", {400}),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100 + b"\r\n\r\n", {400}),
        (b"\x00\xff\xfe garbage\r\n\r\n", {400}),
        (b"\r\n\r\n\r\n", {400}),
        (b"G<T / HTTP/1.1\r\n\r\n", {400}),
        (b"get / HTTP/1.1\r\n\r\n", {400}),
        (b"X" * 50 + b" / HTTP/1.1\r\n\r\n", {400}),
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n", {414}),
        (b"GET /\xff HTTP/1.1\r\n\r\n", {400}),
        (get(b"/healthz", b"X-Long: " + b"a" * 10_000), {431}),
        (get(b"/healthz", *(b"X-%d: a" % i for i in range(200))), {431}),
        (get(b"/healthz", *(b"X-%d: " % i + b"a" * 8000 for i in range(99))), {200, 431}),
        (get(b"/healthz", b"Expect: 200-maybe"), {417}),
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {400, 404, 405}),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {404}),
        (get(b"http://elsewhere/nowhere"), {404}),
        (get(b"//elsewhere/nowhere"), {404}),
        (get(b"/%ff%fe%00%zz%2e%2e%2f%0d%0aX-Evil:%201"), {404}),
        (get(b"/..%2f..%2fetc/passwd"), {404}),
        (get(b"/../../etc/passwd"), {404}),
        (get(b"/infer/batch/" + b"%00" * 500), {404}),
        (get(b"/healthz?" + b"a=%ff&" * 500), {200}),
        (get(b"/healthz", b"SCRIPT_NAME: /evil"), {200, 400}),
        (get(b"/healthz", b"Script-Name: /evil"), {200}),
        (get(b"/nowhere", b"Host: b"), {400}),
        (b'GET /nowhere HTTP/1.1\r\nHost: a b<>"@?#\xff\r\nConnection: close\r\n\r\n', {400, 404}),
        (b"GET /nowhere HTTP/1.1\r\nHost: [::1\r\nConnection: close\r\n\r\n", {400, 404}),
        (b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n", {400, 404}),
        (get(b"/healthz", b"X-Forwarded-For: " + b"," * 8000), {200}),
        (get(b"/healthz", b"X-Forwarded-For: 127.0.0.1%25evil, ::1%1, nonsense"), {200}),
        (get(b"/healthz", b"X-Event-ID: ' or 1=1", b"X-Event-Time: nan"), {200}),
        (get(b"/healthz", b"Traceparent: 00-" + b"f" * 5000), {200}),
        (get(b"/healthz", b"Connection: upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ"), {200}),
        (get(b"/healthz", b"Connection: upgrade", b"Upgrade: websocket"), {400}),
        (get(b"/metrics", b"Accept: " + b"\xff;q=nan," * 300), {200}),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else None,
)
def test_requests_that_are_hardly_http(
    talk: Callable[..., Reply], request_bytes: bytes, statuses: set[int]
) -> None:
    reply = talk(request_bytes, end=True)
    assert reply.status in statuses, reply.raw
    assert b"X-Evil" not in reply.raw.partition(b"\r\n\r\n")[0]
    if reply.status != 200:
        assert reply.problem["status"] == reply.status
        assert set(reply.problem) >= {"type", "title", "detail", "instance", "request_id", "error"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([b"Idempotency-Key: " + b"k" * 255], 200),
        ([b"X-Idempotency-Key: " + b"k" * 255], 200),
        ([b'Idempotency-Key: "' + b"k" * 255 + b'"'], 200),
        ([b"Idempotency-Key: a, b"], 200),
        ([b"Idempotency-Key: " + b"k" * 256], 400),
        ([b"Idempotency-Key: " + b"k" * 8000], 400),
        ([b"Idempotency-Key:"], 400),
        ([b'Idempotency-Key: ""'], 400),
        ([b'Idempotency-Key: "open'], 400),
        ([b"Idempotency-Key: a\tb"], 400),
        ([b"Idempotency-Key: a\x85b"], 400),
        ([b"Idempotency-Key: one", b"Idempotency-Key: two"], 400),
        ([b"Idempotency-Key: one", b"Idempotency-Key: one"], 400),
        ([b"Idempotency-Key: one", b"X-Idempotency-Key: one"], 400),
        ([b"X-Idempotency-Key: one", b"X-Idempotency-Key: two"], 400),
        ([b"X-Idempotency-Key: "], 400),
    ],
    ids=lambda value: repr(b" | ".join(value)[:50]) if isinstance(value, list) else None,
)
def test_idempotency_keys(talk: Callable[..., Reply], headers: list[bytes], status: int) -> None:
    reply = talk(post(GOOD, *headers))
    assert reply.status == status, reply.raw
    if status == 400:
        assert "key" in reply.problem["detail"]


def test_expect_100_continue_is_honoured(talk: Callable[..., Reply]) -> None:
    assert talk(post(GOOD, b"Expect: 100-continue")).statuses == [100, 200]


def test_a_body_in_small_pieces_is_read_whole(talk: Callable[..., Reply]) -> None:
    request = post(GOOD)
    assert talk(*(request[i : i + 7] for i in range(0, len(request), 7)), pause_s=0.01).status == 200


def test_pipelined_requests_are_answered_in_order(talk: Callable[..., Reply]) -> None:
    healthz = get(b"/healthz").replace(b"Connection: close\r\n", b"")
    good = post(GOOD).replace(b"Connection: close\r\n", b"")
    bad = post(b"{").replace(b"Connection: close\r\n", b"")
    assert talk(healthz + good + bad + get(b"/nowhere")).statuses == [200, 200, 400, 404]


def test_a_body_that_comes_too_slowly_is_408(start_instance: Callable[..., Instance]) -> None:
    instance = start_instance(workers=1, request_timeout_seconds=1)
    started = time.monotonic()
    reply = send(instance.port, post(b"", b"Content-Length: 100", length=False) + b'{"text": ')
    assert reply.status == 408
    assert reply.problem["type"] == "urn:falcon:problem:request_timeout"
    assert time.monotonic() - started > 0.8
    assert reply.ended != "open"
    assert instance.infer("still here").status == 200
    assert [r for r in instance.log_records() if r["level"] in ("ERROR", "CRITICAL")] == []


def test_clients_that_leave_in_the_middle_are_logged_as_their_own_fault(plain_instance: Instance) -> None:
    ids = [f"gone-{i}" for i in range(20)]
    for request_id in ids:
        head = post(b"", b"Content-Length: 1000", b"X-Request-ID: " + request_id.encode(), length=False)
        with contextlib.closing(socket.create_connection(("127.0.0.1", plain_instance.port))) as connection:
            connection.sendall(head + b'{"text": ')
            # SO_LINGER 0: half of them break off with a reset.
            if request_id.endswith(("0", "2", "4", "6", "8")):
                connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
                )

    def recorded() -> list[dict[str, Any]]:
        return [
            r for r in plain_instance.log_records() if r["request_id"] in ids and r["message"] == "request"
        ]

    wait_until(lambda: len(recorded()) == len(ids), what="the access records")
    assert {record["status"] for record in recorded()} == {400}
    assert not any("exc_info" in record for record in plain_instance.log_records())


def test_a_connection_without_a_request_is_closed_in_silence(talk: Callable[..., Reply]) -> None:
    assert talk(b"", end=True).raw == b""


def test_odd_input_is_logged_like_any_other(
    start_instance: Callable[..., Instance], redis_server: EmbeddedRedis, postgres_server: FreshDatabase
) -> None:
    """What Postgres has no place for, such as U+0000, must not keep a row, or those shipped with it, out."""
    migrations.migrate(postgres_server.url)
    instance = start_instance(
        redis_url=redis_server.url, database_url=postgres_server.url, log_payloads=True, workers=1
    )
    odd = [
        "\\u0000",
        "a\\u0000b",
        "\\uffff \\ufdd0",
        "\\ud83d\\ude00" * 500,
        "\\u202e\\u200b",
        "'; drop",
        "\\\\",
    ]
    requests = [post(b'{"text": "%s"}' % text.encode(), b"X-Request-ID: odd") for text in odd]
    requests += [
        post(b'{"text": "good"}', b"Idempotency-Key: \xe9" + b"k" * 254, b"X-Forwarded-For: ::1%25x")
    ]
    requests += [post(body) for body in (b"", b"{", b"[]", b'{"text": "\xff"}', b'{"text": 5}', b"\x00")]
    requests += [post(GOOD, b"Content-Type: text/plain\xff"), post(GOOD, b'Idempotency-Key: "\xff')]
    for request in requests:
        assert send(instance.port, request).status in (200, 400, 415, 422)

    def rows() -> int:
        with psycopg.connect(postgres_server.url) as connection:
            return int(connection.execute("SELECT count(*) FROM inference_logs").fetchone()[0])

    wait_until(lambda: rows() >= len(requests), what="the rows")
    assert rows() == len(requests)
    assert instance.metric("dropped_logs_total") == 0
    assert [r for r in instance.log_records() if r["level"] in ("ERROR", "CRITICAL")] == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)
bodies = (
    st.binary(max_size=300)
    | json_values.map(lambda value: json.dumps(value).encode())
    | json_values.map(lambda value: json.dumps({"text": value}).encode())
    | st.lists(json_values, max_size=60).map(lambda value: json.dumps({"texts": value}).encode())
    | st.text(max_size=300).map(lambda text: json.dumps({"text": text}, ensure_ascii=True).encode())
)
tokens = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ-_0123456789", min_size=1, max_size=20).map(str.encode)
header_lines = st.tuples(
    tokens
    | st.sampled_from(
        [
            b"Content-Length",
            b"Transfer-Encoding",
            b"Content-Type",
            b"Host",
            b"Connection",
            b"Expect",
            b"Upgrade",
            b"Idempotency-Key",
            b"X-Idempotency-Key",
            b"X-Request-ID",
            b"X-Forwarded-For",
            b"X-Event-ID",
            b"Traceparent",
            b"Accept",
            b"Cookie",
        ]
    ),
    st.binary(max_size=60)
    | st.sampled_from([b"chunked", b"close", b"5", b"100-continue", b"application/json"]),
).map(b": ".join)
BOUNDED = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@BOUNDED
@given(bodies, st.sampled_from([b"/infer", b"/infer/batch"]))
def test_any_body_is_answered(plain_instance: Instance, body: bytes, path: bytes) -> None:
    reply = send(plain_instance.port, post(body, path=path))
    assert reply.status in (200, 400, 422)
    assert not NEVER_SHOWN.search(reply.raw)
    if reply.status != 200:
        assert reply.problem["status"] == reply.status


@BOUNDED
@given(
    st.lists(header_lines, max_size=6),
    st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"BREW"]),
    st.binary(max_size=40),
    bodies,
)
@example([], b"POST", b"infer", GOOD)
def test_any_headers_and_path_are_answered(
    plain_instance: Instance, headers: list[bytes], method: bytes, path: bytes, body: bytes
) -> None:
    request = b"\r\n".join([method + b" /" + path + b" HTTP/1.1", b"Host: x", *headers, b"", body])
    reply = send(plain_instance.port, request, end=True)
    assert reply.ended != "open"
    assert not {status for status in reply.statuses if status >= 500} - {501}
    assert not NEVER_SHOWN.search(reply.raw)


@BOUNDED
@given(st.lists(st.binary(max_size=200) | st.just(GOOD) | st.just(b"\r\n"), max_size=5))
def test_any_bytes_are_answered_or_refused(plain_instance: Instance, parts: list[bytes]) -> None:
    reply = send(plain_instance.port, *parts, end=True)
    assert reply.ended != "open"
    assert not {status for status in reply.statuses if status >= 500}


@BOUNDED
@given(st.binary(max_size=400))
def test_any_bytes_as_chunks_are_answered(plain_instance: Instance, framed: bytes) -> None:
    request = post(framed, b"Transfer-Encoding: chunked", length=False)
    reply = send(plain_instance.port, request, end=True)
    assert reply.statuses[:1] in ([200], [400], [413], [422])
    assert reply.ended != "open"
