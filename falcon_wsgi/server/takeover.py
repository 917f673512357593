"""Taking the store's versions over on behalf of a worker's client, as `falcon reload` does for an operator.

The master looks at the store first, and what it refuses costs no worker. Then SIGHUP replaces the workers, this one
too: each finishes its requests while its successor, with the new versions, already serves.
"""

from __future__ import annotations

import fcntl
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent

from falcon_wsgi.errors import DeadlineExceeded, ModelControlRefused, NotReady, UnknownModel
from falcon_wsgi.launch import instance, processes
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.settings import Settings

_POLL_S = 0.02


def take_over(settings: Settings, name: str, deadline: Deadline) -> None:
    """Have the instance serve the store's current version of `name`, and of every other model.

    Returns once the versions are verified and the workers are being replaced, or already serve them.

    Raises:
        UnknownModel: the store has no such model.
        ModelControlRefused: a version in the store cannot be used, or a reload is running.
        DeadlineExceeded: the master did not look at the store in time; it may do so later.
        NotReady: there is no master to ask.
    """
    if not ModelStore(settings.model_store).versions(name):
        raise UnknownModel(f"the store has no model {name!r}")
    with _alone(settings):
        master = _verified(settings, deadline)
        if any(worker["models"] != master["models"] for worker in instance.read_workers(settings)):
            processes.send(master["pid"], signal.SIGHUP)


def _verified(settings: Settings, deadline: Deadline) -> dict[str, Any]:
    """What the master reports after a new look at the store."""
    before = _master(settings)
    processes.send(before["pid"], signal.SIGUSR1)
    while (now := _master(settings))["looks"] == before["looks"]:
        if deadline.remaining_s() <= _POLL_S:
            raise DeadlineExceeded("the instance did not look at the store in time; ask again")
        gevent.sleep(_POLL_S)
    if now["refused"]:
        raise ModelControlRefused(f"the store's versions are refused, what is served stays: {now['refused']}")
    return now


def _master(settings: Settings) -> dict[str, Any]:
    if master := instance.read_master(settings):
        return master
    raise NotReady("the instance is starting or ending")


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """The lock that `falcon reload` holds too."""
    try:
        with (settings.instance_dir / "reload.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise ModelControlRefused(
            "a reload of this instance is running; ask again when it has ended"
        ) from None
