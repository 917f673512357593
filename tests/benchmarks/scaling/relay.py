"""A relay before a server, which delays what it answers: that server as one that is farther away."""

from __future__ import annotations

import select
import signal
import subprocess
import sys

from falcon_wsgi.launch import processes
from tests.benchmarks.systems import ROOT, SystemFailed

_ANSWER_S = 10.0


class Relay:
    """A process of its own (`relaying`), on `port`.

    Args:
        to: the server's port.

    Raises:
        SystemFailed: also from `delay`: the process does not answer.
    """

    def __init__(self, to: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.scaling.relaying", "--to", str(to)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
            start_new_session=True,
            preexec_fn=processes.die_with_parent(signal.SIGKILL),
        )
        try:
            self.port = int(self._line())
        except SystemFailed:
            self.stop()
            raise

    def delay(self, milliseconds: float) -> None:
        """From now on, by so much; what is on its way keeps its time."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{milliseconds}\n")
        self._line()

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        ready = select.select([self._process.stdout], [], [], _ANSWER_S)[0]
        if not (ready and (line := self._process.stdout.readline())):
            raise SystemFailed("the relay does not answer")
        return line
