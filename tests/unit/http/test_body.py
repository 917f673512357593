"""Reading a body: type, size, time and framing, against a stand-in for Gunicorn's input."""

from __future__ import annotations

import gevent
import pytest
from gunicorn.http.errors import InvalidChunkSize, NoMoreData

from falcon_wsgi.errors import MalformedRequest, PayloadTooLarge, SlowRequest, UnsupportedMediaType
from falcon_wsgi.http.body import MAX_BODY_BYTES, read_body, require_json
from falcon_wsgi.resilience.deadline import Deadline


class Input:
    """Gives what it holds, or raises, or never answers."""

    def __init__(self, content: bytes = b"", error: Exception | None = None, stalls: bool = False) -> None:
        self.content, self.error, self.stalls = content, error, stalls
        self.asked: list[int] = []

    def read(self, size: int) -> bytes:
        self.asked.append(size)
        if self.stalls:
            gevent.sleep(60)
        if self.error is not None:
            raise self.error
        return self.content[:size]


def read(source: Input, length: int | None = None, within_s: float = 30.0) -> bytes:
    environ = {"wsgi.input": source}
    if length is not None:
        environ["CONTENT_LENGTH"] = str(length)
    return read_body(environ, Deadline.after(within_s))


def test_a_body_of_declared_length_is_read_to_that_length_only() -> None:
    source = Input(b"hello and the next request")
    assert read(source, 5) == b"hello"
    assert source.asked == [5]


def test_a_body_without_length_is_read_to_its_end() -> None:
    assert read(Input(b"hello")) == b"hello"
    assert read(Input(b"")) == b""


def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    source = Input(b"x")
    with pytest.raises(PayloadTooLarge):
        read(source, MAX_BODY_BYTES + 1)
    assert source.asked == []


def test_the_limit_itself_is_allowed_in_both_forms() -> None:
    whole = b"x" * MAX_BODY_BYTES
    assert read(Input(whole), MAX_BODY_BYTES) == whole
    assert read(Input(whole)) == whole
    with pytest.raises(PayloadTooLarge):
        read(Input(whole + b"x"))


def test_a_body_shorter_than_declared_is_malformed() -> None:
    with pytest.raises(MalformedRequest, match="after 3 of 10 bytes"):
        read(Input(b"abc"), 10)


@pytest.mark.parametrize("error", [InvalidChunkSize(b"zz"), NoMoreData(), ConnectionResetError()])
def test_a_body_that_breaks_off_or_is_misframed_is_malformed(error: Exception) -> None:
    with pytest.raises(MalformedRequest, match="broke off"):
        read(Input(error=error))


def test_a_body_that_stalls_is_slow_after_the_requests_own_deadline() -> None:
    with pytest.raises(SlowRequest, match=r"within 0\.02 s"):
        read(Input(stalls=True), 10, within_s=0.02)


def test_a_socket_that_stalls_is_slow_too() -> None:
    with pytest.raises(SlowRequest):
        read(Input(error=TimeoutError()), 10)


@pytest.mark.parametrize(
    "declared",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json;charset=utf-8",
        "application/json ; charset=UTF8",
        'application/json; charset="utf-8"',
        "application/json; charset=us-ascii",
        "application/json;",
    ],
)
def test_json_in_utf_8_is_taken(declared: str) -> None:
    require_json({"CONTENT_TYPE": declared})


@pytest.mark.parametrize(
    "declared",
    [
        None,
        "",
        "json",
        "text/json",
        "application/jsonp",
        "application/json, text/plain",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "application/json; charset=",
        "application/x-www-form-urlencoded",
        "application/json" + "; " * 5000 + "x",
    ],
)
def test_anything_else_is_refused(declared: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        require_json({} if declared is None else {"CONTENT_TYPE": declared})
