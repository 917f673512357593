"""Every answered request is exactly one row for each prediction, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter

import psycopg
import pytest

from falcon_wsgi.backends import migrations
from tests.e2e.instance import Instance, wait_until
from tests.e2e.load import Load


@pytest.fixture
def database(private_postgres_server):
    migrations.migrate(private_postgres_server.url)
    return private_postgres_server


def rows_by_request(url: str) -> Counter[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT request_id FROM inference_logs").fetchall()
    return Counter(request_id for (request_id,) in rows)


def assert_logged_exactly_once(load: Load, url: str, instance: Instance) -> None:
    expected = {attempt.request_id: attempt.rows for attempt in load.answered()}
    wait_until(
        lambda: sum(n for r, n in rows_by_request(url).items() if r in expected) >= sum(expected.values()),
        what="the rows of all answered requests",
    )
    found = rows_by_request(url)
    assert {r: found[r] for r in expected} == expected
    unanswered = {a.request_id: a.rows for a in load.failed()}
    assert {r: n for r, n in found.items() if r not in expected and n > unanswered.get(r, 0)} == {}
    assert instance.metric("dropped_logs_total") == 0


def test_a_killed_worker_and_a_stopped_postgres_lose_no_row_and_double_none(
    start_instance, redis_server, database
) -> None:
    instance = start_instance(
        redis_url=redis_server.url, database_url=database.url, circuit_breaker_timeout_seconds=1
    )
    with Load(instance.port, total=5_000) as load:
        wait_until(lambda: len(load.history) > 800)
        database.stop()
        wait_until(lambda: len(load.history) > 1_600)
        os.kill(instance.worker_pids()[0], signal.SIGKILL)
        wait_until(lambda: len(load.history) > 2_400)
        database.start()
        load.join()
    assert len(load.answered()) > 4_900
    assert all(attempt.status == 0 for attempt in load.failed()), (
        "only the killed worker's connections may fail"
    )
    assert_logged_exactly_once(load, database.url, instance)


def test_a_postgres_that_hangs_holds_no_request_and_loses_no_row(
    start_instance, redis_server, database
) -> None:
    instance = start_instance(
        redis_url=redis_server.url, database_url=database.url, circuit_breaker_timeout_seconds=1
    )
    with Load(instance.port, clients=4, pause_s=0.01) as load:
        wait_until(lambda: len(load.history) > 100)
        database.suspend()
        suspended_at = time.time()
        answered = len(load.history)
        wait_until(lambda: time.time() > suspended_at + 2 and instance.metric("journal_depth_records") > 0)
        # All the while: a request that waited for Postgres would end each of the four clients' after the next one.
        wait_until(lambda: len(load.history) > answered + 100, what="answers without Postgres")
        database.resume()
    assert load.failed() == []
    assert_logged_exactly_once(load, database.url, instance)


def test_rows_of_an_instance_that_stopped_without_postgres_are_shipped_by_the_next(
    start_instance, database
) -> None:
    database.stop()
    first = start_instance(database_url=database.url)
    with Load(first.port, clients=2, total=200) as load:
        load.join()
    assert load.failed() == []
    assert first.stop() == 0
    database.start()
    second = start_instance(
        database_url=database.url, journal_dir=first.folder / "data" / str(first.port) / "journal"
    )
    assert_logged_exactly_once(load, database.url, second)


def test_an_instance_killed_as_a_whole_loses_no_row(start_instance, database) -> None:
    first = start_instance(database_url=database.url)
    database.stop()
    with Load(first.port, clients=2, total=300) as load:
        load.join()
    assert first.process is not None
    os.killpg(first.process.pid, signal.SIGKILL)
    database.start()
    second = start_instance(
        database_url=database.url, journal_dir=first.folder / "data" / str(first.port) / "journal"
    )
    assert_logged_exactly_once(load, database.url, second)


def test_the_bound_on_unshipped_rows_is_kept_and_what_it_costs_is_counted(start_instance) -> None:
    """No server listens on this port, so nothing is ever shipped."""
    instance = start_instance(database_url="postgresql://falcon@127.0.0.1:1/falcon", journal_max_records=500)
    with Load(instance.port, clients=4, total=2_000, batches=False) as load:
        load.join()
    assert load.failed() == []

    def depth() -> float:
        return instance.metric("journal_depth_records")

    def accounted() -> bool:
        # The depth is sampled once a second, so the two agree once nothing moves any more.
        return depth() <= 500 and depth() + instance.metric("dropped_logs_total") == len(load.answered())

    wait_until(accounted, what="every row to be either waiting or counted as dropped")
    assert depth() > 250
