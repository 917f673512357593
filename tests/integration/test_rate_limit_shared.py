"""The rate of one client over two workers on a real Redis, and without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from falcon_wsgi.backends.memory import MemoryStore
from falcon_wsgi.backends.redis import TRANSIENT, RedisClient
from falcon_wsgi.errors import RateLimited
from falcon_wsgi.launch.embedded import EmbeddedRedis
from falcon_wsgi.pipeline.rate_limit import ClientRateLimit, Rate
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.resilience.guard import Guard
from falcon_wsgi.resilience.retry import RetryPolicy

# One in 100 seconds, ten at once: no test takes long enough for an eleventh.
RATE = Rate.of(0.01, 10)


@dataclass
class Caller:
    client: str = "acme"
    client_ip: str | None = None
    deadline: Deadline = field(default_factory=lambda: Deadline.after(30))
    headers: list[tuple[str, str]] = field(default_factory=list)


class Worker:
    def __init__(self, url: str) -> None:
        self.client = RedisClient(url, timeout_s=0.5)
        self.fallbacks = 0
        guard = Guard(
            "redis", TRANSIENT, policy=RetryPolicy(max_attempts=1), failure_threshold=1, reset_timeout_s=0.01
        )
        self.limit = ClientRateLimit(RATE, self.client, guard, workers=2, local=MemoryStore(), observer=self)

    def fallback(self, dependency: str, fallback_type: str) -> None:
        self.fallbacks += 1

    def ask(self, times: int, client: str = "acme") -> int:
        """How many of so many requests got through."""
        through = 0
        for _ in range(times):
            try:
                self.limit.admit(Caller(client))
            except RateLimited:
                continue
            through += 1
        return through


@pytest.fixture
def workers(redis_server: EmbeddedRedis) -> Iterator[tuple[Worker, Worker]]:
    one, other = Worker(redis_server.url), Worker(redis_server.url)
    yield one, other
    one.client.close()
    other.client.close()


def test_two_workers_give_a_client_one_rate(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    assert one.ask(6) + other.ask(20) == 10
    assert other.ask(20, "someone else") == 10
    assert one.fallbacks + other.fallbacks == 0


def test_without_redis_each_worker_keeps_half_and_with_it_again_they_share(
    workers: tuple[Worker, Worker], redis_server: Any
) -> None:
    one, other = workers
    redis_server.kill()
    assert (one.ask(20), other.ask(20)) == (5, 5)
    assert (one.fallbacks, other.fallbacks) == (20, 20)
    redis_server.start()
    assert one.ask(1, "late") + other.ask(20, "late") == 10
    assert (one.fallbacks, other.fallbacks) == (20, 20)
