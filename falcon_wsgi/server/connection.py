"""One client's connection: its requests, one after the other, and the app's answers to them."""

from __future__ import annotations

import io
import logging
import select
import socket
import time
from functools import cached_property
from typing import Any, Protocol

import gevent
from gevent import GreenletExit, monkey
from gunicorn import http, util
from gunicorn.http import wsgi
from gunicorn.http.body import Body, LengthReader

from falcon_wsgi.server import invalid_http
from falcon_wsgi.server.plain import Environ, PlainReader, PlainRequest
from falcon_wsgi.server.response import OneWriteResponse

log = logging.getLogger(__name__)

_CHUNK_BYTES = 8192
# One blocked read or write of a connection ends after this; data that flows is never cut off.
_STALL_S = 30.0
# The head of a request has to arrive within this, once it has begun.
_HEAD_S = 10.0
# Before a connection is used again or closed, what is left of a body that the app did not read is thrown away: a
# close with unread input makes the kernel send a reset, which can overtake the answer.
LEFT_OVER_S, _LEFT_OVER_BYTES = 2.0, 2 * 1024 * 1024

_poll = monkey.get_original("select", "poll")  # asks the kernel and never waits


class Server(Protocol):
    """What a connection needs of its worker."""

    cfg: Any
    wsgi: Any
    alive: bool
    idle: Idle
    common_environ: Environ | None

    def count_request(self) -> None: ...

    def request_ended(self) -> None: ...


class Idle:
    """The connections that await a request, those that have waited longest first.

    In the place of a time-out for each wait, which would cost each request a timer: whoever owns this looks here now
    and then.
    """

    def __init__(self) -> None:
        self._waiting: dict[gevent.Greenlet, tuple[socket.socket, float]] = {}

    def receive(self, client: socket.socket, readable: Any) -> bytes:
        """The first bytes of a request. None if the client ends the connection, or `end` does.

        Waits before the first try to read: an answered client hardly ever has its next request under way already, and
        one that does gets its turn after the others.
        """
        waiting = gevent.getcurrent()
        self._waiting[waiting] = (client, time.monotonic())
        try:
            gevent.get_hub().wait(readable)
            return client.recv(_CHUNK_BYTES)
        except GreenletExit:
            # A request that has come in this very moment is still answered.
            return client.recv(_CHUNK_BYTES) if _has_input(client) else b""
        finally:
            del self._waiting[waiting]

    def end(self, after_s: float) -> None:
        """End the waits that have lasted longer than this."""
        began_before = time.monotonic() - after_s
        for greenlet, (client, since) in list(self._waiting.items()):
            if since > began_before:
                return  # those that follow began later
            # With input there, the loop may be about to wake the greenlet, and the kill would hit its request.
            if not _has_input(client):
                greenlet.kill(block=False)


class Connection:
    """See `serve`. `listener_name` and `peer` are the addresses of the two ends."""

    def __init__(self, server: Server, listener_name: Any, client: Any, peer: Any) -> None:
        self._server = server
        self._ends = client, peer, listener_name
        self._client = client
        self._plain = PlainReader(server.cfg, server.common_environ, client, peer, listener_name)
        self._received = b""  # what is here of requests that have not begun
        self._readable = gevent.get_hub().loop.io(client.fileno(), 1)

    def serve(self) -> None:
        """Answer what the client asks, until either side ends it.

        Raises:
            OSError: the client is gone.
            Exception: a request that is not HTTP, or a failure below the app. Nothing was answered.
        """
        try:
            self._client.settimeout(_STALL_S)
            while self._request_begins():
                reusable = self._answer(*self._next_request())
                self._server.request_ended()
                if not reusable:
                    return
        finally:
            self._readable.close()

    def _request_begins(self) -> bool:
        """Wait for the first bytes of a request. False if the client sends none, or the worker is to end."""
        if self._received:
            gevent.sleep(0)  # pipelined: the others' turn
        else:
            self._received = self._server.idle.receive(self._client, self._readable)
        return bool(self._received)

    def _next_request(self) -> tuple[Any, OneWriteResponse, Environ]:
        received, self._received = self._received, b""
        plain = self._plain.read(received)
        if plain is None:
            return self._read_strictly(received)
        self._find_body(plain, received)
        return plain, OneWriteResponse(plain, self._client, self._server.cfg), plain.environ

    def _find_body(self, request: PlainRequest, received: bytes) -> None:
        end = request.after + request.length
        if end <= len(received):
            request.give_body(io.BytesIO(received[request.after : end]))
            self._received = received[end:]
            return
        unreader = self._parser.unreader
        unreader.unread(received[request.after :])
        request.give_body(Body(LengthReader(unreader, request.length)))
        self._parser.mesg = request

    @cached_property
    def _parser(self) -> Any:
        return http.get_parser(self._server.cfg, *self._ends[:2])

    def _read_strictly(self, received: bytes) -> tuple[Any, OneWriteResponse, Environ]:
        """Gunicorn's way.

        Raises:
            SlowHead: the head did not arrive in time.
        """
        self._parser.unreader.unread(received)
        with gevent.Timeout(_HEAD_S, invalid_http.SlowHead):
            request = next(self._parser)
        invalid_http.mark_repeated_key(request)
        client, peer, listener_name = self._ends
        response, environ = wsgi.create(
            request, client, peer, listener_name, self._server.cfg, response_class=OneWriteResponse
        )
        environ["wsgi.multithread"] = True
        return request, response, environ

    def _answer(self, request: Any, response: OneWriteResponse, environ: Environ) -> bool:
        """Run the app for one request; whether the connection can be used again.

        In the place of the bases' `handle_request`, which sends head and body apart and runs hooks that are not
        used here.
        """
        self._server.count_request()
        body = self._server.wsgi(environ, response.start_response)
        try:
            if not self._server.alive:  # now, not when the request began: it may have taken long
                response.force_close()
            for part in body:
                response.write(part)
            response.close()
        except OSError:
            raise  # the connection is lost; there is nobody to tell
        except Exception:
            if not response.sent:
                raise
            # The client has a part of this answer; a second one on its heels would be taken for the rest.
            log.exception("answer_broken_off")
            return False
        finally:
            if hasattr(body, "close"):
                body.close()
        return self._finish_body(request) and not response.should_close()

    def _finish_body(self, request: Any) -> bool:
        """Throw away what the app did not read of the body. False if that was too much, and the connection ends."""
        if isinstance(request.body, io.BytesIO):
            return True
        if not self._parser.finish_body(time.monotonic() + LEFT_OVER_S, _LEFT_OVER_BYTES):
            util.close_graceful(self._client, timeout=LEFT_OVER_S)
            return False
        self._received = self._parser.unreader.take_buffered()
        return True


def _has_input(client: socket.socket) -> bool:
    poll = _poll()
    poll.register(client.fileno(), select.POLLIN)
    return bool(poll.poll(0))
