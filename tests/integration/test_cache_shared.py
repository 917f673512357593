"""The cache of two workers on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from falcon_wsgi.backends.redis import TRANSIENT, RedisClient
from falcon_wsgi.models.prediction import Prediction, encode
from falcon_wsgi.pipeline.cache import LocalTier, PredictionCache, cache_keys
from falcon_wsgi.pipeline.idempotency import Idempotency
from falcon_wsgi.pipeline.single_flight import SingleFlight
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.resilience.guard import Guard


class Worker:
    def __init__(self, url: str) -> None:
        self.client = RedisClient(url, timeout_s=2.0)
        self.cache = PredictionCache(LocalTier(1000), self.client, Guard("redis", TRANSIENT), ttl_s=60)
        self.flights: SingleFlight[Prediction] = SingleFlight()
        self.predicted: list[str] = []

    def predict(self, keys: list[str]) -> dict[str, Prediction]:
        self.predicted += keys
        gevent.sleep(0.01)
        new = {key: Prediction(key, 0.5) for key in keys}
        self.cache.put_many(new.items())
        return new

    def answer(self, keys: list[str]) -> list[Prediction]:
        known = self.cache.look_up(keys).wait()
        missing = [key for key, prediction in zip(keys, known, strict=True) if prediction is None]
        new = self.flights.resolve(missing, self.predict, Deadline.after(5))
        return [prediction or new[key] for key, prediction in zip(keys, known, strict=True)]


@pytest.fixture
def workers(redis_server: Any) -> Iterator[tuple[Worker, Worker]]:
    one, other = Worker(redis_server.url), Worker(redis_server.url)
    yield one, other
    one.client.close()
    other.client.close()


def test_a_batch_predicts_only_what_neither_tier_knows(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    one.answer(["a", "b"])
    one.client.ping()  # after it, the background writes have been made
    other.answer(["c"])
    assert [p.output for p in other.answer(["d", "b", "c", "a", "e"])] == ["d", "b", "c", "a", "e"]
    assert other.predicted == ["c", "d", "e"]


def test_concurrent_equal_misses_are_predicted_once_and_no_answer_is_anothers(
    workers: tuple[Worker, Worker],
) -> None:
    one, _ = workers
    keys = cache_keys("sentiment", "v1", [f"hash-{n % 50}" for n in range(1000)])
    greenlets = [gevent.spawn(one.answer, [key]) for key in keys]
    gevent.joinall(greenlets, raise_error=True)
    assert [greenlet.value[0].output for greenlet in greenlets] == keys
    assert sorted(one.predicted) == sorted(set(keys))


def test_a_promoted_model_never_answers_from_the_old_ones_entries(workers: tuple[Worker, Worker]) -> None:
    one, _ = workers
    one.cache.put_many([(cache_keys("sentiment", "old-digest", ["hash"])[0], Prediction("old"))])
    one.client.ping()
    for worker in workers:
        assert worker.cache.look_up(cache_keys("sentiment", "new-digest", ["hash"])).wait() == [None]


def test_a_foreign_value_in_redis_is_a_miss_and_is_overwritten(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    one.client.execute([("SET", "damaged", b"\x80\x04pickle"), ("RPUSH", "list", "x")])
    assert one.cache.look_up(["damaged", "list"]).wait() == [None, None]
    one.answer(["damaged", "list"])
    one.client.ping()
    assert [p.output for p in other.answer(["damaged", "list"])] == ["damaged", "list"]
    assert other.predicted == []
    assert one.client.execute([("GET", "damaged")]) == [encode(Prediction("damaged", 0.5))]


class KeyedRequest:
    client, route, fingerprint, from_trusted_balancer = "client", "/infer", b"f" * 32, False

    def __init__(self, key: str) -> None:
        self.idempotency_key = self.event_id = key
        self.deadline = Deadline.after(5)


def test_a_lookup_and_the_claim_of_a_key_reach_redis_together(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    other.answer(["known"])
    other.client.ping()

    def reads() -> int:
        """How often Redis read from a connection, this time included."""
        stats: bytes = one.client.execute([("INFO", "stats")])[0]
        return int(stats.partition(b"total_reads_processed:")[2].split()[0])

    before = reads()
    lookup = one.cache.look_up(["known", "new"])
    idempotency = Idempotency(one.client, Guard("redis", TRANSIENT), ttl_s=60, lease_s=6)
    with idempotency.claim(KeyedRequest("key")):
        found = lookup.wait()
    idempotency.close()
    assert found == [Prediction("known", 0.5), None]
    assert reads() - before == 3, "one for claim and lookup, one for the release, one for the count"
