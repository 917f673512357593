"""Requests of a model with a canary are counted by the version that answered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from falcon_wsgi.errors import PredictionFailed
from falcon_wsgi.observability.events import EntryEvents
from falcon_wsgi.observability.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("worker-1")


def request(model: str = "m", version: str | None = "1.1.0") -> Any:
    known = SimpleNamespace(version=version) if version else None
    return SimpleNamespace(model_name=model, known_model=known, context=SimpleNamespace(timings={}))


def outcome(replayed: bool = False) -> Any:
    return SimpleNamespace(cache_hits=[False], replayed=replayed)


def counted(metrics: Metrics) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["version"], sample.labels["status"]): sample.value
        for family in metrics.canary_requests.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def test_successes_and_errors_are_counted_apart(metrics: Metrics) -> None:
    events = EntryEvents(metrics, {"m"})
    events.answered(request(), outcome(), 0.1)
    events.answered(request(version="1.0.0"), outcome(), 0.1)
    events.failed(request(), PredictionFailed("no"), 0.1)
    assert counted(metrics) == {("1.1.0", "success"): 1, ("1.0.0", "success"): 1, ("1.1.0", "error"): 1}


def test_stored_answers_other_models_and_unread_requests_are_not(metrics: Metrics) -> None:
    events = EntryEvents(metrics, {"m"})
    events.answered(request(), outcome(replayed=True), 0.1)
    events.answered(request(model="other"), outcome(), 0.1)
    events.failed(request(model="unknown", version=None), PredictionFailed("no"), 0.1)
    assert counted(metrics) == {}
