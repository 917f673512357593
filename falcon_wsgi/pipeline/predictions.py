"""Predictions for a request: cached ones first, the missing ones together, equal ones once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from falcon_wsgi.models.forms import Input
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.observability.timing import timed
from falcon_wsgi.pipeline.cache import cache_key
from falcon_wsgi.pipeline.request import InferenceRequest
from falcon_wsgi.pipeline.single_flight import SingleFlight
from falcon_wsgi.resilience.deadline import Deadline


class Model(Protocol):
    """A model that predicts for all requests of this process (`models.batching.MicroBatcher`)."""

    def predict(
        self, inputs: Sequence[Input], timeout_s: float, timings: dict[str, float]
    ) -> list[Prediction]: ...


class Cache(Protocol):
    """`pipeline.cache.PredictionCache`, or `NoCache`."""

    def get_many(self, keys: Sequence[str], deadline: Deadline | None = None) -> list[Prediction | None]: ...

    def put_many(self, items: Iterable[tuple[str, Prediction]]) -> None: ...


class NoCache:
    """What CACHE_ENABLED=false puts in the cache's place."""

    def get_many(self, keys: Sequence[str], deadline: Deadline | None = None) -> list[Prediction | None]:
        return [None] * len(keys)

    def put_many(self, items: Iterable[tuple[str, Prediction]]) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Found:
    """One prediction for each input, whether each came from the cache, and the model's seconds if it was asked."""

    predictions: list[Prediction]
    cache_hits: list[bool]
    inference_s: float | None


class Predictions:
    """Answers from the cache, else from the model, once for equal inputs that are asked for at the same time.

    Args:
        models: by the version's digest.
        timeout_s: longest wait for a model.
    """

    def __init__(self, models: Mapping[str, Model], cache: Cache, timeout_s: float) -> None:
        self._models = models
        self._cache = cache
        self._flights: SingleFlight[Prediction] = SingleFlight()
        self._timeout_s = timeout_s

    def of(self, request: InferenceRequest) -> Found:
        """Raises DeadlineExceeded or PredictionFailed."""
        served, timings, deadline = request.served, request.context.timings, request.deadline
        keys = [cache_key(served.name, served.digest, canonical) for canonical in request.canonical]
        with timed(timings, "cache"):
            cached = self._cache.get_many(keys, deadline)
        unknown = {
            key: input_
            for key, input_, known in zip(keys, request.normalised, cached, strict=True)
            if known is None
        }
        if not unknown:
            return Found([known for known in cached if known is not None], [True] * len(keys), None)

        def compute(missing: list[str]) -> dict[str, Prediction]:
            deadline.check()
            timeout_s = min(self._timeout_s, deadline.remaining_s())
            new = self._models[served.digest].predict([unknown[key] for key in missing], timeout_s, timings)
            computed = dict(zip(missing, new, strict=True))
            self._cache.put_many(computed.items())
            return computed

        values = self._flights.resolve(unknown, compute, deadline)
        predictions = [known or values[key] for key, known in zip(keys, cached, strict=True)]
        return Found(predictions, [known is not None for known in cached], timings.get("predict"))
