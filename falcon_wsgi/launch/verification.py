"""Proves that a stored version can be served, in a process of its own.

A file that ends the interpreter, or eats all memory, while it is loaded ends that process, not the caller's. The
process is prepared as Gunicorn's master is (conf/gunicorn.conf.py), so what holds there holds here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from falcon_wsgi.errors import ModelCrashed, ModelError
from falcon_wsgi.settings import environment

_TIMEOUT_S = 300.0
_REFUSED = 3
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_CHILD = (
    sys.executable,
    "-c",
    "from gevent import monkey; monkey.patch_all(); from falcon_wsgi.launch import verification as v; v.child()",
)


def verify(store: Path, name: str, version: str, timeout_s: float = _TIMEOUT_S) -> None:
    """Load, check and warm a version as a server would: digests, types, golden examples.

    Raises:
        ModelCrashed: the process died or did not end in time.
        ModelError: the version is refused; the message is that of the refusal.
    """
    try:
        done = subprocess.run(
            [*_CHILD, str(store.absolute()), name, version],
            env=environment(**_ONE_THREAD),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelCrashed(f"{name} {version} did not load within {timeout_s:g} s") from None
    if done.returncode == _REFUSED:
        raise ModelError(done.stdout.decode("utf-8", "replace").strip().splitlines()[-1])
    if done.returncode != 0:
        raise ModelCrashed(f"{name} {version} cannot be loaded: {_end_of(done)}")


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


def _end_of(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        cause = str(-done.returncode)
        with contextlib.suppress(ValueError):
            cause = signal.Signals(-done.returncode).name
        return f"the process that tried it was ended by {cause}"
    words = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return words[-1][-300:] if words else f"the process that tried it ended with code {done.returncode}"


def child() -> None:
    """The process: prints the reason of a refusal and ends with `_REFUSED`."""
    from falcon_wsgi.models.store import ModelStore

    store, name, version = sys.argv[1:]
    try:
        ModelStore(Path(store)).load(name, version)
    except ModelError as error:
        print(error, flush=True)
        os._exit(_REFUSED)
    os._exit(0)
