"""The request log's migrations, applied by a child process: a slow database delays nobody."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable

from falcon_wsgi.launch import processes
from falcon_wsgi.launch.console import say

_COMMAND = (sys.executable, "-m", "falcon_wsgi", "db", "migrate")
_FIRST_ATTEMPT_S = 20.0
_PAUSE_S = 5.0


class Migration:
    """`falcon db migrate`, repeated until it has succeeded. A failure is told once for each reason."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._due = 0.0
        self._reason = ""
        self.done = False

    def first_attempt(self, given_up: Callable[[], bool]) -> None:
        """Wait for the first attempt, for a limited time."""
        self.look_after()
        deadline = time.monotonic() + _FIRST_ATTEMPT_S
        while self._process is not None and time.monotonic() < deadline and not given_up():
            time.sleep(0.02)
            self.look_after()

    def look_after(self) -> None:
        """Start an attempt if one is due, or take the result of the one that ended. Returns at once."""
        if self.done:
            return
        if self._process is None:
            if time.monotonic() >= self._due:
                self._process = self._attempt()
        elif self._process.poll() is not None:
            self._take_result(self._process)
            self._process = None
            self._due = time.monotonic() + _PAUSE_S

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _attempt(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            _COMMAND,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,
            preexec_fn=processes.die_with_parent(signal.SIGKILL),
        )

    def _take_result(self, process: subprocess.Popen[str]) -> None:
        output, errors = process.communicate()
        if process.returncode == 0:
            self.done = True
            for line in output.splitlines():
                if line.startswith("applied"):
                    say(line)
            return
        words = [line for line in errors.splitlines() if line.strip()]
        reason = (words or [f"exit code {process.returncode}"])[-1].removeprefix("falcon: ")
        if reason != self._reason:
            self._reason = reason
            say(f"WARNING: migrations are not applied yet, the request log waits in the journal: {reason}")
