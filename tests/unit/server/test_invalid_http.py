"""Requests that are not valid HTTP get a problem document, and repeated keys stay visible."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest
from gunicorn.http import errors

from falcon_wsgi.server import invalid_http


class FakeSocket:
    def __init__(self, *, gone: bool = False) -> None:
        self.sent = b""
        self.gone = gone

    def sendall(self, data: bytes) -> None:
        if self.gone:
            raise BrokenPipeError
        self.sent += data


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequestLine("x"), 400),
        (errors.LimitRequestLine(5000, 4094), 414),
        (errors.LimitRequestHeaders("x"), 431),
        (errors.UnsupportedTransferCoding("x"), 501),
        (invalid_http.SlowHead(), 408),
        (ZeroDivisionError("a secret"), 500),
    ],
)
def test_each_error_has_its_status_and_tells_nothing_else(error: Exception, status: int) -> None:
    client = FakeSocket()
    invalid_http.answer(client, error, "worker-3")
    head, _, body = client.sent.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    problem = json.loads(body)
    assert lines[0].split()[1] == str(status)
    assert {f"Content-Length: {len(body)}", "Connection: close", "X-Worker-ID: worker-3"} <= set(lines)
    assert f"X-Request-ID: {problem['request_id']}" in lines
    assert problem["status"] == status
    assert problem["type"] == "urn:falcon:problem:invalid_http"
    assert b"secret" not in client.sent


def test_only_failures_of_ours_are_logged_as_errors(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        invalid_http.answer(FakeSocket(), errors.InvalidRequestLine("x"), "worker-1")
        invalid_http.answer(FakeSocket(), ZeroDivisionError(), "worker-1")
    assert [(record.message, record.levelname) for record in caplog.records] == [
        ("invalid_http", "WARNING"),
        ("request_failed_below_app", "ERROR"),
    ]


def test_a_client_that_is_gone_is_not_an_error() -> None:
    invalid_http.answer(FakeSocket(gone=True), errors.InvalidRequestLine("x"), "worker-1")


def test_a_key_sent_twice_is_joined_by_what_no_header_can_hold() -> None:
    request = SimpleNamespace(headers=[("IDEMPOTENCY-KEY", "a"), ("HOST", "x"), ("IDEMPOTENCY-KEY", "b")])
    invalid_http.mark_repeated_key(request)
    assert request.headers == [("HOST", "x"), ("IDEMPOTENCY-KEY", "a\nb")]


def test_other_headers_stay_as_they_are() -> None:
    headers = [("IDEMPOTENCY-KEY", "a"), ("X-IDEMPOTENCY-KEY", "b"), ("ACCEPT", "x"), ("ACCEPT", "y")]
    request = SimpleNamespace(headers=list(headers))
    invalid_http.mark_repeated_key(request)
    assert request.headers == headers
