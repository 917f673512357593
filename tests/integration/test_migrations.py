"""Migrations and pruning against a real Postgres."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from falcon_wsgi import resources
from falcon_wsgi.backends import migrations
from falcon_wsgi.backends.postgres import PostgresSink
from falcon_wsgi.errors import ConfigurationError, DependencyUnavailable, FalconError
from tests.integration.journal_process import log_row

ALL = [path.stem for path in sorted(resources.MIGRATIONS.glob("*.sql"))]


@pytest.fixture
def url(postgres_server: Any) -> str:
    return str(postgres_server.url)


@pytest.fixture
def query(url: str) -> Iterator[Callable[..., list[Any]]]:
    with psycopg.connect(url, autocommit=True) as connection:

        def query(text: str, *parameters: Any) -> list[Any]:
            cursor = connection.execute(text, parameters or None)
            return cursor.fetchall() if cursor.description else []

        yield query


def ship(url: str, *days: datetime) -> None:
    sink = PostgresSink(url)
    rows = [log_row(str(uuid.uuid4()), created_at=day.isoformat()) for day in days]
    sink.ship(rows, len(rows))
    sink.close()


def copy(folder: Path) -> Path:
    for path in resources.MIGRATIONS.glob("*.sql"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_each_migration_is_applied_once_in_order(url: str) -> None:
    assert migrations.pending(url) == ALL
    assert migrations.migrate(url) == ALL
    assert migrations.migrate(url) == []
    assert migrations.pending(url) == []


def test_asking_what_is_pending_changes_nothing(url: str, query: Callable[..., list[Any]]) -> None:
    migrations.pending(url)
    assert query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_a_missing_database_is_created(url: str) -> None:
    name = f"made_{uuid.uuid4().hex[:10]}"
    missing = url.rpartition("/")[0] + "/" + name
    with pytest.raises(DependencyUnavailable):
        migrations.pending(missing)
    assert migrations.migrate(missing) == ALL
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}"'.encode())


def test_processes_that_start_at_once_share_the_work(url: str) -> None:
    name = f"made_{uuid.uuid4().hex[:10]}"
    missing = url.rpartition("/")[0] + "/" + name
    program = (
        "import sys; from falcon_wsgi.backends import migrations; print(*migrations.migrate(sys.argv[1]))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, missing],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for _ in range(4)
    ]
    applied = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert sorted(applied) == [[], [], [], ALL]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}"'.encode())


def test_a_changed_migration_is_refused(url: str, tmp_path: Path) -> None:
    migrations.migrate(url)
    changed = copy(tmp_path) / f"{ALL[0]}.sql"
    changed.write_text(changed.read_text() + "-- changed\n")
    for ask in (migrations.migrate, migrations.pending):
        with pytest.raises(ConfigurationError, match=f"{ALL[0]} has changed"):
            ask(url, tmp_path)


def test_a_failing_migration_leaves_nothing_of_itself(
    url: str, tmp_path: Path, query: Callable[..., list[Any]]
) -> None:
    (copy(tmp_path) / "900_broken.sql").write_text("CREATE TABLE half (n int); SELECT 1 / 0;")
    with pytest.raises(ConfigurationError, match="division by zero"):
        migrations.migrate(url, tmp_path)
    assert query("SELECT to_regclass('half')") == [(None,)]
    assert migrations.pending(url, tmp_path) == ["900_broken"]


def test_a_database_that_is_ahead_of_the_files_is_left_alone(url: str, tmp_path: Path) -> None:
    (copy(tmp_path) / "900_later.sql").write_text("SELECT 1;")
    migrations.migrate(url, tmp_path)
    assert migrations.migrate(url) == []


def test_a_folder_without_migrations_is_an_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has none"):
        migrations.migrate(url, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda url: "postgresql://falcon:s3cr3t@127.0.0.1:1/falcon",
        lambda url: url.replace("falcon:", "s3cr3t_user:s3cr3t"),
        lambda url: "postgresql://falcon:s3c%r3t@127.0.0.1/falcon",
        lambda url: "postgresql://falcon:s3cr3t@no-such-host.invalid/falcon",
    ],
)
def test_a_server_that_cannot_be_used_is_one_line_without_the_password(
    url: str, change: Callable[[str], str]
) -> None:
    with pytest.raises(FalconError) as error:
        migrations.migrate(change(url))
    assert "\n" not in str(error.value)
    assert "s3cr3t@" not in str(error.value)
    assert "s3c%r3t" not in str(error.value)


def test_a_user_who_may_not_create_roles_can_migrate(url: str, query: Callable[..., list[Any]]) -> None:
    user = f"owner_{uuid.uuid4().hex[:8]}"
    database = query("SELECT current_database()")[0][0]
    query(f"CREATE ROLE {user} LOGIN PASSWORD 'throwaway'")
    query(f"ALTER DATABASE {database} OWNER TO {user}")
    try:
        own = url.replace(url.split("://")[1].split("@")[0], f"{user}:throwaway")
        assert migrations.migrate(own) == ALL
        ship(own, datetime(2020, 1, 1, tzinfo=UTC))
        assert migrations.prune(own, timedelta(days=1)) == ["inference_logs_20200101"]
    finally:
        query(f"ALTER DATABASE {database} OWNER TO falcon")
        query(f"REASSIGN OWNED BY {user} TO falcon")
        query(f"DROP OWNED BY {user}")
        query(f"DROP ROLE {user}")


def test_prune_drops_whole_days_that_are_old_enough_and_no_other(
    url: str, query: Callable[..., list[Any]]
) -> None:
    migrations.migrate(url)
    now = datetime.now(UTC)
    ship(url, *(now - timedelta(days=age) for age in (0, 1, 29, 31, 32, 400)))
    expected = [f"inference_logs_{now - timedelta(days=age):%Y%m%d}" for age in (400, 32, 31)]
    assert migrations.prune(url, timedelta(days=30)) == expected
    assert query("SELECT count(*) FROM inference_logs") == [(3,)]
    assert query("SELECT to_regclass(%s)", expected[0]) == [(None,)]
    assert migrations.prune(url, timedelta(days=30)) == []


def test_a_pruned_day_can_come_back(url: str, query: Callable[..., list[Any]]) -> None:
    migrations.migrate(url)
    old = datetime(2020, 1, 1, 12, tzinfo=UTC)
    ship(url, old)
    migrations.prune(url, timedelta(days=30))
    ship(url, old)
    assert query("SELECT count(*) FROM inference_logs") == [(1,)]


def test_prune_finishes_what_an_interrupted_one_began_and_keeps_what_others_detached(
    url: str, query: Callable[..., list[Any]]
) -> None:
    migrations.migrate(url)
    ship(url, datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC))
    query(f"COMMENT ON TABLE inference_logs_20200101 IS '{migrations._PRUNED}'")
    query("ALTER TABLE inference_logs DETACH PARTITION inference_logs_20200101")
    query("ALTER TABLE inference_logs DETACH PARTITION inference_logs_20200102")
    assert migrations.prune(url, timedelta(days=30)) == ["inference_logs_20200101"]
    assert query("SELECT count(*) FROM inference_logs_20200102") == [(1,)]


def test_rows_come_in_while_prune_waits_for_a_reader(url: str) -> None:
    """A detach that locked the whole table would queue every insert behind itself."""
    migrations.migrate(url)
    ship(url, datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC))
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(url) as reader,
        psycopg.connect(url, autocommit=True) as monitor,
    ):
        reader.execute("SELECT count(*) FROM inference_logs")
        pruned = pool.submit(migrations.prune, url, timedelta(days=30))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'DETACH'"
        while monitor.execute(waiting + " AND datname = current_database()").fetchone() == (0,):
            assert not pruned.done()
        ship(url, datetime.now(UTC))
        reader.rollback()
        assert pruned.result(30) == ["inference_logs_20200101"]


def test_who_waits_for_another_to_make_a_days_partition_finds_it_made(url: str) -> None:
    migrations.migrate(url)
    make = "SELECT public.falcon_ensure_partition('2031-05-01')"
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(url) as first,
        psycopg.connect(url, autocommit=True) as second,
        psycopg.connect(url, autocommit=True) as monitor,
    ):
        first.execute(make)
        made = pool.submit(second.execute, make)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
        while monitor.execute(waiting + " AND datname = current_database()").fetchone() == (0,):
            assert not made.done()
        first.commit()
        assert made.result(30).fetchall() == [("",)]


def test_the_views_answer(url: str, query: Callable[..., list[Any]]) -> None:
    migrations.migrate(url)
    sink = PostgresSink(url)
    day = "2026-03-04T05:06:07Z"
    sink.ship([log_row(str(uuid.uuid4()), created_at=day) for _ in range(3)], 3)
    failure = log_row(str(uuid.uuid4()), created_at=day, success=False, status=504, error_type="deadline")
    sink.ship([failure], 1)
    sink.close()
    assert query("SELECT predictions, requests, error_share::float, p50_ms FROM falcon_requests_by_hour") == [
        (4, 4, 0.25, 4.21)
    ]
    assert query("SELECT status, error_type, rows FROM falcon_errors_by_hour") == [(504, "deadline", 1)]
