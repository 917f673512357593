"""The observers of the parts, as metrics: each class answers the events of one part by counting them."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

from falcon_wsgi.errors import FalconError, Overloaded, RateLimited
from falcon_wsgi.observability.metrics import STATE_VALUES, Metrics


class Context(Protocol):
    @property
    def timings(self) -> Mapping[str, float]: ...


class Version(Protocol):
    @property
    def version(self) -> str: ...


class Request(Protocol):
    """What is asked of a request here."""

    @property
    def known_model(self) -> Version | None: ...

    @property
    def model_name(self) -> str: ...

    @property
    def context(self) -> Context: ...


class Outcome(Protocol):
    """What is asked of an outcome here."""

    @property
    def replayed(self) -> bool: ...

    @property
    def cache_hits(self) -> Sequence[bool]: ...


class EntryEvents:
    """Of `pipeline.journal`. `canaries` are the models of which several versions answer."""

    def __init__(self, metrics: Metrics, canaries: Container[str] = ()) -> None:
        self._m = metrics
        self._canaries = canaries

    def answered(self, request: Request, outcome: Outcome, seconds: float) -> None:
        model, hit = request.model_name, all(outcome.cache_hits)
        self._m.request_child(model, "success", hit).inc()
        self._m.duration_child(model, hit).observe(seconds)
        for stage, taken in request.context.timings.items():
            self._m.stage_child(stage).observe(taken)
        if not outcome.replayed:  # what is replayed may be the answer of another version
            self._count_version(request, "success")

    def _count_version(self, request: Request, status: str) -> None:
        model = request.known_model
        if model is not None and request.model_name in self._canaries:
            self._m.canary_requests.labels(request.model_name, model.version, status).inc()

    def failed(self, request: Request, error: BaseException, seconds: float) -> None:
        model = request.model_name
        self._m.request_child(model, "error", False).inc()
        self._m.duration_child(model, False).observe(seconds)
        code = error.code if isinstance(error, FalconError) else "internal_error"
        self._m.errors.labels(self._m.worker_id, code).inc()
        if isinstance(error, Overloaded):
            self._m.shed.labels("concurrency").inc()
        elif isinstance(error, RateLimited):
            self._m.shed.labels("rate").inc()
        self._count_version(request, "error")


class Found(Protocol):
    """A difference of two answers (`models.comparison.Difference`)."""

    @property
    def agree(self) -> bool: ...

    @property
    def distance(self) -> float | None: ...


class ShadowEvents:
    """Of `pipeline.shadow`, for one candidate.

    Args:
        pair: the classes of a live and a candidate's answer (`models.comparison.Classes.pair`), which are few.
    """

    _OUTCOMES = ("agree", "disagree", "error", "timeout", "dropped")

    def __init__(
        self,
        metrics: Metrics,
        model: str,
        version: str,
        against: str,
        pair: Callable[[Any, Any, bool], tuple[str, str]],
    ) -> None:
        names = (model, version, against)
        self._pair = pair
        self._outcomes = {
            outcome: metrics.shadow_predictions.labels(*names, outcome) for outcome in self._OUTCOMES
        }
        self._distance = metrics.shadow_distance.labels(*names)
        self._duration = {
            side: metrics.shadow_duration.labels(*names, side) for side in ("live", "candidate")
        }
        self._disagreement = cache(
            lambda live, candidate: metrics.shadow_disagreements.labels(*names, live, candidate)
        )

    def compared(self, live: Any, candidate: Any, found: Found) -> None:
        self._outcomes["agree" if found.agree else "disagree"].inc()
        if found.distance is not None:
            self._distance.observe(found.distance)
        if not found.agree:
            self._disagreement(*self._pair(live, candidate, False)).inc()

    def failed(self, outcome: str, predictions: int) -> None:
        self._outcomes[outcome].inc(predictions)

    def duration(self, side: str, seconds: float) -> None:
        self._duration[side].observe(seconds)


class BatchEvents:
    """Of `models.batching`."""

    def __init__(self, metrics: Metrics, on_stuck: Callable[[], None]) -> None:
        self._m = metrics
        self._on_stuck = on_stuck

    def batch(self, model: str, size: int) -> None:
        self._m.batch_size.observe(size)

    def stuck(self, model: str) -> None:
        self._on_stuck()


class GuardEvents:
    """Of `resilience.guard`."""

    def __init__(self, metrics: Metrics) -> None:
        self._m = metrics

    def success(self, dependency: str) -> None:
        self._m.success_child(dependency).inc()

    def failure(self, dependency: str) -> None:
        self._m.breaker_failures.labels(dependency).inc()

    def transition(self, dependency: str, to: str) -> None:
        self._m.breaker_transitions.labels(dependency, to).inc()
        self._m.breaker_state.labels(dependency).set(STATE_VALUES[to])

    def retry(self, dependency: str, operation: str) -> None:
        self._m.retries.labels(operation).inc()


class AuthEvents:
    """Of `http.auth`."""

    def __init__(self, metrics: Metrics) -> None:
        self._m = metrics

    def refused(self, reason: str) -> None:
        self._m.auth_failures.labels(reason).inc()


class RateLimitEvents:
    """Of `pipeline.rate_limit`."""

    def __init__(self, metrics: Metrics) -> None:
        self._m = metrics

    def fallback(self, dependency: str, fallback_type: str) -> None:
        self._m.fallbacks.labels(dependency, fallback_type).inc()


class CacheEvents:
    """Of `pipeline.cache`."""

    def __init__(self, metrics: Metrics) -> None:
        self._m = metrics

    def hits(self, tier: str, count: int) -> None:
        self._m.hit_child(tier).inc(count)

    def misses(self, count: int) -> None:
        self._m.cache_misses.inc(count)

    def error(self, operation: str) -> None:
        self._m.cache_errors.labels(operation).inc()

    def fallback(self, dependency: str, fallback_type: str) -> None:
        self._m.fallbacks.labels(dependency, fallback_type).inc()


class IdempotencyEvents:
    """Of `pipeline.idempotency`."""

    def __init__(self, metrics: Metrics) -> None:
        self._m = metrics

    def hit(self) -> None:
        self._m.idempotency_hits.inc()

    def miss(self) -> None:
        self._m.idempotency_misses.inc()

    def conflict(self) -> None:
        self._m.idempotency_conflicts.inc()

    def error(self, operation: str) -> None:
        self._m.cache_errors.labels(f"idempotency_{operation}").inc()

    def fallback(self, dependency: str, fallback_type: str) -> None:
        self._m.fallbacks.labels(dependency, fallback_type).inc()


class JournalEvents:
    """Of `backends.journal_files` and `pipeline.shipper`."""

    _LOST = frozenset({"dropped", "corrupt", "rejected"})

    def __init__(self, metrics: Metrics) -> None:
        self._m = metrics

    def event(self, kind: str, count: int) -> None:
        self._m.journal_child(kind).inc(count)
        if kind in self._LOST:
            self._m.dropped.inc(count)

    def depth(self, rows: int) -> None:
        self._m.journal_depth.set(rows)


class DatabaseEvents:
    """Of `backends.postgres`."""

    def __init__(self, metrics: Metrics) -> None:
        self._m = metrics

    def operation(self, operation: str, status: str, seconds: float) -> None:
        self._m.db_operations.labels(operation, status).inc()
        self._m.db_duration.labels(operation).observe(seconds)
