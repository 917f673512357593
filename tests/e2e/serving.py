"""An instance under its supervisor, as a process of its own: what it says, publishes, and leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from falcon_wsgi import resources
from falcon_wsgi.launch import processes
from falcon_wsgi.launch.server import free_port
from tests.e2e import warm

FALCON = (sys.executable, "-m", "falcon_wsgi")
PATIENCE_S = 60.0


def until(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """Poll until the condition is true; returns its value."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.05)
    return result


class Started:
    """A supervisor and everything below it. Output is kept in files in `folder`."""

    def __init__(self, folder: Path, *command: str, cwd: Path | None = None, **environment: str) -> None:
        self.folder = folder
        self.cwd = cwd or folder
        self.port = int(environment.setdefault("PORT", str(free_port())))
        self.data = Path(environment.setdefault("DATA_DIR", str(folder / "data"))) / str(self.port)
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(resources.ROOT),
            "GRACEFUL_SHUTDOWN_TIMEOUT_SECONDS": "5",
            **environment,
        }
        name = f"{time.monotonic_ns()}"
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command, cwd=self.cwd, env=self.environment, stdout=out, stderr=err, start_new_session=True
            )

    def ready(self, timeout_s: float = PATIENCE_S) -> Started:
        """Wait for the two lines on standard output."""
        until(
            lambda: self.out.read_text().count("\n") == 2 or self.process.poll() is not None,
            "ready",
            timeout_s,
        )
        assert self.process.poll() is None, self.said()
        return self

    def said(self) -> str:
        return self.err.read_text()

    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.data / "instance.json").read_text()))

    def pids(self) -> list[int]:
        """Every process of the instance at this moment."""
        main = [value for name, value in self.state().items() if name.endswith("pid")]
        return [*main, *(child for pid in main for child in processes.children(pid))]

    def get(self, path: str = "/") -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            return dict(json.loads(response.read()))

    def falcon(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `falcon` with the instance's environment."""
        return warm.run(["falcon_wsgi", *arguments], self.environment, self.cwd)

    def interrupt(self) -> int:
        """Ctrl-C: SIGINT to the whole foreground group. Returns the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def nothing_left(started: Started) -> Iterator[list[int]]:
    """The processes of the instance; after the block none of them may be alive."""
    pids = started.pids()
    yield pids
    assert processes.wait_until_gone(pids, PATIENCE_S), [pid for pid in pids if processes.alive(pid)]
