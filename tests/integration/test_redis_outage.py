"""A hung, a killed and a returning Redis, seen through guard, cache and idempotency as a worker wires them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from falcon_wsgi.backends.redis import TRANSIENT, RedisClient
from falcon_wsgi.errors import DependencyUnavailable
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.pipeline.cache import LocalTier, PredictionCache
from falcon_wsgi.pipeline.idempotency import Idempotency
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.resilience.guard import Guard
from falcon_wsgi.resilience.monitor import Monitor

GOOD = Prediction("positive", 0.9)
MOST_ADDED_S = 0.25


class Request:
    route = "/infer"
    client = "client-1"
    fingerprint = b"f" * 32
    from_trusted_balancer = False

    def __init__(self, key: str) -> None:
        self.idempotency_key = key
        self.event_id = key
        self.deadline = Deadline.after(30)


class Outcome:
    status = 200
    body = b'{"idempotency_hit":false}'


class Worker:
    """What one worker has of Redis. The local tier is off, so that every request needs the shared one."""

    def __init__(self, url: str, reset_timeout_s: float = 0.5) -> None:
        self.client = RedisClient(url, timeout_s=0.2)
        self.guard = Guard("redis", TRANSIENT, reset_timeout_s=reset_timeout_s)
        self.cache = PredictionCache(LocalTier(0), self.client, self.guard, ttl_s=60)
        self.idempotency = Idempotency(self.client, self.guard, ttl_s=60, lease_s=2)
        self.monitor = Monitor({self.guard: self.client.ping}, interval_s=0.2, trial_interval_s=0.05)
        self.monitor.start()

    def serve(self, key: str) -> tuple[bool, str | None]:
        """One request: whether the cache knew the prediction, and what became of the key."""
        request = Request(key)
        with self.idempotency.claim(request) as claim:
            hit = self.cache.look_up(["prediction"], request.deadline).wait() != [None]
            if not hit:
                self.cache.put_many([("prediction", GOOD)])
            claim.keep(Outcome())
        return hit, claim.status

    def close(self) -> None:
        self.monitor.stop()
        self.idempotency.close()
        self.client.close()


@pytest.fixture
def worker(redis_server: Any) -> Iterator[Worker]:
    worker = Worker(redis_server.url)
    worker.serve("first")
    yield worker
    worker.close()


class Load:
    """Greenlets that send requests until they are told to stop.

    One more measures by how much its sleeps are late: what the machine adds to any request, with or without Redis.
    """

    def __init__(self, worker: Worker, greenlets: int) -> None:
        self._worker = worker
        self._running = True
        self.took_s: list[float] = []
        self.results: list[tuple[bool, str | None]] = []
        self._machine_s = 0.0
        self._greenlets = [gevent.spawn(self._send, n) for n in range(greenlets)]
        self._greenlets.append(gevent.spawn(self._watch_machine))

    def _send(self, number: int) -> None:
        turn = 0
        while self._running:
            turn += 1
            started_s = time.monotonic()
            self.results.append(self._worker.serve(f"{number}-{turn}"))
            self.took_s.append(time.monotonic() - started_s)
            gevent.sleep(0.01)

    def _watch_machine(self) -> None:
        while self._running:
            started_s = time.monotonic()
            gevent.sleep(0.005)
            self._machine_s = max(self._machine_s, time.monotonic() - started_s - 0.005)

    @property
    def most_added_s(self) -> float:
        return max(self.took_s) - self._machine_s

    def forget(self) -> None:
        self._machine_s = 0.0
        self.took_s.clear()
        self.results.clear()

    def stop(self) -> None:
        self._running = False
        gevent.joinall(self._greenlets, raise_error=True)


def wait_for(guard: Guard, state: str, seconds: float) -> None:
    with gevent.Timeout(seconds, AssertionError(f"the circuit is {guard.state}, not {state}")):
        while guard.state != state:
            gevent.sleep(0.005)


def test_a_hung_redis_delays_50_concurrent_requests_once_and_comes_back_by_itself(
    redis_server: Any, worker: Worker
) -> None:
    load = Load(worker, 50)
    gevent.sleep(0.2)
    assert all(hit and status is None for hit, status in load.results)

    load.forget()
    redis_server.suspend()
    wait_for(worker.guard, "open", 1.0)
    gevent.sleep(0.05)  # those that waited for Redis are through now
    assert load.most_added_s < MOST_ADDED_S

    load.forget()
    gevent.sleep(1.5)  # the circuit is probed several times meanwhile, at no request's expense
    assert len(load.took_s) > 1000
    assert load.most_added_s < 0.05
    assert set(load.results) == {(False, "unavailable")}

    redis_server.resume()
    wait_for(worker.guard, "closed", 3.0)
    gevent.sleep(0.1)
    load.forget()
    gevent.sleep(0.2)
    load.stop()
    assert set(load.results) == {(True, None)}


def test_a_killed_redis_fails_no_request_and_comes_back_by_itself(redis_server: Any, worker: Worker) -> None:
    load = Load(worker, 20)
    gevent.sleep(0.1)
    load.forget()
    redis_server.kill()
    wait_for(worker.guard, "open", 1.0)
    gevent.sleep(0.1)
    assert load.most_added_s < MOST_ADDED_S
    redis_server.start()
    wait_for(worker.guard, "closed", 3.0)
    gevent.sleep(0.1)
    load.forget()
    gevent.sleep(0.2)
    load.stop()
    assert set(load.results) == {(True, None)}


def test_a_lone_request_on_a_hung_redis_waits_once_for_all_its_operations(redis_server: Any) -> None:
    worker = Worker(redis_server.url)
    worker.monitor.stop()
    worker.serve("first")
    redis_server.suspend()
    try:
        for turn in range(4):  # fewer than open the circuit
            started_s = time.monotonic()
            assert worker.serve(f"key-{turn}") == (False, "unavailable")
            assert time.monotonic() - started_s < MOST_ADDED_S
        assert worker.guard.state == "closed"
    finally:
        redis_server.resume()
        worker.close()


def test_a_redis_that_hangs_in_the_middle_of_a_request_costs_it_one_timeout(redis_server: Any) -> None:
    worker = Worker(redis_server.url)
    worker.monitor.stop()
    request = Request("key")
    with worker.idempotency.claim(request) as claim:
        redis_server.suspend()
        started_s = time.monotonic()
        assert worker.cache.look_up(["prediction"], request.deadline).wait() == [None]
        worker.cache.put_many([("prediction", GOOD)])
        claim.keep(Outcome())
    assert time.monotonic() - started_s < MOST_ADDED_S
    assert claim.status == "unavailable"
    redis_server.resume()
    worker.close()


def test_without_traffic_the_circuit_opens_and_closes_all_the_same(redis_server: Any, worker: Worker) -> None:
    redis_server.suspend()
    wait_for(worker.guard, "open", 5.0)
    redis_server.resume()
    wait_for(worker.guard, "closed", 3.0)


def test_20_guarded_calls_of_50_ms_overlap() -> None:
    guard = Guard("redis", TRANSIENT)

    def elapsed_s(calls: int) -> float:
        started_s = time.monotonic()
        greenlets = [gevent.spawn(guard.call, "get", lambda: gevent.sleep(0.05)) for _ in range(calls)]
        gevent.joinall(greenlets, raise_error=True)
        return time.monotonic() - started_s

    assert elapsed_s(20) < 5 * elapsed_s(1), "one after the other they would take 20 times as long"


@pytest.mark.parametrize("threshold", [5, 10_000], ids=["breaker opens", "breaker never opens"])
def test_over_an_outage_of_1000_calls_retries_are_at_most_a_tenth(redis_server: Any, threshold: int) -> None:
    class Retries:
        count = 0

        def retry(self, dependency: str, operation: str) -> None:
            self.count += 1

        def success(self, dependency: str) -> None: ...
        def failure(self, dependency: str) -> None: ...
        def transition(self, dependency: str, to: str) -> None: ...

    observer = Retries()
    client = RedisClient(redis_server.url, timeout_s=0.2)
    guard = Guard("redis", TRANSIENT, failure_threshold=threshold, observer=observer)
    for _ in range(100):
        guard.call("ping", client.ping)
    redis_server.kill()
    for _ in range(1000):
        with pytest.raises(DependencyUnavailable):
            guard.call("ping", client.ping)
    client.close()
    assert 1 <= observer.count <= 100
