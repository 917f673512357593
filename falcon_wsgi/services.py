"""The composition root: builds every part of a worker from the settings, starts it, drains it, closes it.

This module alone knows which implementation stands behind each protocol.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import gevent

from falcon_wsgi import __version__
from falcon_wsgi.backends import memory, postgres, redis
from falcon_wsgi.backends.api_keys.ring import KeyRing
from falcon_wsgi.backends.journal_files import JournalWriter
from falcon_wsgi.backends.postgres import PostgresSink
from falcon_wsgi.backends.redis import RedisClient
from falcon_wsgi.errors import NotReady
from falcon_wsgi.http.problems import status_of
from falcon_wsgi.models.batching import MicroBatcher
from falcon_wsgi.models.catalogue import Catalogue
from falcon_wsgi.models.comparison import Classes
from falcon_wsgi.models.offload import PredictorPool, PredictorProcess
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.trials import Trial, Trials, translation
from falcon_wsgi.observability import events
from falcon_wsgi.observability.memory import MemoryWatch
from falcon_wsgi.observability.metrics import Metrics
from falcon_wsgi.pipeline.cache import LocalTier, PredictionCache
from falcon_wsgi.pipeline.idempotency import Idempotency
from falcon_wsgi.pipeline.journal import Journal
from falcon_wsgi.pipeline.pipeline import Pipeline
from falcon_wsgi.pipeline.predictions import Cache, NoCache, Predictions
from falcon_wsgi.pipeline.rate_limit import ClientRateLimit, Rate, RateLimit, Unlimited
from falcon_wsgi.pipeline.rows import RowEncoder
from falcon_wsgi.pipeline.shadow import Shadow, ShadowCandidate
from falcon_wsgi.pipeline.shipper import Shipper
from falcon_wsgi.resilience.admission import Admission
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.resilience.guard import Guard
from falcon_wsgi.resilience.monitor import Monitor
from falcon_wsgi.resilience.retry import RetryPolicy
from falcon_wsgi.settings import Settings

log = logging.getLogger(__name__)

_GAUGE_INTERVAL_S = 1.0
_KEYS_INTERVAL_S = 1.0
# Clients whose rate a worker keeps by itself while Redis is away.
_LOCAL_RATES = 10_000
# A worker with more than this share of its admission limit in flight has no time for shadows.
_BUSY_SHARE = 0.25
_KEYS_INTERVAL_S = 1.0
# Clients whose rate a worker keeps by itself while Redis is away.
_LOCAL_RATES = 10_000
# A background operation can wait longer for its retries than a request can.
_SHIPPING_BUDGET_S = 20.0
_STATEMENT_TIMEOUT_S = 10.0
# Nobody waits for the shipper, so Postgres is tried again sooner than a dependency in a request's way.
_POSTGRES_RESET_AT_MOST_S = 5.0
_REQUEST_BUDGET_OVER_TIMEOUT_S = 0.04


@dataclass
class Services:
    """The parts of one worker process.

    Attributes:
        on_stuck: called when a prediction does not end; the server sets it to replace the process.
        keys: the API keys; None where the instance is open.
        take_over: has the instance serve the store's current versions, for a client that asks for the named one; the
            server sets it (`server.takeover`).
    """

    settings: Settings
    worker_id: str
    models: Catalogue
    trials: Trials
    metrics: Metrics
    pipeline: Pipeline
    admission: Admission
    redis_guard: Guard
    postgres_guard: Guard
    keys: KeyRing | None
    _store: RedisClient | memory.AbsentStore
    _writer: JournalWriter
    _sink: PostgresSink | None
    _shipper: Shipper | None
    _monitor: Monitor
    _batchers: Mapping[str, MicroBatcher]
    _memory: MemoryWatch
    on_stuck: Callable[[], None] = lambda: None
    take_over: Callable[[str, Deadline], None] = lambda name, deadline: _no_master()
    started_at: float = field(default_factory=time.monotonic)
    _draining: bool = False
    _gauges: gevent.Greenlet | None = None
    _keys_watch: gevent.Greenlet | None = None

    @classmethod
    def build(
        cls,
        settings: Settings,
        models: Mapping[str, ServedModel],
        worker_id: str,
        keys: KeyRing | None = None,
        trials: Trials | None = None,
    ) -> Services:
        """Build everything, start nothing. To be called in the worker, after the fork."""
        trials = trials or Trials()
        metrics = Metrics(worker_id)
        store, redis_guard = _redis(settings, metrics)
        sink, postgres_guard = _postgres(settings, metrics)
        writer = JournalWriter.open(
            settings.journal_path,
            worker_id,
            max_records=settings.journal_max_records,
            sync=settings.journal_sync,
            observer=events.JournalEvents(metrics),
        )
        shipper = None
        if sink is not None:
            shipper = Shipper(writer.backlog, sink, postgres_guard, events.JournalEvents(metrics))
        admission = Admission(settings.max_concurrent_requests)
        batch_events = events.BatchEvents(metrics, lambda: services.on_stuck())
        canaries = [trial.model for trial in trials.canary.values()]
        batchers = _batchers(settings, [*models.values(), *canaries], batch_events)
        shadow = _shadow(settings, models, trials.shadow, metrics, admission)
        pipeline = Pipeline(
            Journal(
                writer,
                RowEncoder(worker_id, keep_payloads=settings.log_payloads),
                status_of,
                events.EntryEvents(metrics, trials.canary.keys()),
            ),
            admission,
            _rate_limit(settings, store, redis_guard, metrics),
            Idempotency(
                store,
                redis_guard,
                ttl_s=settings.idempotency_ttl_seconds,
                lease_s=settings.idempotency_lease_seconds,
                on_outage=settings.idempotency_on_outage,
                enabled=settings.idempotency_enabled,
                observer=events.IdempotencyEvents(metrics),
            ),
            Predictions(
                batchers, _cache(settings, store, redis_guard, metrics), settings.inference_timeout_seconds
            ),
            shadow,
        )
        pings = {redis_guard: store.ping} if isinstance(store, RedisClient) else {}
        services = cls(
            settings=settings,
            worker_id=worker_id,
            models=Catalogue(models, trials.canary),
            trials=trials,
            metrics=metrics,
            pipeline=pipeline,
            admission=admission,
            redis_guard=redis_guard,
            postgres_guard=postgres_guard,
            keys=keys,
            _store=store,
            _writer=writer,
            _sink=sink,
            _shipper=shipper,
            _monitor=Monitor(pings),
            _batchers=batchers,
            _memory=MemoryWatch(
                settings.debug_memory_growth_mb_per_request if settings.debug_memory_growth else 0
            ),
        )
        return services

    def start(self) -> None:
        """Start the background greenlets. From here on the worker can serve."""
        self._describe()
        self._monitor.start()
        if self._shipper is not None:
            self._shipper.start()
        self.pipeline.shadow.start()
        self._gauges = gevent.spawn(self._report_gauges)
        if self.keys is not None:
            self._keys_watch = gevent.spawn(self._watch_keys, self.keys)
        log.info("worker_started", extra={"models": {m.name: m.version for m in self.models}})

    def begin_drain(self) -> None:
        """Let readiness fail: the instance is going away."""
        self._draining = True

    def close(self, timeout_s: float) -> None:
        """Flush the journal for at most `timeout_s`, then end everything. What is unshipped stays on disk."""
        self._monitor.stop()
        if self._gauges is not None:
            self._gauges.kill()
        if self._keys_watch is not None:
            self._keys_watch.kill()
        self.pipeline.shadow.close()
        for batcher in self._batchers.values():
            batcher.close()
        shipped = True
        if self._shipper is not None:
            shipped = self._shipper.flush(timeout_s)
            self._shipper.stop()
        if self._sink is not None:
            self._sink.close()
        depth = self._writer.depth
        self._writer.close()
        self.pipeline.idempotency.close()
        self._store.close()
        log.info("worker_stopped", extra={"journal_flushed": shipped, "journal_depth": depth})

    @property
    def ready(self) -> bool:
        """Models are loaded (else this process would not exist) and the instance is not going away."""
        return bool(self.models.current) and not self._draining

    @property
    def condition(self) -> str:
        """The state in one sentence, for people."""
        if self._draining:
            return "the instance is draining"
        away = [
            name
            for name, available in (("redis", self.redis_available), ("postgres", self.database_available))
            if not available
        ]
        return f"serving, without {' and '.join(away)}" if away else "serving"

    @property
    def redis_available(self) -> bool:
        return isinstance(self._store, RedisClient) and self.redis_guard.healthy

    @property
    def database_available(self) -> bool:
        return self._sink is not None and self.postgres_guard.healthy

    def count_request(self) -> None:
        """What the memory drill asks of every request (DEBUG_MEMORY_GROWTH)."""
        self._memory.grow()

    def _describe(self) -> None:
        """Series that are there from the start, so that dashboards show a zero and not a gap."""
        m = self.metrics
        m.app_info.labels(__version__).set(1)
        for model in self.models:
            m.model_info.labels(model.name, model.version, model.digest[:12]).set(1)
            m.model_load.labels(model.name).set(model.load_s)
        for name, canary in self.trials.canary.items():
            m.model_info.labels(name, canary.model.version, canary.model.digest[:12]).set(1)
        for guard in (self.redis_guard, self.postgres_guard):
            m.breaker_state.labels(guard.name).set(0)
            m.breaker_failures.labels(guard.name)
            m.breaker_successes.labels(guard.name)
        for tier in ("local", "shared"):
            m.hit_child(tier)

    def _watch_keys(self, keys: KeyRing) -> None:
        while True:
            try:
                keys.refresh()
            except Exception:  # the edge of a greenlet that revocations depend on
                log.exception("api_keys_watch_failed")
            self.metrics.api_keys_valid.labels(self.worker_id).set(keys.valid)
            gevent.sleep(_KEYS_INTERVAL_S)

    def _report_gauges(self) -> None:
        while True:
            self.metrics.memory.labels(self.worker_id).set(self._memory.resident_bytes())
            self.metrics.in_flight.set(self.admission.in_flight)
            if self._sink is not None:
                self.metrics.pool_size.set(self._sink.pool_size)
                self.metrics.pool_available.set(self._sink.pool_available)
            if self._shipper is None:
                self._writer.backlog.maintain()
            # Also here: a shipper whose Postgres hangs reports nothing until the call times out.
            self.metrics.journal_depth.set(self._writer.backlog.depth)
            gevent.sleep(_GAUGE_INTERVAL_S)


def _no_master() -> None:
    raise NotReady("this process serves alone; there is no instance that could load a model")


def _redis(settings: Settings, metrics: Metrics) -> tuple[RedisClient | memory.AbsentStore, Guard]:
    if settings.redis_url is None:
        # An absent store fails at once and for good: nothing to retry, nothing to wait for.
        absent = Guard(
            "redis",
            memory.TRANSIENT,
            policy=RetryPolicy(max_attempts=1),
            failure_threshold=1,
            observer=events.GuardEvents(metrics),
        )
        return memory.AbsentStore(), absent
    timeout_s = settings.redis_timeout_ms / 1000
    guard = Guard(
        "redis",
        redis.TRANSIENT,
        policy=_policy(settings, timeout_s + _REQUEST_BUDGET_OVER_TIMEOUT_S, timeout_s),
        failure_threshold=settings.circuit_breaker_failure_threshold,
        reset_timeout_s=settings.circuit_breaker_timeout_seconds,
        half_open_attempts=settings.circuit_breaker_half_open_attempts,
        observer=events.GuardEvents(metrics),
    )
    return RedisClient(settings.redis_url.get_secret_value(), timeout_s=timeout_s), guard


def _postgres(settings: Settings, metrics: Metrics) -> tuple[PostgresSink | None, Guard]:
    guard = Guard(
        "postgres",
        postgres.TRANSIENT,
        policy=_policy(settings, _SHIPPING_BUDGET_S, _STATEMENT_TIMEOUT_S),
        failure_threshold=settings.circuit_breaker_failure_threshold,
        reset_timeout_s=min(settings.circuit_breaker_timeout_seconds, _POSTGRES_RESET_AT_MOST_S),
        half_open_attempts=settings.circuit_breaker_half_open_attempts,
        observer=events.GuardEvents(metrics),
    )
    if settings.database_url is None:
        return None, guard
    sink = PostgresSink(settings.database_url.get_secret_value(), observer=events.DatabaseEvents(metrics))
    return sink, guard


def _policy(settings: Settings, time_budget_s: float, attempt_timeout_s: float) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=settings.retry_max_attempts,
        base_delay_s=settings.retry_base_delay_ms / 1000,
        max_delay_s=settings.retry_max_delay_ms / 1000,
        time_budget_s=time_budget_s,
        attempt_timeout_s=attempt_timeout_s,
    )


def _rate_limit(
    settings: Settings, store: RedisClient | memory.AbsentStore, guard: Guard, metrics: Metrics
) -> RateLimit:
    if settings.rate_limit_per_second == 0:
        return Unlimited()
    return ClientRateLimit(
        Rate.of(settings.rate_limit_per_second, settings.rate_limit_burst),
        store,
        guard,
        workers=settings.workers,
        local=memory.MemoryStore(max_entries=_LOCAL_RATES),
        observer=events.RateLimitEvents(metrics),
    )


def _cache(
    settings: Settings, store: RedisClient | memory.AbsentStore, guard: Guard, metrics: Metrics
) -> Cache:
    if not settings.cache_enabled:
        return NoCache()
    return PredictionCache(
        LocalTier(settings.cache_local_entries),
        store,
        guard,
        ttl_s=settings.cache_ttl_seconds,
        observer=events.CacheEvents(metrics),
    )


def _shadow(
    settings: Settings,
    models: Mapping[str, ServedModel],
    trials: Mapping[str, Trial],
    metrics: Metrics,
    admission: Admission,
) -> Shadow:
    candidates = {}
    for name, trial in trials.items():
        live, candidate = models[name], trial.model
        if candidate.version == live.version:
            log.warning("shadow_is_served", extra={"model": name, "version": live.version})
            continue
        classes = Classes(live.manifest.labels, candidate.manifest.labels)
        process = PredictorProcess(name, candidate.predictor, background=True)
        process.start()
        candidates[name] = ShadowCandidate(
            name,
            live.version,
            trial.fraction,
            process,
            events.ShadowEvents(metrics, name, candidate.version, live.version, classes.pair),
            translate=translation(live.form, candidate.form),
            timeout_s=settings.inference_timeout_seconds,
            tolerance=settings.shadow_tolerance,
            busy=lambda: admission.in_flight > admission.limit * _BUSY_SHARE,
        )
    return Shadow(candidates)


def _batchers(
    settings: Settings, models: Iterable[ServedModel], observer: events.BatchEvents
) -> dict[str, MicroBatcher]:
    """By the version's digest."""
    return {
        model.digest: MicroBatcher(
            model.name,
            model.predictor,
            timeout_s=settings.inference_timeout_seconds,
            off_loop=PredictorPool(model.name, model.predictor) if model.heavy else None,
            at_once=model.at_once,
            observer=observer,
        )
        for model in {model.digest: model for model in models}.values()
    }
