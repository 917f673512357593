"""Rolling restart: the instances of a running stack, one by one, each under the load of the others."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from falcon_wsgi.errors import ReloadFailed
from falcon_wsgi.launch import instance, listening, processes
from falcon_wsgi.stack import record
from falcon_wsgi.stack.layout import settings_at

_POLL_S = 0.05


def instances_of(state: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in state.get("parts", []) if part["name"].startswith("instance-")]


class RollingRestart:
    """SIGTERM to one instance, which fails its readiness, drains and ends; the stack starts it again; then the next.

    Args:
        folder: the stack's.
        timeout_s: for each instance, from its SIGTERM until its successor is ready.
        tell: gets a line of progress at a time.
    """

    def __init__(self, folder: Path, timeout_s: float, tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._tell = tell

    def run(self) -> None:
        """Raises ReloadFailed: another instance is not ready, or this one does not come back; the rest goes on."""
        names = [part["name"] for part in instances_of(record.read(self._folder))]
        for name in names:
            self._require_the_others(name)
            self._restart(name)

    def _require_the_others(self, name: str) -> None:
        parts = instances_of(record.read(self._folder))
        for part in parts:
            if part["name"] != name and not _serves(part):
                raise ReloadFailed(
                    f"{part['name']} is not ready, so {name} is not restarted; the log says why"
                )

    def _restart(self, name: str) -> None:
        before = self._part(name)
        started = time.monotonic()
        if before["pid"] is not None and record.is_the_recorded(before):
            processes.send(before["pid"], signal.SIGTERM)
        while time.monotonic() < started + self._timeout_s:
            now = self._part(name)
            if now["pid"] not in (None, before["pid"]) and _serves(now):
                self._tell(
                    f"{name}: pid {before['pid']} replaced by {now['pid']} in {time.monotonic() - started:.1f} s"
                )
                return
            time.sleep(_POLL_S)
        raise ReloadFailed(f"{name} is not ready again within {self._timeout_s:g} s; the others go on")

    def _part(self, name: str) -> dict[str, Any]:
        for part in instances_of(record.read(self._folder)):
            if part["name"] == name:
                return part
        raise ReloadFailed("the stack has ended")


def _serves(part: dict[str, Any]) -> bool:
    """Whether it is this very process that serves on the port, not one that is about to end."""
    address = settings_at(part["port"])
    return instance.read_master(address).get("pid") == part["pid"] and listening.ready(address)
