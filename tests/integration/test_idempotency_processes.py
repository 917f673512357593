"""Idempotency between processes, on a real Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from falcon_wsgi.errors import IdempotencyInProgress
from tests.integration.claiming_process import LEASE_S, Request, attempt, idempotency_on

SCRIPT = Path(__file__).with_name("claiming_process.py")
CHECKOUT = SCRIPT.parents[2]


@pytest.fixture
def start(redis_server: Any) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "gevent.monkey", str(SCRIPT), redis_server.url, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def holder(start: Callable[..., subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """A process that owns the key "held" and renews its claim."""
    process = start("hold", "held")
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    return process


def test_of_two_processes_that_race_for_200_keys_each_key_has_exactly_one_owner(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    racers = [start("race", "200", name) for name in ("one", "two")]
    one, two = (json.loads(racer.communicate(timeout=60)[0]) for racer in racers)
    assert len(one) == len(two) == 200
    for outcomes in zip(one, two, strict=True):
        assert outcomes.count("owned") == 1, outcomes
        name = "one" if outcomes[0] == "owned" else "two"
        assert set(outcomes) - {"owned", "in progress", f"replayed {name}"} == set()
    assert {"owned", "in progress"} <= {*one, *two}, "they never met, so nothing was shown"


def test_a_living_owner_keeps_its_key_past_the_lease(redis_server: Any, holder: Any) -> None:
    gevent.sleep(1.5 * LEASE_S)
    with idempotency_on(redis_server.url) as (idempotency, _):
        assert attempt(idempotency, Request("held", "event-2"), b"") == "in progress"


def test_the_key_of_a_killed_owner_is_free_after_the_lease(redis_server: Any, holder: Any) -> None:
    holder.kill()
    killed_s = time.monotonic()
    with idempotency_on(redis_server.url) as (idempotency, _):
        assert attempt(idempotency, Request("held", "event-2"), b"") == "in progress"
        with gevent.Timeout(5):
            while attempt(idempotency, Request("held", "event-2"), b"") != "owned":
                gevent.sleep(0.02)
    assert time.monotonic() - killed_s < LEASE_S + 0.3


def test_the_balancers_retry_takes_over_from_a_killed_owner(redis_server: Any, holder: Any) -> None:
    holder.kill()
    with idempotency_on(redis_server.url) as (idempotency, _), gevent.Timeout(5):
        retry = Request("held", "event-1", from_trusted_balancer=True)
        assert attempt(idempotency, retry, b"") == "owned"


def test_the_balancers_retry_gets_the_answer_of_the_attempt_that_still_runs(redis_server: Any) -> None:
    with idempotency_on(redis_server.url) as (first, _), idempotency_on(redis_server.url) as (second, _):
        with first.claim(Request("k", "event-1")) as claim:
            retry = Request("k", "event-1", from_trusted_balancer=True)
            waiting = gevent.spawn(attempt, second, retry, b"second")
            gevent.sleep(0.2)
            assert not waiting.ready()

            class Outcome:
                status = 200
                body = b'{"n":1,"idempotency_hit":false}'

            claim.keep(Outcome())
        assert waiting.get(timeout=1) == 'replayed {"n":1,"idempotency_hit":true}'


def test_a_stored_answer_survives_its_process_and_a_restart_of_redis(redis_server: Any) -> None:
    with idempotency_on(redis_server.url) as (idempotency, _):
        assert attempt(idempotency, Request("k", "event-1"), b"\x00\xff answer") == "owned"
    redis_server.stop()
    redis_server.start()
    with idempotency_on(redis_server.url) as (idempotency, _), idempotency.claim(Request("k", "e")) as claim:
        assert claim.replay is not None
        assert claim.replay.body == b"\x00\xff answer"


def test_of_50_greenlets_with_one_key_exactly_one_owns_it(redis_server: Any) -> None:
    with idempotency_on(redis_server.url) as (idempotency, _):
        owners: list[int] = []

        def contend(number: int) -> None:
            try:
                with idempotency.claim(Request("k", f"event-{number}")):
                    owners.append(number)
                    gevent.sleep(0.1)
            except IdempotencyInProgress:
                pass

        gevent.joinall([gevent.spawn(contend, number) for number in range(50)], raise_error=True)
        assert len(owners) == 1
