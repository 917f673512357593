"""nginx before the systems, with connections to them kept alive, in the manner of Falcon's own configuration."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from falcon_wsgi.launch import processes
from tests import programs
from tests.benchmarks.systems import System, free_port

_START_S = 10.0
_STOP_S = 10.0

_CONFIGURATION = """\
{user}daemon off;
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_buffer_size 128k;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
{servers}}}
"""
# Idle connections are closed here sooner than any of the servers closes them, else a request meets a closed one.
_SERVER = """\
    upstream {name} {{ {upstreams} keepalive 256; keepalive_requests 100000000; keepalive_timeout 3s; }}
    server {{ listen 127.0.0.1:{own_port}; location / {{ proxy_pass http://{name}; }} }}
"""


class Balancer:
    """One nginx for all systems, with a port for each."""

    def __init__(self, program: str, folder: Path, systems: Sequence[System]) -> None:
        self._program = program
        self._folder = folder / "nginx"
        self.ports = {system.name: free_port() for system in systems}
        self._systems = systems
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises OSError where nginx does not listen within 10 s."""
        self._folder.mkdir()
        servers = "".join(
            _SERVER.format(
                name=system.name,
                upstreams=" ".join(f"server 127.0.0.1:{port};" for port in system.ports),
                own_port=self.ports[system.name],
            )
            for system in self._systems
        )
        user = "user root;\n" if os.geteuid() == 0 else ""
        configuration = self._folder / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(user=user, folder=self._folder, servers=servers))
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(self._program, "-p", str(self._folder), "-c", str(configuration)),
                    *("-e", str(self._folder / "error.log")),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=processes.die_with_parent(signal.SIGTERM),
            )
        deadline = time.monotonic() + _START_S
        while not all(map(_listens, self.ports.values())):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"nginx did not start: {(self._folder / 'log').read_text()[-300:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def roots(self) -> dict[str, list[int]]:
        return {"nginx": [self._process.pid]} if self._process is not None else {}


def find() -> str | None:
    """The nginx program, installed where that is possible; else None."""
    return programs.find("nginx", "nginx") or next(
        (path for path in ("/usr/sbin/nginx", "/usr/local/sbin/nginx") if Path(path).exists()), None
    )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
