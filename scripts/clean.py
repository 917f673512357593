"""Called by clean.sh. Never touches a running instance: neither its data nor the packages that it runs from."""

from __future__ import annotations

import fcntl
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
STATE = CLONE / ".falcon"
CACHES = (".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", "build", "dist")

sys.path.insert(0, str(CLONE))

from falcon_wsgi.launch.account import Account  # noqa: E402 - needs the line above, and no installed package


def main(what: str) -> int:
    if what == "data":
        for folder in _instances():
            _delete_data(folder)
        return 0
    if running := [folder.name.removeprefix("stack-") for folder in _instances() if _is_running(folder)]:
        print(
            f"falcon: an instance runs from this clone on port {running[0]}; stop it first", file=sys.stderr
        )
        return 1
    for name in (".venv", ".venv-interop", ".venv-benchmark", ".venv-peers", *CACHES):
        shutil.rmtree(CLONE / name, ignore_errors=True)
    for cache in [*CLONE.glob("*/**/__pycache__"), CLONE / "__pycache__"]:
        shutil.rmtree(cache, ignore_errors=True)
    return 0


def _instances() -> list[Path]:
    """Those of `make run` and of stacks."""
    found = [*STATE.glob("[0-9]*"), *STATE.glob("stack-[0-9]*")]
    return sorted(entry for entry in found if entry.is_dir())


def _delete_data(folder: Path) -> None:
    with _claimed(folder) as ours:
        if not ours:
            print(
                f"falcon: the instance on port {folder.name.removeprefix('stack-')} runs, its data stays",
                file=sys.stderr,
            )
            return
        for name in ("redis", "postgres", "nginx/run/temp-of-workers"):
            shutil.rmtree(Account(0, 0, switch=True).moved(folder / name).parent, ignore_errors=True)
        shutil.rmtree(folder)
        print(f"falcon: deleted {folder}")


def _is_running(folder: Path) -> bool:
    with _claimed(folder) as ours:
        return not ours


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Hold the instance's lock; false if a running instance holds it."""
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
