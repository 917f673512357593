"""instance_dir/workers.json, which tells `falcon status` and `falcon reload` who serves what.

`{"workers": [{"worker_id", "pid", "models": {name: version}}], "master": {...}}`; `master` holds what the master last
reported (`server.master`). Workers add themselves, the master takes them off. A file that cannot be written is logged
and never ends a process: a full disk must not stop the service.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

# The lock is held for less than a millisecond, unless its holder was suspended in the middle.
_LOCK_PATIENCE_S = 1.0

_Listed = dict[str, dict[str, Any]]  # by worker id


class Listing:
    """The file in one instance's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "workers.json"
        self._lock = folder / "workers.lock"

    def clear(self) -> None:
        """Begin empty: who is listed there belongs to an instance that is gone."""
        self._change(lambda workers, master: ({}, {}))

    def add(self, name: str, pid: int, models: Mapping[str, str] | None = None) -> bool:
        """`pid` serves under `name` from now on, instead of any other. Whether it could be written."""
        entry = {"worker_id": name, "pid": pid, "models": dict(models or {})}
        return self._change(lambda workers, master: ({**workers, name: entry}, master))

    def remove(self, name: str, pid: int) -> None:
        """`pid` is gone. Changes nothing if another has taken its name."""
        self._change(
            lambda workers, master: (
                {n: w for n, w in workers.items() if (n, w["pid"]) != (name, pid)},
                master,
            )
        )

    def report(self, **changes: Any) -> bool:
        """Replace these entries of `master`. Whether it could be written."""
        return self._change(lambda workers, master: (workers, {**master, **changes}))

    def delete(self) -> None:
        for path in (self._path, self._lock):
            with contextlib.suppress(OSError):
                path.unlink()

    def _change(self, change: Callable[[_Listed, dict[str, Any]], tuple[_Listed, dict[str, Any]]]) -> bool:
        try:
            with self._lock.open("w") as lock:
                _wait_for(lock.fileno())
                self._write(*change(*self._read()))
        except OSError as error:
            log.warning("worker_listing_not_written", extra={"reason": error.strerror})
            return False
        return True

    def _read(self) -> tuple[_Listed, dict[str, Any]]:
        try:
            content = json.loads(self._path.read_text())
            workers = {w["worker_id"]: {**w, "pid": int(w["pid"])} for w in content["workers"]}
            return workers, dict(content.get("master", {}))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return {}, {}

    def _write(self, workers: _Listed, master: dict[str, Any]) -> None:
        listed = [worker for _, worker in sorted(workers.items(), key=_natural)]
        new = self._path.with_suffix(f".{os.getpid()}.new")
        new.write_text(json.dumps({"workers": listed, "master": master}))
        new.replace(self._path)


def _natural(item: tuple[str, object]) -> tuple[int, str]:
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
