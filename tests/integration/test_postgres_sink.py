"""The sink against a real Postgres."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql

from falcon_wsgi.backends import migrations
from falcon_wsgi.backends.postgres import TRANSIENT, PostgresSink, ping
from falcon_wsgi.errors import ConfigurationError, DependencyRejected, DependencyUnavailable
from falcon_wsgi.log_rows import COLUMNS
from tests.e2e.instance import wait_until
from tests.integration.journal_process import json_row, line, log_row


class Operations:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def operation(self, operation: str, status: str, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((operation, status))


@pytest.fixture
def url(postgres_server: Any) -> str:
    migrations.migrate(postgres_server.url)
    return str(postgres_server.url)


@pytest.fixture
def operations() -> Operations:
    return Operations()


@pytest.fixture
def sink(url: str, operations: Operations) -> Iterator[PostgresSink]:
    sink = PostgresSink(url, observer=operations)
    yield sink
    sink.close()


@pytest.fixture
def query(url: str) -> Iterator[Callable[..., list[Any]]]:
    with psycopg.connect(url, autocommit=True) as connection:

        def query(text: str, *parameters: Any) -> list[Any]:
            cursor = connection.execute(text, parameters or None)
            return cursor.fetchall() if cursor.description else []

        yield query


def new_row(**values: Any) -> bytes:
    return log_row(str(uuid.uuid4()), **values)


def new_json_row(**values: Any) -> bytes:
    return json_row(str(uuid.uuid4()), **values)


either_form = pytest.mark.parametrize("make_row", [log_row, json_row])
"""Rows as they are written now, and as journals of earlier versions hold them."""


def test_a_smart_shutdown_is_not_held_up_for_ever(private_postgres_server: Any) -> None:
    """SIGTERM makes Postgres wait for its clients: the sink's connection ends and is opened anew after 15 s."""
    server = private_postgres_server
    migrations.migrate(server.url)
    now = [1_000_000_000.0]
    sink = PostgresSink(server.url, clock=lambda: now[0])
    sink.ship([new_row()], 1)
    os.kill(server.pid, signal.SIGTERM)
    # New clients are refused, the connection that is there goes on.
    wait_until(lambda: _is_refused(server.url), what="the shutdown")
    assert sink.ship([new_row()], 1) == (1, 0)
    now[0] += 16
    with pytest.raises(TRANSIENT):
        sink.ship([new_row()], 1)
    wait_until(lambda: not server.running, what="the end of the server")
    sink.close()


def _is_refused(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return True
    return False


@either_form
def test_every_column_arrives_as_it_was_written(
    sink: PostgresSink, query: Callable[..., list[Any]], make_row: Callable[..., bytes]
) -> None:
    event_id = str(uuid.uuid4())
    row = make_row(
        event_id,
        batch_index=3,
        request_id="käse \U0001f9c0 '; DROP TABLE inference_logs; --",
        idempotency_hit=True,
        success=False,
        status=422,
        error_type="validation_failed",
        error_message='a "quoted", \\ back-slashed\nline\r with a\ttab and a literal \\N',
        probabilities={'\t"\\': 0.1},
        idempotency_key="ab12",
        client_ip="2001:db8::1",
        payload={"text": "a,b},{c", "n": [1, None, 2.5]},
    )
    assert sink.ship([row], 1) == (1, 0)
    names = (
        "batch_index, request_id, model, model_version, text_hash, text_length, prediction, confidence, "
        "probabilities, cache_hit, idempotency_hit, success, status, processing_time_ms, inference_time_ms, "
        "error_type, error_message, idempotency_key, host(client_ip), payload, "
        "(created_at AT TIME ZONE 'UTC')::text, worker_id"
    )
    (stored,) = query(f"SELECT {names} FROM inference_logs")
    assert stored == (
        3,
        "käse \U0001f9c0 '; DROP TABLE inference_logs; --",
        "sentiment",
        "1.0.0",
        "0" * 64,
        12,
        "positive",
        0.9234,
        {'\t"\\': 0.1},
        False,
        True,
        False,
        422,
        4.21,
        1.2,
        "validation_failed",
        'a "quoted", \\ back-slashed\nline\r with a\ttab and a literal \\N',
        "ab12",
        "2001:db8::1",
        {"text": "a,b},{c", "n": [1, None, 2.5]},
        "2026-03-04 05:06:07.890123",
        "worker-1",
    )


@pytest.mark.parametrize("form", ["line", "json"])
def test_columns_that_a_row_leaves_out_are_null(
    sink: PostgresSink, query: Callable[..., list[Any]], form: str
) -> None:
    row = {
        "event_id": "01890000-0000-7000-8000-000000000000",
        "batch_index": 0,
        "request_id": "r",
        "created_at": "2026-01-01T00:00:00Z",
        "worker_id": "w",
        "success": False,
        "status": 422,
    }
    assert sink.ship([line(row) if form == "line" else json.dumps(row).encode()], 1) == (1, 0)
    assert query("SELECT model, confidence, client_ip, payload FROM inference_logs") == [(None,) * 4]


@either_form
def test_the_same_rows_shipped_twice_are_stored_once(
    sink: PostgresSink, query: Callable[..., list[Any]], make_row: Callable[..., bytes]
) -> None:
    ids = [str(uuid.uuid4()) for _ in range(100)]
    rows = [make_row(event_id) for event_id in ids]
    assert sink.ship(rows, 100) == (100, 0)
    assert sink.ship(rows, 100) == (0, 100)
    assert sink.ship([rows[0], make_row(str(uuid.uuid4())), rows[0]], 3) == (1, 2)
    assert query("SELECT count(*) FROM inference_logs") == [(101,)]


def test_a_row_that_is_there_in_either_form_is_not_stored_in_the_other(
    sink: PostgresSink, query: Callable[..., list[Any]]
) -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    values = {"request_id": "a\tb\\", "payload": {"text": "\\\n"}, "success": False, "confidence": 0.1 + 0.2}
    assert sink.ship([json_row(first, **values)], 1) == (1, 0)
    assert sink.ship([log_row(first, **values), log_row(second, **values)], 2) == (1, 1)
    assert sink.ship([json_row(second, **values), log_row(first, **values)], 2) == (0, 2)
    columns = (
        "request_id, payload, success, confidence, created_at, probabilities, client_ip, status, prediction"
    )
    assert len(query(f"SELECT DISTINCT {columns} FROM inference_logs")) == 1


def test_rows_that_are_there_already_are_no_error(sink: PostgresSink, operations: Operations) -> None:
    row = new_row(created_at=datetime.now(UTC).isoformat())
    sink.ship([row], 1)
    sink.ship([row], 1)
    assert {status for _, status in operations.seen} == {"success"}


def test_a_row_that_another_worker_is_storing_meanwhile_is_stored_once(
    sink: PostgresSink, url: str, query: Callable[..., list[Any]]
) -> None:
    """Two attempts at one request, on two instances: the later waits for the earlier, then passes its row over."""
    sink.ship([new_row()], 1)
    shared, own = str(uuid.uuid4()), new_row()
    with ThreadPoolExecutor(1) as pool, psycopg.connect(url) as other:
        with other.cursor().copy(f"COPY inference_logs ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            copy.write(log_row(shared))
        shipped = pool.submit(sink.ship, [own, log_row(shared)], 2)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'COPY'"
        wait_until(
            lambda: query(waiting + " AND datname = current_database()") != [(0,)], what="the later COPY"
        )
        other.commit()
        assert shipped.result(30) == (1, 1)
    assert query("SELECT count(*) FROM inference_logs") == [(3,)]


@pytest.mark.parametrize(("make_row", "between"), [(log_row, b""), (json_row, b",")])
def test_two_rows_of_one_batch_request_are_two_rows(
    sink: PostgresSink, make_row: Callable[..., bytes], between: bytes
) -> None:
    event_id = str(uuid.uuid4())
    payload = make_row(event_id, batch_index=0) + between + make_row(event_id, batch_index=1)
    assert sink.ship([payload], 2) == (2, 0)
    assert sink.ship([payload], 2) == (0, 2)


@pytest.mark.parametrize("make_row", [new_row, new_json_row])
@pytest.mark.parametrize(
    "created_at",
    ["1999-12-31T23:59:59.999999+00:00", "2000-01-01T00:30:00+01:00", "2199-07-01T00:00:00Z"],
)
def test_any_day_gets_its_partition(
    sink: PostgresSink, query: Callable[..., list[Any]], created_at: str, make_row: Callable[..., bytes]
) -> None:
    assert sink.ship([make_row(created_at=created_at), make_row()], 2) == (2, 0)
    expected = query("SELECT to_char(%s::timestamptz AT TIME ZONE 'UTC', 'YYYYMMDD')", created_at)[0][0]
    days = {row[0] for row in query("SELECT tableoid::regclass::text FROM inference_logs")}
    assert days == {f"inference_logs_{expected}", "inference_logs_20260304"}


def test_known_days_cost_one_statement_a_batch(sink: PostgresSink, operations: Operations) -> None:
    sink.ship([new_row()], 1)
    del operations.seen[:]
    sink.ship([new_row()], 1)
    sink.ship([new_row()], 1)
    assert operations.seen == [("insert_log", "success")] * 2


def test_the_partition_of_tomorrow_is_there_before_midnight(
    sink: PostgresSink, query: Callable[..., list[Any]]
) -> None:
    sink.ship([new_row()], 1)
    tomorrow = query("SELECT to_char((now() AT TIME ZONE 'UTC')::date + 1, 'YYYYMMDD')")[0][0]
    assert query("SELECT to_regclass(%s) IS NOT NULL", f"inference_logs_{tomorrow}") == [(True,)]


@pytest.mark.parametrize(
    "poison",
    [
        b"{broken",
        b'{"event_id":"no uuid"}',
        new_row(prediction="\0"),
        new_row(prediction="\ud800"),
        new_row(payload={"text": "\0"}),
        new_row(created_at="infinity"),
        new_row(created_at=None),
        new_row(created_at="yesterday-ish"),
        new_row(status=99_999),
        new_row(success=None),
        new_row(client_ip="unix:"),
        new_row(success="perhaps"),
        b"\n",
        b"no row\n",
        new_row()[:-1] + b"\tone field more\n",
        new_row().partition(b"\t")[2],
        new_json_row(prediction="\0"),
        new_json_row(prediction="\ud800"),
        new_json_row(payload={"text": "\0"}),
        new_json_row(created_at="infinity"),
        new_json_row(created_at=None),
        new_json_row(status=99_999),
        new_json_row(client_ip="unix:"),
    ],
)
def test_rows_that_postgres_cannot_hold_are_rejected_and_the_connection_lives_on(
    sink: PostgresSink, operations: Operations, poison: bytes
) -> None:
    sink.ship([new_row()], 1)
    with pytest.raises(DependencyRejected) as refusal:
        sink.ship([new_row(), poison], 2)
    assert "\n" not in str(refusal.value)
    assert sink.ship([new_row()], 1) == (1, 0)
    assert operations.seen.count(("connect", "success")) == 1


def test_a_rejected_batch_leaves_none_of_its_rows(
    sink: PostgresSink, query: Callable[..., list[Any]]
) -> None:
    with pytest.raises(DependencyRejected):
        sink.ship([new_row(), new_row(status=99_999), new_row()], 3)
    assert query("SELECT count(*) FROM inference_logs") == [(0,)]


def test_a_lost_connection_is_transient_and_opened_anew(
    sink: PostgresSink, query: Callable[..., list[Any]], operations: Operations
) -> None:
    sink.ship([new_row()], 1)
    assert sink.pool_available == 1
    query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'falcon'")
    with pytest.raises(TRANSIENT):
        sink.ship([new_row()], 1)
    assert sink.pool_available == 0
    assert ("insert_log", "error") in operations.seen
    assert sink.ship([new_row()], 1) == (1, 0)


def test_a_server_that_stops_reading_in_the_middle_of_a_copy_is_given_up_in_time(
    url: str, query: Callable[..., list[Any]]
) -> None:
    """It waits for another's transaction behind the first row, and more is sent than sockets can buffer."""
    sink = PostgresSink(url, timeout_s=1.0)
    sink.ship([new_row()], 1)
    shared = str(uuid.uuid4())
    rows = [log_row(shared), *(new_row(payload={"text": "x" * 1_000_000}) for _ in range(16))]
    with psycopg.connect(url) as other:
        with other.cursor().copy(f"COPY inference_logs ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            copy.write(rows[0])
        started_s = time.monotonic()
        with pytest.raises(TRANSIENT):
            sink.ship(rows, 17)
        assert time.monotonic() - started_s < 5
        assert sink.pool_available == 0
    patient = PostgresSink(url, timeout_s=60.0)
    assert patient.ship(rows, 17) == (16, 1)
    patient.close()


def test_a_server_that_is_not_there_is_transient() -> None:
    sink = PostgresSink("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(TRANSIENT):
        sink.ship([new_row()], 1)
    with pytest.raises(TRANSIENT):
        ping("postgresql://nobody@127.0.0.1:1/none", 1.0)


def test_ping_answers(url: str) -> None:
    ping(url, 5.0)


def test_a_missing_table_is_no_fault_of_the_rows(postgres_server: Any) -> None:
    sink = PostgresSink(postgres_server.url)
    with pytest.raises(DependencyUnavailable, match="does not exist"):
        sink.ship([new_row()], 1)
    sink.close()


def test_a_url_that_cannot_be_read_is_named_without_its_password() -> None:
    with pytest.raises(ConfigurationError) as error:
        PostgresSink("postgresql://u:hun%ter2@host/db")
    assert "hun" not in str(error.value)


def test_commits_are_durable_whatever_the_servers_default_says(
    url: str, query: Callable[..., list[Any]]
) -> None:
    name = query("SELECT current_database()")[0][0]
    query(f"ALTER DATABASE {name} SET synchronous_commit = off")
    sink = PostgresSink(url)
    sink.ship([new_row()], 1)
    assert sink._connection is not None
    assert sink._connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    sink.close()


@pytest.fixture
def writers_url(url: str, query: Callable[..., list[Any]]) -> Iterator[str]:
    """The URL of a user who is a member of falcon_writer and nothing else."""
    user = f"service_{uuid.uuid4().hex[:8]}"
    query(f"CREATE ROLE {user} LOGIN PASSWORD 'throwaway' IN ROLE falcon_writer")
    parameters = psycopg.conninfo.conninfo_to_dict(url)
    yield f"postgresql://{user}:throwaway@{parameters['host']}:{parameters['port']}/{parameters['dbname']}"
    query(f"DROP ROLE {user}")


def test_the_writer_role_is_enough_to_ship_and_no_more(writers_url: str) -> None:
    sink = PostgresSink(writers_url)
    row = new_row(created_at="2011-01-01T00:00:00Z")
    assert sink.ship([row], 1) == (1, 0)
    assert sink.ship([row, new_row(created_at="2011-01-01T00:00:00Z")], 2) == (1, 1)
    sink.close()
    assert migrations.pending(writers_url) == []
    for forbidden in ("DELETE FROM inference_logs", "DROP TABLE inference_logs_20110101"):
        with (
            psycopg.connect(writers_url) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(sql.SQL(forbidden))  # type: ignore[arg-type]


def test_a_table_under_row_level_security_takes_rows_too(
    writers_url: str, query: Callable[..., list[Any]]
) -> None:
    query("ALTER TABLE inference_logs ENABLE ROW LEVEL SECURITY")
    query("CREATE POLICY all_rows ON inference_logs USING (true) WITH CHECK (true)")
    sink = PostgresSink(writers_url)
    assert sink.ship([new_row()], 1) == (1, 0)
    sink.close()


def test_a_waiting_insert_and_a_new_partition_do_not_stop_each_other(sink: PostgresSink, url: str) -> None:
    sink.ship([new_row()], 1)
    with psycopg.connect(url) as other:
        other.execute("SELECT count(*) FROM inference_logs")
        other.execute(
            "INSERT INTO inference_logs (event_id, batch_index, created_at, request_id, worker_id, success, status)"
            " VALUES (gen_random_uuid(), 0, '2026-03-04', 'r', 'w', true, 200)"
        )
        assert sink.ship([new_row(created_at="2012-01-01T00:00:00Z")], 1) == (1, 0)
