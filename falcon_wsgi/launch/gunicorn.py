"""Gunicorn as the supervisor's child: begun early, told its environment later, stopped by request or by force."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from falcon_wsgi.launch import processes
from falcon_wsgi.settings import environment


class Gunicorn:
    """One Gunicorn, which imports what it needs while its servers start (`server.early_gunicorn`).

    The imports take longer than all else of a start, and on a second core they cost no time.

    Args:
        imports: the module to import meanwhile.
        arguments: those of Gunicorn's command line.
    """

    def __init__(self, imports: str, arguments: Sequence[str]) -> None:
        self._command = [sys.executable, "-m", "falcon_wsgi.server.early_gunicorn", imports, *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self.serves = False

    def begin(self, log: int | None) -> int:
        """Start it; its pid. `log` is the descriptor that it writes to, None for standard error."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment(),
            start_new_session=True,
            preexec_fn=processes.die_with_parent(signal.SIGTERM),
        )
        return self._process.pid

    def serve(self, **variables: str) -> None:
        """Let it go on, with these added to its environment."""
        assert self._process is not None
        assert self._process.stdin is not None
        self.serves = True
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:  # its exit code will tell
            pipe.write(json.dumps(variables).encode())

    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def reload(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def ask_to_stop(self) -> bool:
        """SIGTERM; False if it does not run. One that does not serve yet has nothing to finish and ends at once."""
        if self._process is None or self._process.poll() is not None:
            return False
        if not self.serves:
            self.kill()
            return False
        self._process.send_signal(signal.SIGTERM)
        return True

    def wait(self, patience_s: float, pause: Callable[[], bool]) -> bool:
        """Until it has ended. False if it has not after `patience_s`, or as soon as `pause` says not to wait on."""
        assert self._process is not None
        deadline = time.monotonic() + patience_s
        while self._process.poll() is None:
            if time.monotonic() > deadline or not pause():
                return False
        return True

    def kill(self) -> None:
        """SIGKILL to it and its workers."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # it leads the group that its workers are in
        self._process.wait()
