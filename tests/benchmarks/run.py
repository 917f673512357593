"""The matrix: every system under every load, in turn, several times."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

from tests.benchmarks import proc
from tests.benchmarks.balancer import Balancer
from tests.benchmarks.checks import Checked, Checker
from tests.benchmarks.falcon import Falcon
from tests.benchmarks.models import DirectModel
from tests.benchmarks.systems import System
from tests.benchmarks.workloads import WORKLOADS, Workload
from tests.benchmarks.wrk import Load, Wrk

CHECKED_BEFORE = 24
CHECKED_AFTER = 24
WARM_UP_S = 1.0
# What a run takes beyond its load and warm-up: checks, and the wait for the request log.
_AROUND_S = 1.5


@dataclass(frozen=True)
class Cell:
    """What is measured once for each system in each repetition."""

    workload: str
    connections: int
    via: str


@dataclass
class Run:
    """One load on one system.

    Attributes:
        cpu_us: for each answered request, by process group; with the time until the request log was in Postgres.
        bystanders_cpu_s: of the other systems, which are idle meanwhile.
        rows: that the request log holds of this run; None where there is no log.
        faults: what was wrong, in words. A run with any of them counts for nothing.
    """

    system: str
    cell: Cell
    repetition: int
    load: Load
    items: int
    cpu_us: dict[str, float]
    pss_mb: dict[str, float]
    bystanders_cpu_s: float
    settled_after_s: float
    checked: int
    wrong: int
    rows: int | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def requests_per_s(self) -> float:
        return self.load.answered / self.load.seconds

    @property
    def cpu_us_in_all(self) -> float:
        return sum(self.cpu_us.values())

    @property
    def json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "requests_per_s": round(self.requests_per_s, 1),
            "items_per_s": round(self.requests_per_s * self.items, 1),
        }


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    workloads: Sequence[str]
    connections: Sequence[int]
    vias: Sequence[str]
    repetitions: int
    seconds: float

    def cells(self) -> Iterator[Cell]:
        for workload, via, connections in product(self.workloads, self.vias, self.connections):
            yield Cell(workload, connections, via)

    def runs(self, systems: Sequence[System]) -> int:
        cells = list(self.cells())
        return self.repetitions * sum(cell.workload in s.workloads for s in systems for cell in cells)

    def estimate_s(self, systems: Sequence[System]) -> float:
        return self.runs(systems) * (self.seconds + WARM_UP_S + _AROUND_S)


class Matrix:
    """Drives the started systems."""

    def __init__(
        self,
        wrk: Wrk,
        systems: Sequence[System],
        models: Mapping[str, DirectModel],
        balancer: Balancer | None,
        *,
        workloads: Mapping[str, Workload] = WORKLOADS,
        warm_up_s: float = WARM_UP_S,
    ) -> None:
        self._wrk = wrk
        self._workloads = workloads
        self._warm_up_s = warm_up_s
        self._systems = systems
        self._models = models
        self._balancer = balancer

    def run(self, plan: Plan, progress: Callable[[Run], None]) -> list[Run]:
        """Cell by cell, each system in turn, so that what is compared is measured within seconds. The order of the
        systems changes with the repetition. A workload that none of them serves is passed over."""
        runs: list[Run] = []
        for cell in plan.cells():
            able = [system for system in self._systems if cell.workload in system.workloads]
            for repetition in range(plan.repetitions if able else 0):
                turn = repetition % len(able)
                for system in [*able[turn:], *able[:turn]]:
                    runs.append(self.measure(system, cell, repetition, plan.seconds))
                    progress(runs[-1])
        return runs

    def measure(self, system: System, cell: Cell, repetition: int, seconds: float) -> Run:
        workload = self._workloads[cell.workload]
        run = f"b{secrets.token_hex(5)}"
        port = system.port if cell.via == "direct" else self._port_of(system)
        path = system.path(workload)
        checker = Checker(system, port, workload, run, secrets.randbits(64))
        if self._warm_up_s:
            self._load(system, port, path, workload, f"warm-{run}", cell.connections, self._warm_up_s)
        log = LogOfRun(system, path, workload, run) if isinstance(system, Falcon) else None
        checker.prime()
        checker.burst(CHECKED_BEFORE)
        before = self._costs(system, cell.via)
        checker.begin()
        try:
            load = self._load(system, port, path, workload, run, cell.connections, seconds)
        finally:
            checker.end()
        settled_after_s = log.settle() if log is not None else 0.0
        after = self._costs(system, cell.via)
        memory = proc.pss_mb(system.roots())
        checker.burst(CHECKED_AFTER)
        checked = checker.verdict(self._models)
        faults = [*checked.faults, *_load_faults(load)]
        rows = None
        if log is not None:
            rows, log_faults = log.compare(load, checked, cell.connections)
            faults += log_faults
        spent = {group: after[group] - before.get(group, 0.0) for group in after}
        bystanders = spent.pop("bystanders")
        return Run(
            system=system.name,
            cell=cell,
            repetition=repetition,
            load=load,
            items=workload.items,
            cpu_us={group: 1e6 * seconds_ / max(load.answered, 1) for group, seconds_ in spent.items()},
            pss_mb=memory,
            bystanders_cpu_s=bystanders,
            settled_after_s=settled_after_s,
            checked=checked.requests,
            wrong=checked.wrong,
            rows=rows,
            faults=faults,
        )

    def _load(
        self,
        system: System,
        port: int,
        path: str,
        workload: Workload,
        run: str,
        connections: int,
        seconds: float,
    ) -> Load:
        return self._wrk.run(
            port, path, workload, system.frame(workload), run, connections=connections, seconds=seconds
        )

    def _port_of(self, system: System) -> int:
        assert self._balancer is not None
        return self._balancer.ports[system.name]

    def _costs(self, system: System, via: str) -> dict[str, float]:
        costs = proc.cpu_s(system.roots())
        if self._balancer is not None and via == "nginx":
            costs |= proc.cpu_s(self._balancer.roots())
        others = [proc.cpu_s(other.roots()) for other in self._systems if other is not system]
        return costs | {"bystanders": sum(sum(other.values()) for other in others)}


class LogOfRun:
    """The request log's side of one run: before the load, after it, and what it must hold then."""

    def __init__(self, falcon: Falcon, path: str, workload: Workload, run: str) -> None:
        self._falcon = falcon
        self._path = path
        self._items = workload.items
        self._run = run
        falcon.settle(path)
        falcon.empty_log()
        self._answered = falcon.answered(path)

    def settle(self) -> float:
        return self._falcon.settle(self._path)

    def compare(self, load: Load, checked: Checked, connections: int) -> tuple[int, list[str]]:
        """The rows found, and what is wrong with them.

        wrk ends with up to one request in flight on each connection. Falcon answers and logs these too, so its own
        count of answers is the exact one, and wrk's is at most `connections` below it.
        """
        self._falcon.settle(self._path)
        found = self._falcon.logged(self._run)
        answered = self._falcon.answered(self._path) - self._answered
        faults = []
        if found.requests != answered or found.rows != answered * self._items:
            faults.append(f"{found.rows} rows of {found.requests} requests for {answered} answers with 200")
        if found.requests and (found.fewest, found.most) != (self._items, self._items):
            faults.append(f"{found.fewest} to {found.most} rows for a request, not {self._items}")
        seen = load.answered + len(checked.ids)
        if not seen <= answered <= seen + connections:
            faults.append(f"{answered} requests are logged, {seen} answers arrived")
        missing = [key for key, n in self._falcon.rows_of(checked.ids).items() if n != self._items]
        if missing:
            faults.append(f"not {self._items} rows each: {', '.join(missing[:3])}")
        return found.rows, faults


def _load_faults(load: Load) -> list[str]:
    faults = []
    if load.refused:
        faults.append(f"{load.refused} answers with a status of 400 or more")
    if load.broken:
        faults.append(f"{load.broken} connections refused, broken or timed out")
    if not load.answered:
        faults.append("no answer")
    return faults
