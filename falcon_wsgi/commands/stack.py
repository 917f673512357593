"""`falcon stack`: start, status, restart and stop of the bare-metal stack."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from falcon_wsgi import settings as configuration
from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch import listening, processes
from falcon_wsgi.launch.logfile import last_error
from falcon_wsgi.settings import Settings
from falcon_wsgi.stack import record
from falcon_wsgi.stack.layout import folder_of, settings_at
from falcon_wsgi.stack.rolling import RollingRestart

_NONE_RUNS = 3
_POLL_S = 0.1
# A first start trains the models.
_DETACHED_START_S = 600.0
_STOP_MARGIN_S = 30.0
_AGAIN_S = 60.0


def start(instances: int, balancer_file: Path | None, *, monitored: bool, detached: bool) -> int:
    """Run the stack; the exit code."""
    from falcon_wsgi.stack.supervisor import StackSupervisor

    settings = configuration.load()
    if detached:
        return _start_detached(settings, instances, balancer_file, monitored)
    return StackSupervisor(settings, instances, balancer_file=balancer_file, monitored=monitored).run()


def _start_detached(settings: Settings, instances: int, balancer_file: Path | None, monitored: bool) -> int:
    folder = folder_of(settings)
    if record.is_claimed(folder):
        raise ConfigurationError("this stack runs already; `falcon stack status` shows it")
    (folder / "log").mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "falcon_wsgi", "stack", "start", "--instances", str(instances)]
    command += ["--balancer", str(balancer_file)] if balancer_file else []
    command += [] if monitored else ["--no-monitoring"]
    log = folder / "log" / "stack.log"
    with log.open("wb") as sink:
        child = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )
    deadline = time.monotonic() + _DETACHED_START_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise ConfigurationError(last_error(log.read_text(errors="replace")) or f"it ended; see {log}")
        state = record.read(folder)
        if state.get("pid") == child.pid and state.get("ready"):
            click.echo(log.read_text(errors="replace"), nl=False)
            return 0
        time.sleep(_POLL_S)
    raise ConfigurationError(f"the stack is not ready after {_DETACHED_START_S:g} s and goes on; see {log}")


def status(as_json: bool) -> int:
    """Print every part's state; the exit code: 0 all well, 1 a part is not, 3 no stack runs."""
    settings = configuration.load()
    state = _running(settings)
    if state is None:
        return _none_runs(settings)
    parts = [{**part, "state": _state(part)} for part in state["parts"]]
    if as_json:
        click.echo(json.dumps({**state, "parts": parts}, indent=2))
    else:
        Console(soft_wrap=True, highlight=False).print(_table(state, parts))
    return 0 if state["ready"] and all(part["state"] == "ready" for part in parts) else 1


def restart(timeout_s: float | None) -> int:
    """Restart the instances one by one; the exit code."""
    settings = configuration.load()
    if _running(settings) is None:
        return _none_runs(settings)
    patience_s = timeout_s or settings.graceful_shutdown_timeout_seconds + _AGAIN_S
    RollingRestart(
        folder_of(settings), patience_s, lambda line: click.echo(f"falcon: {line}", err=True)
    ).run()
    return 0


def stop() -> int:
    """End the stack, and wait for it; the exit code. What was recorded and is left after its supervisor ends too."""
    settings = configuration.load()
    state = record.read(folder_of(settings))
    if not state:
        return _none_runs(settings)
    patience_s = (
        settings.request_timeout_seconds + settings.graceful_shutdown_timeout_seconds
        + settings.drain_delay_seconds + _STOP_MARGIN_S
    )  # fmt: skip
    if record.is_the_recorded(state):
        processes.send(state["pid"], signal.SIGTERM)
        if not processes.wait_until_gone([state["pid"]], patience_s):
            raise ConfigurationError(f"the stack (pid {state['pid']}) did not end within {patience_s:g} s")
    for part in filter(record.is_the_recorded, state["parts"]):
        processes.end(part["pid"], signal.SIGTERM, settings.graceful_shutdown_timeout_seconds + 5)
    (folder_of(settings) / "stack.json").unlink(missing_ok=True)
    click.echo("falcon: stopped", err=True)
    return 0


def _running(settings: Settings) -> dict[str, Any] | None:
    folder = folder_of(settings)
    return record.read(folder) or None if record.is_claimed(folder) else None


def _none_runs(settings: Settings) -> int:
    click.echo(f"falcon: no stack runs on port {settings.port}", err=True)
    return _NONE_RUNS


def _state(part: dict[str, Any]) -> str:
    if not record.is_the_recorded(part):
        return "down"
    if part["name"].startswith("instance-"):
        return "ready" if listening.ready(settings_at(part["port"])) else "not ready"
    try:
        with socket.create_connection(("127.0.0.1", part["port"]), timeout=1):
            return "ready"
    except OSError:
        return "not ready"


def _table(state: dict[str, Any], parts: list[dict[str, Any]]) -> Table:
    table = Table("part", "state", "pid", "port", "restarts", box=None, pad_edge=False)
    table.add_row("stack", "ready" if state["ready"] else "starting", str(state["pid"]), "", "")
    for part in parts:
        cells = (part["name"], part["state"], part["pid"], part["port"], part["restarts"])
        table.add_row(*("" if cell is None else str(cell) for cell in cells))
    return table
