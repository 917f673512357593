"""Falcon's WSGI app called under cProfile: `python -m tests.benchmarks.apps.profiled WORKLOAD CALLS OUT`."""

# ruff: noqa: E402 - as in conf/gunicorn.conf.py
from gevent import monkey

monkey.patch_all()

import cProfile
import io
import json
import logging
import pstats
import random
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from falcon_wsgi import settings as falcon_settings
from falcon_wsgi.app import create_app
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.observability import metrics
from falcon_wsgi.services import Services
from tests.benchmarks.falcon import Falcon
from tests.benchmarks.stages import OTHER, stage_of_frame
from tests.benchmarks.workloads import WORKLOADS, Workload

_WARM_UP = 300
_DEPTH = 30

Function = tuple[str, int, str]


def main(name: str, calls: int, out: Path) -> None:
    workload = WORKLOADS[name]
    configured = falcon_settings.load(env_file=None)
    logging.basicConfig(level=logging.ERROR)
    metrics.use_slot(None)
    services = Services.build(configured, ModelStore(configured.model_store).load_current(), "worker-1")
    services.start()
    app = create_app(services)
    rng = random.Random()
    for i in range(_WARM_UP):
        call(app, workload, rng, i)
    profile = cProfile.Profile(timer=time.process_time)
    for i in range(calls):
        environ = environ_of(workload, rng, _WARM_UP + i)
        profile.enable()
        b"".join(app(environ, _start))
        profile.disable()
    services.close(10)
    spent = stages(pstats.Stats(profile).stats)  # type: ignore[attr-defined]
    out.write_text(json.dumps({stage: seconds * 1e6 / calls for stage, seconds in spent.items()}))


def call(app: Any, workload: Workload, rng: random.Random, number: int) -> None:
    b"".join(app(environ_of(workload, rng, number), _start))


def environ_of(workload: Workload, rng: random.Random, number: int) -> dict[str, Any]:
    system = Falcon(Path(), Path())
    drawn = workload.draw(rng)
    body = system.body(workload, drawn)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": system.path(workload),
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if workload.keys != "none":
        key = number if drawn.key is None else drawn.key
        environ["HTTP_IDEMPOTENCY_KEY"] = f"profiled-{_STARTED}-{key}"
    return environ


_STARTED = time.time_ns()


def _start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
    if not status.startswith("200"):
        raise RuntimeError(f"answered with {status}")
    return lambda data: None


def stages(stats: dict[Function, Any]) -> dict[str, float]:
    """Seconds by stage. The own time of a function of no stage goes to its callers, by their shares of it."""
    spent: defaultdict[str, float] = defaultdict(float)

    def give(function: Function, seconds: float, depth: int) -> None:
        path, _, name = function
        stage = stage_of_frame(path, name)
        callers = stats[function][4]
        total = sum(times[2] for times in callers.values())
        if stage is not None or depth == 0 or not total:
            spent[stage or OTHER] += seconds
            return
        for caller, times in callers.items():
            if times[2]:
                give(caller, seconds * times[2] / total, depth - 1)

    for function, (_, _, own, _, _) in stats.items():
        if own:
            give(function, own, _DEPTH)
    return spent


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
