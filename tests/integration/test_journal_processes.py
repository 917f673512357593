"""The journal and the shipper in processes of their own, with a real Postgres that is stopped, hung and killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from falcon_wsgi.backends import migrations
from tests.integration.journal_process import JournalProcess, json_row, log_row

Start = Callable[..., JournalProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[JournalProcess] = []

    def start(worker_id: str = "worker-1", **options: Any) -> JournalProcess:
        started.append(JournalProcess(tmp_path / "journal", worker_id, **options))
        return started[-1]

    yield start
    for process in started:
        process.end()


def logged(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT event_id::text FROM inference_logs").fetchall()
    return sorted(event_id for (event_id,) in rows)


def wait_until(true: Callable[[], bool], timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)


def depth(process: JournalProcess) -> int:
    return int(process.ask("status")["depth"])


def test_killed_in_the_middle_its_acknowledged_rows_are_adopted_and_stored_once(
    start: Start, postgres_server: Any, tmp_path: Path
) -> None:
    migrations.migrate(postgres_server.url)
    killed = start("worker-1", database_url=postgres_server.url)
    killed.tell("stream")
    acknowledged = [killed.line() for _ in range(2000)]
    acknowledged += killed.kill().splitlines(keepends=True)
    ids = {line.strip() for line in acknowledged if line.endswith("\n")}

    other = start("worker-2", database_url=postgres_server.url)
    wait_until(lambda: set(logged(postgres_server.url)) >= ids)
    wait_until(lambda: len(list((tmp_path / "journal").iterdir())) == 1)
    stored = logged(postgres_server.url)
    assert len(stored) == len(set(stored))
    assert len(set(stored) - ids) <= 1, "only the row in the middle of which it died may be there besides"
    assert other.ask("status")["events"].get("corrupt", 0) == 0


def test_what_a_dead_instance_left_is_shipped_by_the_next_start(start: Start, postgres_server: Any) -> None:
    migrations.migrate(postgres_server.url)
    first = start()
    ids = first.ask("write", 500)
    ids.append("00000000-0000-4000-8000-000000000001")
    first.ask("append", json_row(ids[-1]).decode(), 1)  # as earlier versions wrote
    first.kill()
    start(database_url=postgres_server.url)
    wait_until(lambda: logged(postgres_server.url) == sorted(ids))


def test_a_dead_worker_is_adopted_by_exactly_one_of_many(start: Start, postgres_server: Any) -> None:
    migrations.migrate(postgres_server.url)
    others = [start(f"worker-{n}", database_url=postgres_server.url) for n in range(2, 6)]
    killed = start("worker-1")
    ids = killed.ask("write", 3000)
    killed.kill()
    wait_until(lambda: len(logged(postgres_server.url)) == 3000)
    wait_until(lambda: sum(depth(other) for other in others) == 0)
    events = [other.ask("status")["events"] for other in others]
    assert logged(postgres_server.url) == sorted(ids)
    assert sum(event.get("adopted", 0) for event in events) == 3000
    assert sum(event.get("shipped", 0) for event in events) == 3000
    assert sum(event.get("duplicate", 0) for event in events) == 0


def test_a_flush_empties_the_journal_and_leaves_no_file(
    start: Start, postgres_server: Any, tmp_path: Path
) -> None:
    migrations.migrate(postgres_server.url)
    process = start(database_url=postgres_server.url)
    ids = process.ask("write", 3000)
    assert process.ask("flush", 20.0) is True
    assert logged(postgres_server.url) == sorted(ids)
    process.close()
    assert list((tmp_path / "journal").iterdir()) == []


@pytest.mark.parametrize("how", ["stop", "kill", "suspend"])
def test_an_outage_of_postgres_loses_no_row_doubles_none_and_takes_no_memory(
    start: Start, private_postgres_server: Any, how: str
) -> None:
    server = private_postgres_server
    migrations.migrate(server.url)
    process = start(database_url=server.url)
    ids = process.ask("write", 2000)
    wait_until(lambda: len(logged(server.url)) == 2000)
    before_mb = process.ask("status")["rss_mb"]

    ids += process.ask("write", 1000)  # some are on their way at the moment of the outage
    getattr(server, how)()
    for _ in range(6):
        ids += process.ask("write", 5000)
        time.sleep(0.5)
    during = process.ask("status")
    assert during["depth"] >= 30_000
    assert during["rss_mb"] - before_mb < 15
    assert during["longest_block_s"] < 1.0

    server.resume() if how == "suspend" else server.start()
    wait_until(lambda: depth(process) == 0, timeout_s=60)
    assert logged(server.url) == sorted(ids)
    assert process.ask("status")["events"]["shipped"] <= len(ids)


def test_a_flush_while_postgres_hangs_ends_in_time_and_the_rows_stay(
    start: Start, private_postgres_server: Any
) -> None:
    server = private_postgres_server
    migrations.migrate(server.url)
    process = start(database_url=server.url)
    ids = process.ask("write", 100)
    wait_until(lambda: len(logged(server.url)) == 100)
    server.suspend()
    ids += process.ask("write", 100)
    started_s = time.monotonic()
    assert process.ask("flush", 3.0) is False
    process.close()
    assert time.monotonic() - started_s < 6.0
    server.resume()
    start("worker-2", database_url=server.url)
    wait_until(lambda: logged(server.url) == sorted(ids))


def test_a_full_disk_costs_no_row_that_fits_in_memory(start: Start, postgres_server: Any) -> None:
    migrations.migrate(postgres_server.url)
    process = start(database_url=postgres_server.url)
    process.ask("limit_file_size", 50_000)  # the write that crosses it is short, the next is refused
    ids = process.ask("write", 2000)
    assert process.ask("status")["events"]["buffered"] > 1000
    wait_until(lambda: logged(postgres_server.url) == sorted(ids))
    process.ask("limit_file_size", None)
    time.sleep(1.1)
    written = process.ask("status")["events"]["written"]
    ids += process.ask("write", 200)
    events = process.ask("status")["events"]
    assert events["written"] >= written + 200
    assert events.get("dropped", 0) == 0
    wait_until(lambda: logged(postgres_server.url) == sorted(ids))


def test_four_processes_keep_their_common_bound_and_count_each_dropped_row(
    start: Start, postgres_server: Any
) -> None:
    migrations.migrate(postgres_server.url)
    writers = [start(f"worker-{n}", max_records=100) for n in range(1, 5)]
    for _ in range(10):
        for writer in writers:
            writer.ask("write", 25)
    time.sleep(1.1)
    for writer in writers:
        writer.ask("maintain")
    statuses = [writer.ask("status") for writer in writers]
    kept = sum(status["depth"] for status in statuses)
    assert 90 <= kept <= 100
    assert sum(status["events"].get("dropped", 0) for status in statuses) == 1000 - kept
    for writer in writers:
        writer.close()
    start("worker-5", database_url=postgres_server.url, max_records=100)
    wait_until(lambda: len(logged(postgres_server.url)) == kept)


def test_poison_in_a_batch_is_put_aside_and_the_rest_is_stored(
    start: Start, postgres_server: Any, tmp_path: Path
) -> None:
    migrations.migrate(postgres_server.url)
    process = start(database_url=postgres_server.url)
    poison = log_row("00000000-0000-4000-8000-000000000001", prediction="\0").decode()
    ids = process.ask("write", 300)
    process.ask("append", poison, 1)
    process.ask("append", "{broken", 1)
    ids += process.ask("write", 300)
    wait_until(lambda: depth(process) == 0)
    assert logged(postgres_server.url) == sorted(ids)
    assert process.ask("status")["events"]["rejected"] == 2
    assert len(list((tmp_path / "journal" / "rejected").iterdir())) == 2


def test_group_commit_keeps_the_hub_free(start: Start) -> None:
    process = start(sync="group")
    process.ask("write", 300)
    status = process.ask("status")
    assert status["depth"] == 300
    assert status["longest_block_s"] < 0.5


def test_a_database_without_the_table_costs_no_row(start: Start, postgres_server: Any) -> None:
    process = start(database_url=postgres_server.url)
    ids = process.ask("write", 100)
    time.sleep(1.0)
    status = process.ask("status")
    assert status["depth"] == 100
    assert status["events"] == {"written": 100}
    migrations.migrate(postgres_server.url)
    wait_until(lambda: logged(postgres_server.url) == sorted(ids))
