"""The relay that stands between Falcon and Redis where the distance to it is measured."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.benchmarks.scaling.relay import Relay

_DELAY_MS = 100.0
_QUESTIONS = 40


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=answer, args=(client,), daemon=True).start()

    def answer(client: socket.socket) -> None:
        with client, suppress(OSError):
            while piece := client.recv(1024):
                client.sendall(piece)

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


@pytest.fixture
def relay(echo: int) -> Iterator[Relay]:
    relay = Relay(echo)
    try:
        yield relay
    finally:
        relay.stop()


def test_answers_come_as_much_later_as_was_asked_for(relay: Relay) -> None:
    with socket.create_connection(("127.0.0.1", relay.port), timeout=5) as client:
        relay.delay(_DELAY_MS)
        started = time.monotonic()
        client.sendall(b"ping")
        assert client.recv(4) == b"ping"
        assert time.monotonic() - started >= _DELAY_MS / 1000


def test_answers_under_way_do_not_wait_for_each_other(relay: Relay) -> None:
    """One after the other they would take the delay for each."""
    with socket.create_connection(("127.0.0.1", relay.port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        relay.delay(_DELAY_MS)
        started = time.monotonic()
        for _ in range(_QUESTIONS):
            client.sendall(b"x")
            time.sleep(0.001)
        received = b""
        while len(received) < _QUESTIONS:
            received += client.recv(64)
        assert time.monotonic() - started < _QUESTIONS * _DELAY_MS / 1000


def test_the_end_of_either_side_ends_the_other(relay: Relay) -> None:
    with socket.create_connection(("127.0.0.1", relay.port), timeout=5) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
