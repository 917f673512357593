"""A Redis that hangs or dies costs a request at most 250 ms, and only until the breaker opens."""

from __future__ import annotations

import time

import pytest

from tests.e2e.instance import wait_until
from tests.e2e.load import Load

# What a machine may add by itself: few cores, several test processes. One timeout after the other takes far longer.
SCHEDULING_S = 1.0


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "with keys"])
@pytest.mark.parametrize("outage", ["suspend", "kill"])
def test_an_outage_under_load_is_200_throughout_and_heals_by_itself(
    start_instance, redis_server, outage: str, keyed: bool
) -> None:
    instance = start_instance(redis_url=redis_server.url, circuit_breaker_timeout_seconds=1)
    with Load(instance.port, clients=8, keyed=keyed, pause_s=0.005) as load:
        wait_until(lambda: len(load.history) > 300)
        before = load.slowest_s()
        getattr(redis_server, outage)()
        out_at = time.time()
        wait_until(
            lambda: instance.metric("circuit_breaker_state", dependency="redis") > 0, what="an open circuit"
        )
        opened_at = time.time()
        wait_until(lambda: time.time() > opened_at + 1.5)
        back_at = time.time()
        redis_server.resume() if outage == "suspend" else redis_server.start()
        wait_until(
            lambda: instance.metric("circuit_breaker_state", dependency="redis") == 0, what="a closed circuit"
        )
    assert load.failed() == []
    assert load.slowest_s(since=out_at, until=back_at) < max(before, SCHEDULING_S) + 0.25
    assert instance.metric("fallback_triggered_total", dependency="redis") > 0
    # Hits come back: what one worker learns is served by the other from Redis.
    text = f"shared after the outage {time.time()}"
    wait_until(lambda: instance.infer(text).json["cache_hit"])
    wait_until(lambda: instance.get("/readyz").json["checks"]["redis_available"])


def test_retries_stay_within_a_tenth_of_the_calls_over_an_outage(start_instance, redis_server) -> None:
    instance = start_instance(redis_url=redis_server.url, circuit_breaker_timeout_seconds=0.5)
    instance.infer("warm")
    redis_server.kill()
    with Load(instance.port, clients=4, total=1_000, batches=False) as load:
        load.join()
    assert load.failed() == []
    assert instance.metric("retry_attempts_total") <= 100


def test_keys_are_refused_or_served_unprotected_as_the_setting_says(start_instance, redis_server) -> None:
    opened = start_instance(redis_url=redis_server.url)
    closed = start_instance(redis_url=redis_server.url, idempotency_on_outage="closed")
    for instance in (opened, closed):
        assert instance.infer("before", Idempotency_Key="k").status == 200
        assert instance.infer("before", Idempotency_Key="k").headers["Idempotency-Replayed"] == "true"
    redis_server.kill()
    answer = opened.infer("during", Idempotency_Key="k2")
    assert (answer.status, answer.headers["Idempotency-Status"]) == (200, "unavailable")
    assert opened.metric("fallback_triggered_total", fallback_type="idempotency_open") >= 1
    refused = closed.infer("during", Idempotency_Key="k2")
    assert (refused.status, refused.headers["Content-Type"]) == (503, "application/problem+json")
    assert int(refused.headers["Retry-After"]) >= 1
    assert closed.infer("during, without a key").status == 200
