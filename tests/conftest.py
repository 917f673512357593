"""Fixtures that several suites share: a real Redis and a real Postgres, always stopped."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from falcon_wsgi.backends import migrations
from falcon_wsgi.launch.embedded import EmbeddedPostgres, EmbeddedRedis
from tests import programs


def pytest_configure() -> None:
    # Told to end, stop what runs: pytest tears its fixtures down after an interrupt only.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    programs.report(terminalreporter)


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A folder that the servers' user can enter; below pytest's own, only the current user can."""
    folder = Path(tempfile.mkdtemp(prefix="falcon-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def home(servers_folder: Path) -> Path:
    """An empty folder for one instance's files."""
    folder = servers_folder / uuid4().hex[:12]
    folder.mkdir()
    folder.chmod(0o711)
    return folder


@pytest.fixture
def full_disk(home: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a folder in which only so many bytes can be written. Where this user may not mount a file system of
    that size, no file can grow beyond it, which fails with another error at the same places."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    mounted = []

    def make(size: int) -> Path:
        folder = home / "small"
        folder.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size},mode=755", "none", str(folder)]
        if os.geteuid() == 0 and subprocess.run(["mount", *options], check=False).returncode == 0:
            mounted.append(folder)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
        return folder

    try:
        yield make
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        for folder in mounted:
            subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def redis_server(home: Path) -> Iterator[EmbeddedRedis]:
    """A Redis of this test's own. It may suspend, kill and start it; `url` stays."""
    server = EmbeddedRedis(home)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def private_postgres_server(home: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres process of this test's own, which it may suspend or kill. Starts in about two seconds."""
    server = EmbeddedPostgres(home)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class FreshDatabase:
    """An empty database on the session's Postgres: `url` and `pid`. The process is shared, so leave it be."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self.name = f"test_{uuid4().hex[:12]}"
        self.url = server.url.rpartition("/")[0] + "/" + self.name
        self.pid = server.pid

    def create(self) -> None:
        self._execute(f'CREATE DATABASE "{self.name}"')

    def drop(self) -> None:
        self._execute(f'DROP DATABASE "{self.name}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._server.url, autocommit=True) as connection:
            connection.execute(statement.encode())


@pytest.fixture(scope="session")
def _shared_postgres(servers_folder: Path) -> Iterator[EmbeddedPostgres]:
    folder = servers_folder / "shared-postgres"
    folder.mkdir()
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def postgres_server(_shared_postgres: EmbeddedPostgres) -> Iterator[FreshDatabase]:
    """An empty database of this test's own on a Postgres that the session shares."""
    with _fresh_database(_shared_postgres) as database:
        yield database


@pytest.fixture(scope="module")
def module_database(_shared_postgres: EmbeddedPostgres) -> Iterator[FreshDatabase]:
    """As `postgres_server`, for a module, with the migrations applied."""
    with _fresh_database(_shared_postgres) as database:
        migrations.migrate(database.url)
        yield database


@contextmanager
def _fresh_database(server: EmbeddedPostgres) -> Iterator[FreshDatabase]:
    database = FreshDatabase(server)
    database.create()
    try:
        yield database
    finally:
        database.drop()


@pytest.fixture(scope="module")
def module_redis(servers_folder: Path) -> Iterator[EmbeddedRedis]:
    """As `redis_server`, for a module."""
    folder = servers_folder / f"redis-{uuid4().hex[:12]}"
    folder.mkdir()
    folder.chmod(0o711)
    server = EmbeddedRedis(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
