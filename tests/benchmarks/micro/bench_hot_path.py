"""The functions that every request goes through, one at a time. Run by `make microbenchmark`."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from gevent import socket
from gevent.server import StreamServer

from conftest import TEXT, Measure, calibration
from falcon_wsgi.backends.journal import frames
from falcon_wsgi.backends.journal_files import JournalWriter
from falcon_wsgi.backends.redis import RedisClient
from falcon_wsgi.http.context import ContextFactory
from falcon_wsgi.http.edge import server_timing
from falcon_wsgi.http.inference import Single
from falcon_wsgi.http.schemas import InferBody, parse
from falcon_wsgi.models.prediction import decode, encode
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.observability.events import EntryEvents
from falcon_wsgi.observability.logs import AccessLog
from falcon_wsgi.observability.metrics import Metrics
from falcon_wsgi.pipeline.cache import LocalTier, cache_key
from falcon_wsgi.pipeline.request import InferenceRequest, Outcome
from falcon_wsgi.pipeline.rows import RowEncoder
from tests.benchmarks.workloads import WORKLOADS

_ROW_BYTES = 490


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
    measure(lambda: cache_key(name, digest, form.canonical(form.normalise(TEXT))))


def bench_local_tier_hit(measure: Measure, sentiment: ServedModel) -> None:
    tier = LocalTier(10_000)
    tier.put("key", sentiment.predictor.predict([TEXT])[0], 3600)
    measure(tier.get, "key")


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
