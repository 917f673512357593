"""A client over its rate on a running instance: refused over all workers, logged, told, and limited without Redis."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from falcon_wsgi.backends import migrations
from tests.e2e.instance import Answer, Instance, wait_until
from tests.e2e.toy_models import write_model
from tests.e2e.workers import connected_to_each

BURST = 10


@pytest.fixture
def limited(start_instance, redis_server, postgres_server, tmp_path: Path) -> Instance:
    """Ten requests at once, and then one in 100 seconds."""
    write_model(tmp_path / "store")
    migrations.migrate(postgres_server.url)
    instance = start_instance(
        model_store=tmp_path / "store",
        redis_url=redis_server.url,
        database_url=postgres_server.url,
        rate_limit_per_second=0.01,
        rate_limit_burst=BURST,
        circuit_breaker_timeout_seconds=0.5,
    )
    wait_until(lambda: instance.get("/readyz").json["checks"]["redis_available"], what="Redis")
    return instance


def ask(instance: Instance, times: int, address: str, body: object = None) -> list[Answer]:
    """Requests of the client at `address`, by turns on connections that reach each worker."""
    headers = {"X-Forwarded-For": address}
    with connected_to_each(instance) as connections:
        return [
            client.request("POST", "/infer", body or {"text": f"good {n}"}, headers)
            for n, client in zip(range(times), itertools.cycle(connections), strict=False)
        ]


def statuses(answers: list[Answer]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


def test_a_client_over_its_rate_is_refused_by_all_workers_alike(
    limited: Instance, postgres_server, redis_server
) -> None:
    answers = ask(limited, 30, "203.0.113.1")
    assert statuses(answers) == {200: BURST, 429: 20}
    assert len({answer.headers["X-Worker-ID"] for answer in answers}) == 2
    first, refused = answers[0], answers[-1]
    assert first.headers["RateLimit-Policy"] == refused.headers["RateLimit-Policy"] == '"client";q=10;w=1000'
    assert first.headers["RateLimit"] == '"client";r=9;t=100'
    assert refused.headers["RateLimit"].startswith('"client";r=0;t=')
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json["type"] == "urn:falcon:problem:rate_limited"
    assert 80 < int(refused.headers["Retry-After"]) <= 100

    # Another client is not concerned, and nothing but the models is limited.
    assert statuses(ask(limited, 1, "203.0.113.2")) == {200: 1}
    spent = {"X-Forwarded-For": "203.0.113.1"}
    for path in ("/", "/health", "/healthz", "/readyz", "/metrics"):
        assert limited.request("GET", path, headers=spent).status == 200

    # A body that is refused has counted too.
    assert statuses(ask(limited, BURST + 5, "203.0.113.3", {"text": ""})) == {422: BURST, 429: 5}

    assert limited.metric("requests_shed_total", reason="rate") == 25
    assert limited.metric("inference_errors_total", error_type="rate_limited") == 25
    assert limited.metric("fallback_triggered_total", fallback_type="local_rate_limit") == 0
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        rows = (
            "SELECT count(*) FROM inference_logs "
            "WHERE status = 429 AND error_type = 'rate_limited' AND NOT success AND client_ip IS NOT NULL"
        )
        wait_until(lambda: connection.execute(rows).fetchone() == (25,), what="25 rows")

    # Without Redis each of the two workers keeps half of the rate.
    redis_server.kill()
    wait_until(lambda: not limited.get("/readyz").json["checks"]["redis_available"], what="the outage")
    answers = ask(limited, 60, "203.0.113.4")
    through = Counter(answer.headers["X-Worker-ID"] for answer in answers if answer.status == 200)
    assert set(through.values()) == {BURST // 2}
    assert limited.metric("fallback_triggered_total", fallback_type="local_rate_limit") == 60
