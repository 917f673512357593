"""Predictions that are known already: in this worker's memory, else in the store that all workers share."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Protocol

from falcon_wsgi.errors import DependencyRejected, DependencyUnavailable
from falcon_wsgi.models.prediction import Prediction, decode, encode
from falcon_wsgi.pipeline.encoding import delimited
from falcon_wsgi.pipeline.keyvalue import Command, KeyValueStore, Pending
from falcon_wsgi.resilience.deadline import Clock, Deadline
from falcon_wsgi.resilience.guard import Guard

_PROMOTED_TTL_S = 60.0


class CacheObserver(Protocol):
    """Told what the cache did. `tier` is "local" or "shared", `operation` "get", "set" or "decode"."""

    def hits(self, tier: str, count: int) -> None: ...

    def misses(self, count: int) -> None: ...

    def error(self, operation: str) -> None: ...

    def fallback(self, dependency: str, fallback_type: str) -> None: ...


class NullCacheObserver:
    """Ignores everything."""

    def hits(self, tier: str, count: int) -> None:
        pass

    def misses(self, count: int) -> None:
        pass

    def error(self, operation: str) -> None:
        pass

    def fallback(self, dependency: str, fallback_type: str) -> None:
        pass


def cache_keys(model: str, digest: str, hashes: Iterable[str]) -> list[str]:
    """The keys of inputs' predictions by one version of a model, known by its digest.

    Args:
        hashes: SHA-256 of the normalised inputs, in hexadecimal.

    Two keys are equal only if model, digest and hash are, as far as 128 bits of the hash tell: two texts with equal
    ones take 2^64 attempts to find.
    """
    prefix = _key_prefix(model, digest)
    return [prefix + hash_[:32] for hash_ in hashes]


@lru_cache(1024)
def _key_prefix(model: str, digest: str) -> str:
    """The model and the start of the digest are for people who look into Redis. What makes it unique is the hash, of
    an encoding that says where each part ends. 64 bits of it do: nobody but the operator chooses models, and a
    longer key is sent, stored and logged twice for each prediction."""
    version = hashlib.sha256(delimited(model.encode(), digest.encode())).hexdigest()[:16]
    return f"falcon:cache:{model}:{digest[:12]}:{version}:"


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

    def get_many(self, keys: Iterable[str]) -> list[Prediction | None]:
        entries, now_s = self._entries, self._clock()
        found: list[Prediction | None] = []
        for key in keys:
            entry = entries.get(key)
            if entry is None:
                found.append(None)
            elif now_s >= entry[1]:
                del entries[key]
                found.append(None)
            else:
                entries.move_to_end(key)
                found.append(entry[0])
        return found

    def put_many(self, items: Iterable[tuple[str, Prediction]], ttl_s: float) -> None:
        entries, dies_s = self._entries, self._clock() + ttl_s
        for key, prediction in items:
            if key in entries:
                entries.move_to_end(key)
            entries[key] = (prediction, dies_s)
        while len(entries) > self._max_entries:
            entries.popitem(last=False)


class Lookup:
    """What one request asks of the cache. What this worker did not know is on its way from the shared tier.

    Attributes:
        missing: indexes of the keys without a prediction, final after `wait`.
    """

    __slots__ = ("_cache", "_deadline", "_found", "_pending", "keys", "missing")

    def __init__(
        self,
        cache: PredictionCache,
        keys: Sequence[str],
        found: list[Prediction | None],
        missing: list[int],
        pending: Pending | None,
        deadline: Deadline | None,
    ) -> None:
        self.keys = keys
        self.missing = missing
        self._cache = cache
        self._found = found
        self._pending = pending
        self._deadline = deadline

    def wait(self) -> list[Prediction | None]:
        """For each key its prediction, or None. Nothing was counted before. To be called at most once."""
        found, asked = self._found, self.missing
        self._cache.count_local(len(found) - len(asked))
        if asked:
            new = self._cache.fetch([self.keys[i] for i in asked], self._pending, self._deadline)
            for i, prediction in zip(asked, new, strict=True):
                found[i] = prediction
            self.missing = [i for i in asked if found[i] is None]
        return found


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

    def look_up(self, keys: Sequence[str], deadline: Deadline | None = None) -> Lookup:
        """Ask both tiers, the shared one at most once and only for what is not held locally."""
        found = self._local.get_many(keys)
        unknown = [i for i, prediction in enumerate(found) if prediction is None]
        pending = None
        # To wait is guarded, to ask is not; so nothing is asked of a store that may be away.
        if unknown and self._guard.healthy and (deadline is None or deadline.waits_for(self._guard.name)):
            pending = self._shared.begin((("MGET", *[keys[i] for i in unknown]),))
        return Lookup(self, keys, found, unknown, pending, deadline)

    def put_many(self, items: Collection[tuple[str, Prediction]]) -> None:
        """Keep predictions in both tiers; in the shared one later, and only while its circuit is closed."""
        self._local.put_many(items, self._ttl_s)
        if self._guard.healthy:
            encoded = [(key, encode(prediction)) for key, prediction in items]
            if self._shared.submit(self._shared.set_many(encoded, self._ttl_s), self._set_failed):
                return
        self._set_failed()

    def count_local(self, hits: int) -> None:
        if hits:
            self._observer.hits("local", hits)

    def fetch(
        self, keys: Sequence[str], pending: Pending | None, deadline: Deadline | None
    ) -> list[Prediction | None]:
        """What the shared tier knows. `pending` is the first attempt to ask it."""
        values = self._values(("MGET", *keys), pending, deadline)
        if values is None:
            self._observer.misses(len(keys))
            return [None] * len(keys)
        predictions = [
            None if value is None else self._read(key, value) for key, value in zip(keys, values, strict=True)
        ]
        misses = sum([prediction is None for prediction in predictions])
        if misses:
            self._observer.misses(misses)
        if misses < len(keys):
            self._observer.hits("shared", len(keys) - misses)
        return predictions

    def _values(
        self, command: Command, pending: Pending | None, deadline: Deadline | None
    ) -> list[bytes | None] | None:
        """None if the shared tier cannot be asked."""

        def ask() -> list[bytes | None]:
            nonlocal pending
            begun, pending = pending, None  # the guard may call again
            replies = self._shared.execute((command,)) if begun is None else begun.wait()
            values: list[bytes | None] = replies[0]
            return values

        try:
            return self._guard.call("cache_get", ask, deadline=deadline)
        except DependencyUnavailable as error:
            if error.__cause__ is not None:  # an attempt failed, rather than being refused
                self._observer.error("get")
            self._observer.fallback(self._guard.name, "no_shared_cache")
        except DependencyRejected:
            self._observer.error("get")
        return None

    def _read(self, key: str, value: bytes) -> Prediction | None:
        try:
            prediction = decode(value)
        except ValueError:
            self._observer.error("decode")
            return None
        self._local.put_many(((key, prediction),), min(self._ttl_s, _PROMOTED_TTL_S))
        return prediction

    def _set_failed(self) -> None:
        self._observer.error("set")
