"""A real instance for end-to-end tests: Gunicorn with Falcon's configuration on a free port."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from falcon_wsgi import resources
from tests.e2e import warm

JSON = {"Content-Type": "application/json"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(holds: Callable[[], Any], timeout_s: float = 60.0, what: str = "the condition") -> Any:
    """Poll until `holds()` is true; returns its value. Fails after `timeout_s`, which no healthy machine needs."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := holds():
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {timeout_s} s")


class Answer:
    """A response, read to its end."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One kept-alive connection."""

    def __init__(self, port: int, timeout_s: float = 30) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=timeout_s)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        self.connection.request(method, path, raw, {**(JSON if raw is not None else {}), **(headers or {})})
        return Answer(self.connection.getresponse())

    def infer(self, text: str, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", "/infer", {"text": text}, named)

    def close(self) -> None:
        self.connection.close()


class Instance:
    """Settings are given as keyword arguments in lower case and passed as environment variables."""

    def __init__(self, folder: Path, model_store: Path, **settings: object) -> None:
        self.port = free_port()
        self.folder = folder
        self.log_path = folder / f"log-{self.port}.jsonl"
        self.environment = {
            "PATH": os.environ["PATH"],
            "PORT": str(self.port),
            "DATA_DIR": str(folder / "data"),
            "MODEL_STORE": str(model_store),
            "WORKERS": "2",
            # A client that the machine holds up for longer loses its idle connection, as it should; most tests want
            # to see no lost connection at all.
            "KEEPALIVE_SECONDS": "75",
            **{name.upper(): str(value) for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | warm.Forked | None = None

    def start(self, wait: bool = True, *, cold: bool = False) -> Instance:
        """`cold`: as a process that imports everything itself, which takes four times as long."""
        module = ["gunicorn", "-c", str(resources.GUNICORN_CONF), "falcon_wsgi.wsgi:app"]
        with self.log_path.open("ab") as log:
            if cold or not warm.POSSIBLE:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", *module],
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    start_new_session=True,
                )
            else:
                self.process = warm.start(module, self.environment, self.folder, log)
        if wait:
            workers = int(self.environment["WORKERS"])
            wait_until(lambda: self.exited or len(self.worker_pids()) >= workers, what="the start")
            assert not self.exited, self.log_text()
        return self

    @property
    def exited(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def stop(self, timeout_s: float = 60) -> int:
        """SIGTERM and wait; whatever is left of the process group then is killed."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def signal_master(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def client(self, timeout_s: float = 30) -> Client:
        return Client(self.port, timeout_s)

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def infer(self, text: str, **headers: str) -> Answer:
        with contextlib.closing(self.client()) as client:
            return client.infer(text, **headers)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        with contextlib.closing(self.client()) as client:
            return client.request(method, path, body, headers)

    def workers(self) -> dict[str, int]:
        """Pids by worker id, of those that serve."""
        try:
            listed = json.loads((self.folder / "data" / str(self.port) / "workers.json").read_text())
        except (OSError, ValueError):
            return {}
        return {worker["worker_id"]: worker["pid"] for worker in listed["workers"]}

    def worker_pids(self) -> list[int]:
        return list(self.workers().values())

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all series of `name` that carry `labels`; 0 where there is none."""
        total = 0.0
        for line in self.get("/metrics").body.decode().splitlines():
            match = re.fullmatch(r"([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)", line)
            if match and match[1] == name:
                found = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
                if labels.items() <= found.items():
                    total += float(match[3])
        return total

    def log_text(self) -> str:
        return self.log_path.read_text(errors="replace")

    def log_records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_text().splitlines() if line.startswith("{")]


@contextlib.contextmanager
def running(instance: Instance) -> Iterator[Instance]:
    """Start it and stop it, also when the test fails."""
    try:
        yield instance.start()
    finally:
        instance.stop()
