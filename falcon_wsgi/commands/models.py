"""`falcon train` and `falcon models`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from falcon_wsgi import settings
from falcon_wsgi.errors import ModelError, ModelNotFound
from falcon_wsgi.models import training
from falcon_wsgi.models.store import ModelStore


def train(name: str, data: Path | None) -> None:
    """Train and say what came of it; progress goes to standard error."""
    with _progress(name) as report:
        manifest = training.train(name, data, settings.load().model_store, report)
    figures = [
        (metric, value) for metric, value in manifest.metrics.items() if isinstance(value, int | float)
    ]
    told = ", ".join(f"{metric} {value:g}" for metric, value in figures)
    click.echo(f"trained {manifest.name} {manifest.version}{': ' + told if told else ''}")


@contextmanager
def _progress(name: str) -> Iterator[Callable[[str, float], None]]:
    """A bar on a terminal, else one line for each stage."""
    if not sys.stderr.isatty():
        yield _lines(name)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"training {name}", total=1.0)
        yield lambda stage, share: bar.update(task, description=f"training {name}: {stage}", completed=share)


def _lines(name: str) -> Callable[[str, float], None]:
    shown: set[str] = set()

    def report(stage: str, share: float) -> None:
        if stage not in shown:
            shown.add(stage)
            click.echo(f"falcon: training {name}: {stage}", err=True)

    return report


def show_list() -> None:
    store = _store()
    table = Table("model", "version", "served", "kind", "trained", box=None, pad_edge=False)
    for manifest in store.list():
        served = "yes" if store.current(manifest.name) == manifest.version else ""
        trained = manifest.trained_at.strftime("%Y-%m-%d %H:%M")
        table.add_row(manifest.name, manifest.version, served, manifest.kind, trained)
    Console().print(table)


def show(name: str, version: str | None) -> None:
    store = _store()
    click.echo(store.manifest(name, version or store.current(name)).model_dump_json(indent=2))


def verify(name: str | None) -> int:
    """A line for each version; the exit code, 1 if one cannot be served."""
    store = _store()
    names = [name] if name else store.names()
    found = [(each, version) for each in names for version in store.versions(each)]
    if not found:
        raise ModelNotFound(f"the store has no model {name}" if name else "the model store is empty")
    failures = 0
    for each, version in found:
        try:
            store.load(each, version)
        except ModelError as error:
            failures += 1
            click.echo(f"FAIL  {each} {version}: {error}")
        else:
            click.echo(f"ok    {each} {version}")
    return 1 if failures else 0


def _store() -> ModelStore:
    return ModelStore(settings.load().model_store)
