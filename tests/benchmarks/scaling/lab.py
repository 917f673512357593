"""Where experiments run: instances started for them, and points measured on these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeVar

from falcon_wsgi.errors import ConfigurationError
from tests.benchmarks.balancer import Balancer
from tests.benchmarks.falcon import Falcon
from tests.benchmarks.models import DirectModel
from tests.benchmarks.run import WARM_UP_S, Cell, Matrix, Run
from tests.benchmarks.scaling.instances import Instances, Servers
from tests.benchmarks.scaling.result import Point
from tests.benchmarks.session import Session
from tests.benchmarks.systems import WORKERS, SystemFailed
from tests.benchmarks.workloads import Workload
from tests.benchmarks.wrk import Wrk

CONNECTIONS = 32
T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """What is measured at one place of an axis."""

    x: float
    workload: Workload
    series: str = ""
    connections: int = CONNECTIONS


class Lab:
    """Starts what experiments need and stops it at the end of the block.

    Args:
        seconds: of each load.
        rounds: how often each point of a started instance is measured, in turn with the others.
        warm_up_s: of the same load, before the first round of a point.
    """

    def __init__(
        self, session: Session, folder: Path, *, seconds: float, rounds: int, warm_up_s: float = WARM_UP_S
    ) -> None:
        self.session = session
        self.folder = folder
        self.seconds = seconds
        self.rounds = rounds
        self._warm_up_s = warm_up_s
        self.wrk = Wrk(folder)
        self._names = count(1)
        self._servers: Servers | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def servers(self) -> Servers:
        """Started when they are first asked for. Raises SystemFailed."""
        if self._servers is None:
            servers = Servers(self.folder)
            self._stack.callback(servers.stop)
            try:
                servers.start()
            except ConfigurationError as error:
                raise SystemFailed(str(error)) from error
            self._servers = servers
        return self._servers

    @contextmanager
    def falcon(
        self, *, store: Path | None = None, instances: int = 1, workers: int = WORKERS, **settings: object
    ) -> Iterator[Instances]:
        """Started with an empty Redis, stopped at the end of the block."""
        self.servers.empty_redis()
        falcon = Instances(
            self.new_folder(),
            store or self.session.store,
            self.servers,
            instances=instances,
            workers=workers,
            **settings,
        )
        try:
            falcon.start()
            yield falcon
        finally:
            falcon.stop()

    def new_folder(self) -> Path:
        """One that the servers' user can get through, as the systems want theirs."""
        folder = self.folder / f"lab-{next(self._names)}"
        folder.mkdir(mode=0o711)
        folder.chmod(0o711)
        return folder

    def points(
        self,
        falcon: Falcon,
        steps: Sequence[Step],
        *,
        balancer: Balancer | None = None,
        models: Mapping[str, DirectModel] | None = None,
    ) -> list[Point]:
        """Each step in each round."""
        runs: list[list[Run]] = [[] for _ in steps]
        for round_ in range(self.rounds):
            for i in there_or_back(range(len(steps)), round_):
                runs[i].append(self.run(falcon, steps[i], round_, balancer=balancer, models=models))
        return [Point.of(step.x, step.series, each) for step, each in zip(steps, runs, strict=True)]

    def run(
        self,
        falcon: Falcon,
        step: Step,
        round_: int,
        *,
        balancer: Balancer | None = None,
        models: Mapping[str, DirectModel] | None = None,
    ) -> Run:
        """One load on what runs already, checked as the benchmark checks its own."""
        matrix = Matrix(
            self.wrk,
            [falcon],
            models or self.session.direct,
            balancer,
            workloads={step.workload.name: step.workload},
            warm_up_s=self._warm_up_s if round_ == 0 else 0.0,
        )
        cell = Cell(step.workload.name, step.connections, "nginx" if balancer else "direct")
        run = matrix.measure(falcon, cell, round_, self.seconds)
        wrong = f"  WRONG: {run.faults[0]}" if run.faults else ""
        self.session.say(
            f"  {step.series or step.workload.name:14} {step.x:>9,g}  {run.requests_per_s:8,.0f}/s  "
            f"p50 {run.load.p50_ms:6.2f}  p99 {run.load.p99_ms:7.2f} ms  {run.cpu_us['app']:8,.0f} us{wrong}"
        )
        return run


def there_or_back(places: Sequence[T], round_: int) -> Sequence[T]:
    """Backwards in every other round, so that a machine that slows down meanwhile shows at no end."""
    return places[::-1] if round_ % 2 else places
