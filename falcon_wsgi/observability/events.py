"""The observers of the parts, as metrics: each class answers the events of one part by counting them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from falcon_wsgi.errors import FalconError, Overloaded
from falcon_wsgi.observability.metrics import STATE_VALUES, Metrics


class Served(Protocol):
    """What is asked of a served model here."""

    @property
    def name(self) -> str: ...


class Context(Protocol):
    @property
    def timings(self) -> Mapping[str, float]: ...


class Request(Protocol):
    """What is asked of a request here."""

    @property
    def served(self) -> Served: ...

    @property
    def context(self) -> Context: ...


class Outcome(Protocol):
    """What is asked of an outcome here."""

    @property
    def cache_hits(self) -> Sequence[bool]: ...


class EntryEvents:
    """Of `pipeline.journal`."""

    def __init__(self, metrics: Metrics) -> None:
        self._m = metrics

    def answered(self, request: Request, outcome: Outcome, seconds: float) -> None:
        model, hit = request.served.name, all(outcome.cache_hits)
        self._m.request_child(model, "success", hit).inc()
        self._m.duration_child(model, hit).observe(seconds)
        for stage, taken in request.context.timings.items():
            self._m.stage_child(stage).observe(taken)

    def failed(self, request: Request, error: BaseException, seconds: float) -> None:
        model = request.served.name
        self._m.request_child(model, "error", False).inc()
        self._m.duration_child(model, False).observe(seconds)
        code = error.code if isinstance(error, FalconError) else "internal_error"
        self._m.errors.labels(self._m.worker_id, code).inc()
        if isinstance(error, Overloaded):
            self._m.shed.labels("concurrency").inc()


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


class CacheEvents:
    """Of `pipeline.cache`."""

    def __init__(self, metrics: Metrics) -> None:
        self._m = metrics

    def hit(self, tier: str) -> None:
        self._m.hit_child(tier).inc()

    def miss(self) -> None:
        self._m.cache_misses.inc()

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
