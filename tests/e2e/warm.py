"""Starts servers and runs commands as `subprocess` would, from a process that has the large libraries imported.

Importing them takes two to three seconds of a processor, four fifths of what a start costs, and the suite starts some
three hundred. `Instance.start(cold=True)`, tests/e2e/serving.py and the commands of other tests start without it.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

from tests.e2e.forking import COMMAND, SERVER

ROOT = Path(__file__).parents[2]
# Elsewhere than on Linux each process imports by itself.
POSSIBLE = hasattr(os, "pidfd_open")


class Forked:
    """A running process, with those parts of Popen's interface that tests use."""

    def __init__(self, arguments: list[str], told: IO[bytes]) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._told = told
        self.pid = int(told.readline())

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._told], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self._end() if self.returncode is None else self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _end(self) -> int:
        self.returncode = int(self._told.readline() or -signal.SIGKILL)
        self._told.close()
        return self.returncode


def start(arguments: list[str], environment: Mapping[str, str], folder: Path, output: IO[bytes]) -> Forked:
    """The server that `python -m` with these arguments starts, in a process group of its own."""
    with Path(os.devnull).open("rb") as nothing:
        return _fork(SERVER, arguments, environment, folder, (nothing, output, output))


def run(
    arguments: list[str],
    environment: Mapping[str, str],
    folder: Path,
    stdin: IO[bytes] | None = None,
    timeout_s: float = 240,
) -> subprocess.CompletedProcess[str]:
    """The command `python -m` with these arguments, to its end."""
    if not POSSIBLE:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            env=environment,
            cwd=folder,
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    with (
        Path(os.devnull).open("rb") as nothing,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        process = _fork(COMMAND, arguments, environment, folder, (stdin or nothing, output, errors))
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return subprocess.CompletedProcess(arguments, code, _text(output), _text(errors))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _fork(
    kind: str,
    arguments: list[str],
    environment: Mapping[str, str],
    folder: Path,
    streams: tuple[IO[bytes], ...],
) -> Forked:
    reading, writing = os.pipe()
    wanted = {"arguments": arguments, "environment": dict(environment), "folder": str(folder)}
    try:
        descriptors = [*(stream.fileno() for stream in streams), writing]
        socket.send_fds(_forking(kind), [json.dumps(wanted).encode()], descriptors)
    finally:
        os.close(writing)
    return Forked(arguments, os.fdopen(reading, "rb", buffering=0))


@cache
def _forking(kind: str) -> socket.socket:
    """To the process that forks; it is this one's own and ends with it."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.e2e.forking", str(there.fileno()), kind]
    process: subprocess.Popen[Any] = subprocess.Popen(command, cwd=ROOT, pass_fds=[there.fileno()])
    there.close()

    def end() -> None:
        here.close()
        process.wait()

    atexit.register(end)
    return here
