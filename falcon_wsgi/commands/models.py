"""`falcon train` and `falcon models`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich import filesize
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from falcon_wsgi import settings
from falcon_wsgi.errors import ModelError, ModelInUse, ModelNotFound
from falcon_wsgi.launch import verification
from falcon_wsgi.models import promotion, training
from falcon_wsgi.models.inventory import StoredVersion, inventory, served_version
from falcon_wsgi.models.store import ModelStore

_NO_TERMINAL_WIDTH = 500
_PREFIX = 12  # of a digest, as in the metric model_info

Gate = Callable[[ModelStore, str, str, str], None]


def train(name: str, data: Path | None) -> None:
    """Train and say what came of it; progress goes to standard error."""
    with _progress(name) as report:
        manifest = training.train(name, data, settings.load().model_store, report)
    figures = [
        (metric, value) for metric, value in manifest.metrics.items() if isinstance(value, int | float)
    ]
    told = ", ".join(f"{metric} {value:g}" for metric, value in figures)
    click.echo(f"trained {manifest.name} {manifest.version}{': ' + told if told else ''}")
    click.echo(standing(manifest.name, manifest.version))


def standing(name: str, version: str) -> str:
    """Whether a version that was just written is served; to write one never moves the pointer."""
    store = _store()
    served = served_version(store, name)
    if served == version:
        return f"{name} {version} is served from the next start on; a running instance takes it with: falcon reload"
    stays = f"{name} {served} stays the served version; " if served else ""
    return f"{stays}to serve this one: falcon models promote {name} {version}"


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


def show_list(as_json: bool) -> None:
    store = _store()
    found = inventory(store)
    if as_json:
        click.echo(json.dumps([_described(each) for each in found], indent=2))
    else:
        _console().print(_table(found))
    for name in store.names():
        try:
            store.current(name)
        except ModelError as error:
            click.echo(f"falcon: {error}", err=True)


def _table(found: Iterable[StoredVersion]) -> Table:
    columns = ("model", "version", "", "kind", "size", "trained", "digest", "state")
    table = Table(*columns, box=None, pad_edge=False)
    for each in found:
        mark = "served" if each.served else "previous" if each.previous else ""
        m = each.manifest
        told = (m.kind, f"{m.trained_at:%Y-%m-%d %H:%M}", m.digest[:_PREFIX]) if m else ("", "", "")
        state = f"damaged: {each.damage}" if each.damage else "ok"
        size = filesize.decimal(each.size)
        table.add_row(each.name, each.version, mark, told[0], size, *told[1:], Text(state))
    return table


def _console() -> Console:
    """As wide as the terminal; without one as wide as it takes, one version a line."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_NO_TERMINAL_WIDTH)


def _described(each: StoredVersion) -> dict[str, Any]:
    m = each.manifest
    return {
        "name": each.name,
        "version": each.version,
        "served": each.served,
        "previous": each.previous,
        "kind": m.kind if m else None,
        "size_bytes": each.size,
        "trained_at": m.trained_at.isoformat() if m else None,
        "digest": m.digest if m else None,
        "damage": each.damage,
    }


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
    for each, version, reason in verification.verify_each(store.root, found):
        failures += reason is not None
        click.echo(f"FAIL  {each} {version}: {reason}" if reason else f"ok    {each} {version}")
    return 1 if failures else 0


def promote(
    name: str, version: str, *, allow_signature_change: bool = False, gate: Gate | None = None
) -> None:
    """Prove that the version can be served, ask the gate, then let NAME/current name it.

    Args:
        gate: gets the store, the name, the served version and the candidate; raises a ModelError to refuse.

    Raises:
        ModelError: refused; the served version is what it was.
    """
    store = _store()
    store.manifest(name, version)
    verification.verify(store.root, name, version)
    if gate is not None:
        gate(store, name, store.current(name), version)
    change = promotion.promote(store, name, version, allow_signature_change=allow_signature_change)
    _say(change, "promoted")


def rollback(name: str) -> None:
    """Return to the version that was served before, if it can be served."""
    store = _store()
    version = promotion.previous(store, name)
    if version is None:
        store.current(name)
        raise ModelNotFound(f"no version of {name} that the store still has was served before")
    verification.verify(store.root, name, version)
    former = served_version(store, name)
    for line in promotion.signature_changes(store, name, former, version):
        click.echo(
            f"falcon: WARNING: {name} {version} refuses inputs that {former} accepts: {line}", err=True
        )
    _say(promotion.rollback(store, name, version), "rolled back to")


def _say(change: promotion.Change, action: str) -> None:
    if change.former == change.version:
        click.echo(f"{change.name} {change.version} is the served version already")
        return
    former = f", before {change.former}" if change.former else ""
    click.echo(
        f"{action} {change.name} {change.version}{former}; a running instance takes it with: falcon reload"
    )


def remove(name: str, version: str, *, sure: bool) -> None:
    """Delete a version. On a terminal it asks first, unless the user is sure."""
    configured = settings.load()
    for variable, trials in (("SHADOW", configured.shadow), ("CANARY", configured.canary)):
        if any((trial.name, trial.version) == (name, version) for trial in trials):
            raise ModelInUse(f"{name} {version} is on trial: {variable} names it")
    store = ModelStore(configured.model_store)
    if not sure and _on_a_terminal():
        click.confirm(f"Delete {name} {version} for good?", abort=True)
    promotion.remove(store, name, version, last=sure)
    click.echo(f"removed {name} {version}")


def _on_a_terminal() -> bool:
    return sys.stdin.isatty()


def _store() -> ModelStore:
    return ModelStore(settings.load().model_store)
