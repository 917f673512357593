from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from falcon_wsgi.resilience.guard import Guard
from falcon_wsgi.resilience.monitor import Monitor


class Away(Exception):
    pass


def make_guard(name: str, clock: Any) -> Guard:
    return Guard(name, (Away,), failure_threshold=2, reset_timeout_s=60, half_open_attempts=2, clock=clock)


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch, clock: Any) -> list[float]:
    """Monitor greenlets sleep in fake time; every sleep is noted and lets the others run once."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)
        gevent.idle()

    monkeypatch.setattr("falcon_wsgi.resilience.monitor.gevent.sleep", sleep)
    return slept


def run_until(monitor: Monitor, reached: Event) -> None:
    monitor.start()
    try:
        assert reached.wait(5), "the monitor did not get there"
    finally:
        monitor.stop()


def test_an_outage_opens_and_closes_the_circuit_without_traffic(clock: Any, instant: list[float]) -> None:
    guard, closed_again = make_guard("redis", clock), Event()
    states: list[str] = []

    def ping() -> None:
        states.append(guard.state)
        if clock.now_s < 1030:
            raise Away
        if "half_open" in states and guard.state == "closed":
            closed_again.set()

    run_until(Monitor({guard: ping}), closed_again)
    assert states[:2] == ["closed", "closed"]
    assert "half_open" in states
    assert 0.2 in instant, "a half-open circuit is to be probed quickly"
    assert max(instant) <= 1.0


def test_a_hung_dependency_does_not_delay_the_probes_of_another(clock: Any, instant: list[float]) -> None:
    hung, healthy, probed = make_guard("postgres", clock), make_guard("redis", clock), Event()
    run_until(Monitor({hung: Event().wait, healthy: probed.set}), probed)


def test_a_ping_with_a_bug_is_logged_and_the_monitor_goes_on(
    clock: Any, instant: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    guard, second, calls = make_guard("redis", clock), Event(), []

    def ping() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise TypeError("a bug")
        second.set()

    run_until(Monitor({guard: ping}), second)
    assert "probe_failed" in caplog.messages


def test_after_stop_requests_try_an_open_circuit_themselves(clock: Any) -> None:
    guard = make_guard("redis", clock)
    monitor = Monitor({guard: lambda: None})
    monitor.start()
    monitor.stop()

    def fail() -> None:
        raise Away

    guard.probe(fail)
    guard.probe(fail)
    clock.advance(60)
    assert guard.available
