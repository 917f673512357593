"""The request log, read from a real Postgres."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from falcon_wsgi.backends import migrations, request_log
from falcon_wsgi.backends.postgres import PostgresSink
from falcon_wsgi.errors import ConfigurationError, DependencyUnavailable
from tests.e2e.instance import wait_until
from tests.integration.journal_process import log_row

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def url(postgres_server: Any) -> str:
    migrations.migrate(postgres_server.url)
    return str(postgres_server.url)


@pytest.fixture
def sink(url: str) -> Iterator[PostgresSink]:
    made = PostgresSink(url)
    yield made
    made.close()


def write(sink: PostgresSink, count: int = 1, **values: Any) -> list[str]:
    """Rows of sentiment, a minute apart from `NOW` on back."""
    ids = [str(uuid.uuid4()) for _ in range(count)]
    rows = [
        log_row(
            event_id,
            **{
                "created_at": (NOW - timedelta(minutes=i)).isoformat(),
                "payload": {"text": f"text {i}"},
                **values,
            },
        )
        for i, event_id in enumerate(ids)
    ]
    assert sink.ship(rows, count).inserted == count
    return ids


def read(url: str, limit: int | None = None, hours: int = 24) -> list[request_log.LoggedPrediction]:
    return list(request_log.predictions(url, "sentiment", NOW - timedelta(hours=hours), limit))


def test_a_prediction_comes_back_as_it_was_logged(url: str, sink: PostgresSink) -> None:
    (event_id,) = write(sink)
    assert read(url) == [
        request_log.LoggedPrediction(
            event_id,
            0,
            "1.0.0",
            "positive",
            {"negative": 0.0123, "neutral": 0.0643, "positive": 0.9234},
            1.2,
            {"text": "text 0"},
        )
    ]


def test_all_are_read_in_more_than_one_fetch(url: str, sink: PostgresSink) -> None:
    ids = write(sink, 1200)
    assert {row.event_id for row in read(url)} == set(ids)


@pytest.mark.parametrize(
    "values",
    [
        {"payload": None},
        {"model": "iris"},
        {"success": False, "status": 504},
        {"idempotency_hit": True},
        {"created_at": (NOW - timedelta(days=2)).isoformat()},
    ],
    ids=["without its input", "another model", "failed", "a stored answer", "too old"],
)
def test_other_rows_are_left_out(url: str, sink: PostgresSink, values: dict[str, Any]) -> None:
    write(sink, **values)
    assert read(url) == []


def test_a_limit_takes_the_latest(url: str, sink: PostgresSink) -> None:
    ids = write(sink, 10)
    assert [row.event_id for row in read(url, limit=3)] == ids[:3]


def test_whether_anything_was_logged_at_all(url: str, sink: PostgresSink) -> None:
    assert not request_log.has_any(url, "sentiment", NOW - timedelta(hours=1))
    write(sink, payload=None)
    assert request_log.has_any(url, "sentiment", NOW - timedelta(hours=1))
    assert not request_log.has_any(url, "iris", NOW - timedelta(hours=1))


def test_a_reader_that_stops_early_lets_go_of_its_connection(url: str, sink: PostgresSink) -> None:
    write(sink, 600)
    rows = request_log.predictions(url, "sentiment", NOW - timedelta(days=1))
    next(rows)
    rows.close()
    with psycopg.connect(url) as connection:
        cursors = (
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%falcon_predictions%%' AND pid <> %s"
        )
        asked = (connection.info.backend_pid,)
        wait_until(lambda: connection.execute(cursors, asked).fetchone() == (0,), what="the end of it")


def test_a_database_without_the_log_is_said(postgres_server: Any) -> None:
    with pytest.raises(ConfigurationError, match="no request log; run: falcon db migrate"):
        read(postgres_server.url)


def test_a_postgres_that_is_away_is_said_in_one_line() -> None:
    with pytest.raises(DependencyUnavailable, match="postgres is unavailable: ") as caught:
        read("postgresql://falcon@127.0.0.1:1/falcon")
    assert "\n" not in str(caught.value)
