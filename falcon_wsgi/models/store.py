"""The model store on disk: NAME/VERSION/{manifest.json, model files} and NAME/current."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from falcon_wsgi.errors import ModelError, ModelNotFound
from falcon_wsgi.models import manifest as manifests
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.served import ServedModel

_CURRENT = "current"


class ModelStore:
    """Reads and writes model versions below one folder. A version, once written, is never changed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Models with at least one version, in alphabetical order."""
        if not self.root.is_dir():
            return []
        return sorted(p.name for p in self.root.iterdir() if p.is_dir() and self.versions(p.name))

    def versions(self, name: str) -> list[str]:
        """Versions of a model, the oldest number first."""
        folder = self.root / name
        if not re.match(manifests.NAME_PATTERN, name) or not folder.is_dir():
            return []
        found = [
            p.name for p in folder.iterdir() if p.is_dir() and re.match(manifests.VERSION_PATTERN, p.name)
        ]
        return sorted(found, key=_version_key)

    def current(self, name: str) -> str:
        """The version that is served: the one that NAME/current names, else the highest.

        Raises:
            ModelNotFound: the store has no version of `name`, or `current` names one that is not there.
        """
        versions = self.versions(name)
        if not versions:
            raise ModelNotFound(f"the store has no model {name}")
        pointer = self.root / name / _CURRENT
        if not pointer.is_file():
            return versions[-1]
        chosen = pointer.read_text().strip()
        if chosen not in versions:
            raise ModelNotFound(f"{name}/{_CURRENT} names version {chosen!r}, which the store does not have")
        return chosen

    def manifest(self, name: str, version: str) -> Manifest:
        """Raises ModelNotFound or ManifestInvalid."""
        folder = self.root / name / version
        if version not in self.versions(name):
            raise ModelNotFound(f"the store has no model {name} in version {version}")
        return manifests.read(folder)

    def list(self) -> list[Manifest]:
        """Every version of every model."""
        return [self.manifest(name, version) for name in self.names() for version in self.versions(name)]

    def load(self, name: str, version: str | None = None) -> ServedModel:
        """Load, verify and warm a version (the current one by default).

        Raises:
            ModelError: one of its leaves; nothing of the version is used then.
        """
        version = version or self.current(name)
        return ServedModel.load(self.root / name / version, self.manifest(name, version))

    def load_current(self) -> dict[str, ServedModel]:
        """The served set: the current version of every model.

        Raises:
            ModelError: the store is empty, or a version in the set cannot be used.
        """
        names = self.names()
        if not names:
            raise ModelNotFound("the model store is empty; run: falcon train sentiment")
        return {name: self.load(name) for name in names}

    def state(self) -> tuple[object, ...]:
        """A value that changes whenever a file of the served set does (path, size, time of change)."""
        marks: list[object] = []
        for name in self.names():
            try:
                folder = self.root / name / self.current(name)
            except ModelError as error:
                marks.append((name, str(error)))
                continue
            for path in sorted(folder.iterdir()):
                status = path.stat()
                marks.append((str(path), status.st_size, status.st_mtime_ns, status.st_ino))
        return tuple(marks)

    def write(self, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
        """Add a version, whole or not at all: it is built beside its place and renamed into it.

        A version of that number that stands there already is replaced.
        """
        home = self.root / manifest.name
        home.mkdir(parents=True, exist_ok=True)
        target = home / manifest.version
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=home) as scratch:
            new = Path(scratch) / manifest.version
            new.mkdir()
            for name, contents in files.items():
                _write_durably(new / name, contents)
            _write_durably(new / manifests.FILE_NAME, manifest.model_dump_json(indent=2).encode() + b"\n")
            old = Path(scratch) / "replaced"
            with contextlib.suppress(FileNotFoundError):
                target.rename(old)
            new.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        return target


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _write_durably(path: Path, contents: bytes) -> None:
    with path.open("wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())
