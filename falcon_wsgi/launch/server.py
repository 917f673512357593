"""What the embedded servers have in common: user, folders, password, start, end, and being found again.

Each server has a data folder that belongs to the user it runs as (`account`). Password and log stay beside
that folder, among the instance's own files: root never writes where the servers' user could have put a link.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch import processes
from falcon_wsgi.launch.account import Account
from falcon_wsgi.launch.programs import Program

LOOPBACK = "127.0.0.1"
_STOP_SIGNAL_S = 1.0
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0
_LOG_KEPT_BYTES = 8 * 1024 * 1024
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def free_port() -> int:
    """A TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class EmbeddedServer(ABC):
    """One server process and its data below `home`, which exists and is this process's own.

    The owner holds the lock on `home`; so whatever runs on the data when `start` is called was left behind by
    an owner that was killed, and is ended first. For use from the main thread only.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, home: Path, account: Account | None = None) -> None:
        self.home = home
        self.port: int | None = None
        self._account = account or Account.for_servers()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """URL for a client on this machine, password included. Stays the same over a restart."""

    @property
    def pid(self) -> int | None:
        """The main process, None before the first start."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether the main process has been started and has not ended; a suspended one is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def data(self) -> Path:
        """The data folder: below `home`, or where root's servers have it (`Account.own_folder`)."""
        return self._data

    def start(self, given_up: Callable[[], bool] = lambda: False) -> None:
        """Start, and return when clients are answered. Again after `stop` or `kill`: same port, same data.

        Raises:
            ConfigurationError: no program, or it did not come up (one line with the last words of its log),
                or `given_up` turned true, which is asked while waiting.
        """
        if self.running:
            return
        try:
            self._prepare()
            self._bring_up(given_up)
        except OSError as error:
            raise ConfigurationError(f"{self.name} cannot be started: {processes.reason(error)}") from error
        except subprocess.SubprocessError as error:
            raise ConfigurationError(f"{self.name} cannot be started: {error}") from error

    def _bring_up(self, given_up: Callable[[], bool]) -> None:
        """Launch on the server's port, the first time on a free one; another process may be quicker to take it."""
        for attempt in range(3):
            port = self.port or free_port()
            try:
                self._launch(port, given_up)
            except _PortTaken:
                if self.port is not None or attempt == 2:
                    raise
            else:
                self.port = port
                return

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """End in good order and wait for it, by force after `timeout_s`. Also while suspended."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
            self.resume()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to every process of the server."""
        if self._process is None:
            return
        family = self._family() if self._process.poll() is None else []
        for pid in family:
            processes.send(pid, signal.SIGKILL)
        self._process.wait()
        processes.wait_until_gone(family, _STOP_TIMEOUT_S)

    def suspend(self) -> None:
        """SIGSTOP to every process of the server: connections stay open and nothing answers.

        Returns when all have stopped: one that runs at that moment goes on for an instant.
        """
        main = self._family()[:1]
        for pid in main:
            processes.send(pid, signal.SIGSTOP)  # first, so that it starts no further process meanwhile
        for pid in self._family()[1:]:
            processes.send(pid, signal.SIGSTOP)
        deadline = time.monotonic() + _STOP_SIGNAL_S
        while not all(map(processes.is_stopped, self._family())) and time.monotonic() < deadline:
            time.sleep(0.001)

    def resume(self) -> None:
        """SIGCONT to every process of the server."""
        for pid in self._family():
            processes.send(pid, signal.SIGCONT)

    def _family(self) -> list[int]:
        if self._process is None or self._process.poll() is not None:
            return []
        return [self._process.pid, *processes.children(self._process.pid)]

    @property
    def _password_file(self) -> Path:
        return self.home / f"{self.name.lower()}.password"

    @property
    def _log(self) -> Path:
        return self.home / "log" / f"{self.name.lower()}.log"

    def _kept_password(self) -> str | None:
        try:
            return self._password_file.read_text(encoding="ascii").strip() or None
        except FileNotFoundError:
            return None

    def _prepare(self) -> None:
        """Find folder, user and program, end what a killed owner left, lay out the data the first time."""
        self._log.parent.mkdir(mode=0o700, exist_ok=True)
        self._data = self._account.own_folder(self.home / self.name.lower())
        self._account = self._account.owning(self._data)
        self._end_orphan()
        if self._log.exists() and self._log.stat().st_size > _LOG_KEPT_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        self._program = self._choose_program()
        kept = self._kept_password()
        self._secret = kept or secrets.token_urlsafe(24)
        if kept is None:
            processes.write_private(self._password_file, self._secret)
        self._initialise(password_is_new=kept is None)

    def _end_orphan(self) -> None:
        pid = _first_number(self._pid_file)
        if pid and processes.working_folder(pid) == self._pid_file.parent.resolve():
            processes.end(pid, self.stop_signal, _STOP_TIMEOUT_S)
        with contextlib.suppress(FileNotFoundError):
            self._pid_file.unlink()

    def _choose_program(self) -> Program:
        """The first candidate that the account can run, as it is (`_origin`) or as a copy of it.

        Raises:
            ConfigurationError: there is none; says what was tried.
        """
        refusals = []
        for candidate in self._candidates():
            try:
                self._origin = candidate
                return candidate.runnable_by(self._account)
            except ConfigurationError as error:
                refusals.append(str(error))
        raise ConfigurationError("; ".join(refusals) or self._nothing_found())

    def _launch(self, port: int, given_up: Callable[[], bool]) -> None:
        command, stdin = self._command(port)
        with self._log.open("ab") as log:
            start = log.tell()
            self._process = self._spawn(command, stdin, log.fileno())
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers(port):
            if self._process.poll() is not None or time.monotonic() > deadline or given_up():
                self.stop()
                raise self._failure(start)
            time.sleep(0.01)

    def _spawn(self, command: list[str], stdin: str, log: int) -> subprocess.Popen[bytes]:
        """A session of its own: the terminal's Ctrl-C is for the supervisor, which stops servers in order."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd="/",
            env=_ENVIRONMENT,
            umask=0o077,
            start_new_session=True,
            preexec_fn=processes.die_with_parent(self.stop_signal),
            **self._account.popen_options(),
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(stdin.encode())
        return process

    def _run_tool(self, *command: str | Path, stdin: str = "") -> None:
        """Run one of the server's own tools as its user, to the end."""
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            cwd="/",
            env=_ENVIRONMENT,
            umask=0o077,
            timeout=120,
            check=False,
            start_new_session=True,
            preexec_fn=processes.die_with_parent(signal.SIGKILL),
            **self._account.popen_options(),
        )
        output = done.stdout + done.stderr
        with self._log.open("a", encoding="utf-8") as log:
            log.write(output)
        if done.returncode != 0 or "FATAL:" in output or "ERROR:" in output:
            raise ConfigurationError(
                f"{Path(command[0]).name} failed: {_last_words(output)} (see {self._log})"
            )

    def _failure(self, start: int) -> ConfigurationError:
        with self._log.open("rb") as log:
            log.seek(start)
            text = log.read().decode("utf-8", "replace")
        kind = _PortTaken if "Address already in use" in text else ConfigurationError
        return kind(f"{self.name} did not start: {_last_words(text)} (see {self._log})")

    @property
    @abstractmethod
    def _pid_file(self) -> Path:
        """The file in which the server keeps its pid; it lies in the server's current folder."""

    @abstractmethod
    def _candidates(self) -> Iterator[Program]:
        """Programs that can serve the data there is, the preferred one first."""

    @abstractmethod
    def _nothing_found(self) -> str:
        """One line for when there is no candidate."""

    @abstractmethod
    def _initialise(self, password_is_new: bool) -> None:
        """Lay out the data folder on the first start; make data that is there already take a new password."""

    @abstractmethod
    def _command(self, port: int) -> tuple[list[str], str]:
        """The command, and what it reads on standard input."""

    @abstractmethod
    def _answers(self, port: int) -> bool:
        """Whether a client would be answered now. Returns at once."""


class _PortTaken(ConfigurationError):
    """Somebody else took the port between the choice and the start."""


def _first_number(path: Path) -> int | None:
    try:
        first = path.read_text(encoding="ascii", errors="replace").split("\n", 1)[0].strip()
    except FileNotFoundError:
        return None
    return int(first) if first.isdigit() else None


def _last_words(text: str) -> str:
    """The line of a server's log that says why it ended: the last severe one, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    severe = [line for line in lines if re.search(r"FATAL|PANIC|ERROR|error:|# |\*\*\*", line)]
    chosen = (severe or lines or ["it ended without a word"])[-1]
    return chosen[-300:]
