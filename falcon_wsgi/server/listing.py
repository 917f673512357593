"""instance_dir/workers.json, which tells `falcon status` who serves: `{"workers": [{"worker_id", "pid"}]}`.

Workers add themselves, the master takes them off. A file that cannot be written is logged and never ends a
process: a full disk must not stop the service.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

# The lock is held for less than a millisecond, unless its holder was suspended in the middle.
_LOCK_PATIENCE_S = 1.0


class Listing:
    """The file in one instance's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "workers.json"
        self._lock = folder / "workers.lock"

    def clear(self) -> None:
        """Begin empty: who is listed there belongs to an instance that is gone."""
        self._change(lambda listed: {})

    def add(self, name: str, pid: int) -> bool:
        """`pid` serves under `name` from now on, instead of any other. Whether it could be written."""
        return self._change(lambda listed: {**listed, name: pid})

    def remove(self, name: str, pid: int) -> None:
        """`pid` is gone. Changes nothing if another has taken its name."""
        self._change(lambda listed: {n: p for n, p in listed.items() if (n, p) != (name, pid)})

    def delete(self) -> None:
        for path in (self._path, self._lock):
            with contextlib.suppress(OSError):
                path.unlink()

    def _change(self, change: Callable[[dict[str, int]], dict[str, int]]) -> bool:
        try:
            with self._lock.open("w") as lock:
                _wait_for(lock.fileno())
                self._write(change(self._read()))
        except OSError as error:
            log.warning("worker_listing_not_written", extra={"reason": error.strerror})
            return False
        return True

    def _read(self) -> dict[str, int]:
        try:
            return {w["worker_id"]: w["pid"] for w in json.loads(self._path.read_text())["workers"]}
        except (OSError, ValueError, LookupError, TypeError):
            return {}

    def _write(self, listed: dict[str, int]) -> None:
        workers = [{"worker_id": name, "pid": pid} for name, pid in sorted(listed.items(), key=_natural)]
        new = self._path.with_suffix(f".{os.getpid()}.new")
        new.write_text(json.dumps({"workers": workers}))
        new.replace(self._path)


def _natural(item: tuple[str, int]) -> tuple[int, str]:
    """worker-2 before worker-10."""
    return len(item[0]), item[0]


def _wait_for(lock: int) -> None:
    """One writer at a time. Goes on without the lock rather than wait for a process that does not run."""
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.005)
        else:
            return
