"""A worker process for the idempotency tests: `hold KEY` claims and keeps running, `race COUNT NAME` races for keys.

To be run by `python -m gevent.monkey`, which patches before anything is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import gevent

from falcon_wsgi.backends.redis import TRANSIENT, RedisClient
from falcon_wsgi.errors import IdempotencyInProgress
from falcon_wsgi.pipeline.idempotency import Idempotency
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.resilience.guard import Guard

LEASE_S = 1.0


class Request:
    route = "/infer"
    client = "client-1"
    fingerprint = b"f" * 32

    def __init__(self, key: str, event_id: str, from_trusted_balancer: bool = False) -> None:
        self.idempotency_key = key
        self.event_id = event_id
        self.from_trusted_balancer = from_trusted_balancer
        self.deadline = Deadline.after(30)


class Outcome:
    status = 200

    def __init__(self, body: bytes) -> None:
        self.body = body


@contextmanager
def idempotency_on(url: str) -> Iterator[tuple[Idempotency, RedisClient]]:
    store = RedisClient(url, timeout_s=2.0)
    idempotency = Idempotency(store, Guard("redis", TRANSIENT), ttl_s=60, lease_s=LEASE_S)
    try:
        yield idempotency, store
    finally:
        idempotency.close()
        store.close()


def attempt(idempotency: Idempotency, request: Request, body: bytes) -> str:
    try:
        with idempotency.claim(request) as claim:
            if claim.replay is not None:
                return "replayed " + claim.replay.body.decode()
            claim.keep(Outcome(body))
            return "owned"
    except IdempotencyInProgress:
        return "in progress"


def race(url: str, count: int, name: str) -> list[str]:
    """What became of each key. Both processes meet before each."""
    results = []
    with idempotency_on(url) as (idempotency, store):
        for number in range(count):
            store.execute([("INCR", f"met:{number}")])
            while store.execute([("GET", f"met:{number}")]) != [b"2"]:
                gevent.sleep(0)
            results.append(attempt(idempotency, Request(f"key-{number}", name), name.encode()))
    return results


def hold(url: str, key: str) -> None:
    with idempotency_on(url) as (idempotency, _), idempotency.claim(Request(key, "event-1")):
        print("claimed", flush=True)
        gevent.sleep(60)


if __name__ == "__main__":
    url, action, *arguments = sys.argv[1:]
    if action == "hold":
        hold(url, arguments[0])
    else:
        print(json.dumps(race(url, int(arguments[0]), arguments[1])))
