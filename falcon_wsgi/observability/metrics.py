"""Every metric of the service, and the files that hold them.

Prometheus' multiprocess mode keeps one set of memory-mapped files for each process identifier. The identifier
here is the worker's slot, not its pid (`use_slot`): a worker that replaces another goes on in its files, so
recycling adds no series and no counter ever falls, also after SIGKILL.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import prometheus_client.values
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from falcon_wsgi.observability.slot_values import FastHistogram, slot_value_class

log = logging.getLogger(__name__)

_LATENCY = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STAGE = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0)
_BATCH = (1, 2, 4, 8, 16, 32, 50, 64)
_DISTANCE = (1e-6, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0)

STATE_VALUES = {"closed": 0, "open": 1, "half_open": 2}


# What a slot's files are called, and bytes that hold hundreds of series of that kind.
_GAUGE_FILES = ("gauge_livesum", "gauge_livemax")
_FILE_BYTES = {"counter": 2**17, "histogram": 2**20, **dict.fromkeys(_GAUGE_FILES, 2**16)}


def clear(directory: Path) -> None:
    """Delete what an earlier instance counted."""
    for left_over in (*directory.glob("*.db"), *directory.glob("*.new")):
        left_over.unlink()


def prepare(directory: Path, slot: int) -> bool:
    """Create the files of `slot` that are not there. False if they cannot be made, for instance on a full disk.

    Their whole size is written, not only declared: a process that stores to a mapped page for which the disk
    has no room is killed by SIGBUS. And they appear complete, because a scrape cannot read an empty file.
    """
    try:
        for kind, size in _FILE_BYTES.items():
            path = _file(directory, kind, slot)
            if not path.exists():
                new = path.with_suffix(".new")
                new.write_bytes(bytes(size))
                new.replace(path)
    except OSError as error:
        log.error("metric_files_not_made", extra={"slot": slot, "reason": error.strerror})
        return False
    return True


def use_slot(slot: int | None) -> None:
    """Write this process's metrics to the files of `slot`, or with None only to its memory, where no scrape finds
    them. To be called before any metric is created."""
    values = prometheus_client.values
    values.ValueClass = values.MutexValue if slot is None else slot_value_class(slot)


def drop_gauges(directory: Path, slot: int) -> None:
    """What the process of `slot` measured died with it; what it counted stays."""
    for kind in _GAUGE_FILES:
        try:
            _file(directory, kind, slot).unlink(missing_ok=True)
        except OSError as error:
            log.error("metric_file_not_deleted", extra={"slot": slot, "reason": error.strerror})


def _file(directory: Path, kind: str, slot: int) -> Path:
    return directory / f"{kind}_{slot}.db"


class Metrics:
    """The metrics of one worker. Label children are looked up once and kept."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        self.registry = CollectorRegistry()
        self._inference_counters()
        self._dependency_counters()
        self._histograms()
        self._trials()
        self._gauges()
        self._bind_children()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str, mode: Any = "livesum") -> Gauge:
        return Gauge(name, text, labels, registry=self.registry, multiprocess_mode=mode)

    def _inference_counters(self) -> None:
        c = self._counter
        self.requests = c(
            "inference_requests_total", "Model requests.", "worker_id", "model", "status", "cache_hit"
        )
        self.errors = c("inference_errors_total", "Model requests that failed.", "worker_id", "error_type")
        self.cache_hits = c("cache_hits_total", "Predictions answered from the cache.", "worker_id", "tier")
        self.cache_misses = c("cache_misses_total", "Predictions not found in the cache.")
        self.cache_errors = c("cache_errors_total", "Cache operations that failed.", "operation")
        self.idempotency_hits = c("idempotency_hits_total", "Requests answered with a stored answer.")
        self.idempotency_misses = c("idempotency_misses_total", "Idempotency keys seen for the first time.")
        self.idempotency_conflicts = c(
            "idempotency_conflicts_total", "Requests refused: their key is in progress or was used otherwise."
        )
        self.shed = c("requests_shed_total", "Model requests refused with 429, by limit.", "reason")
        self.auth_failures = c("auth_failures_total", "Requests refused with 401.", "reason")
        self.api_requests = c("api_requests_total", "HTTP requests.")

    def _dependency_counters(self) -> None:
        c = self._counter
        self.db_operations = c("db_operations_total", "Statements sent to Postgres.", "operation", "status")
        self.breaker_failures = c("circuit_breaker_failures_total", "Failed calls.", "dependency")
        self.breaker_successes = c("circuit_breaker_successes_total", "Successful calls.", "dependency")
        self.breaker_transitions = c(
            "circuit_breaker_transitions_total", "Changes of a circuit's state.", "dependency", "to"
        )
        self.retries = c("retry_attempts_total", "Attempts after the first.", "operation")
        self.dropped = c("dropped_logs_total", "Request log rows that were lost.")
        self.fallbacks = c(
            "fallback_triggered_total", "Requests served in a degraded way.", "dependency", "fallback_type"
        )
        self.journal_records = c("journal_records_total", "Request log rows by what became of them.", "event")

    def _histograms(self) -> None:
        def h(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
            return FastHistogram(name, text, labels, buckets=buckets, registry=self.registry)

        self.duration = h(
            "inference_duration_seconds",
            "Duration of a model request.",
            "worker_id",
            "model",
            "cache_hit",
            buckets=_LATENCY,
        )
        self.stage = h("inference_stage_seconds", "Time spent in one stage.", "stage", buckets=_STAGE)
        self.db_duration = h(
            "db_operation_duration_seconds", "Duration of a statement.", "operation", buckets=_LATENCY
        )
        self.batch_size = h("model_inference_batch_size", "Inputs predicted in one call.", buckets=_BATCH)
        self.api_latency = h("api_request_latency_seconds", "Duration of an HTTP request.", buckets=_LATENCY)

    def _trials(self) -> None:
        """`version` is on trial, `against` the served one that it is compared with."""
        pair = ("model", "version", "against")
        self.canary_requests = self._counter(
            "canary_requests_total",
            "Requests of a model with a canary, by the version that answered.",
            "model",
            "version",
            "status",
        )
        self.shadow_predictions = self._counter(
            "shadow_predictions_total", "Predictions that a shadow was to repeat.", *pair, "outcome"
        )
        self.shadow_disagreements = self._counter(
            "shadow_disagreements_total", "Predictions that differ, by class.", *pair, "live", "candidate"
        )
        self.shadow_distance = Histogram(
            "shadow_score_distance",
            "Largest difference of a class's probability; of numbers the relative difference.",
            pair,
            buckets=_DISTANCE,
            registry=self.registry,
        )
        self.shadow_duration = Histogram(
            "shadow_duration_seconds",
            "Duration of a prediction call that was compared.",
            (*pair, "side"),
            buckets=_LATENCY,
            registry=self.registry,
        )

    def _gauges(self) -> None:
        g = self._gauge
        self.breaker_state = g(
            "circuit_breaker_state", "0 closed, 1 open, 2 half-open.", "dependency", mode="livemax"
        )
        self.memory = g("memory_usage_bytes", "Resident memory.", "worker_id", mode="livemax")
        self.journal_depth = g("journal_depth_records", "Request log rows not yet in Postgres.")
        self.in_flight = g("requests_in_flight", "Model requests being answered.")
        self.pool_size = g("db_connection_pool_size", "Connections to Postgres.")
        self.pool_available = g("db_connection_pool_available", "Connections to Postgres that are idle.")
        self.model_load = g("model_load_duration_seconds", "Time to load a model.", "model", mode="livemax")
        self.model_info = g(
            "model_info", "1 for each served model.", "model", "version", "digest", mode="livemax"
        )
        self.api_keys_valid = g(
            "api_keys_file_valid", "0 while API_KEYS_FILE cannot be used.", "worker_id", mode="livemax"
        )
        self.app_info = g("app_info", "1, with the version.", "version", mode="livemax")

    def _bind_children(self) -> None:
        """Creating a child costs some 10 us and a lookup 1 us, so each is made once and kept."""
        worker = self.worker_id
        self.request_child = cache(
            lambda model, status, hit: self.requests.labels(worker, model, status, "true" if hit else "false")
        )
        self.duration_child = cache(
            lambda model, hit: self.duration.labels(worker, model, "true" if hit else "false")
        )
        self.stage_child: Callable[[str], Histogram] = cache(lambda stage: self.stage.labels(stage))
        self.hit_child = cache(lambda tier: self.cache_hits.labels(worker, tier))
        self.journal_child = cache(lambda event: self.journal_records.labels(event))
        self.success_child = cache(lambda dependency: self.breaker_successes.labels(dependency))


def collect(directory: Path) -> list[Metric]:
    """The metrics of all workers of the instance, read from their files; any process that may read them can ask."""
    return list(MultiProcessCollector(CollectorRegistry(), path=str(directory)).collect())
