"""A scrape says what prometheus_client's own collector says of the same files, in each format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import prometheus_client.values
import pytest
from flask import Flask
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from falcon_wsgi.http.exporter import LeanExporter
from falcon_wsgi.observability import metrics
from falcon_wsgi.observability.metrics import Metrics
from falcon_wsgi.observability.scrape import Scrape

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
FORMS = ["", OPEN_METRICS, "application/openmetrics-text", "text/plain; version=1.0.0; escaping=allow-utf-8"]
ODD = 'a "quoted"\\ \n \x0b \u2028 # label 7.0 '


@pytest.fixture(autouse=True)
def files_in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(prometheus_client.values, "ValueClass", prometheus_client.values.ValueClass)


def worker(folder: Path, slot: int) -> Metrics:
    """The metrics of a worker in `slot`, its series of HTTP requests included, some of them in use."""
    assert metrics.prepare(folder, slot)
    metrics.use_slot(slot)
    m = Metrics(f"worker-{slot}")
    http = LeanExporter(Flask(__name__), m)
    for seconds in (0.0004, 0.003 * slot, 0.7, 1e9):
        http.http_request("GET", "/healthz", 200, seconds)
        m.stage_child("predict").observe(seconds)
    http.http_request("POST", ODD, 500, 2.5)
    m.in_flight.set(slot)
    m.memory.labels(m.worker_id).set(123456789.0 * slot)
    m.breaker_state.labels("redis").set(2 - slot)
    m.errors.labels(m.worker_id, ODD).inc(1e15)
    return m


def of_the_library(folder: Path, accept: str) -> str:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    return choose_encoder(accept)[0](registry).decode()


def of(scrape: Scrape, accept: str = "") -> str:
    return scrape.text(*choose_encoder(accept)).decode()


def lines(text: str) -> list[str]:
    return sorted(text.split("\n"))


@pytest.mark.parametrize("accept", FORMS)
def test_it_equals_that_of_the_library(tmp_path: Path, accept: str) -> None:
    for slot in (1, 2, 3):
        worker(tmp_path, slot)
    assert lines(of(Scrape(tmp_path), accept)) == lines(of_the_library(tmp_path, accept))


@pytest.mark.parametrize("accept", FORMS)
def test_values_series_and_workers_that_come_later_are_in_it(tmp_path: Path, accept: str) -> None:
    first, scrape = worker(tmp_path, 1), Scrape(tmp_path)
    before = of(scrape, accept)

    def changed() -> bool:
        nonlocal before
        now = of(scrape, accept)
        assert lines(now) == lines(of_the_library(tmp_path, accept))
        before, same = now, now == before
        return not same

    changes: list[Callable[[], object]] = [
        lambda: first.stage_child("predict").observe(0.2),
        lambda: first.stage_child("queue").observe(0.2),
        lambda: worker(tmp_path, 2),
        lambda: metrics.drop_gauges(tmp_path, 1),
        lambda: worker(tmp_path, 1),
    ]
    for change in changes:
        change()
        assert changed()


def test_formats_that_are_asked_for_in_turn_do_not_mix(tmp_path: Path) -> None:
    worker(tmp_path, 1)
    scrape = Scrape(tmp_path)
    for accept in FORMS * 2:
        assert lines(of(scrape, accept)) == lines(of_the_library(tmp_path, accept))


def test_open_metrics_can_be_parsed_strictly(tmp_path: Path) -> None:
    for slot in (1, 2):
        worker(tmp_path, slot)
    families = {family.name for family in text_string_to_metric_families(of(Scrape(tmp_path), OPEN_METRICS))}
    assert {"inference_stage_seconds", "api_requests", "memory_usage_bytes"} <= families


def test_no_files_are_an_empty_text(tmp_path: Path) -> None:
    assert of(Scrape(tmp_path)) == ""
    assert of(Scrape(tmp_path), OPEN_METRICS) == "# EOF\n"


def test_files_that_nobody_has_written_to_are_no_series(tmp_path: Path) -> None:
    metrics.prepare(tmp_path, 1)
    assert of(Scrape(tmp_path)) == ""


@pytest.mark.parametrize("length", [-40, 0, 2**30])
def test_damaged_file_is_an_error_and_no_endless_loop(tmp_path: Path, length: int) -> None:
    worker(tmp_path, 1)
    path = tmp_path / "counter_1.db"
    contents = bytearray(path.read_bytes())
    contents[8:12] = length.to_bytes(4, "little", signed=True)
    path.write_bytes(contents)
    with pytest.raises(ValueError, match="counter_1"):
        of(Scrape(tmp_path))


def test_file_cut_short_is_an_error(tmp_path: Path) -> None:
    worker(tmp_path, 1)
    path = tmp_path / "histogram_1.db"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="histogram_1"):
        of(Scrape(tmp_path))
