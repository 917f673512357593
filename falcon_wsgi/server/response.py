"""A response whose head leaves with the first part of its body: one system call and one packet, not two."""

from __future__ import annotations

from typing import Any

from gunicorn.http.wsgi import Response


class OneWriteResponse(Response):  # type: ignore[misc]
    """Gunicorn's response, which sends the head by itself as soon as a body begins."""

    headers_sent: bool

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._head = b""

    def send_headers(self) -> None:
        if self.headers_sent:
            return
        lines = self.default_headers()
        lines += [f"{name}: {value}\r\n" for name, value in self.headers]
        self._head = ("".join(lines) + "\r\n").encode("latin-1")
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
        self.sock.sendall(head + data)
