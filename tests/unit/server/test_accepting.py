"""A busy worker takes new connections too, a few at a time."""

from __future__ import annotations

from typing import Any

import pytest

from falcon_wsgi.server.accepting import Accepting


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeListener:
    def __init__(self, queued: int) -> None:
        self.queued = [(f"client {number}", ("192.0.2.1", number)) for number in range(queued)]
        self.handled: list[Any] = []
        self.error: OSError | None = None
        self.asked = 0

    def do_read(self) -> tuple[Any, ...] | None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.queued.pop(0) if self.queued else None

    def do_handle(self, *accepted: Any) -> None:
        self.handled.append(accepted[0])


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def after_requests(accepting: Accepting, clock: FakeClock, *, seconds: float, requests: int) -> None:
    for _ in range(requests):
        clock.now += seconds / requests
        accepting.between_requests()


def test_many_requests_in_a_moment_let_few_connections_in(clock: FakeClock) -> None:
    listener = FakeListener(9)
    after_requests(Accepting([listener], lambda: 9, clock), clock, seconds=0.0009, requests=50)
    assert listener.handled == [f"client {number}" for number in range(4)]


def test_each_long_request_lets_a_few_in(clock: FakeClock) -> None:
    listener = FakeListener(9)
    after_requests(Accepting([listener], lambda: 9, clock), clock, seconds=0.03, requests=3)
    assert listener.handled == [f"client {number}" for number in range(9)]


def test_every_address_is_asked(clock: FakeClock) -> None:
    listeners = [FakeListener(1), FakeListener(0), FakeListener(1)]
    after_requests(Accepting(listeners, lambda: 9, clock), clock, seconds=1, requests=1)
    assert [listener.handled for listener in listeners] == [["client 0"], [], ["client 0"]]


def test_an_empty_queue_is_asked_less_often(clock: FakeClock) -> None:
    listener = FakeListener(0)
    after_requests(Accepting([listener], lambda: 9, clock), clock, seconds=0.1, requests=1000)
    assert 15 <= listener.asked <= 25


def test_a_full_worker_leaves_connections_to_the_others(clock: FakeClock) -> None:
    listener = FakeListener(5)
    after_requests(
        Accepting([listener], lambda: 1 - len(listener.handled), clock), clock, seconds=1, requests=3
    )
    assert listener.handled == ["client 0"]


def test_a_failure_to_accept_does_not_reach_the_request_before(clock: FakeClock) -> None:
    listener = FakeListener(1)
    listener.error = OSError(24, "Too many open files")
    accepting = Accepting([listener], lambda: 9, clock)
    after_requests(accepting, clock, seconds=1, requests=1)
    listener.error = None
    after_requests(accepting, clock, seconds=1, requests=1)
    assert listener.handled == ["client 0"]
