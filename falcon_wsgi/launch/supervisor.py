"""`falcon serve`: everything that an instance needs, started in order, watched, and stopped in reverse.

People read standard error. Standard output gets two lines once the instance is ready: its URL, and a request
that works. All of it happens in the main thread: the kernel ends the children together with the thread that
started them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pydantic import SecretStr

from falcon_wsgi import resources
from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch import listening
from falcon_wsgi.launch.console import say
from falcon_wsgi.launch.embedded import EmbeddedPostgres, EmbeddedRedis
from falcon_wsgi.launch.gunicorn import Gunicorn
from falcon_wsgi.launch.instance import Instance
from falcon_wsgi.launch.logfile import LogFile
from falcon_wsgi.launch.migration import Migration
from falcon_wsgi.launch.revival import Revived
from falcon_wsgi.launch.server import EmbeddedServer
from falcon_wsgi.launch.signals import Signals
from falcon_wsgi.launch.training import ensure_models
from falcon_wsgi.settings import Settings, environment

_TICK_S = 0.5
_STARTING_TICK_S = 0.05
_SLOW_START_S = 60.0
_FORCE_AFTER_S = 5.0  # beyond the time that Gunicorn gives requests in flight
_EXAMPLE = """-H 'Content-Type: application/json' -d '{"text": "The food was great"}'"""
_WITHOUT = {
    "Redis": "no shared cache, and idempotency keys are not kept",
    "Postgres": "the request log stays in the journal on disk",
}


@dataclass(frozen=True)
class Application:
    """What Gunicorn is to serve, what it imports before, and whether it needs a trained model."""

    target: str = "falcon_wsgi.wsgi:app"
    conf: Path = resources.GUNICORN_CONF
    imports: str = "falcon_wsgi.server.imports"
    needs_model: bool = True


class Supervisor:
    """Runs one instance in the foreground until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        application: Application | None = None,
        *,
        log_to_stderr: bool = False,
        out: TextIO = sys.stdout,
    ) -> None:
        self._settings = settings
        self._application = application = application or Application()
        self._log_to_stderr = log_to_stderr
        self._out = out
        self._signals = Signals()
        self._instance = Instance(settings)
        self._log = LogFile(self._instance.folder / "log" / "falcon.log")
        self._servers: list[Revived] = []
        self._urls: dict[str, str] = {}
        self._gunicorn = Gunicorn(application.imports, ["-c", str(application.conf), application.target])
        self._migration: Migration | None = None

    def run(self) -> int:
        """Serve; the exit code, 0 after a stop that was asked for.

        Raises:
            ConfigurationError: the instance cannot start, or Gunicorn ended by itself; one line.
        """
        with self._signals.caught():
            self._instance.claim()
            try:
                self._start()
                self._watch()
            except _Stopped:
                pass
            finally:
                self._stop()
                self._instance.release()
        return 0

    def _stopping(self) -> bool:
        return self._signals.stops > 0

    # Start. A step that takes long asks `_stopping` meanwhile, and `_go_on` leaves the start.

    def _start(self) -> None:
        if self._instance.end_orphans():
            say("ended the workers of an instance that was killed")
        listening.check_free(self._settings)
        self._instance.publish(
            url=listening.url(self._settings), pid=os.getpid(), started_at=round(time.time(), 3)
        )
        self._begin_gunicorn()
        self._provide(EmbeddedRedis(self._instance.folder), "REDIS_URL", self._settings.redis_url)
        self._provide(EmbeddedPostgres(self._instance.folder), "DATABASE_URL", self._settings.database_url)
        if self._application.needs_model:
            ensure_models(self._settings, self._stopping)
            self._go_on()
        self._migrate()
        self._gunicorn.serve(**self._urls)
        if not self._log_to_stderr:
            say(f"logs go to {self._log.path}")

    def _begin_gunicorn(self) -> None:
        """It imports its libraries while the servers start, and waits for their addresses."""
        log = None if self._log_to_stderr else self._log.open()
        try:
            self._instance.publish(gunicorn_pid=self._gunicorn.begin(log))
        finally:
            if log is not None:
                os.close(log)

    def _go_on(self) -> None:
        if self._stopping():
            raise _Stopped

    def _provide(self, server: EmbeddedServer, variable: str, configured: SecretStr | None) -> None:
        """Use the server that the user names, else the embedded one, else none, and say so."""
        if configured is not None:
            self._urls[variable] = configured.get_secret_value()
            self._instance.publish(**{variable.lower(): self._urls[variable]})
            return
        try:
            server.start(self._stopping)
        except ConfigurationError as error:
            self._go_on()
            say(f"WARNING: serving without {server.name} ({_WITHOUT[server.name]}): {error}")
            return
        self._servers.append(Revived(server))
        self._urls[variable] = server.url
        self._instance.publish(**{variable.lower(): server.url})
        self._publish_pid(server)
        say(f"{server.name} runs on port {server.port}, its data is in {server.data}")
        self._go_on()

    def _publish_pid(self, server: EmbeddedServer) -> None:
        self._instance.publish(**{f"{server.name.lower()}_pid": server.pid})

    def _migrate(self) -> None:
        """One attempt before the start, more while serving; the journal keeps the rows until then."""
        if "DATABASE_URL" in self._urls:
            self._migration = Migration(environment(**self._urls))
            self._migration.first_attempt(self._stopping)
            self._go_on()

    # Watch.

    def _watch(self) -> None:
        impatient_at = time.monotonic() + _SLOW_START_S
        while not self._look_after() and not listening.ready(self._settings):
            if time.monotonic() > impatient_at:
                impatient_at = float("inf")
                say(f"not ready after {_SLOW_START_S:g} s; still waiting, the log says why")
            self._signals.wait(_STARTING_TICK_S)
        self._go_on()
        self._announce()
        while not self._look_after():
            self._signals.wait(_TICK_S)

    def _look_after(self) -> bool:
        """See to every part once. True if it is time to stop."""
        if self._signals.take_reload():
            self._gunicorn.reload()
        for revived in self._servers:
            if revived.look_after(self._stopping):
                self._publish_pid(revived.server)
        if self._migration is not None:
            self._migration.look_after()
        self._log.rotate_if_large()
        if self._stopping():
            return True
        if (code := self._gunicorn.exit_code()) is not None:
            reason = "" if self._log_to_stderr else self._log.last_error()
            raise ConfigurationError(reason or f"Gunicorn ended with exit code {code}")
        return False

    def _announce(self) -> None:
        url = listening.url(self._settings)
        say("ready; Ctrl-C stops it")
        key = '-H "X-API-Key: $KEY" ' if self._settings.api_keys_file else ""
        with contextlib.suppress(OSError):
            print(f"{url}\ncurl -s {url}/infer {key}{_EXAMPLE}", file=self._out, flush=True)

    # Stop.

    def _stop(self) -> None:
        self._stop_gunicorn()
        if self._migration is not None:
            self._migration.stop()
        for revived in reversed(self._servers):
            say(f"stopping {revived.server.name}")
            revived.server.stop(timeout_s=2.0 if self._signals.stops > 1 else 15.0)
        if self._gunicorn.serves:
            say("stopped")

    def _stop_gunicorn(self) -> None:
        """SIGTERM, then patience. At its end, or at a second signal to us, by force."""
        if not self._gunicorn.ask_to_stop():
            return
        say("stopping; requests in flight are finished first (Ctrl-C again: at once)")
        settings = self._settings
        patience_s = (
            settings.graceful_shutdown_timeout_seconds + settings.drain_delay_seconds + _FORCE_AFTER_S
        )
        if not self._gunicorn.wait(patience_s, self._pause):
            say("ending Gunicorn by force")
            self._gunicorn.kill()

    def _pause(self) -> bool:
        """False at a second signal, which is one not to wait for anything."""
        self._signals.wait(_STARTING_TICK_S)
        return self._signals.stops < 2


class _Stopped(Exception):
    """A signal asked for the end during the start."""
