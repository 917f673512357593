"""Starting, signalling and finding processes, without a dependency outside the standard library."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PROC = Path("/proc")


def die_with_parent(signum: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel send `signum` to the child when its parent dies, however it dies.

    None where the system has no such thing. The signal is tied to the thread that forks, so servers are
    started from the main thread only. A change of user clears the setting; Popen changes it before this runs.
    """
    if not sys.platform.startswith("linux"):
        return None
    # Looked up before the fork: loading a library in the child could meet a lock that no thread will free.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def request() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
        if os.getppid() != parent:  # it died between the fork and the call above
            os.kill(os.getpid(), signal.SIGKILL)

    return request


def send(pid: int, signum: signal.Signals) -> bool:
    """Send a signal. False if the process is gone."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def alive(pid: int) -> bool:
    """Whether the process exists and has not ended (a zombie has)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _stat_fields(pid)[:1] != ["Z"]


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP holds the process. True where the platform does not tell."""
    return _stat_fields(pid)[:1] in ([], ["T"], ["t"])


def children(pid: int) -> list[int]:
    """Direct children of a process. Those of Postgres lead sessions of their own, so no group holds them."""
    if not _PROC.joinpath("self", "stat").exists():
        listing = subprocess.run(
            ["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=False
        ).stdout
        pairs = [line.split() for line in listing.splitlines()]
        return [int(pair[0]) for pair in pairs if len(pair) == 2 and int(pair[1]) == pid]
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    return [candidate for candidate in pids if _stat_fields(candidate)[1:2] == [str(pid)]]


def _stat_fields(pid: int) -> list[str]:
    """State, parent and what follows in /proc/PID/stat; empty if unknown. The name before may hold spaces."""
    try:
        return _PROC.joinpath(str(pid), "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return []


def working_folder(pid: int) -> Path | None:
    """The process's current folder, None if it is gone or belongs to somebody else."""
    if _PROC.joinpath("self").exists():
        try:
            return Path(os.readlink(_PROC / str(pid) / "cwd"))
        except OSError:
            return None
    listing = subprocess.run(
        ["lsof", "-a", "-p", str(pid), "-d", "cwd", "-Fn"], capture_output=True, text=True, check=False
    ).stdout
    return next((Path(line[1:]) for line in listing.splitlines() if line.startswith("n")), None)


def command_line(pid: int) -> str:
    """The process's command and arguments, empty if it is gone."""
    if _PROC.joinpath("self").exists():
        try:
            return (
                _PROC.joinpath(str(pid), "cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode("utf-8", "replace")
            )
        except OSError:
            return ""
    command = ["ps", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def wait_until_gone(pids: list[int], timeout_s: float) -> bool:
    """Wait for processes that need not be our own children. False if one is left after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def end(pid: int, signum: signal.Signals, timeout_s: float) -> None:
    """End a process that is not our child, even a suspended one: `signum`, then SIGKILL with its children."""
    family = [pid, *children(pid)]
    send(pid, signum)
    for member in family:
        send(member, signal.SIGCONT)
    if not wait_until_gone([pid], timeout_s):
        for member in {*family, *children(pid)}:
            send(member, signal.SIGKILL)
    wait_until_gone(family, timeout_s)


def reason(error: OSError) -> str:
    """What the system says, and of which file."""
    return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically with one that only its owner can read."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
