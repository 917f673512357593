"""The database's schema: numbered SQL files applied in order, each once; and dropping days that are old
enough.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import psycopg
from psycopg import sql

from falcon_wsgi import resources
from falcon_wsgi.backends.postgres import connection_parameters
from falcon_wsgi.errors import ConfigurationError, DependencyUnavailable

_FILE_NAME = re.compile(r"(\d{3})_[a-z0-9_]+\.sql")
_CONNECT_TIMEOUT_S = 10
_LOCK_TIMEOUT = "60s"
_MAINTENANCE_DATABASE = "postgres"
# Any number will do, as long as all instances use the same and nothing else in the database does.
_LOCK = 4_602_178_819_172_646_913

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS public.schema_migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,  -- SHA-256 of the file, in hex
    applied_at timestamptz NOT NULL DEFAULT now()
)"""

_PRUNED = "pruned by falcon, to be dropped"
# Also those that an interrupted run had detached and not dropped, known by their comment. A table that
# somebody detached to keep it has none.
_PARTITIONS = """
SELECT day.relname, link.inhrelid IS NOT NULL, coalesce(link.inhdetachpending, false)
FROM pg_class AS day
LEFT JOIN pg_inherits AS link
    ON link.inhrelid = day.oid AND link.inhparent = 'public.inference_logs'::regclass
WHERE day.relnamespace = 'public'::regnamespace AND day.relkind = 'r' AND day.relname ~
'^inference_logs_[0-9]{8}$'
    AND (link.inhrelid IS NOT NULL OR obj_description(day.oid, 'pg_class') = %s)
ORDER BY day.relname"""

_Connection = psycopg.Connection[Any]


class Migration(NamedTuple):
    version: int
    name: str
    checksum: str
    statements: bytes


def migrate(url: str, folder: Path = resources.MIGRATIONS) -> list[str]:
    """Apply what is pending, each file in one transaction; the names of those applied. Creates the database
    if need be.

    Safe when several instances start at once: one applies, the others wait and find nothing to do.

    Raises:
        ConfigurationError: a file that was applied has changed since, or the user may not do what a file
        asks for. DependencyUnavailable: Postgres cannot be reached, or has no such database and does not
        let us make it.
    """
    migrations = read(folder)
    with _errors_translated(url):
        _ensure_database(url)
        with _connection(url) as connection, _alone(connection):
            connection.execute(_CREATE_TABLE)
            todo = _unapplied(connection, migrations)
            for migration in todo:
                _apply(connection, migration)
    return [migration.name for migration in todo]


def pending(url: str, folder: Path = resources.MIGRATIONS) -> list[str]:
    """Names of the migrations that the database lacks. Changes nothing.

    Raises:
        ConfigurationError, DependencyUnavailable: as `migrate` does.
    """
    migrations = read(folder)
    with _errors_translated(url), _connection(url) as connection:
        known = connection.execute("SELECT to_regclass('public.schema_migrations')").fetchone()
        if known is None or known[0] is None:
            return [migration.name for migration in migrations]
        return [migration.name for migration in _unapplied(connection, migrations)]


def prune(url: str, older_than: timedelta) -> list[str]:
    """Drop the days of the request log that ended more than `older_than` ago; their names, oldest first.

    Others read and write meanwhile: a day is detached without a lock that would stop them.

    Raises:
        ConfigurationError, DependencyUnavailable: as `migrate` does.
    """
    cutoff = datetime.now(UTC) - older_than
    dropped = []
    with _errors_translated(url), _connection(url) as connection, _alone(connection):
        for name, attached, detaching in connection.execute(_PARTITIONS, (_PRUNED,)).fetchall():
            day = datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC)
            if day + timedelta(days=1) <= cutoff:
                _drop(connection, sql.Identifier("public", name), attached, detaching)
                dropped.append(name)
    return dropped


def read(folder: Path) -> list[Migration]:
    """The migrations in a folder, in order.

    Raises:
        ConfigurationError: there are none, or two have the same number.
    """
    found = []
    for path in sorted(folder.glob("*.sql")):
        if match := _FILE_NAME.fullmatch(path.name):
            content = path.read_bytes()
            checksum = hashlib.sha256(content).hexdigest()
            found.append(Migration(int(match[1]), path.stem, checksum, content))
    if not found or len({migration.version for migration in found}) != len(found):
        raise ConfigurationError(f"the folder of migrations {folder} has none, or two with the same number")
    return found


def _unapplied(connection: _Connection, migrations: list[Migration]) -> list[Migration]:
    rows = connection.execute("SELECT version, checksum FROM public.schema_migrations").fetchall()
    applied: dict[int, str] = dict(rows)
    for migration in migrations:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise ConfigurationError(
                f"migration {migration.name} has changed since it was applied to this database; "
                "restore the file, and make the change in a new one"
            )
    return [migration for migration in migrations if migration.version not in applied]


def _apply(connection: _Connection, migration: Migration) -> None:
    with connection.transaction():
        connection.execute(migration.statements)
        connection.execute(
            "INSERT INTO public.schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
            migration[:3],
        )


def _drop(connection: _Connection, table: sql.Identifier, attached: bool, detaching: bool) -> None:
    if attached:
        connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(_PRUNED)))
        # An interrupted CONCURRENTLY has to be finished, it cannot be started again.
        how = sql.SQL("FINALIZE" if detaching else "CONCURRENTLY")
        connection.execute(
            sql.SQL("ALTER TABLE public.inference_logs DETACH PARTITION {} {}").format(table, how)
        )
    connection.execute(sql.SQL("DROP TABLE {}").format(table))


@contextmanager
def _alone(connection: _Connection) -> Iterator[None]:
    """Hold the lock that instances agree on; it ends with the connection at the latest."""
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    except psycopg.errors.LockNotAvailable:
        raise DependencyUnavailable(
            "postgres", f"another instance has been changing the schema for {_LOCK_TIMEOUT}"
        ) from None
    yield
    connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


@contextmanager
def _connection(url: str, **replaced: str) -> Iterator[_Connection]:
    parameters = {**connection_parameters(url, connect_timeout_s=_CONNECT_TIMEOUT_S), **replaced}
    connection = psycopg.connect(**parameters, autocommit=True)
    try:
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (_LOCK_TIMEOUT,))
        yield connection
    finally:
        connection.close()


def _ensure_database(url: str) -> None:
    """Create the database in the URL if there is none."""
    try:
        with _connection(url):
            return
    except psycopg.OperationalError:
        if not _create_database(url):
            raise


def _create_database(url: str) -> bool:
    """Whether the database is there now. What keeps us from finding out is not reported."""
    name = str(connection_parameters(url, connect_timeout_s=_CONNECT_TIMEOUT_S).get("dbname") or "")
    if not name:
        return False
    try:
        with _connection(url, dbname=_MAINTENANCE_DATABASE) as connection:
            known = connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone()
            if known is None:  # else another instance made it since we were refused
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        return True  # another instance was faster
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def _errors_translated(url: str) -> Iterator[None]:
    """psycopg's errors as Falcon's, in one line each and without the password."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise DependencyUnavailable("postgres", _one_line(error, url)) from None
    except psycopg.Error as error:
        raise ConfigurationError(f"Postgres refused: {_one_line(error, url)}") from None


def _one_line(error: psycopg.Error, url: str) -> str:
    text = " ".join((error.diag.message_primary or str(error)).split())
    password = str(connection_parameters(url, connect_timeout_s=_CONNECT_TIMEOUT_S).get("password") or "")
    for secret in {password, unquote(password)} - {""}:
        text = text.replace(secret, "***")
    return text
