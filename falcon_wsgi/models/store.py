"""The model store on disk: NAME/VERSION/{manifest.json, model files} and NAME/current."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from falcon_wsgi.errors import (
    ConfigurationError,
    DigestMismatch,
    ModelError,
    ModelNotFound,
    ModelVersionExists,
)
from falcon_wsgi.models import manifest as manifests
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.served import ServedModel

_CURRENT = "current"
_LOCK = ".lock"
_BUILDING, _REMOVED = ".writing-", ".removed-"
_LOCK_PATIENCE_S = 30.0
_POLL_S = 0.01


class ModelStore:
    """Reads and writes model versions below one folder.

    A version, once written, is never changed: `write` refuses a number that is taken. So a digest stands for its
    answers for good, and going back to a version gives the answers that it gave.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Models with at least one version, in alphabetical order."""
        if not self.root.is_dir():
            return []
        return sorted(p.name for p in self.root.iterdir() if p.is_dir() and self.versions(p.name))

    def versions(self, name: str) -> list[str]:
        """Versions of a model, the oldest number first."""
        folder = self.folder(name)
        if not re.fullmatch(manifests.NAME_PATTERN, name) or not folder.is_dir():
            return []
        found = [
            p.name for p in folder.iterdir() if p.is_dir() and re.fullmatch(manifests.VERSION_PATTERN, p.name)
        ]
        return sorted(found, key=_version_key)

    def folder(self, name: str) -> Path:
        return self.root / name

    def pointer(self, name: str) -> str | None:
        """What NAME/current says, whether the store has it or not; None without that file.

        Raises:
            ModelNotFound: it cannot be read.
        """
        try:
            return (self.folder(name) / _CURRENT).read_text(errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ModelNotFound(f"{name}/{_CURRENT} cannot be read: {error.strerror}") from error

    def current(self, name: str) -> str:
        """The version that is served: the one that NAME/current names; without that file, the highest.

        Raises:
            ModelNotFound: the store has no version of `name`, or `current` names one that is not there.
        """
        versions = self.versions(name)
        if not versions:
            raise ModelNotFound(f"the store has no model {name}")
        chosen = self.pointer(name)
        if chosen is None:
            return versions[-1]
        if chosen not in versions:
            raise ModelNotFound(f"{name}/{_CURRENT} names version {chosen!r}, which the store does not have")
        return chosen

    def manifest(self, name: str, version: str) -> Manifest:
        """Raises ModelNotFound or ManifestInvalid."""
        if version not in self.versions(name):
            raise ModelNotFound(f"the store has no model {name} in version {version}")
        return manifests.read(self.folder(name) / version)

    def load(self, name: str, version: str | None = None) -> ServedModel:
        """Load, verify and warm a version (the current one by default).

        Raises:
            ModelError: one of its leaves; nothing of the version is used then.
        """
        version = version or self.current(name)
        return ServedModel.load(self.folder(name) / version, self.manifest(name, version))

    def load_current(self, keep: Mapping[str, ServedModel] | None = None) -> dict[str, ServedModel]:
        """The served set: the current version of every model. Those in `keep` are taken as they are.

        Raises:
            ModelError: the store is empty, or a version in the set cannot be used.
        """
        names = self.names()
        if not names:
            raise ModelNotFound("the model store is empty; run: falcon train sentiment")
        kept = keep or {}
        return {name: kept[name] if name in kept else self.load(name) for name in names}

    def state(self) -> dict[str, object]:
        """For each model a value that changes whenever a file of its current version does, or its number."""
        return {name: self.marks(name) for name in self.names()}

    def marks(self, name: str, version: str | None = None) -> object:
        """A value that changes whenever a file of the version (the current one by default) does, or its number."""
        try:
            folder = self.folder(name) / (version or self.current(name))
            if folder.name not in self.versions(name):
                return None
        except ModelError as error:
            return str(error)
        marks: list[object] = [folder.name]
        for path in sorted(folder.iterdir()):
            status = path.stat()
            # The time of change cannot be set back, as that of modification can.
            marks.append((path.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
        return marks

    def write(self, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
        """Add a version, whole or not at all: it is built beside its place and renamed into it.

        Writing what is there already changes nothing. Says nothing about which version is served.

        Raises:
            ModelVersionExists: the number is taken by something else.
            ConfigurationError: another process has been writing this model for long.
            OSError: the store cannot be written.
        """
        home = self.folder(manifest.name)
        home.mkdir(parents=True, exist_ok=True)
        target = home / manifest.version
        with self.locked(manifest.name):
            if target.exists():
                self._require_the_same(manifest)
                return target
            with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=home) as scratch:
                new = Path(scratch) / manifest.version
                new.mkdir()
                for name, contents in files.items():
                    _write_durably(new / name, contents)
                _write_durably(new / manifests.FILE_NAME, manifest.model_dump_json(indent=2).encode() + b"\n")
                _sync_folder(new)
                new.rename(target)
            _sync_folder(home)
        return target

    def _require_the_same(self, manifest: Manifest) -> None:
        name, version = manifest.name, manifest.version
        taken = f"{name} {version} is there already"
        remedy = "a version is never changed: use another number, or remove that one first"
        try:
            same = self.manifest(name, version).digest == manifest.digest
            self.check_files(name, version)
        except ModelError as error:
            raise ModelVersionExists(f"{taken} and is damaged ({error}); {remedy}") from error
        if not same:
            raise ModelVersionExists(f"{taken} with other contents; {remedy}")

    def check_files(self, name: str, version: str) -> Manifest:
        """Compare the files with the manifest, which is returned, without loading anything.

        Raises:
            ModelError: one of its leaves.
        """
        manifest = self.manifest(name, version)
        for file_name, recorded in manifest.files.items():
            label = f"{name}/{version}/{file_name}"
            try:
                with (self.folder(name) / version / file_name).open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise ModelNotFound(f"{label} cannot be read: {error.strerror}") from error
            if found != recorded.sha256:
                raise DigestMismatch(f"{label} is not the file that was recorded")
        return manifest

    def point(self, name: str, version: str) -> None:
        """Let NAME/current name `version`. A reader sees the former name or this one. Needs the lock."""
        draft = self.folder(name) / f".{_CURRENT}.new"
        _write_durably(draft, f"{version}\n".encode())
        draft.replace(self.folder(name) / _CURRENT)
        _sync_folder(self.folder(name))

    def discard(self, name: str, version: str) -> None:
        """Take a version away: at once for readers, then from the disk. Needs the lock."""
        home = self.folder(name)
        grave = Path(tempfile.mkdtemp(prefix=_REMOVED, dir=home))
        (home / version).rename(grave / version)
        _sync_folder(home)
        shutil.rmtree(grave, ignore_errors=True)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """One writer of a model at a time, over all processes; the kernel frees the lock with its holder.

        Raises:
            ConfigurationError: the lock cannot be had.
        """
        try:
            lock = (self.folder(name) / _LOCK).open("a")
        except OSError as error:
            raise ConfigurationError(
                f"the model store cannot be written: {name}: {error.strerror}"
            ) from error
        with lock:
            _wait_for(lock.fileno(), name)
            self._sweep(name)
            yield

    def _sweep(self, name: str) -> None:
        """Delete what a writer left that was killed; whoever holds the lock is the only one alive."""
        for prefix in (_BUILDING, _REMOVED):
            for left in self.folder(name).glob(f"{prefix}*"):
                shutil.rmtree(left, ignore_errors=True)


def _wait_for(lock: int, name: str) -> None:
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ConfigurationError(f"another process is writing {name}; try again") from None
            time.sleep(_POLL_S)


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _write_durably(path: Path, contents: bytes) -> None:
    with path.open("wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """A name is on the disk only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
