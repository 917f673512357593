"""One process of the stack: started, watched, started again when it ends, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch import listening, processes
from falcon_wsgi.launch.console import say
from falcon_wsgi.launch.logfile import LogFile
from falcon_wsgi.settings import Settings

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
# A process that ran for this long is started again at once.
_STABLE_S = 5.0


class Part:
    """A process that leads a group of its own, on a port of its own.

    When its leader ends, what is left of the group is asked to finish, and the process is started again once the port
    is free: at once the first time, then after 0.5, 1, 2 ... 30 s for as long as it does not run for 5 s.

    Args:
        address: settings with the HOST and PORT that it listens on.
        stop_signal: ends it in good order.
        patience_s: time for that; then SIGKILL.
    """

    def __init__(
        self,
        name: str,
        command: str,
        environment: Mapping[str, str],
        address: Settings,
        log: Path,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        patience_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.address = address
        self.log = LogFile(log)
        self.restarts = 0
        self._command = command
        self._environment = environment
        self._stop_signal = stop_signal
        self.patience_s = patience_s
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._pause_s = 0.0
        self._due: float | None = None
        self._force_at = 0.0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    def start(self) -> None:
        """Raises ConfigurationError where the shell or the log cannot be opened."""
        try:
            log = self.log.open()
            try:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", self._command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    start_new_session=True,
                    preexec_fn=processes.die_with_parent(self._stop_signal),
                )
            finally:
                os.close(log)
        except OSError as error:
            raise ConfigurationError(f"{self.name} cannot be started: {processes.reason(error)}") from error
        self._started_at = self._clock()

    def look_after(self) -> bool:
        """Start it again if it ended and that is due. True if anything changed. Returns at once."""
        if self._process is None or self._process.poll() is None:
            return False
        now = self._clock()
        if self._due is None:
            self._note_end(now)
            return True
        if now < self._due or not self._port_is_free(now):
            return False
        self._due = None
        self.restarts += 1
        try:
            self.start()
        except ConfigurationError as error:
            say(str(error))
            return True
        say(f"{self.name} was started again (pid {self.pid})")
        return True

    def _note_end(self, now: float) -> None:
        assert self._process is not None
        self._pause_s = 0.0 if now - self._started_at >= _STABLE_S else self._longer_pause_s()
        self._due = now + self._pause_s
        self._force_at = now + self.patience_s
        self._signal_group(self._stop_signal)
        again = "starting it again" if not self._pause_s else f"next start in {self._pause_s:g} s"
        say(f"{self.name} ended ({_cause(self._process.returncode)}); {again}")
        if self._pause_s and (words := self.log.last_error()):
            say(f"{self.name}: {words}")

    def _longer_pause_s(self) -> float:
        return min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, self._pause_s * 2))

    def _port_is_free(self, now: float) -> bool:
        """Workers that outlive their master hold it until they have finished their requests."""
        if listening.is_free(self.address):
            return True
        if now >= self._force_at:
            self._signal_group(signal.SIGKILL)
        return False

    def ask_to_stop(self) -> None:
        if self.pid is not None:
            processes.send(self.pid, self._stop_signal)

    def finish(self, patience_s: float | None = None) -> None:
        """Wait for the end that `ask_to_stop` asked for; SIGKILL to the whole group after its patience."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.patience_s if patience_s is None else patience_s)
        self._signal_group(signal.SIGKILL)
        self._process.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
