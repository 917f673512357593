"""Dead servers are started again, with growing pauses."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch.revival import Revived


class FakeServer:
    name = "Redis"
    pid = 4242

    def __init__(self, failures: int = 0) -> None:
        self.running = False
        self.starts = 0
        self._failures = failures

    def start(self, given_up: Callable[[], bool]) -> None:
        self.starts += 1
        if self.starts <= self._failures:
            raise ConfigurationError("no luck")
        self.running = True


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _revived(server: FakeServer, clock: Clock) -> Revived:
    return Revived(server, clock)  # type: ignore[arg-type]


def test_running_server_is_left_alone(clock: Clock) -> None:
    server = FakeServer()
    server.running = True
    assert not _revived(server, clock).look_after()
    assert server.starts == 0


def test_dead_server_is_started_at_once_and_said(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    server = FakeServer()
    assert _revived(server, clock).look_after()
    assert capsys.readouterr().err == "falcon: Redis died and was started again (pid 4242)\n"


def test_failed_attempts_come_at_growing_intervals(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    server = FakeServer(failures=100)
    revived = _revived(server, clock)
    times: list[float] = []
    for _ in range(1000):
        before = server.starts
        revived.look_after()
        if server.starts > before:
            times.append(clock.now)
        clock.now += 0.25
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[:7] == [0.5, 1, 2, 4, 8, 16, 30]
    assert set(gaps[7:]) == {30}
    assert "no luck" in capsys.readouterr().err


def test_long_good_run_shortens_the_pause_again(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    server = FakeServer(failures=3)
    revived = _revived(server, clock)
    for _ in range(100):
        revived.look_after()
        clock.now += 0.25
    assert server.running
    clock.now += 61
    revived.look_after()
    for _ in range(2):
        server.running = False
        assert revived.look_after()
        clock.now += 0.5
