"""`falcon status`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from falcon_wsgi import settings as configuration
from falcon_wsgi.launch.status import status
from falcon_wsgi.settings import mask_url

_NONE_RUNS = 3


def show(as_json: bool) -> int:
    """Print it; the exit code."""
    settings = configuration.load()
    found = status(settings)
    if found is None:
        click.echo(f"falcon: no instance runs on port {settings.port}", err=True)
        return _NONE_RUNS
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        Console(soft_wrap=True, highlight=False).print(_table(found))
    return 0


def _table(found: dict[str, Any]) -> Table:
    table = Table("part", "pid", "address", "serves", box=None, pad_edge=False)
    table.add_row("instance", "", f"{found['url']} ({'ready' if found['ready'] else 'not ready'})")
    for worker in found["workers"]:
        table.add_row(worker["worker_id"], str(worker["pid"]), "", served(worker))
    for name, url, pid in (
        ("redis", found["redis_url"], found["redis_pid"]),
        ("postgres", found["database_url"], found["postgres_pid"]),
    ):
        table.add_row(name, str(pid or ""), mask_url(url) if url else "none")
    if found["models_refused"]:
        table.add_row("refused", "", "", found["models_refused"])
    return table


def served(worker: Mapping[str, Any]) -> str:
    """ "sentiment 1.1.0, iris 1.0.0" """
    return ", ".join(f"{name} {version}" for name, version in worker.get("models", {}).items())
