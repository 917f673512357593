"""What the micro-benchmarks share: models, a request, metrics in their files, and the calibration loop."""

from __future__ import annotations

import os
import tempfile
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from falcon_wsgi.http.context import ContextFactory
from falcon_wsgi.http.inference import Single
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.observability import metrics
from falcon_wsgi.pipeline.request import Asked, InferenceRequest, Outcome
from falcon_wsgi.settings import Settings

TEXT = "the room was clean and quiet but the staff were not friendly at all"
_REPEATS = 40

Measure = Callable[..., Any]


def calibration() -> int:
    """Some 10 us of what request handling is made of: calls, dictionaries, strings, integers."""
    held: dict[str, int] = {}
    for i in range(60):
        name = f"field-{i % 12}"
        held[name] = held.get(name, 0) + len(name) * i
    return sum(held.values())


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """As `benchmark`, with the fastest round as a ratio to the calibration loop's, which runs before and after."""

    def run(function: Callable[..., Any], *arguments: Any) -> Any:
        before = _calibration_s()
        result = benchmark(function, *arguments)
        unit_s = min(before, _calibration_s())
        benchmark.extra_info["ratio"] = benchmark.stats.stats.min / unit_s
        benchmark.extra_info["us"] = benchmark.stats.stats.min * 1e6
        return result

    return run


def _calibration_s() -> float:
    return min(timeit.repeat(calibration, number=20, repeat=_REPEATS)) / 20


@pytest.fixture(scope="session")
def models() -> dict[str, ServedModel]:
    store = ModelStore(Path(os.environ["BENCHMARK_STORE"]))
    return {name: store.load(name) for name in ("sentiment", "iris", "performance")}


@pytest.fixture(scope="session")
def sentiment(models: dict[str, ServedModel]) -> ServedModel:
    return models["sentiment"]


@pytest.fixture(scope="session")
def environ() -> dict[str, Any]:
    """What Gunicorn makes of a usual request."""
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/infer",
        "QUERY_STRING": "",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "HTTP_X_REQUEST_ID": "b3f9a2c1e0-w1-17",
    }


@pytest.fixture(scope="session")
def contexts() -> ContextFactory:
    return ContextFactory(Settings(_env_file=None).trusted_proxies, 30)  # type: ignore[call-arg]


class _Read:
    """A reader of one text."""

    def __init__(self, served: ServedModel) -> None:
        self.served: ServedModel | None = served

    def read(self) -> Asked:
        return Asked((TEXT,))

    def idempotency_key(self) -> str | None:
        return None


@pytest.fixture
def request_(sentiment: ServedModel, contexts: ContextFactory, environ: dict[str, Any]) -> InferenceRequest:
    request = InferenceRequest(contexts.build(environ), "/infer", _Read(sentiment), Single("worker-1"))
    request.read()
    request.context.timings.update(queue=0.00001, cache=0.0003, predict=0.00004, log=0.00002)
    return request


@pytest.fixture
def outcome(sentiment: ServedModel) -> Outcome:
    return Outcome(200, b"{}", sentiment.predictor.predict([TEXT]), [False], inference_s=0.00004)


@pytest.fixture(scope="session")
def worker_metrics() -> Iterator[metrics.Metrics]:
    """In memory-mapped files, as a worker's are."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        metrics.prepare(Path(folder), 1)
        metrics.use_slot(1)
        yield metrics.Metrics("worker-1")
        metrics.use_slot(None)
