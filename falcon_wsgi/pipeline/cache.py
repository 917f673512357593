"""Predictions that are known already: in this worker's memory, else in the store that all workers share."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

from falcon_wsgi.errors import DependencyRejected, DependencyUnavailable
from falcon_wsgi.models.prediction import Prediction, decode, encode
from falcon_wsgi.pipeline.encoding import delimited
from falcon_wsgi.pipeline.keyvalue import Command, KeyValueStore
from falcon_wsgi.pipeline.single_flight import SingleFlight as SingleFlight
from falcon_wsgi.resilience.deadline import Clock, Deadline
from falcon_wsgi.resilience.guard import Guard

_PROMOTED_TTL_S = 60.0


class CacheObserver(Protocol):
    """Told what the cache did. `tier` is "local" or "shared", `operation` "get", "set" or "decode"."""

    def hit(self, tier: str) -> None: ...

    def miss(self) -> None: ...

    def error(self, operation: str) -> None: ...

    def fallback(self, dependency: str, fallback_type: str) -> None: ...


class NullCacheObserver:
    """Ignores everything."""

    def hit(self, tier: str) -> None:
        pass

    def miss(self) -> None:
        pass

    def error(self, operation: str) -> None:
        pass

    def fallback(self, dependency: str, fallback_type: str) -> None:
        pass


def cache_key(model: str, digest: str, normalised_input: bytes) -> str:
    """The key of one input's prediction by one version of a model, known by its digest.

    Two keys are equal only if all three parts are: the hash is of an encoding that says where each part
    ends. What stands before the hash is for people who look into Redis.
    """
    digest_of_all = hashlib.sha256(delimited(model.encode(), digest.encode(), normalised_input)).hexdigest()
    return f"falcon:cache:{model}:{digest[:12]}:{digest_of_all}"


class LocalTier:
    """The most recently used predictions of this worker, each for a limited time.

    Args:
        max_entries: past that the one unused for longest goes; 0 keeps nothing.
    """

    def __init__(self, max_entries: int, clock: Clock = time.monotonic) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[str, tuple[Prediction, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Prediction | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock() >= entry[1]:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: str, prediction: Prediction, ttl_s: float) -> None:
        if self._max_entries == 0:
            return
        self._entries[key] = (prediction, self._clock() + ttl_s)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


class PredictionCache:
    """Two tiers. Nothing that happens to the shared one ever fails a request or delays it twice.

    Reads of the shared tier wait at most for one guarded operation; writes are never waited for. A value that
    cannot be read is a miss, and the prediction that is then made overwrites it.

    Args:
        ttl_s: life of an entry. What the local tier takes over from the shared one stays a minute at most, so
            that no entry outlives its time by more.
    """

    def __init__(
        self,
        local: LocalTier,
        shared: KeyValueStore,
        guard: Guard,
        *,
        ttl_s: int,
        observer: CacheObserver | None = None,
    ) -> None:
        self._local = local
        self._shared = shared
        self._guard = guard
        self._ttl_s = ttl_s
        self._observer = observer or NullCacheObserver()

    def get_many(self, keys: Sequence[str], deadline: Deadline | None = None) -> list[Prediction | None]:
        """For each key its prediction, or None. One round trip, and only for what is not held locally."""
        found = [self._local.get(key) for key in keys]
        unknown = [index for index, prediction in enumerate(found) if prediction is None]
        for _ in range(len(keys) - len(unknown)):
            self._observer.hit("local")
        if unknown:
            for index, prediction in zip(
                unknown, self._ask([keys[i] for i in unknown], deadline), strict=True
            ):
                found[index] = prediction
        return found

    def put_many(self, items: Iterable[tuple[str, Prediction]]) -> None:
        """Keep predictions in both tiers; in the shared one later, and only while its circuit is closed."""
        commands: list[Command] = []
        for key, prediction in items:
            self._local.put(key, prediction, self._ttl_s)
            commands.append(("SET", key, encode(prediction), "EX", self._ttl_s))
        if commands and not (self._guard.healthy and self._shared.submit(commands, self._set_failed)):
            self._set_failed()

    def _ask(self, keys: list[str], deadline: Deadline | None) -> list[Prediction | None]:
        predictions = [
            self._read(key, value) for key, value in zip(keys, self._fetch(keys, deadline), strict=True)
        ]
        for prediction in predictions:
            if prediction is None:
                self._observer.miss()
            else:
                self._observer.hit("shared")
        return predictions

    def _fetch(self, keys: list[str], deadline: Deadline | None) -> list[bytes | None]:
        nothing: list[bytes | None] = [None] * len(keys)
        try:
            replies = self._guard.call(
                "cache_get", lambda: self._shared.execute((("MGET", *keys),)), deadline=deadline
            )
        except DependencyUnavailable as error:
            if error.__cause__ is not None:  # an attempt failed, rather than being refused
                self._observer.error("get")
            self._observer.fallback(self._guard.name, "no_shared_cache")
            return nothing
        except DependencyRejected:
            self._observer.error("get")
            return nothing
        values: list[bytes | None] = replies[0]
        return values

    def _read(self, key: str, value: bytes | None) -> Prediction | None:
        if value is None:
            return None
        try:
            prediction = decode(value)
        except ValueError:
            self._observer.error("decode")
            return None
        self._local.put(key, prediction, min(self._ttl_s, _PROMOTED_TTL_S))
        return prediction

    def _set_failed(self) -> None:
        self._observer.error("set")
