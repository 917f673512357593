"""The `flask_http_request_*` metrics of prometheus-flask-exporter, without its request hooks.

The exporter's own hooks look a label child up for each request, three times, and take some 100 us. Its metric
names, help texts and labels are kept; the edge reports each request once, to children that are looked up once.
"""

from __future__ import annotations

from functools import cache

from flask import Flask
from prometheus_client import Counter, Gauge
from prometheus_flask_exporter import PrometheusMetrics

from falcon_wsgi.observability.metrics import Metrics
from falcon_wsgi.observability.slot_values import FastHistogram


class LeanExporter(PrometheusMetrics):  # type: ignore[misc]
    """Implements `edge.HttpObserver`."""

    def __init__(self, app: Flask, metrics: Metrics) -> None:
        super().__init__(
            app, path=None, export_defaults=False, registry=metrics.registry, group_by="url_rule"
        )
        # The exporter's own `info` makes a gauge for each process identifier, which outlives the process.
        Gauge(
            "flask_exporter_info",
            "Information about the Prometheus Flask exporter",
            ("version",),
            registry=metrics.registry,
            multiprocess_mode="livemax",
        ).labels(self.version).set(1)
        duration = FastHistogram(
            "flask_http_request_duration_seconds",
            "Flask HTTP request duration in seconds",
            ("method", "url_rule", "status"),
            registry=metrics.registry,
        )
        total = Counter(
            "flask_http_request_total",
            "Total number of HTTP requests",
            ("method", "status"),
            registry=metrics.registry,
        )
        exceptions = Counter(
            "flask_http_request_exceptions_total",
            "Total number of HTTP requests which resulted in an exception",
            ("method", "status"),
            registry=metrics.registry,
        )
        self._duration = cache(lambda method, rule, status: duration.labels(method, rule, status))
        self._total = cache(lambda method, status: total.labels(method, status))
        self._exceptions = cache(lambda method, status: exceptions.labels(method, status))
        self._requests, self._latency = metrics.api_requests, metrics.api_latency

    def http_request(self, method: str, rule: str, status: int, seconds: float) -> None:
        self._duration(method, rule, status).observe(seconds)
        self._total(method, status).inc()
        if status == 500:
            self._exceptions(method, status).inc()
        self._requests.inc()
        self._latency.observe(seconds)
