"""A slot's metric files: complete from the start, gone on with by the next worker, never a danger to it."""

from __future__ import annotations

import errno
import logging
import multiprocessing
from pathlib import Path

import prometheus_client.values
import pytest
from prometheus_client.exposition import generate_latest

from falcon_wsgi.observability import metrics
from falcon_wsgi.observability.metrics import Metrics
from falcon_wsgi.observability.scrape import Scrape


@pytest.fixture(autouse=True)
def files_in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(prometheus_client.values, "ValueClass", prometheus_client.values.ValueClass)


def worker(folder: Path, slot: int, name: str) -> Metrics:
    """The metrics of a new worker process in `slot`."""
    assert metrics.prepare(folder, slot)
    metrics.use_slot(slot)
    return Metrics(name)


def exposed(folder: Path) -> str:
    return Scrape(folder).text(generate_latest, "text").decode()


def test_the_files_of_a_slot_have_their_whole_size_on_disk(tmp_path: Path) -> None:
    assert metrics.prepare(tmp_path, 3)
    sizes = {path.name: path.stat().st_blocks * 512 for path in tmp_path.iterdir()}
    assert sizes.keys() == {"counter_3.db", "histogram_3.db", "gauge_livesum_3.db", "gauge_livemax_3.db"}
    assert sizes["histogram_3.db"] >= 2**20


def test_every_series_has_room_without_growing_a_file(tmp_path: Path) -> None:
    m = worker(tmp_path, 1, "worker-1")
    before = {path: path.stat().st_size for path in tmp_path.iterdir()}
    for stage in range(50):
        m.stage_child(f"stage-{stage}").observe(1)
    for code in range(50):
        m.errors.labels("worker-1", f"error-{code}").inc()
    assert {path: path.stat().st_size for path in tmp_path.iterdir()} == before


def test_a_worker_goes_on_where_the_last_one_of_its_slot_stopped(tmp_path: Path) -> None:
    for _ in range(3):
        m = worker(tmp_path, 1, "worker-1")
        m.api_requests.inc()
        m.api_latency.observe(0.2)
        metrics.drop_gauges(tmp_path, 1)
    assert "api_requests_total 3.0" in exposed(tmp_path)
    assert "api_request_latency_seconds_count 3.0" in exposed(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_two_slots_of_one_name_add_up(tmp_path: Path) -> None:
    worker(tmp_path, 1, "worker-1").hit_child("local").inc()
    worker(tmp_path, 2, "worker-1").hit_child("local").inc(2)
    assert 'cache_hits_total{tier="local",worker_id="worker-1"} 3.0' in exposed(tmp_path)


def test_what_a_dead_worker_measured_is_dropped_and_what_it_counted_is_kept(tmp_path: Path) -> None:
    dead, living = worker(tmp_path, 1, "worker-1"), worker(tmp_path, 2, "worker-2")
    for m in (dead, living):
        m.in_flight.set(2)
        m.api_requests.inc()
    metrics.drop_gauges(tmp_path, 1)
    metrics.drop_gauges(tmp_path, 1)
    assert "requests_in_flight 2.0" in exposed(tmp_path)
    assert "api_requests_total 2.0" in exposed(tmp_path)


def test_clear_leaves_nothing_of_an_earlier_instance(tmp_path: Path) -> None:
    worker(tmp_path, 1, "worker-1")
    (tmp_path / "counter_2.new").write_bytes(b"half")
    metrics.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_worker_counting_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.ERROR):
        assert metrics.prepare(tmp_path, 1) is False
    assert [record.message for record in caplog.records] == ["metric_files_not_made"]
    metrics.use_slot(None)
    Metrics("worker-1").api_requests.inc()
    assert "api_requests" not in exposed(tmp_path)


def count_until_killed(folder: Path, ready: multiprocessing.synchronize.Event) -> None:
    m = worker(folder, 1, "worker-1")
    number = 0
    while True:
        m.api_requests.inc()
        m.stage_child(f"stage-{number % 200}").observe(0.1)
        number += 1
        if number == 500:
            ready.set()


def test_files_of_a_killed_worker_can_be_read_and_gone_on_with(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=count_until_killed, args=(tmp_path, ready))
    process.start()
    assert ready.wait(30)
    process.kill()
    process.join()
    counted = float(exposed(tmp_path).partition("\napi_requests_total ")[2].split()[0])
    assert counted >= 500
    worker(tmp_path, 1, "worker-1").api_requests.inc()
    assert f"api_requests_total {counted + 1}" in exposed(tmp_path)
