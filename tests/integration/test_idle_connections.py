"""Connections that await a request: what ends the wait, on real sockets and the real event loop."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import gevent
import pytest
from gevent import socket

from falcon_wsgi.server.connection import Idle

_SOON_S = 5.0


class Waiting:
    """A connection's greenlet in `idle`, and the client's end of it."""

    def __init__(self, idle: Idle) -> None:
        self.client, self.served = socket.socketpair()
        self._readable = gevent.get_hub().loop.io(self.served.fileno(), 1)
        self.greenlet = gevent.spawn(idle.receive, self.served, self._readable)
        gevent.sleep(0)

    def received(self) -> bytes:
        return bytes(self.greenlet.get(timeout=_SOON_S))

    def close(self) -> None:
        self._readable.close()
        self.client.close()
        self.served.close()


@pytest.fixture
def idle() -> Idle:
    return Idle()


@pytest.fixture
def waiting(idle: Idle) -> Iterator[Waiting]:
    connection = Waiting(idle)
    yield connection
    connection.close()


def test_a_wait_ends_with_the_first_bytes(waiting: Waiting) -> None:
    waiting.client.sendall(b"GET /")
    assert waiting.received() == b"GET /"


def test_a_wait_ends_with_the_client(waiting: Waiting) -> None:
    waiting.client.close()
    assert waiting.received() == b""


def test_a_wait_that_has_lasted_is_ended_and_a_younger_one_is_not(idle: Idle, waiting: Waiting) -> None:
    idle.end(_SOON_S)
    gevent.sleep(0)
    assert not waiting.greenlet.ready()
    idle.end(0)
    assert waiting.received() == b""


def test_a_request_that_has_arrived_is_not_cut_off(idle: Idle, waiting: Waiting) -> None:
    waiting.client.sendall(b"GET /")
    idle.end(0)
    assert waiting.received() == b"GET /"


def test_a_request_that_arrives_while_the_wait_is_being_ended_is_received(
    idle: Idle, waiting: Waiting
) -> None:
    idle.end(0)
    waiting.client.sendall(b"GET /")
    assert waiting.received() == b"GET /"


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """More than the 1024 that select has places for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1300), hard))
    held = [socket.socketpair() for _ in range(530)]
    yield
    for pair in held:
        for end in pair:
            end.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_connection_of_many_is_ended_too(many_descriptors: None, idle: Idle, waiting: Waiting) -> None:
    assert waiting.served.fileno() > 1023
    idle.end(0)
    assert waiting.received() == b""
