"""What /metrics says is exact, from whichever worker, and stays so while workers come and go."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

from falcon_wsgi.backends import migrations
from tests.e2e.instance import Client, Instance, wait_until
from tests.e2e.scrape import Scrape, fallen
from tests.e2e.toy_models import write_model
from tests.e2e.traffic import Traffic
from tests.e2e.workers import connected_to_each, wait_for_replacement

# DESIGN.md, section 6. Each label set is exact; that of a histogram is of its _count.
COUNTERS = {
    "inference_requests": {"worker_id", "model", "status", "cache_hit"},
    "inference_errors": {"worker_id", "error_type"},
    "cache_hits": {"worker_id", "tier"},
    "cache_misses": set(),
    "cache_errors": {"operation"},
    "idempotency_hits": set(),
    "idempotency_misses": set(),
    "idempotency_conflicts": set(),
    "db_operations": {"operation", "status"},
    "circuit_breaker_failures": {"dependency"},
    "circuit_breaker_successes": {"dependency"},
    "circuit_breaker_transitions": {"dependency", "to"},
    "retry_attempts": {"operation"},
    "dropped_logs": set(),
    "fallback_triggered": {"dependency", "fallback_type"},
    "requests_shed": {"reason"},
    "journal_records": {"event"},
    "api_requests": set(),
    "flask_http_request": {"method", "status"},
}
HISTOGRAMS = {
    "inference_duration_seconds": {"worker_id", "model", "cache_hit"},
    "inference_stage_seconds": {"stage"},
    "db_operation_duration_seconds": {"operation"},
    "model_inference_batch_size": set(),
    "api_request_latency_seconds": set(),
    "flask_http_request_duration_seconds": {"method", "url_rule", "status"},
}
GAUGES = {
    "circuit_breaker_state": {"dependency"},
    "memory_usage_bytes": {"worker_id"},
    "journal_depth_records": set(),
    "requests_in_flight": set(),
    "db_connection_pool_size": set(),
    "db_connection_pool_available": set(),
    "model_load_duration_seconds": {"model"},
    "model_info": {"model", "version", "digest"},
    "app_info": {"version"},
    "flask_exporter_info": {"version"},
}
FILES_OF_A_SLOT = 4


@pytest.fixture(scope="module")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("toy-store")
    write_model(store)
    return store


@pytest.fixture
def start(start_instance: Callable[..., Instance], toy_store: Path) -> Callable[..., Instance]:
    def start_toy(**settings: object) -> Instance:
        return start_instance(**{"model_store": toy_store, **settings})

    return start_toy


@pytest.mark.parametrize("workers", [2, 3])
def test_every_request_is_counted_once_and_every_worker_says_the_same(
    start: Callable[..., Instance], workers: int
) -> None:
    instance = start(workers=workers)
    with connected_to_each(instance) as clients:
        check_every_count(clients, set(instance.workers()))


def check_every_count(clients: list[Client], workers: set[str]) -> None:
    """With clients that have sent one request each, and that reach all workers."""
    sent = len(clients)
    for number in range(120):
        client = clients[number % len(clients)]
        assert client.infer(f"good {number}").status == 200
        if number % 4 == 0:
            assert client.infer("").status == 422
            assert client.request("POST", "/infer/batch", {"texts": ["good", "bad"]}).status == 200
            assert client.request("GET", "/nowhere").status == 404
            assert client.request("GET", "/infer").status == 405
            assert client.request("POST", "/infer", b"{").status == 400
    sent += 120 + 30 * 5
    asked: set[str] = set()
    for client in clients:
        answer = client.request("GET", "/metrics")
        scrape = Scrape.parse(answer.body.decode())
        asked.add(answer.headers["X-Worker-ID"])
        assert scrape.total("inference_requests_total") == 210
        assert scrape.total("inference_requests_total", status="success") == 150
        assert scrape.total("inference_requests_total", status="error") == 60
        assert scrape.total("inference_duration_seconds_count") == 210
        assert scrape.total("inference_errors_total", error_type="validation_failed") == 30
        assert scrape.total("inference_errors_total", error_type="malformed_request") == 30
        assert scrape.total("flask_http_request_total", method="POST", status="200") == 150
        assert scrape.total("flask_http_request_total", status="422") == 30
        assert scrape.total("flask_http_request_total", status="404") == 30
        assert scrape.total("flask_http_request_total", status="405") == 30
        assert scrape.total("flask_http_request_duration_seconds_count", url_rule="/infer/batch") == 30
        hits, misses = scrape.total("cache_hits_total"), scrape.total("cache_misses_total")
        assert hits + misses == 120 + 60
        for name in ("api_requests_total", "api_request_latency_seconds_count", "flask_http_request_total"):
            assert scrape.total(name) == sent
        sent += 1  # this scrape, for the next one
    assert asked == workers


def test_counters_are_exact_and_files_few_after_fifty_recycled_workers(
    start: Callable[..., Instance],
) -> None:
    instance = start(workers=3)
    expected = 0
    before = Scrape.of(instance)
    for turn in range(10):
        with Traffic(instance.port, kept=1, fresh=1) as traffic:
            former = instance.workers()
            victims = sorted(former.values())[turn % 2 :][:2]
            recycle(instance, victims)
            recycle(instance, [pid for pid in instance.worker_pids() if pid not in former.values()][:2])
            recycle(instance, [instance.workers()[f"worker-{turn % 3 + 1}"]])
        assert traffic.failures == {}
        expected += traffic.answered
        after = Scrape.of(instance)
        assert fallen(before, after) == {}
        before = after
    assert [record["message"] for record in instance.log_records()].count("worker_stopped") == 50
    assert before.total("inference_requests_total") == expected
    assert before.total("inference_duration_seconds_count") == expected
    assert before.total("flask_http_request_total", method="POST") == expected
    assert before.total("journal_records_total", event="written") == expected
    assert before.label_values("worker_id") == {"worker-1", "worker-2", "worker-3"}
    assert len(metric_files(instance)) == 3 * FILES_OF_A_SLOT


def recycle(instance: Instance, pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    wait_for_replacement(instance, pids)


def metric_files(instance: Instance) -> list[str]:
    return sorted(path.name for path in (instance.folder / "data" / str(instance.port) / "metrics").iterdir())


def test_counters_never_fall_when_workers_are_killed(start: Callable[..., Instance]) -> None:
    instance = start(workers=2)
    answered = 0
    earlier = Scrape.of(instance)
    for turn in range(10):
        with Traffic(instance.port, kept=1, fresh=1) as traffic:
            killed = instance.workers()[f"worker-{turn % 2 + 1}"]
            os.kill(killed, signal.SIGKILL)
            wait_for_replacement(instance, [killed])
        answered += traffic.answered
        later = Scrape.of(instance)
        assert fallen(earlier, later) == {}
        earlier = later
    # A request may have been counted before the kill took its answer away; never the other way round.
    assert answered <= earlier.total("inference_requests_total") <= answered + 10 * 2
    assert earlier.label_values("worker_id") == {"worker-1", "worker-2"}
    assert len(metric_files(instance)) == 2 * FILES_OF_A_SLOT


def test_reloads_add_no_series_and_bounded_files(start: Callable[..., Instance]) -> None:
    instance = start(workers=2)
    answered = 0
    earlier = Scrape.of(instance)
    for _ in range(4):
        former = instance.worker_pids()
        with Traffic(instance.port, kept=1, fresh=1) as traffic:
            instance.signal_master(signal.SIGHUP)
            wait_for_replacement(instance, former)
        assert traffic.failures == {}
        answered += traffic.answered
        later = Scrape.of(instance)
        assert fallen(earlier, later) == {}
        earlier = later
    assert earlier.total("inference_requests_total") == answered
    assert earlier.label_values("worker_id") == {"worker-1", "worker-2"}
    # Old and new workers overlap, so there are slots for both; the gauges of those that are gone are deleted.
    assert len(metric_files(instance)) <= 2 * 2 * FILES_OF_A_SLOT
    wait_until(lambda: len([name for name in metric_files(instance) if name.startswith("gauge")]) == 2 * 2)


def test_gauges_of_a_dead_worker_vanish(start: Callable[..., Instance]) -> None:
    instance = start(workers=1, inference_timeout_seconds=30)
    wait_until(lambda: Scrape.of(instance).total("memory_usage_bytes") > 0)
    memory = Scrape.of(instance).total("memory_usage_bytes", worker_id="worker-1")
    assert 30 * 2**20 < memory < 2 * 2**30
    with half_a_request(instance):
        wait_until(lambda: Scrape.of(instance).total("requests_in_flight") == 1)
        killed = instance.worker_pids()
        os.kill(killed[0], signal.SIGKILL)
        wait_for_replacement(instance, killed)
        assert Scrape.of(instance).total("requests_in_flight") == 0


def test_a_scrape_never_fails_under_load_or_while_workers_start(start: Callable[..., Instance]) -> None:
    instance = start(workers=2)
    problems: list[str] = []
    done = threading.Event()
    scrapes = 0

    def scrape_on() -> None:
        nonlocal scrapes
        earlier = Scrape.of(instance)
        while not done.is_set():
            later = Scrape.of(instance)
            problems.extend(f"{series} fell" for series in fallen(earlier, later))
            earlier = later
            scrapes += 1

    thread = threading.Thread(target=scrape_on)
    with Traffic(instance.port) as traffic:
        thread.start()
        for _ in range(3):
            former = instance.worker_pids()
            instance.signal_master(signal.SIGHUP)
            wait_for_replacement(instance, former)
        wait_until(lambda: scrapes > 10, what="the scrapes")
        done.set()
        thread.join(20)
    assert not thread.is_alive()
    assert traffic.failures == {}
    assert problems == []


def test_content_types_are_negotiated(start: Callable[..., Instance]) -> None:
    instance = start()
    instance.infer("good")
    plain = instance.get("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain; version=")
    asked = instance.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert asked.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert asked.body.endswith(b"# EOF\n")
    families = {family.name: family for family in openmetrics_families(asked.body.decode())}
    assert families["inference_requests"].type == "counter"
    assert [sample.value for sample in families["inference_requests"].samples] == [1]


def test_requests_in_flight_are_seen_and_are_zero_when_idle(start: Callable[..., Instance]) -> None:
    instance = start()
    with half_a_request(instance) as client:
        wait_until(lambda: Scrape.of(instance).total("requests_in_flight") == 1)
        client.connection.send(b'{"text":"good"}')
        assert client.connection.getresponse().status == 200
        wait_until(lambda: Scrape.of(instance).total("requests_in_flight") == 0)


@contextlib.contextmanager
def half_a_request(instance: Instance) -> Iterator[Client]:
    """A client whose request is admitted and waits for its body, `{"text":"good"}`."""
    with contextlib.closing(instance.client()) as client:
        client.connection.putrequest("POST", "/infer")
        client.connection.putheader("Content-Type", "application/json")
        client.connection.putheader("Content-Length", "15")
        client.connection.endheaders()
        yield client


def test_every_metric_of_the_contract_is_there_with_its_type_and_labels(
    start: Callable[..., Instance], redis_server, postgres_server
) -> None:
    migrations.migrate(postgres_server.url)
    instance = start(
        workers=1,
        redis_url=redis_server.url,
        database_url=postgres_server.url,
        max_concurrent_requests=1,
        circuit_breaker_failure_threshold=2,
        circuit_breaker_timeout_seconds=6,  # no trial call before the figures are read
    )
    assert instance.infer("good").json["cache_hit"] is False
    assert instance.infer("good").json["cache_hit"] is True
    for text, status in (("one", 200), ("one", 200), ("two", 422)):
        assert instance.infer(text, idempotency_key="a-key").status == status
    exceed_the_admission_limit(instance)
    wait_until(lambda: Scrape.of(instance).total("journal_records_total", event="shipped") >= 6)
    closed = Scrape.of(instance)
    assert breaker_states(closed) == {"redis": 0, "postgres": 0}
    assert closed.total("db_connection_pool_size") >= 1
    assert closed.total("journal_depth_records") == 0
    redis_server.kill()
    for number in range(6):
        assert instance.infer(f"three {number}", idempotency_key=f"key-{number}").status == 200
    opened = Scrape.of(instance)
    assert breaker_states(opened) == {"redis": 1, "postgres": 0}

    for name, labels in COUNTERS.items():
        assert opened.types[name] == "counter", name
        assert opened.label_sets(f"{name}_total") == {frozenset(labels)}, name
    for name, labels in HISTOGRAMS.items():
        assert opened.types[name] == "histogram", name
        assert opened.label_sets(f"{name}_count") == {frozenset(labels)}, name
    for name, labels in GAUGES.items():
        assert opened.types[name] == "gauge", name
        assert opened.label_sets(name) == {frozenset(labels)}, name
    assert (
        set(opened.types) - {"flask_http_request_exceptions"}
        == COUNTERS.keys() | HISTOGRAMS.keys() | GAUGES.keys()
    )
    assert opened.total("circuit_breaker_transitions_total", dependency="redis", to="open") == 1
    assert opened.total("model_info") == opened.total("app_info") == 1

    redis_server.start()
    wait_until(lambda: breaker_states(Scrape.of(instance))["redis"] == 0)


def breaker_states(scrape: Scrape) -> dict[str, float]:
    return {
        dependency: scrape.total("circuit_breaker_state", dependency=dependency)
        for dependency in scrape.label_values("dependency")
    }


def exceed_the_admission_limit(instance: Instance) -> None:
    """With one request admitted, which waits for its body, the next one is shed."""
    with half_a_request(instance) as first:
        wait_until(lambda: instance.infer("good").status == 429)
        first.connection.send(b'{"text":"good"}')
        assert first.connection.getresponse().status == 200


def test_the_memory_drill_grows_memory_with_each_request_and_warns(start: Callable[..., Instance]) -> None:
    instance = start(workers=1, debug_memory_growth="true", debug_memory_growth_mb_per_request=4)
    warnings = [r for r in instance.log_records() if r["message"] == "memory_growth_drill_is_on"]
    assert warnings
    assert {record["level"] for record in warnings} == {"WARNING"}
    growth = grown_by_thirty_requests(instance)
    wait_until(lambda: growth() > 30 * 4 * 2**20 * 0.9, what="the growth")


def test_without_the_memory_drill_requests_leak_nothing(start: Callable[..., Instance]) -> None:
    instance = start(workers=1, debug_memory_growth_mb_per_request=4)
    assert "memory_growth_drill_is_on" not in instance.log_text()
    growth = grown_by_thirty_requests(instance)
    time.sleep(1.2)
    assert growth() < 30 * 2**20


def grown_by_thirty_requests(instance: Instance) -> Callable[[], float]:
    """Bytes, by the service's own gauge, which is some second old."""
    instance.infer("good")
    time.sleep(1.2)
    before = Scrape.of(instance).total("memory_usage_bytes")
    for number in range(30):
        assert instance.infer(f"good {number}").status == 200
    return lambda: Scrape.of(instance).total("memory_usage_bytes") - before
