"""The functions that every request goes through, one at a time. Run by `make microbenchmark`."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from gevent import socket
from gevent.server import StreamServer
from prometheus_client.exposition import generate_latest
from sklearn.feature_extraction.text import TfidfVectorizer

from conftest import TEXT, Measure, calibration
from falcon_wsgi.backends import memory
from falcon_wsgi.backends.journal import frames
from falcon_wsgi.backends.journal_files import JournalWriter
from falcon_wsgi.backends.memory import MemoryStore
from falcon_wsgi.backends.redis import RedisClient
from falcon_wsgi.http.context import ContextFactory
from falcon_wsgi.http.edge import server_timing
from falcon_wsgi.http.inference import Single
from falcon_wsgi.http.schemas import InferBody, parse
from falcon_wsgi.models.batching import MicroBatcher
from falcon_wsgi.models.grams import grams_of
from falcon_wsgi.models.negation import tokenize
from falcon_wsgi.models.normal_form import nfc
from falcon_wsgi.models.prediction import decode, encode
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.observability.events import EntryEvents
from falcon_wsgi.observability.logs import AccessLog
from falcon_wsgi.observability.metrics import Metrics
from falcon_wsgi.observability.scrape import Scrape
from falcon_wsgi.pipeline.cache import LocalTier, PredictionCache, cache_keys
from falcon_wsgi.pipeline.idempotency import Idempotency
from falcon_wsgi.pipeline.request import Asked, InferenceRequest, Outcome
from falcon_wsgi.pipeline.rows import RowEncoder
from falcon_wsgi.pipeline.single_flight import SingleFlight
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.resilience.guard import Guard
from tests.benchmarks.workloads import WORKLOADS

_ROW_BYTES = 490
_LINE_BYTES = 360


def _row(model: ServedModel, workload: str) -> Any:
    drawn = WORKLOADS[workload].draw(random.Random(1))
    return model.form.validate(drawn.inputs[0])


def bench_calibration(measure: Measure) -> None:
    measure(calibration)


def bench_request_context(measure: Measure, contexts: ContextFactory, environ: dict[str, Any]) -> None:
    measure(contexts.build, environ)


def bench_parse_and_validate_text_body(measure: Measure) -> None:
    measure(parse, InferBody, orjson.dumps({"text": TEXT}))


def bench_validate_row_of_4_fields(measure: Measure, models: dict[str, ServedModel]) -> None:
    sent = WORKLOADS["iris"].draw(random.Random(1)).inputs[0]
    measure(models["iris"].form.validate, sent)


def bench_validate_row_of_36_fields(measure: Measure, models: dict[str, ServedModel]) -> None:
    sent = WORKLOADS["performance"].draw(random.Random(1)).inputs[0]
    measure(models["performance"].form.validate, sent)


def bench_normalise_canonical_and_cache_key(measure: Measure, sentiment: ServedModel) -> None:
    form, name, digest = sentiment.form, sentiment.name, sentiment.digest

    def run() -> list[str]:
        return cache_keys(name, digest, [hashlib.sha256(form.canonical(form.normalise(TEXT))).hexdigest()])

    measure(run)


def bench_local_tier_hit(measure: Measure, sentiment: ServedModel) -> None:
    tier = LocalTier(10_000)
    tier.put_many([("key", sentiment.predictor.predict([TEXT])[0])], 3600)
    measure(tier.get_many, ["key"])


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisClient]:
    """Connected to a server in this process that knows one answer."""

    def answer(connection: Any, address: Any) -> None:
        while received := connection.recv(65536):
            connection.sendall(b"*1\r\n$-1\r\n" if b"MGET" in received else b"+OK\r\n" * received.count(b"*"))

    path = tmp_path / "redis.sock"

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    server = StreamServer(listener, answer)
    server.start()
    client = RedisClient(f"unix://{path}", timeout_s=5)
    try:
        yield client
    finally:
        client.close()
        server.stop()


def bench_redis_mget_there_and_back_in_one_process(measure: Measure, redis: RedisClient) -> None:
    measure(redis.execute, (("MGET", "falcon:cache:sentiment:0123456789ab:" + "0" * 64),))


def bench_encode_prediction(measure: Measure, outcome: Outcome) -> None:
    measure(encode, outcome.predictions[0])


def bench_decode_prediction(measure: Measure, outcome: Outcome) -> None:
    measure(decode, encode(outcome.predictions[0]))


def bench_predict_text(measure: Measure, sentiment: ServedModel) -> None:
    measure(sentiment.predictor.predict, [TEXT])


def bench_predict_50_texts(measure: Measure, sentiment: ServedModel) -> None:
    measure(sentiment.predictor.predict, WORKLOADS["batch"].draw(random.Random(1)).inputs)


def bench_predict_linear_row(measure: Measure, models: dict[str, ServedModel]) -> None:
    measure(models["iris"].predictor.predict, [_row(models["iris"], "iris")])


def bench_predict_trees_row(measure: Measure, models: dict[str, ServedModel]) -> None:
    measure(models["performance"].predictor.predict, [_row(models["performance"], "performance")])


def bench_render(measure: Measure, request_: InferenceRequest, outcome: Outcome) -> None:
    measure(Single("worker-1").render, request_, outcome.predictions, outcome.cache_hits)


def bench_encode_log_row(measure: Measure, request_: InferenceRequest, outcome: Outcome) -> None:
    measure(RowEncoder("worker-1", keep_payloads=False).answer, request_, outcome, 0.001)


def bench_journal_frame(measure: Measure) -> None:
    measure(frames.encode, b"x" * _ROW_BYTES, 1)


def bench_journal_append(measure: Measure, tmp_path: Path) -> None:
    journal = JournalWriter.open(tmp_path, "worker-1")
    try:
        measure(journal.append, b"x" * _ROW_BYTES, 1)
    finally:
        journal.close()


def bench_metrics_of_an_answer(
    measure: Measure, worker_metrics: Metrics, request_: InferenceRequest, outcome: Outcome
) -> None:
    measure(EntryEvents(worker_metrics).answered, request_, outcome, 0.001)


def bench_counter_increment(measure: Measure, worker_metrics: Metrics) -> None:
    measure(worker_metrics.hit_child("local").inc)


def bench_histogram_observation(measure: Measure, worker_metrics: Metrics) -> None:
    measure(worker_metrics.stage_child("cache").observe, 0.0004)


def bench_server_timing(measure: Measure, request_: InferenceRequest) -> None:
    measure(server_timing, request_.context.timings)


@pytest.fixture
def stderr_to_nowhere() -> Iterator[None]:
    """The access log writes to the descriptor, past Python's own streams."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def bench_access_record(
    measure: Measure, stderr_to_nowhere: None, contexts: ContextFactory, environ: dict[str, Any]
) -> None:
    measure(AccessLog("worker-1", "INFO", 1.0).write, contexts.build(environ), 200, "POST", "/infer", 0.001)


def bench_scrape_of_one_worker(measure: Measure, worker_metrics: Metrics) -> None:
    """Also here because it holds up whatever the worker is answering."""
    measure(Scrape(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])).text, generate_latest, "text")


def bench_encode_50_log_rows(measure: Measure, sentiment: ServedModel, request_: InferenceRequest) -> None:
    texts = WORKLOADS["batch"].draw(random.Random(1)).inputs
    request_._reader.read = lambda: Asked(texts)  # type: ignore[method-assign]
    request_.read()
    outcome = Outcome(200, b"{}", sentiment.predictor.predict(texts), [False] * len(texts), inference_s=0.001)
    measure(RowEncoder("worker-1", keep_payloads=False).answer, request_, outcome, 0.001)


def bench_journal_append_50_rows(measure: Measure, tmp_path: Path) -> None:
    journal = JournalWriter.open(tmp_path, "worker-1")
    try:
        measure(journal.append, b"x" * _LINE_BYTES * 50, 50)
    finally:
        journal.close()


def bench_take_500_log_records_to_ship(measure: Measure, tmp_path: Path) -> None:
    journal = JournalWriter.open(tmp_path, "worker-1")
    for _ in range(1000):
        journal.append(b"x" * _LINE_BYTES, 1)

    def take() -> None:
        batch = journal.backlog.take(1000)
        assert batch is not None
        batch.release()

    try:
        measure(take)
    finally:
        journal.close()


def _cache(shared: MemoryStore) -> PredictionCache:
    return PredictionCache(LocalTier(10_000), shared, Guard("redis", memory.TRANSIENT), ttl_s=3600)


def bench_cache_hit_in_the_local_tier(measure: Measure, outcome: Outcome) -> None:
    cache = _cache(MemoryStore())
    cache.put_many([("key", outcome.predictions[0])])
    measure(lambda: cache.look_up(["key"]).wait())


def bench_cache_miss_and_put_of_50(measure: Measure, outcome: Outcome) -> None:
    """Both tiers, the shared one in this process' memory."""
    keys = cache_keys("sentiment", "digest", map(str, range(50)))
    items = [(key, outcome.predictions[0]) for key in keys]

    def run() -> None:
        cache = _cache(MemoryStore())
        cache.look_up(keys).wait()
        cache.put_many(items)

    measure(run)


def bench_single_flight_without_followers(measure: Measure) -> None:
    flights: SingleFlight[str] = SingleFlight()
    deadline = Deadline.after(3600)
    measure(flights.resolve, ["key"], lambda keys: {"key": "value"}, deadline)


def bench_guarded_call_of_a_healthy_dependency(measure: Measure) -> None:
    guard, deadline = Guard("redis", memory.TRANSIENT), Deadline.after(3600)
    measure(lambda: guard.call("get", bool, deadline=deadline))


def bench_idempotency_key_claimed_and_kept(
    measure: Measure, request_: InferenceRequest, outcome: Outcome
) -> None:
    """The store in this process' memory; each key is new."""
    idempotency = Idempotency(MemoryStore(), Guard("redis", memory.TRANSIENT), ttl_s=86_400, lease_s=6)
    keys = map(str, itertools.count())

    def run() -> None:
        request_.idempotency_key = next(keys)
        with idempotency.claim(request_) as claim:
            claim.keep(outcome)

    try:
        measure(run)
    finally:
        idempotency.close()


def bench_redis_50_sets_there_and_back_in_one_process(measure: Measure, redis: RedisClient) -> None:
    items = [(f"falcon:cache:sentiment:0123456789ab:{n:064}", b"x" * 120) for n in range(50)]

    def run() -> None:
        redis.submit(redis.set_many(items, 3600))
        redis.ping()

    measure(run)


def bench_normal_form_of_1000_letters_beyond_ascii(measure: Measure) -> None:
    measure(nfc, "gr\u00f6\u00dfer " * 143)


def bench_normal_form_of_1000_mixed_marks(measure: Measure) -> None:
    """What would take a quadratic time."""
    measure(nfc, "e" + "\u0301\u0323\u0327\u0345" * 250)


def bench_tokenize_text(measure: Measure) -> None:
    measure(tokenize, TEXT)


def bench_find_the_n_grams_of_a_text(measure: Measure) -> None:
    """Tokens included; what is left of a prediction is its arithmetic."""
    vectorizer = TfidfVectorizer(tokenizer=tokenize, token_pattern=None, lowercase=False, ngram_range=(1, 2))
    measure(grams_of(vectorizer.fit([TEXT])).find, [TEXT])


def bench_predict_text_through_the_batcher(measure: Measure, sentiment: ServedModel) -> None:
    batcher = MicroBatcher(sentiment.name, sentiment.predictor, timeout_s=10, at_once=sentiment.at_once)
    try:
        measure(batcher.predict, [TEXT], 10, {})
    finally:
        batcher.close()


def bench_predict_50_linear_rows(measure: Measure, models: dict[str, ServedModel]) -> None:
    measure(models["iris"].predictor.predict, [_row(models["iris"], "iris")] * 50)


def bench_predict_50_trees_rows(measure: Measure, models: dict[str, ServedModel]) -> None:
    measure(models["performance"].predictor.predict, [_row(models["performance"], "performance")] * 50)
