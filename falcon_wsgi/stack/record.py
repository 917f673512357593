"""What a running stack tells other processes: its lock, and stack.json with every part's pid and port."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import time
from pathlib import Path
from typing import IO, Any

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch import processes
from falcon_wsgi.launch.instance import is_locked

_LOCK_ATTEMPTS = 10


class Record:
    """The lock on a stack's folder and the file in it. The kernel frees the lock with its holder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: IO[str] | None = None

    def claim(self) -> None:
        """Raises ConfigurationError: another stack has the folder, or it cannot be written; one line."""
        try:
            self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("a")
        except OSError as error:
            raise ConfigurationError(
                f"the stack's folder cannot be written: {processes.reason(error)}"
            ) from error
        for _ in range(_LOCK_ATTEMPTS):  # `falcon stack status` holds it for a moment when it asks who does
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._lock = lock
                return
            time.sleep(0.05)
        lock.close()
        pid = read(self.folder).get("pid")
        raise ConfigurationError(
            f"this stack runs already{f' (pid {pid})' if pid else ''}; `falcon stack status` shows it"
        )

    def publish(self, state: dict[str, Any]) -> None:
        """A full disk must not end a running stack."""
        with contextlib.suppress(OSError):
            processes.write_private(self.folder / "stack.json", json.dumps(state))

    def release(self) -> None:
        if self._lock is None:
            return
        with contextlib.suppress(OSError):
            (self.folder / "stack.json").unlink(missing_ok=True)
        self._lock.close()
        self._lock = None


def read(folder: Path) -> dict[str, Any]:
    """What the stack published last, perhaps before it was killed; empty if nothing."""
    try:
        content = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def is_claimed(folder: Path) -> bool:
    """Whether a living supervisor holds the lock."""
    return is_locked(folder / "lock")


def born(pid: int) -> str:
    """When the process began, in the system's own units; empty if it is gone. Two processes of one pid differ in it."""
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()[19]
        )
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except (OSError, IndexError):
        return ""
    shown = ["ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(shown, capture_output=True, text=True, check=False).stdout.strip()


def is_the_recorded(process: dict[str, Any]) -> bool:
    """Whether the process of a record lives, and its pid has not been given to another one since."""
    pid = process.get("pid")
    return isinstance(pid, int) and processes.alive(pid) and born(pid) == process.get("born")
