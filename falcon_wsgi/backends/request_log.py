"""The request log in Postgres, read: predictions with their inputs, as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from falcon_wsgi.backends.postgres import connection_parameters
from falcon_wsgi.errors import ConfigurationError, DependencyUnavailable

_CONNECT_TIMEOUT_S = 10
# Rows that are fetched at a time.
_FETCHED = 500

_OF_THE_MODEL = """
FROM public.inference_logs
WHERE created_at >= %(since)s AND model = %(model)s AND success AND NOT idempotency_hit"""
_PREDICTIONS = (
    "SELECT event_id::text, batch_index, model_version, prediction, probabilities, inference_time_ms, payload"
    f"{_OF_THE_MODEL} AND payload IS NOT NULL"
)
_LATEST = f"{_PREDICTIONS} ORDER BY created_at DESC LIMIT %(limit)s"
_ANY = f"SELECT EXISTS (SELECT{_OF_THE_MODEL})"


class LoggedPrediction(NamedTuple):
    """A row of `inference_logs` that has a payload.

    Attributes:
        prediction: the label's text, or the number as text.
        inference_ms: None where the answer came from the cache.
        payload: the input as it was sent; U+0000 is U+FFFD there.
    """

    event_id: str
    batch_index: int
    version: str
    prediction: str
    probabilities: dict[str, float] | None
    inference_ms: float | None
    payload: dict[str, Any]


def predictions(
    url: str, model: str, since: datetime, limit: int | None = None
) -> Iterator[LoggedPrediction]:
    """Answered predictions of a model whose input was logged; stored answers to repeated keys are left out.

    Memory stays the same however many there are. In no particular order, or with a limit the latest, newest first.

    Raises:
        ConfigurationError: the database has no request log.
        DependencyUnavailable: Postgres is away, or refuses the question.
    """
    asked = {"model": model, "since": since, "limit": limit}
    with _reading(url) as connection, connection.cursor(name="falcon_predictions") as cursor:
        cursor.itersize = _FETCHED
        cursor.execute(_PREDICTIONS if limit is None else _LATEST, asked)
        yield from map(LoggedPrediction._make, cursor)


def has_any(url: str, model: str, since: datetime) -> bool:
    """Whether such predictions were logged at all, with or without their input. Raises as `predictions`."""
    with _reading(url) as connection:
        row = connection.execute(_ANY, {"model": model, "since": since}).fetchone()
        return bool(row and row[0])


@contextmanager
def _reading(url: str) -> Iterator[psycopg.Connection[Any]]:
    parameters = connection_parameters(url, connect_timeout_s=_CONNECT_TIMEOUT_S)
    try:
        with psycopg.connect(**parameters, prepare_threshold=None) as connection:
            connection.read_only = True
            yield connection
    except psycopg.errors.UndefinedTable:
        raise ConfigurationError("the database has no request log; run: falcon db migrate") from None
    except psycopg.Error as error:
        reason = " ".join((error.diag.message_primary or str(error) or type(error).__name__).split())
        raise DependencyUnavailable("postgres", reason) from error
