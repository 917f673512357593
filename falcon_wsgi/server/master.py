"""State and hooks of Gunicorn's master process. `conf/gunicorn.conf.py` is executed again on SIGHUP; this is not.

The master verifies and loads the models and imports the app's modules; workers inherit both when they are forked
and are ready within milliseconds. SIGHUP re-reads the settings and the model store, never code. SIGUSR1 re-reads the
store alone and reports what came of it; `falcon reload` sends it and then recycles the workers. A worker that is
replaced for another reason also gets the store's current versions; until a reload its siblings may still answer
from the ones before.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import falcon_wsgi.app
import falcon_wsgi.services  # noqa: F401 - like the app: imported here, once, for the workers to inherit
from falcon_wsgi import settings as configuration
from falcon_wsgi.backends.api_keys.ring import KeyRing
from falcon_wsgi.errors import ConfigurationError, FalconError
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.models.trials import Trials
from falcon_wsgi.observability import logs, metrics
from falcon_wsgi.server.listing import Listing
from falcon_wsgi.server.served_set import ServedSet
from falcon_wsgi.server.slots import Slots
from falcon_wsgi.settings import Settings

log = logging.getLogger(__name__)

# An instance is found by these, and its files lie there: other ones make another instance.
_FIXED = ("host", "port", "data_dir", "journal_dir")
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

# Places in the memory that master and workers share.
_ANNOUNCED, _STOPPING, _SERVED = range(3)


class _Master:
    """What the master knows; one object in the master, copied into each worker by the fork."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.served = ServedSet()
        self.keys: KeyRing | None = None
        self.slots = Slots()
        self.shared = mmap.mmap(-1, 3)
        self.looks = 0  # at the store, by SIGUSR1
        self.worker_id: str | None = None  # this worker's own, set after the fork


_master = _Master()


# For gunicorn.conf.py and the workers.


def effective_settings() -> Settings:
    """The settings as of the start or the last SIGHUP. One that finds them broken leaves the former in force.

    Raises:
        ConfigurationError: at the start.
    """
    former = _master.settings
    try:
        new = configuration.load()
        if former is not None:
            _refuse_changes_of_place(former, new)
        if former is None or new.api_keys_file != former.api_keys_file:
            _master.keys = KeyRing.open(new.api_keys_file) if new.api_keys_file else None
    except ConfigurationError as error:
        if former is None:
            raise
        log.error("settings_refused", extra={"reason": str(error)})
        return former
    _master.settings = new
    _master.served.ask_for(new.shadow, new.canary)
    return new


def _refuse_changes_of_place(former: Settings, new: Settings) -> None:
    for name in _FIXED:
        if getattr(former, name) != getattr(new, name):
            raise ConfigurationError(f"{name.upper()} cannot change while the instance runs; restart it")


def inherited() -> tuple[Settings, dict[str, ServedModel], str, KeyRing | None, Trials]:
    """Settings, models, worker id, API keys and versions on trial of this worker process."""
    settings = _master.settings or effective_settings()
    models = _master.served.models or ModelStore(settings.model_store).load_current()
    return settings, models, _master.worker_id or settings.worker_id, _master.keys, _master.served.trials


def worker_id(settings: Settings, number: int) -> str:
    """`worker-1`, `worker-2`, ... by default; with WORKER_ID set, that name, then the name with a number."""
    if number == 1:
        return settings.worker_id
    return f"worker-{number}" if settings.worker_id == "worker-1" else f"{settings.worker_id}-{number}"


def register_worker(settings: Settings, name: str, pid: int) -> bool:
    """Called by a worker once it serves. False if it could not be listed and should try again."""
    _master.shared[_SERVED] = 1
    return Listing(settings.instance_dir).add(name, pid, _master.served.versions)


def report_failed_start(reason: str) -> None:
    """Called by a worker that cannot serve. `falcon reload` may be waiting for it."""
    failure = {"worker_id": _master.worker_id, "pid": os.getpid(), "reason": reason}
    Listing(_settings().instance_dir).report(failed_start=failure)


def stop_is_announced() -> bool:
    """Whether the instance was told to stop. Readiness has to fail from here on."""
    return _master.shared[_ANNOUNCED] != 0


def instance_is_stopping() -> bool:
    """Whether the master ends all workers: the instance goes, not one worker alone."""
    return _master.shared[_STOPPING] != 0


def instance_has_served() -> bool:
    """Whether a worker ever came up here; if so, one that does not is worth another attempt."""
    return _master.shared[_SERVED] != 0


# Gunicorn's hooks, in the order of an instance's life.


def on_starting(server: Any) -> None:
    """What cannot be used stops the start with one line."""
    try:
        settings = effective_settings()
        logs.configure(settings.log_level, settings.worker_id)
        _prepare_folders(settings)
        _master.served.load(ModelStore(settings.model_store))
    except FalconError as error:
        sys.exit(f"falcon: {error}")
    except OSError as error:
        sys.exit(f"falcon: {error.filename} cannot be used: {error.strerror}")


def when_ready(server: Any) -> None:
    """The port is this instance's, so what another has left in its folder can go."""
    settings = _settings()
    metrics.clear(settings.metrics_path)
    Listing(settings.instance_dir).clear()
    _announce_stops(server)
    server.reexec = _refuse_reexec
    server.handle_usr1 = _look_at_the_store
    _report(pid=server.pid, looks=0, failed_start=None)  # last: from here on SIGUSR1 is welcome


def pre_fork(server: Any, worker: Any) -> None:
    settings = _settings()
    before = _served_report()
    _master.served.refresh(ModelStore(settings.model_store))
    if _served_report() != before:
        _report()
    if _master.keys is not None:
        _master.keys.refresh()  # a file that is broken by now leaves the new worker the keys of its siblings
    worker.slot = _master.slots.take(worker.age, server.num_workers)
    worker.worker_id = worker_id(settings, worker.slot.number)
    worker.counts_in_files = metrics.prepare(settings.metrics_path, worker.slot.files)


def post_fork(server: Any, worker: Any) -> None:
    settings = _settings()
    _master.worker_id = worker.worker_id
    logs.configure(settings.log_level, worker.worker_id)
    metrics.use_slot(worker.slot.files if worker.counts_in_files else None)


def child_exit(server: Any, worker: Any) -> None:
    """The worker has been reaped: its slot and its gauges are free. Its counters stay for the next one."""
    settings = _settings()
    _master.slots.free(worker.age)
    metrics.drop_gauges(settings.metrics_path, worker.slot.files)
    Listing(settings.instance_dir).remove(worker.worker_id, worker.pid)


def on_reload(server: Any) -> None:
    settings = _settings()
    logs.configure(settings.log_level, settings.worker_id)
    _master.served.look_again()


def _look_at_the_store() -> None:
    """SIGUSR1, in the place of Gunicorn's reopening of log files, which Falcon does not have."""
    _master.served.look_again()
    _master.served.refresh(ModelStore(_settings().model_store))
    _master.looks += 1
    _report(looks=_master.looks)


def _served_report() -> dict[str, Any]:
    return {"models": _master.served.versions, "refused": _master.served.refused}


def _report(**changes: Any) -> None:
    Listing(_settings().instance_dir).report(**_served_report(), **changes)


def on_exit(server: Any) -> None:
    Listing(_settings().instance_dir).delete()


def _settings() -> Settings:
    assert _master.settings is not None, "gunicorn.conf.py loads them before any hook runs"
    return _master.settings


def _prepare_folders(settings: Settings) -> None:
    for folder in (settings.metrics_path, settings.journal_path):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigurationError(f"{folder} cannot be written: Permission denied")


def _announce_stops(server: Any) -> None:
    """Let the workers know of a stop before they get their signal, and let nothing hold the stop up.

    Readiness has to fail while they still accept. And Gunicorn's reload waits for the old workers, which may
    take the whole graceful timeout, before it looks at the next signal.
    """

    def announce(number: int, frame: FrameType | None) -> None:
        if os.getpid() != server.pid:
            os._exit(0)  # a worker forked a moment ago that has no handlers of its own yet
        _master.shared[_ANNOUNCED] = 1
        server.signal(number, frame)

    for number in _STOP_SIGNALS:
        signal.signal(number, announce)

    stop: Callable[[bool], None] = server.stop
    reap: Callable[[], None] = server.reap_workers

    def announce_and_stop(graceful: bool = True) -> None:
        _master.shared[_ANNOUNCED] = _master.shared[_STOPPING] = 1
        stop(graceful)

    def reap_and_leave_the_reload() -> None:
        reap()
        if stop_is_announced() and not instance_is_stopping():
            raise StopIteration  # ends Gunicorn's main loop in good order, as its own SIGTERM handler does

    server.stop = announce_and_stop
    server.reap_workers = reap_and_leave_the_reload


def _refuse_reexec() -> None:
    """SIGUSR2 would start a second master on this instance's folder."""
    log.error("reexec_refused", extra={"reason": "two masters cannot share one DATA_DIR and PORT"})
