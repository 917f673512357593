"""An instance's folder: the lock that makes it this instance's alone, the file that tells others of it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import time
from pathlib import Path
from typing import IO, Any

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch import processes
from falcon_wsgi.settings import Settings

_LOCK_ATTEMPTS = 10
_PROBE_BYTES = 1024 * 1024
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Instance:
    """The folder of the instance on one port. `claim` before use, `release` at the end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.instance_dir.resolve()
        self._state: dict[str, Any] = {}
        self._lock: IO[str] | None = None

    def claim(self) -> None:
        """Create the folder, prove that it can be written, and lock it. The kernel frees the lock with us.

        Raises:
            ConfigurationError: no permission, no space, or another instance has it; one line.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
            self._prove_space()
        except OSError as error:
            self._unlock()
            raise self._explained(error) from error

    def _locked(self) -> IO[str]:
        lock = (self.folder / "lock").open("a")
        for _ in range(_LOCK_ATTEMPTS):  # `falcon status` holds it for a moment when it asks who does
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            time.sleep(0.05)
        lock.close()
        port, pid = self.settings.port, read_state(self.settings).get("pid")
        owner = f"another Falcon of this folder{f' (pid {pid})' if pid else ''}"
        raise ConfigurationError(
            f"port {port} is taken by {owner}; choose another one, for example PORT={port + 1}"
        )

    def _prove_space(self) -> None:
        probe = self.folder / ".probe"
        try:
            with probe.open("wb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)

    def _explained(self, error: OSError) -> ConfigurationError:
        folder = self.settings.data_dir
        if error.errno in _NO_SPACE:
            return ConfigurationError(f"the disk that holds DATA_DIR ({folder}) is full")
        return ConfigurationError(f"DATA_DIR ({folder}) cannot be written: {processes.reason(error)}")

    def end_orphans(self) -> bool:
        """End the workers of a supervisor that was killed; they hold the port. True if there were any."""
        pid = read_state(self.settings).get("gunicorn_pid")
        if not isinstance(pid, int) or "gunicorn" not in processes.command_line(pid):
            return False
        processes.end(pid, signal.SIGTERM, self.settings.graceful_shutdown_timeout_seconds + 5)
        return True

    def publish(self, **changes: Any) -> None:
        """Write what changed to `instance.json`. A full disk must not end a running instance."""
        self._state.update(changes)
        with contextlib.suppress(OSError):
            processes.write_private(self.folder / self.settings.state_file.name, json.dumps(self._state))

    def release(self) -> None:
        if self._lock is None:
            return
        for name in (self.settings.state_file.name, "workers.json"):
            with contextlib.suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def read_state(settings: Settings) -> dict[str, Any]:
    """What the supervisor published last, perhaps before it was killed; empty if nothing."""
    return _read_object(settings.state_file)


def read_workers(settings: Settings) -> list[dict[str, Any]]:
    """The living among the workers that Gunicorn's hooks recorded: `worker_id`, `pid` and `models`."""
    listed = _read_object(settings.state_file.with_name("workers.json")).get("workers")
    if not isinstance(listed, list) or not all(isinstance(worker.get("pid"), int) for worker in listed):
        return []
    return [worker for worker in listed if processes.alive(worker["pid"])]


def read_master(settings: Settings) -> dict[str, Any]:
    """What Gunicorn's master reported last (`server.master`), while it lives; else empty."""
    reported = _read_object(settings.state_file.with_name("workers.json")).get("master")
    if not isinstance(reported, dict) or not isinstance(reported.get("pid"), int):
        return {}
    return reported if processes.alive(reported["pid"]) else {}


def is_claimed(settings: Settings) -> bool:
    """Whether a living supervisor holds the instance's lock."""
    return is_locked(settings.instance_dir / "lock")


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock of this file."""
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
