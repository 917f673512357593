"""A response that leaves as one system call: its head together with the first part of its body."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

from gunicorn import SERVER
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName
from gunicorn.http.message import TOKEN_RE
from gunicorn.http.wsgi import HEADER_VALUE_RE, Response
from gunicorn.util import http_date, is_hoppish


class OneWriteResponse(Response):  # type: ignore[misc]
    """Gunicorn's response, which sends the head by itself as soon as a body begins.

    It also asks of each header in each answer whether the name is valid and whether it is one of the connection's
    own, and formats the date; here both are remembered. Like any WSGI app, Falcon's leaves the connection's headers
    to its server, so nothing is upgraded.
    """

    headers_sent: bool
    response_length: int | None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._head = b""

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        # All values at once: none may hold what their sum may not.
        if not HEADER_VALUE_RE.fullmatch("".join([value for _, value in headers])):
            broken = next(name for name, value in headers if not HEADER_VALUE_RE.fullmatch(value))
            raise InvalidResponseHeader(repr(broken))  # the value may be confidential
        for name, value in headers:
            role = _role(name)
            if role == "length":
                self.response_length = int(value)
            if role != "connection":
                self.headers.append((name, value.strip(" \t")))

    def is_chunked(self) -> bool:
        # First what decides for nearly all; Gunicorn asks its configuration before.
        return self.response_length is None and bool(super().is_chunked())

    def send_headers(self) -> None:
        if self.headers_sent:
            return
        first = _first_lines(
            self.req.version, self.status, self.should_close(), self.chunked, int(time.time())
        )
        lines = [f"{name}: {value}\r\n" for name, value in self.headers]
        self._head = f"{first}{''.join(lines)}\r\n".encode("latin-1")
        self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._send(data)

    def close(self) -> None:
        self.send_headers()
        last = b"0\r\n\r\n" if self.chunked else b""
        if self._head or last:
            self._send(last)

    def _send(self, data: bytes) -> None:
        head, self._head = self._head, b""
        whole = head + data
        # An answer fits into the socket's buffer, as a rule: sendall's loop and deadline are for the others.
        sent = self.sock.send(whole)
        if sent < len(whole):
            self.sock.sendall(memoryview(whole)[sent:])


@lru_cache(256)
def _role(name: str) -> str:
    """What a header is to the connection: "length", "connection" (not for the app to send) or nothing.

    Raises:
        InvalidResponseHeaderName: the name is not one of HTTP's.
    """
    if not TOKEN_RE.fullmatch(name):
        raise InvalidResponseHeaderName(repr(name))
    if name.lower() == "content-length":
        return "length"
    return "connection" if is_hoppish(name) else ""


@lru_cache(64)
def _first_lines(version: tuple[int, int], status: str, closes: bool, chunked: bool, second: int) -> str:
    """Of answers in one second."""
    major, minor = version
    coding = "Transfer-Encoding: chunked\r\n" if chunked else ""
    return (
        f"HTTP/{major}.{minor} {status}\r\nServer: {SERVER}\r\nDate: {http_date(second)}\r\n"
        f"Connection: {'close' if closes else 'keep-alive'}\r\n{coding}"
    )
