"""What lies in the store, whole or damaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from falcon_wsgi.errors import ModelError
from falcon_wsgi.models import promotion
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.store import ModelStore


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version, as found on the disk.

    Attributes:
        previous: a rollback would return to it.
        size: of all its files, in bytes.
        manifest: None if it cannot be read.
        damage: why its files cannot be used, None if they are those that were recorded.
    """

    name: str
    version: str
    served: bool
    previous: bool
    size: int
    manifest: Manifest | None
    damage: str | None


def inventory(store: ModelStore) -> list[StoredVersion]:
    """Every version of every model. Reads every file; loads none."""
    found = []
    for name in store.names():
        served, before = served_version(store, name), promotion.previous(store, name)
        found += [_looked_at(store, name, v, v == served, v == before) for v in store.versions(name)]
    return found


def served_version(store: ModelStore, name: str) -> str | None:
    """None if NAME/current names a version that the store does not have."""
    try:
        return store.current(name)
    except ModelError:
        return None


def _looked_at(store: ModelStore, name: str, version: str, served: bool, previous: bool) -> StoredVersion:
    manifest = damage = None
    try:
        manifest = store.manifest(name, version)
        store.check_files(name, version)
    except ModelError as error:
        damage = str(error)
    return StoredVersion(
        name, version, served, previous, _size(store.folder(name) / version), manifest, damage
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
