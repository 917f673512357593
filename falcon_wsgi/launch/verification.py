"""Proves that a stored version can be served, in a process of its own.

A file that ends the interpreter, or eats all memory, while it is loaded ends that process, not the caller's. The
process is prepared as Gunicorn's master is, so what holds there holds here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from falcon_wsgi.errors import ModelError
from falcon_wsgi.launch import apart

_TIMEOUT_S = 300.0
_CHILD = apart.program("from falcon_wsgi.launch import verification; verification.child()")


def verify(store: Path, name: str, version: str, timeout_s: float = _TIMEOUT_S) -> None:
    """Load, check and warm a version as a server would: digests, types, golden examples.

    Raises:
        ModelCrashed: the process died or did not end in time.
        ModelError: the version is refused; the message is that of the refusal.
    """
    apart.run([*_CHILD, str(store.absolute()), name, version], f"{name} {version}", timeout_s)


def verify_each(store: Path, versions: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, str | None]]:
    """Name, version and why it cannot be served, None if it can; in the order given, one process for each."""
    asked = list(versions)

    def failure(each: tuple[str, str]) -> str | None:
        try:
            verify(store, *each)
        except ModelError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for (name, version), reason in zip(asked, pool.map(failure, asked), strict=True):
            yield name, version, reason


def child() -> None:
    """The process: prints the reason of a refusal and ends with `apart.REFUSED`."""
    from falcon_wsgi.models.store import ModelStore

    store, name, version = sys.argv[1:]
    try:
        ModelStore(Path(store)).load(name, version)
    except ModelError as error:
        print(error, flush=True)
        os._exit(apart.REFUSED)
    os._exit(0)
