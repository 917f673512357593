"""The systems that are measured: how each is started, asked, understood and stopped."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from falcon_wsgi.launch import processes
from falcon_wsgi.models.prediction import label_text
from tests.benchmarks import proc
from tests.benchmarks.apps.hello import ANSWER as HELLO
from tests.benchmarks.models import Answer
from tests.benchmarks.workloads import WORKLOADS, Drawn, Workload

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
_START_S = 60.0
_STOP_S = 30.0
_TEXTS = frozenset(name for name, workload in WORKLOADS.items() if workload.texts)
# One thread of linear algebra for each process, as Falcon's workers have.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class SystemFailed(Exception):
    """A system did not start; one line."""


class NotAnAnswer(ValueError):
    """A body that is not what the system answers with."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class System:
    """One system on a port of its own. A subclass says how it is started and what it answers.

    Attributes:
        workloads: names of those that it can serve.
        ready_path: answers 200 as soon as it serves.
        predicts: its answers are predictions.
        workers_s: after the first worker answers, the last one has loaded its model.
    """

    name: str
    about: str
    workloads: frozenset[str] = frozenset(WORKLOADS)
    ready_path = "/ready"
    predicts = True
    workers_s = 2.0

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder / self.name
        self.store = store
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_s = 0.0

    # What a subclass says.

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    @property
    def ports(self) -> list[int]:
        """Where it is reached: more than one where a balancer is to divide the load."""
        return [self.port]

    def path(self, workload: Workload) -> str:
        return {1: "/infer", 0: f"/predict/{workload.model}"}.get(workload.texts, "/infer/batch")

    def frame(self, workload: Workload) -> tuple[str, str]:
        """What stands in a body before and behind its texts, which are joined by `","`."""
        return ('{"text":"', '"}') if workload.texts == 1 else ('{"texts":["', '"]}')

    def body(self, workload: Workload, drawn: Drawn) -> bytes:
        if not workload.texts:
            return json.dumps(drawn.inputs[0]).encode()
        before, after = self.frame(workload)
        return (before + '","'.join(drawn.inputs) + after).encode()

    def answers(self, workload: Workload, body: bytes) -> list[Answer]:
        """The predictions that a body holds.

        Raises:
            LookupError, TypeError, ValueError: it holds none.
        """
        return answers_of(workload, body)

    # What is common.

    def start(self) -> None:
        """Start and wait until it serves.

        Raises:
            SystemFailed: it ended, or did not serve in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)
        started = time.monotonic()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                env={**_inherited(), **_ONE_THREAD, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
                preexec_fn=processes.die_with_parent(signal.SIGTERM),
            )
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() - started > _START_S:
                raise SystemFailed(f"{self.name} did not start; its log ends: {self._log_end()}")
            time.sleep(0.02)
        self.ready_s = time.monotonic() - started
        self.wait_for_workers()

    def ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self.ready_path, headers={"Connection": "close"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def wait_for_workers(self) -> None:
        time.sleep(self.workers_s)

    def stop(self) -> None:
        """SIGTERM, and for what is left after 30 s SIGKILL. May be called at any time, more than once."""
        if self.process is None:
            return
        tree = [pid for pids in self.processes().values() for pid in pids]
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(_STOP_S)
        for pid in tree:
            if processes.alive(pid) and self._is_ours(pid):
                processes.send(pid, signal.SIGKILL)
        self.process = None

    def _is_ours(self, pid: int) -> bool:
        """Whether the number is still that of a process that this system started."""
        where = processes.working_folder(pid)
        return where is not None and (where == ROOT or where.is_relative_to(self.folder))

    def roots(self) -> dict[str, list[int]]:
        """The processes to measure, by what they are; of each, also what is below it."""
        return {"app": [self.process.pid]} if self.process is not None else {}

    def processes(self) -> dict[str, list[int]]:
        return proc.trees(self.roots())

    def _log_end(self) -> str:
        lines = (self.folder / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else "(empty)"


def _inherited() -> dict[str, str]:
    """The user's settings of Falcon are not those that are measured."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ}


def answers_of(workload: Workload, body: bytes) -> list[Answer]:
    """The predictions of a body in Falcon's form."""
    answer = json.loads(body)
    if not isinstance(answer, dict):
        raise NotAnAnswer("not a JSON object")
    results = answer["results"] if workload.texts > 1 else [answer]
    return [answer_of(result) for result in results]


def answer_of(fields: Mapping[str, Any]) -> Answer:
    """One prediction in Falcon's form."""
    key = "probabilities" if "probabilities" in fields else "prediction_probabilities"
    probabilities = fields[key]
    label = label_text(fields["prediction"])
    if fields["confidence"] != probabilities[label]:
        raise NotAnAnswer("the confidence is not the label's probability")
    return Answer(label, probabilities)


class FlaskHello(System):
    """The ceiling of Flask on Gunicorn with gevent."""

    name = "flask-hello"
    about = "Flask that answers a constant, gunicorn gevent"
    workloads = frozenset({"hot", "cold"})
    predicts = False
    workers_s = 0.3

    def command(self) -> list[str]:
        gunicorn = [sys.executable, "-m", "gunicorn", "--worker-class", "gevent", "--workers", str(WORKERS)]
        options = ["--no-control-socket", "--keep-alive", "5", "--log-level", "warning"]
        return [*gunicorn, *options, "--bind", f"127.0.0.1:{self.port}", "tests.benchmarks.apps.hello:app"]

    def answers(self, workload: Workload, body: bytes) -> list[Answer]:
        if body != HELLO:
            raise NotAnAnswer("not the constant")
        return []


class FastApiInline(System):
    """The same estimator, called in the route."""

    name = "fastapi"
    about = "FastAPI, uvicorn[standard], predict_proba in the route; no cache, log or keys"

    def command(self) -> list[str]:
        options = ["--workers", str(WORKERS), "--no-access-log", "--log-level", "warning"]
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        return [sys.executable, "-m", "uvicorn", *options, *address, "tests.benchmarks.apps.inline:app"]

    def environment(self) -> dict[str, str]:
        return {"BENCHMARK_STORE": str(self.store)}


Factory = Callable[[Path, Path], System]


def stop_all(systems: Sequence[System]) -> None:
    """Each one, whatever happens to the others."""
    failures = []
    for system in systems:
        try:
            system.stop()
        except (OSError, subprocess.SubprocessError) as error:
            failures.append(error)
    if failures:
        raise failures[0]
