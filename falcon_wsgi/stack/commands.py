"""The parts of a stack that run from the Procfile: which ones, with what environment."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from falcon_wsgi import resources
from falcon_wsgi.launch import listening
from falcon_wsgi.launch.account import Account
from falcon_wsgi.launch.console import say
from falcon_wsgi.settings import Settings, environment
from falcon_wsgi.stack import procfile, tools
from falcon_wsgi.stack.layout import Layout, settings_at
from falcon_wsgi.stack.part import Part
from falcon_wsgi.stack.procfile import Line

_FORCE_AFTER_S = 5.0


class Parts:
    """Makes the parts of a stack; starts none."""

    def __init__(self, layout: Layout, nginx: Path) -> None:
        self._layout = layout
        self._nginx = nginx
        self._lines = procfile.lines(layout.instances)

    def nginx_globals(self) -> str:
        """Who nginx's workers run as, where root starts it; in nginx's words for its command line."""
        account = Account.for_servers()
        return f"user {pwd.getpwuid(account.uid).pw_name};" if account.switch else ""

    def instances(self, urls: Mapping[str, str]) -> list[Part]:
        return [self._instance(line, urls) for line in self._lines if line.kind == "instance"]

    def _instance(self, line: Line, urls: Mapping[str, str]) -> Part:
        settings = self._layout.settings
        port = self._layout.port_of(line.name)
        own = {"HOST": "127.0.0.1", "WORKER_ID": line.name, "WORKERS": str(_workers(self._layout)), **urls}
        if settings.journal_dir is not None:
            own["JOURNAL_DIR"] = str(settings.journal_dir / str(port))
        patience_s = (
            settings.graceful_shutdown_timeout_seconds + settings.drain_delay_seconds + _FORCE_AFTER_S
        )
        return self._part(line, settings_at(port), Path(sys.executable), own, patience_s=patience_s)

    def balancer(self) -> Part:
        line = next(line for line in self._lines if line.kind == "nginx")
        settings = self._layout.settings
        # SIGQUIT lets nginx's workers finish the requests that they have.
        return self._part(
            line,
            settings,
            self._nginx,
            {"NGINX_USER": self.nginx_globals()},
            stop_signal=signal.SIGQUIT,
            patience_s=settings.request_timeout_seconds,
        )

    def monitoring(self, urls: Mapping[str, str]) -> list[Part]:
        """Those whose programs are installed and whose ports are free."""
        found = []
        for line in self._lines:
            if line.kind in ("instance", "nginx") or (program := tools.find(line.kind)) is None:
                continue
            address = settings_at(self._layout.port_of(line.name))
            if not listening.is_free(address):
                say(f"WARNING: {line.name} is not started: port {address.port} is taken")
                continue
            found.append(self._part(line, address, program, _target(line.kind, urls)))
        return found

    def _part(
        self,
        line: Line,
        address: Settings,
        program: Path,
        own: Mapping[str, str],
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        patience_s: float = 10.0,
    ) -> Part:
        shared = {
            "PROGRAM": str(program),
            "GUNICORN_CONF": str(resources.GUNICORN_CONF),
            "STACK": str(self._layout.folder),
            "BALANCER_PORT": str(self._layout.settings.port),
        }
        return Part(
            line.name,
            line.command,
            environment(**shared, **own, PORT=str(address.port)),
            address,
            self._layout.log_folder / f"{line.name}.log",
            stop_signal=stop_signal,
            patience_s=patience_s,
        )


def _workers(layout: Layout) -> int:
    """WORKERS if it is set, else the cores shared out."""
    settings = layout.settings
    if "workers" in settings.model_fields_set:
        return settings.workers
    return max(1, settings.workers // layout.instances)


def _target(kind: str, urls: Mapping[str, str]) -> dict[str, str]:
    """How an exporter reaches its server; in the environment, which other users cannot read."""
    if kind == "redis-exporter":
        return {"REDIS_ADDR": urls.get("REDIS_URL", "")}
    if kind == "postgres-exporter":
        return {"DATA_SOURCE_NAME": _without_tls(urls.get("DATABASE_URL", ""))}
    return {}


def _without_tls(url: str) -> str:
    """The exporter asks for TLS unless told otherwise; a server on loopback has none."""
    if not url or "sslmode=" in url or "@127.0.0.1:" not in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}sslmode=disable"


def temp_folder(layout: Layout) -> str:
    """For nginx's temporary files: below its prefix, or where the user of its workers can write."""
    account = Account.for_servers()
    if not account.switch:
        return "run/temp"
    folder = account.own_folder(layout.nginx / "run" / "temp-of-workers")
    with contextlib.suppress(OSError):
        os.chown(folder, account.uid, account.gid)
    return str(folder)
