"""`falcon reload`: the instance on PORT takes the store's versions over, worker by worker.

The master looks at the store first. What it refuses costs no worker. Otherwise each worker gets SIGTERM, finishes its
requests and is replaced by one that serves the new set; the next one follows when that one serves.
"""

from __future__ import annotations

import fcntl
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from falcon_wsgi.errors import ReloadFailed
from falcon_wsgi.launch import instance, processes
from falcon_wsgi.settings import Settings

_POLL_S = 0.02

Worker = dict[str, Any]
_T = TypeVar("_T")


class Recycling:
    """One reload of one running instance.

    Args:
        timeout_s: for the master's look at the store, and again for each worker's replacement.
        tell: gets a line of progress at a time.
    """

    def __init__(self, settings: Settings, timeout_s: float, tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._tell = tell

    def run(self) -> list[Worker]:
        """The workers that serve afterwards, with what they serve.

        Raises:
            ReloadFailed: the store was refused, or a worker was not replaced in time. What served before goes on.
        """
        with self._alone():
            self._look_at_the_store()
            for worker in instance.read_workers(self._settings):
                self._replace(worker)
            for (
                worker
            ) in self._behind():  # forked before the look, and not listed yet when the others were read
                self._replace(worker)
            self._accepted(self._master())
            return instance.read_workers(self._settings)

    def _behind(self) -> list[Worker]:
        versions = self._master()["models"]
        return [w for w in instance.read_workers(self._settings) if w["models"] != versions]

    def _look_at_the_store(self) -> None:
        before = self._master()
        self._send(before["pid"], signal.SIGUSR1)
        self._until(
            lambda: self._master()["looks"] > before["looks"], "the instance did not look at the store"
        )
        now = self._master()
        self._accepted(now)
        changed = [
            f"{name} {version} in place of {former}"
            if (former := before["models"].get(name))
            else f"{name} {version}"
            for name, version in now["models"].items()
            if version != before["models"].get(name)
        ]
        self._tell(f"the store is verified: {', '.join(changed) or 'the same versions as before'}")

    def _accepted(self, master: dict[str, Any]) -> None:
        if master["refused"]:
            kept = ", ".join(f"{name} {version}" for name, version in master["models"].items())
            raise ReloadFailed(f"refused, the instance keeps {kept}: {master['refused']}")

    def _replace(self, worker: Worker) -> None:
        name, pid = worker["worker_id"], worker["pid"]
        if pid not in self._serving():
            return  # gone by itself; its replacement has the new set already
        started = time.monotonic()
        failed_before = self._master()["failed_start"]
        self._send(pid, signal.SIGTERM)

        def replaced() -> Worker | None:
            failure = self._master()["failed_start"]
            if failure and failure != failed_before:
                raise ReloadFailed(
                    f"{name} was ended, and its replacement does not start: {failure['reason']}"
                )
            listed = {each["worker_id"]: each for each in instance.read_workers(self._settings)}
            return listed[name] if name in listed and listed[name]["pid"] != pid else None

        new = self._until(replaced, f"{name} (pid {pid}) was sent SIGTERM and has no replacement that serves")
        self._tell(f"{name}: pid {pid} replaced by {new['pid']} in {time.monotonic() - started:.1f} s")

    def _serving(self) -> set[int]:
        return {worker["pid"] for worker in instance.read_workers(self._settings)}

    def _master(self) -> dict[str, Any]:
        if master := instance.read_master(self._settings):
            return master
        raise ReloadFailed(f"the instance on port {self._settings.port} has ended")

    def _until(self, found: Callable[[], _T | None], complaint: str) -> _T:
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            if value := found():
                return value
            time.sleep(_POLL_S)
        raise ReloadFailed(f"{complaint} within {self._timeout_s:g} s; the log says more")

    def _send(self, pid: int, number: signal.Signals) -> None:
        try:
            processes.send(pid, number)
        except PermissionError:
            raise ReloadFailed(f"no permission to signal pid {pid}; run as the instance's user") from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with (self._settings.instance_dir / "reload.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield
        except BlockingIOError:
            raise ReloadFailed(
                f"another reload of port {self._settings.port} is running; run it again when that has ended"
            ) from None


def runs(settings: Settings) -> bool:
    """Whether an instance can be reloaded on the port.

    Raises:
        ReloadFailed: there is one that has not come so far.
    """
    if instance.read_master(settings) and instance.read_workers(settings):
        return True
    if instance.read_master(settings) or instance.is_claimed(settings):
        raise ReloadFailed(f"the instance on port {settings.port} has no worker that serves yet")
    return False
