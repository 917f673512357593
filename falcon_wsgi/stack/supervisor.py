"""`falcon stack start`: everything on one machine, started in order, watched, and stopped in reverse.

nginx on PORT, instances on the ports above it, a Redis and a Postgres that they share, and the monitoring whose
programs are installed. A process that ends is started again; nothing but a signal ends the stack.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TextIO

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch import listening, processes
from falcon_wsgi.launch.console import say
from falcon_wsgi.launch.instance import Instance
from falcon_wsgi.launch.logfile import LogFile
from falcon_wsgi.launch.signals import Signals
from falcon_wsgi.launch.training import ensure_models
from falcon_wsgi.settings import Settings
from falcon_wsgi.stack import balancer, monitoring, record, tools
from falcon_wsgi.stack.backing import Backing
from falcon_wsgi.stack.commands import Parts, temp_folder
from falcon_wsgi.stack.layout import Layout, settings_at
from falcon_wsgi.stack.part import Part
from falcon_wsgi.stack.record import Record

_TICK_S = 0.2
_STARTING_TICK_S = 0.05
_START_S = 120.0
_LEFTOVERS_S = 10.0


class StackSupervisor:
    """Runs a stack in the foreground until it is told to stop.

    Args:
        balancer_file: BALANCER_ variables in place of the defaults.
        monitored: start Prometheus, Alertmanager and the exporters, where installed.
    """

    def __init__(
        self,
        settings: Settings,
        instances: int,
        *,
        balancer_file: Path | None = None,
        monitored: bool = True,
        out: TextIO = sys.stdout,
    ) -> None:
        self._layout = Layout(settings, instances)
        self._balancer_file = balancer_file
        self._monitored = monitored
        self._out = out
        self._signals = Signals()
        self._record = Record(self._layout.folder)
        # Held for the instances, which run without a supervisor of their own.
        self._folders = [Instance(settings_at(port)) for port in self._layout.instance_ports]
        self._backing = Backing(self._layout, self._stopping)
        self._instances: list[Part] = []
        self._balancer: Part | None = None
        self._monitoring: list[Part] = []
        self._ready = False
        logs = self._layout.nginx / "logs"
        self._nginx_logs = [LogFile(logs / name) for name in ("access.log", "error.log")]

    def run(self) -> int:
        """Serve; the exit code, 0 after a stop that was asked for.

        Raises:
            ConfigurationError: the stack cannot start; one line.
        """
        nginx = tools.nginx()
        _require_trust_in_loopback(self._layout.settings)
        with self._signals.caught():
            self._record.claim()
            try:
                self._start(nginx)
                self._watch()
            except _Stopped:
                pass
            finally:
                self._stop()
                for folder in self._folders:
                    folder.release()
                self._record.release()
        return 0

    def _stopping(self) -> bool:
        return self._signals.stops > 0

    def _go_on(self) -> None:
        if self._stopping():
            raise _Stopped

    # Start.

    def _start(self, nginx: Path) -> None:
        self._end_leftovers()
        listening.check_free(self._layout.settings)
        for folder in self._folders:
            folder.claim()
        for name in self._layout.instance_names:
            self._require_port(name)
        parts = Parts(self._layout, nginx)
        values = self._balancer_values()
        balancer.render(self._layout.nginx, values)
        balancer.check(nginx, self._layout.nginx, f"pid run/nginx.pid; {parts.nginx_globals()}")
        self._publish()
        self._backing.start()
        self._go_on()
        ensure_models(self._layout.settings, self._stopping)
        self._go_on()
        self._backing.migrate()
        self._go_on()
        self._introduce_instances()
        self._instances = parts.instances(self._backing.urls)
        self._bring_up(self._instances)
        self._balancer = parts.balancer()
        self._bring_up([self._balancer])
        if self._monitored:
            self._monitoring = parts.monitoring(self._backing.urls)
            monitoring.render(self._layout, [part.name for part in self._monitoring])
            for part in self._monitoring:
                part.start()
        self._ready = True
        self._publish()
        self._announce()

    def _introduce_instances(self) -> None:
        """For `falcon status` and what else asks for the instance on a port."""
        urls = {variable.lower(): url for variable, url in self._backing.urls.items()}
        for folder in self._folders:
            folder.publish(url=listening.url(folder.settings), pid=os.getpid(), **urls)

    def _require_port(self, name: str) -> None:
        port = self._layout.port_of(name)
        if not listening.is_free(settings_at(port)):
            raise ConfigurationError(f"port {port}, which {name} needs, is taken; choose another PORT")

    def _balancer_values(self) -> dict[str, str]:
        layout = self._layout
        (layout.nginx / "run").mkdir(parents=True, exist_ok=True)
        own = balancer.variables(layout.settings, layout.instance_ports, temp_folder(layout))
        given = balancer.read_variables(self._balancer_file) if self._balancer_file else {}
        if unknown := given.keys() - own.keys():
            raise ConfigurationError(f"{self._balancer_file}: nginx/defaults.env has no {min(unknown)}")
        return own | given

    def _end_leftovers(self) -> None:
        """What a supervisor that was killed left: the kernel has signalled its processes; some need their time."""
        left = [
            each for each in record.read(self._layout.folder).get("parts", []) if record.is_the_recorded(each)
        ]
        for process in left:
            processes.end(process["pid"], signal.SIGTERM, _LEFTOVERS_S)
        if left:
            say("ended the processes of a stack that was killed")

    def _bring_up(self, parts: list[Part]) -> None:
        """Start them at once, and wait until all answer.

        Raises:
            ConfigurationError: one ended, or did not answer in time.
        """
        for part in parts:
            part.start()
        self._publish()
        deadline = time.monotonic() + _START_S
        while not all(map(_answers, parts)):
            self._go_on()
            self._backing.look_after()
            for part in parts:
                if part.exit_code is not None:
                    raise ConfigurationError(
                        f"{part.name} did not start: {part.log.last_error()} (see {part.log.path})"
                    )
            if time.monotonic() > deadline:
                late = next(part for part in parts if not _answers(part))
                raise ConfigurationError(
                    f"{late.name} is not ready after {_START_S:g} s (see {late.log.path})"
                )
            self._signals.wait(_STARTING_TICK_S)

    def _announce(self) -> None:
        url = listening.url(self._layout.settings)
        say("ready; Ctrl-C stops it, `falcon stack status` shows its parts")
        say(f"logs are in {self._layout.log_folder}, nginx's in {self._layout.nginx / 'logs'}")
        lines = [
            url,
            *(f"{part.name:18} {listening.url(part.address)}" for part in self._instances + self._monitoring),
        ]
        with contextlib.suppress(OSError):
            print("\n".join(lines), file=self._out, flush=True)

    # Watch.

    def _watch(self) -> None:
        while not self._stopping():
            changed = [part.look_after() for part in self._parts()]
            if any(changed) or self._backing.look_after():
                self._publish()
            for log in (*self._nginx_logs, *(part.log for part in self._parts())):
                log.rotate_if_large()
            self._signals.take_reload()  # settings and models are loaded again instance by instance, not here
            self._signals.wait(_TICK_S)

    def _parts(self) -> list[Part]:
        return [*self._instances, *([self._balancer] if self._balancer else []), *self._monitoring]

    def _publish(self) -> None:
        parts = self._backing.processes()
        parts += [
            {"name": part.name, "pid": part.pid, "port": part.address.port, "restarts": part.restarts}
            for part in self._parts()
        ]
        self._record.publish(
            {
                "pid": os.getpid(),
                "born": record.born(os.getpid()),
                "url": listening.url(self._layout.settings),
                "ready": self._ready,
                "redis_url": self._backing.urls.get("REDIS_URL"),
                "database_url": self._backing.urls.get("DATABASE_URL"),
                "parts": [
                    {**part, "born": record.born(part["pid"]) if part["pid"] else ""} for part in parts
                ],
            }
        )

    # Stop.

    def _stop(self) -> None:
        """nginx first, so that nothing new arrives; then the instances, all at once; then what they use."""
        started = bool(self._parts() or self._backing.processes())
        if started:
            say("stopping; requests in flight are finished first (Ctrl-C again: at once)")
        for group in (self._monitoring, [self._balancer] if self._balancer else [], self._instances):
            for part in group:
                part.ask_to_stop()
            for part in group:
                self._finish(part)
        self._backing.stop(2.0 if self._signals.stops > 1 else 15.0)
        if started:
            say("stopped")

    def _finish(self, part: Part) -> None:
        deadline = time.monotonic() + part.patience_s
        while part.pid is not None and time.monotonic() < deadline and self._signals.stops < 2:
            self._signals.wait(_STARTING_TICK_S)
        part.finish(0.0)


def _answers(part: Part) -> bool:
    if part.name.startswith("instance-"):
        return listening.ready(part.address)
    try:
        with socket.create_connection((listening.local_host(part.address), part.address.port), timeout=1):
            return True
    except OSError:
        return False


def _require_trust_in_loopback(settings: Settings) -> None:
    """Without it the instances would not believe nginx's event ids, and a retried request would be two."""
    if not any(ipaddress.ip_address("127.0.0.1") in network for network in settings.trusted_proxies):
        raise ConfigurationError(
            "TRUSTED_PROXIES has to include 127.0.0.1, from where the stack's nginx asks"
        )


class _Stopped(Exception):
    """A signal asked for the end during the start."""
