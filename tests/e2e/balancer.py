"""nginx with the repository's configuration before upstreams that misbehave on demand."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event
from gevent.server import StreamServer

from falcon_wsgi.stack import balancer, tools
from tests import programs
from tests.e2e.instance import Client, free_port, wait_until


def nginx_program(test: str) -> Path:
    """Installed where that is possible; else the test fails in CI and is named at the end elsewhere."""
    found = tools.find("nginx")
    return found if found is not None else Path(programs.require("nginx", "nginx", test))


@dataclass
class Seen:
    """A request that reached an upstream."""

    port: int
    path: str
    headers: dict[str, str] = field(default_factory=dict)


class Upstream:
    """Answers 200, but closes on /die, is silent on /hang, does so once for each request on /die-once and /hang-once,
    answers /status/N with N, and /hold when `released` is set.
    """

    def __init__(self, log: list[Seen]) -> None:
        self._log = log
        self.port = free_port()
        self.ready = True
        self.released = Event()
        self._server: StreamServer | None = None

    def start(self) -> None:
        self._server = StreamServer(("127.0.0.1", self.port), self._serve)
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _serve(self, connection: socket.socket, address: Any) -> None:
        with connection, connection.makefile("rb") as stream:
            while first := stream.readline():
                seen = Seen(self.port, first.split()[1].decode())
                for line in iter(stream.readline, b"\r\n"):
                    name, _, value = line.decode("latin-1").partition(":")
                    seen.headers[name.lower()] = value.strip()
                stream.read(int(seen.headers.get("content-length", "0")))
                if not self._answer(connection, seen):
                    return

    def _answer(self, connection: socket.socket, seen: Seen) -> bool:
        event = seen.headers.get("x-event-id")
        attempts = 1 + sum(former.headers.get("x-event-id") == event for former in self._log)
        self._log.append(seen)
        if seen.path == "/die" or (seen.path == "/die-once" and attempts == 1):
            return False
        status = int(seen.path.removeprefix("/status/")) if seen.path.startswith("/status/") else 200
        if seen.path == "/hang" or (seen.path == "/hang-once" and attempts == 1):
            gevent.sleep(20)
        if seen.path == "/hold":
            self.released.wait(20)
        if seen.path == "/readyz" and not self.ready:
            status = 503
        body = json.dumps({"port": self.port}).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        own = "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\r\n"  # as the service's pages have
        connection.sendall(head.encode() + own.encode() + body)
        return True


class Nginx:
    """Started on a free port; `values` take the place of the stack's own."""

    def __init__(self, program: Path, prefix: Path, values: dict[str, str]) -> None:
        self.port = int(values["BALANCER_LISTEN"].rpartition(":")[2])
        self.prefix = prefix
        balancer.render(prefix, values)
        self._command = [str(program), "-p", str(prefix), "-c", "conf/nginx.conf", "-e", "logs/error.log"]
        # As whoever runs the tests, so that the temporary files can lie anywhere.
        self._globals = "daemon off; pid run/nginx.pid; user root;"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([*self._command, "-g", self._globals], stderr=subprocess.PIPE)
        wait_until(self._listens, what="nginx")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._process.stderr and self._process.stderr.read().decode()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            assert self._process.stderr is not None
            self._process.stderr.close()

    def client(self) -> Client:
        return Client(self.port)

    def access_log(self) -> list[dict[str, Any]]:
        lines = (self.prefix / "logs" / "access.log").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def say(self, raw: bytes) -> tuple[bytes, bytes]:
        """Head and body of the answer to bytes that no client library would send."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(raw)
            return read_answer(connection)


def read_answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of one answer that tells its length."""
    head, body = b"", b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(65536)
        assert part, "closed without an answer"
        head += part
    head, _, body = head.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head, body
