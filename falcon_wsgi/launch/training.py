"""The models of a first start."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from falcon_wsgi import resources
from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch import processes
from falcon_wsgi.launch.console import say
from falcon_wsgi.settings import Settings

_COMMAND = (sys.executable, "-m", "falcon_wsgi", "train")
_POLL_S = 0.05
# Names the models of a first start that is under way, so that one which was cut short is gone on with.
_UNDER_WAY = ".first-start"


def ensure_models(settings: Settings, given_up: Callable[[], bool]) -> None:
    """Train the project's own models if the store holds none; the progress goes to standard error.

    Two instances that start at once on one store train once.

    Raises:
        ConfigurationError: training failed (its own line has said why), or the store cannot be written.
    """
    store = settings.model_store
    if _has_models(store):
        return
    with _alone(store, given_up):
        if given_up() or _has_models(store):
            return
        _mark(store)
        missing = [name for name in resources.recipes() if not any(store.glob(f"{name}/*/manifest.json"))]
        _run((*_COMMAND, *missing), given_up)
        if not given_up():
            (store / _UNDER_WAY).unlink()


def _run(command: Sequence[str], given_up: Callable[[], bool]) -> None:
    trainer = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),  # standard output is for the instance's URL
        start_new_session=True,
        preexec_fn=processes.die_with_parent(signal.SIGKILL),
    )
    while trainer.poll() is None and not given_up():
        time.sleep(_POLL_S)
    if trainer.poll() is None:
        trainer.kill()
    if trainer.wait() != 0 and not given_up():
        raise ConfigurationError("the models could not be trained")


def _has_models(store: Path) -> bool:
    return not (store / _UNDER_WAY).exists() and any(store.glob("*/*/manifest.json"))


def _mark(store: Path) -> None:
    try:
        (store / _UNDER_WAY).touch()
    except OSError as error:
        raise _unwritable(store, error) from error


def _unwritable(store: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"MODEL_STORE ({store}) holds no model and cannot be written: {error.strerror}")


@contextmanager
def _alone(store: Path, given_up: Callable[[], bool]) -> Iterator[None]:
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = (store / ".training-lock").open("a")
    except OSError as error:
        raise _unwritable(store, error) from error
    with lock:
        told = False
        while not given_up() and not _try_lock(lock):
            if not told:
                told = True
                say("waiting for another instance to train the models")
            time.sleep(_POLL_S)
        yield


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
