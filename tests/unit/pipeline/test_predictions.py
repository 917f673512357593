from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from falcon_wsgi.backends.memory import TRANSIENT, AbsentStore, MemoryStore
from falcon_wsgi.errors import DeadlineExceeded
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.pipeline.cache import LocalTier, PredictionCache
from falcon_wsgi.pipeline.predictions import Cache, Found, NoCache, Predictions
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.resilience.guard import Guard


class Model:
    """Says each input back, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[Any]] = []

    def predict(self, inputs: Sequence[Any], timeout_s: float, timings: dict[str, float]) -> list[Prediction]:
        self.asked.append(list(inputs))
        timings["predict"] = 0.001
        return [Prediction(input_) for input_ in inputs]


@dataclass
class Request:
    """What `Predictions` asks of an InferenceRequest."""

    normalised: list[str]
    deadline: Deadline = field(default_factory=lambda: Deadline.after(30))
    digest: str = "digest"

    def __post_init__(self) -> None:
        self.served = SimpleNamespace(name="echo", digest=self.digest)
        self.context = SimpleNamespace(timings={}, deadline=self.deadline)
        self.hashes = [f"hash of {text}" for text in self.normalised]


def cache_on(store: Any) -> PredictionCache:
    return PredictionCache(LocalTier(100), store, Guard("redis", TRANSIENT, sleep=lambda _: None), ttl_s=60)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture(params=["two tiers", "redis away", "off"])
def cache(request: pytest.FixtureRequest) -> Cache:
    made: dict[str, Cache] = {
        "two tiers": cache_on(MemoryStore()),
        "redis away": cache_on(AbsentStore()),
        "off": NoCache(),
    }
    return made[request.param]


def ask(predictions: Predictions, *texts: str, **changes: Any) -> Found:
    request: Any = Request(list(texts), **changes)
    return predictions.of(request, predictions.look_up(request))


def outputs(found: Found) -> list[Any]:
    return [prediction.output for prediction in found.predictions]


def test_every_input_gets_its_own_prediction_in_order_whatever_the_cache_does(
    model: Model, cache: Cache
) -> None:
    predictions = Predictions({"digest": model}, cache, 10)
    ask(predictions, "b", "d")
    found = ask(predictions, "a", "b", "c", "b", "a", "d")
    assert outputs(found) == ["a", "b", "c", "b", "a", "d"]
    known = not isinstance(cache, NoCache)
    assert found.cache_hits == [False, known, False, known, False, known]
    assert found.inference_s == 0.001


def test_only_what_is_unknown_reaches_the_model_and_equal_inputs_once(model: Model) -> None:
    predictions = Predictions({"digest": model}, cache_on(MemoryStore()), 10)
    ask(predictions, "b")
    ask(predictions, "a", "b", "c", "a")
    assert model.asked == [["b"], ["a", "c"]]


def test_where_all_is_known_the_model_is_not_asked_and_no_inference_is_reported(model: Model) -> None:
    store = MemoryStore()
    ask(Predictions({"digest": model}, cache_on(store), 10), "a", "b")
    neighbour = Predictions({"digest": model}, cache_on(store), 10)
    for tier in ("shared", "local"):
        found = ask(neighbour, "b", "a")
        assert (outputs(found), found.cache_hits, found.inference_s) == (["b", "a"], [True, True], None), tier
    assert len(model.asked) == 1


def test_each_version_is_asked_for_its_own_answer(model: Model) -> None:
    other = Model()
    predictions = Predictions({"digest": model, "new": other}, cache_on(MemoryStore()), 10)
    ask(predictions, "a")
    assert ask(predictions, "a", digest="new").cache_hits == [False]
    assert other.asked == [["a"]]


def test_past_the_deadline_the_model_is_not_asked(model: Model) -> None:
    predictions = Predictions({"digest": model}, NoCache(), 10)
    with pytest.raises(DeadlineExceeded):
        ask(predictions, "a", deadline=Deadline.after(0))
    assert model.asked == []
