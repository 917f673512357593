"""Keys over real workers: races, killed owners, and a balancer that repeats a request."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from falcon_wsgi.backends import migrations
from falcon_wsgi.launch.embedded import EmbeddedRedis
from tests.e2e import heavy_model
from tests.e2e.instance import Answer, Instance, wait_until

LEASE_S = 1.0

Start = Callable[..., Instance]


@pytest.fixture
def stuck_instance(start_instance: Start, redis_server: EmbeddedRedis, tmp_path: Path) -> Instance:
    """Holds a key for as long as a test needs: the model gets stuck on one text, the worker can be killed."""
    store = heavy_model.store(tmp_path / "store", heavy_model.stuck())
    instance = start_instance(
        model_store=store,
        redis_url=redis_server.url,
        idempotency_lease_seconds=LEASE_S,
        inference_timeout_seconds=3,
    )
    wait_until(lambda: instance.get("/readyz").json["checks"]["redis_available"], what="Redis")
    return instance


def in_background(ask: Callable[[], object]) -> threading.Thread:
    def quietly() -> None:
        try:
            ask()
        except OSError:  # the worker that this connection is to gets killed
            pass

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    return thread


def kill_the_owner(instance: Instance) -> None:
    """Kill the worker that holds the key, which is one of two; the other is idle and may go as well."""
    wait_until(lambda: instance.metric("requests_in_flight") == 1, what="the request that holds the key")
    for pid in instance.worker_pids():
        os.kill(pid, signal.SIGKILL)


def test_a_killed_owners_key_is_held_for_its_lease_and_then_free(stuck_instance: Instance) -> None:
    in_background(lambda: stuck_instance.infer(heavy_model.STUCK_TEXT, Idempotency_Key="k"))
    kill_the_owner(stuck_instance)
    killed_at = time.monotonic()
    wait_until(lambda: len(stuck_instance.workers()) == 2, what="new workers")
    statuses: list[int] = []

    def free() -> bool:
        statuses.append(stuck_instance.infer("good great nice", Idempotency_Key="k").status)
        return statuses[-1] == 200

    # Another text under the same key: 422 while the dead owner's claim stands, 200 once it has run out.
    wait_until(free)
    assert set(statuses[:-1]) <= {422}
    assert time.monotonic() - killed_at >= LEASE_S * 0.5


def test_the_balancers_repeat_waits_for_a_dead_attempts_lease_instead_of_getting_409(
    stuck_instance: Instance,
) -> None:
    event = {"X_Event_ID": str(uuid4()), "X_Event_Time": f"{time.time():.3f}"}
    in_background(lambda: stuck_instance.infer(heavy_model.STUCK_TEXT, Idempotency_Key="k", **event))
    kill_the_owner(stuck_instance)
    wait_until(lambda: len(stuck_instance.workers()) == 2, what="new workers")
    repeat = stuck_instance.infer(heavy_model.STUCK_TEXT, Idempotency_Key="k", **event)
    # It took the claim over and ran the model, which got stuck again.
    assert repeat.status == 504


def test_of_many_equal_requests_at_once_one_is_computed(
    start_instance: Start, redis_server: EmbeddedRedis
) -> None:
    instance = start_instance(redis_url=redis_server.url)
    wait_until(lambda: instance.get("/readyz").json["checks"]["redis_available"], what="Redis")
    for number in range(20):
        answers: list[Answer] = []
        text, key = f"raced {number}", f"key-{number}"
        threads = [
            in_background(lambda: answers.append(instance.infer(text, Idempotency_Key=key)))  # noqa: B023
            for _ in range(8)
        ]
        for thread in threads:
            thread.join(60)
        assert len(answers) == 8
        assert {answer.status for answer in answers} <= {200, 409}
        succeeded = [answer for answer in answers if answer.status == 200]
        assert sum("Idempotency-Replayed" not in answer.headers for answer in succeeded) == 1
        assert len({answer.json["request_id"] for answer in succeeded}) == 1
    assert instance.metric("idempotency_misses_total") == 20


def test_a_balancers_two_attempts_at_one_request_are_one_row(
    start_instance: Start, redis_server: EmbeddedRedis, postgres_server
) -> None:
    migrations.migrate(postgres_server.url)
    instance = start_instance(redis_url=redis_server.url, database_url=postgres_server.url)
    event = {"X_Event_ID": str(uuid4()), "X_Event_Time": f"{time.time():.3f}"}
    for key in ({}, {"Idempotency_Key": "k"}):
        event["X_Event_ID"] = str(uuid4())
        for _ in range(2):
            assert instance.infer("once", **key, **event).status == 200
    instance.infer("last")
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        count = "SELECT count(*), count(DISTINCT event_id) FROM inference_logs"
        wait_until(lambda: connection.execute(count).fetchone() == (3, 3), what="three rows")


def test_a_replayed_batch_is_the_stored_body_and_a_row_for_each_text(
    start_instance: Start, redis_server: EmbeddedRedis, postgres_server
) -> None:
    migrations.migrate(postgres_server.url)
    instance = start_instance(redis_url=redis_server.url, database_url=postgres_server.url)
    wait_until(lambda: instance.get("/readyz").json["checks"]["redis_available"], what="Redis")
    headers = {"X-Idempotency-Key": "batch"}
    first, second = (
        instance.request("POST", "/infer/batch", {"texts": ["good", "bad", "good"]}, headers)
        for _ in range(2)
    )
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.body == first.body.replace(b'"idempotency_hit":false', b'"idempotency_hit":true')
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        rows = "SELECT idempotency_hit, count(*) FROM inference_logs WHERE success GROUP BY 1 ORDER BY 1"
        wait_until(
            lambda: connection.execute(rows).fetchall() == [(False, 3), (True, 3)], what="three rows each"
        )
