"""A Python program that tries a model in a process of its own: how it is run, and what its end says."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence

from falcon_wsgi.errors import ModelCrashed, ModelError
from falcon_wsgi.settings import environment

# The exit code of a program that refuses a model; the last line of its standard output is why.
REFUSED = 3
# As server/imports.py has it, so what holds in Gunicorn's master holds here.
_PREPARED = (
    "from gevent import monkey; monkey.patch_all(); "
    "from falcon_wsgi.server.lean import import_scikit_learn; import_scikit_learn(); "
)
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def program(statements: str) -> tuple[str, ...]:
    """The command of a process that is prepared as Gunicorn's master is and then executes the statements."""
    return sys.executable, "-c", _PREPARED + statements


def run(command: Sequence[str], what: str, timeout_s: float) -> None:
    """Run it to its end.

    Raises:
        ModelCrashed: the process died or did not end in time.
        ModelError: it refused the model.
    """
    try:
        done = subprocess.run(
            command,
            env=environment(**_ONE_THREAD),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelCrashed(f"{what}: to load and try it did not end within {timeout_s:g} s") from None
    if done.returncode == REFUSED:
        raise ModelError(_last_line(done.stdout) or f"{what} is refused")
    if done.returncode != 0:
        raise ModelCrashed(f"{what} cannot be loaded: {_end_of(done)}")


def _end_of(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        cause = str(-done.returncode)
        with contextlib.suppress(ValueError):
            cause = signal.Signals(-done.returncode).name
        return f"the process that tried it was ended by {cause}"
    return _last_line(done.stderr)[-300:] or f"the process that tried it ended with code {done.returncode}"


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
