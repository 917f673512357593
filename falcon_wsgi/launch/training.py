"""The sentiment model of a first start."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch import processes
from falcon_wsgi.launch.console import say
from falcon_wsgi.settings import Settings

_COMMAND = (sys.executable, "-m", "falcon_wsgi", "train", "sentiment")
_POLL_S = 0.05


def ensure_model(settings: Settings, given_up: Callable[[], bool]) -> None:
    """Train the sentiment model if the store holds no model; its progress goes to standard error.

    Two instances that start at once on one store train once.

    Raises:
        ConfigurationError: training failed (its own line has said why), or the store cannot be written.
    """
    if _has_model(settings):
        return
    with _alone(settings, given_up):
        if given_up() or _has_model(settings):
            return
        trainer = subprocess.Popen(
            _COMMAND,
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
            raise ConfigurationError("the sentiment model could not be trained")


def _has_model(settings: Settings) -> bool:
    return any(settings.model_store.glob("*/*/manifest.json"))


@contextmanager
def _alone(settings: Settings, given_up: Callable[[], bool]) -> Iterator[None]:
    folder = settings.model_store / "sentiment"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".training-lock").open("a")
    except OSError as error:
        raise ConfigurationError(
            f"MODEL_STORE ({settings.model_store}) holds no model and cannot be written: {error.strerror}"
        ) from error
    with lock:
        told = False
        while not given_up() and not _try_lock(lock):
            if not told:
                told = True
                say("waiting for another instance to train the model")
            time.sleep(_POLL_S)
        yield


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
