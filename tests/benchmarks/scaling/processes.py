"""How cost changes with the number of workers, and of instances behind nginx."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tests.benchmarks.scaling.findings import Finding, at_most_linear, flat, not_lower
from tests.benchmarks.scaling.lab import CONNECTIONS, Lab, Step
from tests.benchmarks.scaling.result import Panel, Point, Result
from tests.benchmarks.systems import SystemFailed
from tests.benchmarks.workloads import WORKLOADS

WORKERS = (1, 2, 4)
INSTANCES = (1, 2, 3)
# A worker answers what waits in one turn together, so a request costs less the more connections its worker has. Growth
# of another kind shows where each worker has as many as before.
_EACH = 16
_SHARED, _OWN = f"{CONNECTIONS} in all", f"{_EACH} each"
# More processes share the processor's caches.
_FLAT_WITHIN = 1.25
_FLAT_WITHIN_SHARED = 1.5
# More processes than cores bring nothing, and may not cost much either.
_SHARE_KEPT = 0.8


def workers(lab: Lab, numbers: Sequence[int] = WORKERS) -> Result:
    points: list[Point] = []
    for number in numbers:
        with lab.falcon(workers=number) as falcon:
            cold = WORKLOADS["cold"]
            steps = [Step(number, cold, _SHARED), Step(number, cold, _OWN, _EACH * number)]
            points += lab.points(falcon, steps)
    result = Result(
        "workers",
        "Workers of one instance",
        "workers",
        f"New texts of 12 words; {CONNECTIONS} connections in all, and {_EACH} for each worker; "
        f"on {_cores()} cores that wrk shares.",
        points,
    )
    _show(result, "worker")
    shared = result.of(lambda p: p.cpu_us, _SHARED)
    result.findings.append(flat(f"CPU/request, {_SHARED}", shared, "us", within=_FLAT_WITHIN_SHARED))
    return result


def instances(lab: Lab, numbers: Sequence[int] = INSTANCES) -> Result:
    """Raises SystemFailed where nginx is not to be had."""
    points: list[Point] = []
    for number in numbers:
        with (
            lab.falcon(instances=number, workers=1) as falcon,
            lab.session.balanced(lab.new_folder(), [falcon], wanted=True) as nginx,
        ):
            if nginx is None:
                raise SystemFailed("nginx is missing, as root: apt-get install nginx")
            points += lab.points(
                falcon, [Step(number, WORKLOADS["keyed"], _OWN, _EACH * number)], balancer=nginx
            )
    result = Result(
        "instances",
        "Instances behind nginx",
        "instances",
        "One worker each, one Redis and one Postgres for all; new texts with new idempotency keys, "
        f"{_EACH} connections to nginx for each; on {_cores()} cores that wrk shares.",
        points,
    )
    _show(result, "instance")
    return result


def _show(result: Result, one: str) -> None:
    series = [name for name in (_SHARED, _OWN) if result.of(lambda p: p.x, name)]
    rates = {name: result.of(lambda p: p.requests_per_s, name) for name in series}
    costs = {name: result.of(lambda p: p.cpu_us, name) for name in series}
    result.panels = [
        Panel("requests/s", result.x, rates),
        Panel("CPU us/request", result.x, costs),
    ]
    result.findings = [
        flat(f"CPU/request, {_OWN}", costs.get(_OWN, []), "us", within=_FLAT_WITHIN),
        not_lower(f"requests/s, {_OWN}", rates.get(_OWN, []), result.x, share=_SHARE_KEPT),
        _memory(result.of(lambda p: p.pss_mb, _OWN), one),
    ]


def _memory(memory: Sequence[tuple[float, float]], one: str) -> Finding:
    return at_most_linear("memory", memory, "MB", one)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
