"""`falcon reload`."""

from __future__ import annotations

import click

from falcon_wsgi import settings as configuration
from falcon_wsgi.commands.status import served
from falcon_wsgi.launch import recycling
from falcon_wsgi.launch.recycling import Recycling

_NONE_RUNS = 3
# Beyond the time that a worker may take to finish its requests: load, start.
_START_S = 30.0


def reload(timeout_s: float | None) -> int:
    """Recycle the workers; progress goes to standard error, what serves then to standard output. The exit code."""
    settings = configuration.load()
    if not recycling.runs(settings):
        click.echo(f"falcon: no instance runs on port {settings.port}", err=True)
        return _NONE_RUNS
    patience_s = timeout_s or settings.graceful_shutdown_timeout_seconds + _START_S
    workers = Recycling(settings, patience_s, lambda line: click.echo(f"falcon: {line}", err=True)).run()
    for worker in workers:
        click.echo(f"{worker['worker_id']}  pid {worker['pid']}  {served(worker)}")
    return 0
