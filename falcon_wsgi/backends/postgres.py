"""The request log in Postgres: batches of journal rows in, each row once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, TypeVar

import gevent
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Json

from falcon_wsgi.errors import ConfigurationError, DependencyRejected, DependencyUnavailable
from falcon_wsgi.log_rows import COLUMNS, as_json, is_json

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

_NAMES = ", ".join(COLUMNS)
_RECORD = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
# Nothing from outside is in these statements: the rows are their data.
_COPY = f"COPY public.inference_logs ({_NAMES}) FROM STDIN (ENCODING 'UTF8')"
# No conflict target, because the key of a partition that was attached by hand may be another index.
_INSERT = (
    f"INSERT INTO public.inference_logs ({_NAMES}) "  # noqa: S608
    f"SELECT {_NAMES} FROM json_to_recordset(%s) AS r({_RECORD}) ON CONFLICT DO NOTHING"
)
_ENSURE_DAYS = """
SELECT public.falcon_ensure_partition(day) FROM (
    SELECT DISTINCT (created_at AT TIME ZONE 'UTC')::date AS day
    FROM json_to_recordset(%s) AS r(created_at timestamptz)
) AS days"""
_ENSURE_TODAY = """
SELECT public.falcon_ensure_partition((now() AT TIME ZONE 'UTC')::date + ahead) FROM generate_series(0, 1)
AS ahead"""

# A row is deleted from the journal once Postgres says that it is committed, so "committed" must mean on
# disk there, also where the server's default says otherwise.
_CONFIGURE = """
SELECT set_config('statement_timeout', %s, false),
       set_config('lock_timeout', %s, false),
       set_config('timezone', 'UTC', false),
       CASE current_setting('synchronous_commit')
           WHEN 'off' THEN set_config('synchronous_commit', 'on', false)
       END"""

_NO_PARTITION = "23514"
_DAY_S = 86_400
# To make JSON of so many bytes of rows holds the event loop for about a millisecond.
_CONVERTED_AT_ONCE = 24 * 1024
# A table under row-level security, or a view in the table's place, takes an INSERT where it takes no COPY.
_COPY_CANNOT = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.WrongObjectType,
)
# A server told to stop (SIGTERM, "smart" shutdown) refuses new clients and waits for those it has, for ever if one
# stays. It also leads to the new server after a failover by name.
_CONNECTION_LIFE_S = 15.0


class SinkTimeout(Exception):
    """Postgres did not answer within the time allowed; what it does with the rows is not known."""


TRANSIENT: tuple[type[Exception], ...] = (psycopg.OperationalError, psycopg.InterfaceError, SinkTimeout)
"""What `PostgresSink` raises while Postgres is away, slow or restarting. To try again is safe."""


class ShipResult(NamedTuple):
    """Rows that are new in the table, and rows that were there already."""

    inserted: int
    duplicates: int


class DatabaseObserver(Protocol):
    def operation(self, operation: str, status: str, seconds: float) -> None:
        """`operation` is connect, ensure_partitions or insert_log; `status` is success or error."""


class NullDatabaseObserver:
    def operation(self, operation: str, status: str, seconds: float) -> None:
        pass


class PostgresSink:
    """One connection, held over calls for 15 s at most and opened anew after any error. For one greenlet at a time.

    Args:
        url: postgresql://; what it says of timeouts and keepalives goes before the defaults here.
        timeout_s: the longest that one call takes, connecting included. A server that is stopped in the
            middle of a statement cannot hold the caller longer, nor can closing the connection to it.
    """

    pool_size = 1

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 10.0,
        observer: DatabaseObserver | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._parameters = connection_parameters(url, connect_timeout_s=timeout_s)
        self._timeout_s = timeout_s
        self._observer = NullDatabaseObserver() if observer is None else observer
        self._clock = clock
        self._connection: psycopg.Connection[Any] | None = None
        self._connect_again_at = 0.0
        self._ensured_until = 0.0

    @property
    def pool_available(self) -> int:
        """1 while a connection is open."""
        return int(self._connection is not None)

    def ship(self, payloads: Sequence[bytes], rows: int) -> ShipResult:
        """Insert `rows` rows, given as `log_rows` has them, all or none.

        Raises:
            TRANSIENT: Postgres is away or too slow; the rows may or may not be in the table.
            DependencyUnavailable: Postgres is up and cannot take any row as it is set up now.
            DependencyRejected: Postgres cannot hold one of these rows.
        """
        try:
            with self._within_time():
                inserted = self._insert(payloads)
        except psycopg.OperationalError as error:
            if (error.sqlstate or "").startswith("54"):  # a limit of the server that these rows exceed
                raise DependencyRejected(_reason(error)) from error
            raise
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise DependencyRejected(_reason(error)) from error
        except psycopg.InterfaceError:
            raise
        except psycopg.Error as error:
            raise DependencyUnavailable("postgres", _reason(error)) from error
        return ShipResult(inserted, rows - inserted)

    def check(self) -> None:
        """Ask for one value.

        Raises:
            TRANSIENT: as `ship`.
        """
        with self._within_time():
            connection = self._connected()
            self._timed("ping", lambda: connection.execute("SELECT 1"))

    def close(self) -> None:
        """Close the connection without waiting for the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _insert(self, payloads: Sequence[bytes]) -> int:
        connection = self._connected()
        now = self._clock()
        if now >= self._ensured_until:
            # Tomorrow's too, so that midnight costs no failed insert.
            self._timed("ensure_partitions", lambda: connection.execute(_ENSURE_TODAY))
            self._ensured_until = now - now % _DAY_S + _DAY_S
        try:
            return self._timed("insert_log", lambda: self._store(connection, payloads))
        except psycopg.errors.CheckViolation as error:
            if error.sqlstate != _NO_PARTITION or error.diag.constraint_name is not None:
                raise
        document = _document(payloads)
        self._timed("ensure_partitions", lambda: connection.execute(_ENSURE_DAYS, (document,)))
        return self._timed("insert_log", lambda: connection.execute(_INSERT, (document,)).rowcount)

    def _store(self, connection: psycopg.Connection[Any], payloads: Sequence[bytes]) -> int:
        """COPY costs Postgres a third of what an INSERT of the same rows as JSON does, but cannot pass over rows that
        are there already. Those come only after a crash, a lost answer or a balancer's retry; then all of the batch
        goes the slower way."""
        if not any(map(is_json, payloads)):
            try:
                return self._copy(connection, b"".join(payloads))
            except _COPY_CANNOT:
                pass
        return connection.execute(_INSERT, (_document(payloads),)).rowcount

    def _copy(self, connection: psycopg.Connection[Any], lines: bytes) -> int:
        cursor = connection.cursor()
        with cursor.copy(_COPY) as copy:
            try:
                copy.write(lines)
            except BaseException:
                # To leave the block would be to tell the server and wait for its answer, perhaps for ever.
                self.close()
                raise
        return cursor.rowcount

    def _connected(self) -> psycopg.Connection[Any]:
        if self._clock() >= self._connect_again_at:
            self.close()
        if self._connection is None:
            self._connection = self._timed("connect", self._connect)
            self._connect_again_at = self._clock() + _CONNECTION_LIFE_S
            self._ensured_until = 0.0
        return self._connection

    def _connect(self) -> psycopg.Connection[Any]:
        # No prepared statements: to plan one statement for a batch costs little, and poolers between us and
        # Postgres need not support them.
        connection = psycopg.connect(**self._parameters, autocommit=True, prepare_threshold=None)
        try:
            limit_ms = str(int(self._timeout_s * 1000))
            connection.execute(_CONFIGURE, (limit_ms, limit_ms))
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _within_time(self) -> Iterator[None]:
        """Bound the block's time; drop the connection if it fails in any way but a refused statement."""
        timer = gevent.Timeout.start_new(self._timeout_s)
        try:
            yield
        except gevent.Timeout as timeout:
            self.close()
            if timeout is not timer:
                raise
            raise SinkTimeout(f"no answer within {self._timeout_s:g} s") from None
        except (psycopg.DataError, psycopg.IntegrityError, DependencyRejected):
            raise
        except BaseException:
            self.close()
            raise
        finally:
            timer.close()

    def _timed(self, operation: str, call: Callable[[], _T]) -> _T:
        started_s = time.perf_counter()
        status = "error"
        try:
            result = call()
            status = "success"
        finally:
            self._observer.operation(operation, status, time.perf_counter() - started_s)
        return result


def ping(url: str, timeout_s: float) -> None:
    """Connect and ask for one value.

    Raises:
        TRANSIENT: Postgres did not answer in time, or refused.
    """
    connection = None
    timer = gevent.Timeout.start_new(timeout_s)
    try:
        connection = psycopg.connect(
            **connection_parameters(url, connect_timeout_s=timeout_s), autocommit=True
        )
        connection.execute("SELECT 1")
    except gevent.Timeout as timeout:
        if timeout is not timer:
            raise
        raise SinkTimeout(f"no answer within {timeout_s:g} s") from None
    finally:
        timer.close()
        if connection is not None:
            connection.close()


def connection_parameters(url: str, *, connect_timeout_s: float) -> dict[str, Any]:
    """libpq's parameters for the URL, with timeouts and TCP keepalives where it names none.

    Raises:
        ConfigurationError: the URL cannot be read. The message repeats nothing of it, it may hold a password.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "DATABASE_URL is not a Postgres connection URL: postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None
    defaults = {
        "connect_timeout": max(2, int(connect_timeout_s)),
        "application_name": "falcon",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": int(connect_timeout_s * 1000),
    }
    return {**defaults, **given}


def _document(payloads: Sequence[bytes]) -> Json:
    """The rows as one JSON array. Lets others run meanwhile.

    Raises:
        DependencyRejected: a payload is not in the journal's format.
    """
    objects = []
    converted = 0
    for payload in payloads:
        try:
            objects.append(as_json(payload))
        except ValueError as error:
            raise DependencyRejected("the rows are not in the journal's format") from error
        converted += len(payload)
        if converted >= _CONVERTED_AT_ONCE:
            converted = 0
            gevent.sleep(0)
    return Json(b"[%b]" % b",".join(objects), dumps=_as_it_is)


def _as_it_is(document: bytes) -> bytes:
    return document


def _reason(error: psycopg.Error) -> str:
    """What Postgres says, in one line; without the detail, which quotes the row."""
    return " ".join((error.diag.message_primary or type(error).__name__).split())
