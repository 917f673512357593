"""Predictions for a request: cached ones first, the missing ones together, equal ones once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

from falcon_wsgi.models.forms import Input
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.observability.timing import timed
from falcon_wsgi.pipeline.cache import cache_keys
from falcon_wsgi.pipeline.request import InferenceRequest
from falcon_wsgi.pipeline.single_flight import SingleFlight
from falcon_wsgi.resilience.deadline import Deadline


class Model(Protocol):
    """A model that predicts for all requests of this process (`models.batching.MicroBatcher`)."""

    def predict(
        self, inputs: Sequence[Input], timeout_s: float, timings: dict[str, float]
    ) -> list[Prediction]: ...


class Lookup(Protocol):
    """`pipeline.cache.Lookup`."""

    @property
    def keys(self) -> Sequence[str]: ...

    @property
    def missing(self) -> Sequence[int]:
        """Indexes of the keys without a prediction, once waited for."""

    def wait(self) -> list[Prediction | None]:
        """For each key its prediction, or None."""


class Cache(Protocol):
    """`pipeline.cache.PredictionCache`, or `NoCache`."""

    def look_up(self, keys: Sequence[str], deadline: Deadline | None = None) -> Lookup: ...

    def put_many(self, items: Collection[tuple[str, Prediction]]) -> None: ...


class NoCache:
    """What CACHE_ENABLED=false puts in the cache's place."""

    def look_up(self, keys: Sequence[str], deadline: Deadline | None = None) -> Lookup:
        return _NothingKnown(keys)

    def put_many(self, items: Collection[tuple[str, Prediction]]) -> None:
        pass


class _NothingKnown:
    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = keys
        self.missing = range(len(keys))

    def wait(self) -> list[Prediction | None]:
        return [None] * len(self.keys)


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

    def look_up(self, request: InferenceRequest) -> Lookup:
        """Begin to ask the cache. Waits for nothing."""
        served = request.served
        return self._cache.look_up(
            cache_keys(served.name, served.digest, request.hashes), request.context.deadline
        )

    def of(self, request: InferenceRequest, lookup: Lookup) -> Found:
        """Raises DeadlineExceeded or PredictionFailed."""
        timings, keys = request.context.timings, lookup.keys
        with timed(timings, "cache"):
            found = lookup.wait()
        hits = [True] * len(keys)
        if not lookup.missing:
            return Found(cast(list[Prediction], found), hits, None)
        unknown = {keys[i]: request.normalised[i] for i in lookup.missing}
        new = self._flights.resolve(unknown, partial(self._predict, request, unknown), request.deadline)
        for i in lookup.missing:
            found[i], hits[i] = new[keys[i]], False
        return Found(cast(list[Prediction], found), hits, timings.get("predict"))

    def _predict(
        self, request: InferenceRequest, inputs: Mapping[str, Input], keys: list[str]
    ) -> dict[str, Prediction]:
        request.deadline.check()
        timeout_s = min(self._timeout_s, request.deadline.remaining_s())
        model = self._models[request.served.digest]
        new = model.predict([inputs[key] for key in keys], timeout_s, request.context.timings)
        predictions = dict(zip(keys, new, strict=True))
        self._cache.put_many(predictions.items())
        return predictions
