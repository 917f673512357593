"""What an experiment leaves: its points, what is shown of them, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from tests.benchmarks.run import Run
from tests.benchmarks.scaling.findings import Finding
from tests.benchmarks.scaling.fit import Points

_APART = ("redis", "postgres", "nginx")


@dataclass(frozen=True)
class Point:
    """One place on the axis of an experiment: medians of its rounds.

    Attributes:
        series: what is compared at each place; empty where nothing is.
        cpu_us: for each answered request, of Falcon's own processes.
        apart_us: the same of Redis, Postgres and nginx.
        pss_mb: proportional memory of Falcon's own processes.
        more: other figures, by the name of their column.
        faults: of answers and of the request log; with any, the figures count for nothing.
    """

    x: float
    series: str
    requests_per_s: float
    predictions_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    apart_us: dict[str, float]
    pss_mb: float
    more: dict[str, float] = field(default_factory=dict)
    faults: Sequence[str] = ()

    @classmethod
    def of(cls, x: float, series: str, runs: Sequence[Run]) -> Point:
        def middle(measure: Callable[[Run], float]) -> float:
            return median(map(measure, runs))

        return cls(
            x=x,
            series=series,
            requests_per_s=middle(lambda run: run.requests_per_s),
            predictions_per_s=middle(lambda run: run.requests_per_s * run.items),
            p50_ms=middle(lambda run: run.load.p50_ms),
            p99_ms=middle(lambda run: run.load.p99_ms),
            cpu_us=middle(lambda run: run.cpu_us["app"]),
            apart_us={
                name: median(run.cpu_us[name] for run in runs) for name in _APART if name in runs[0].cpu_us
            },
            pss_mb=middle(lambda run: run.pss_mb["app"]),
            faults=[fault for run in runs for fault in run.faults],
        )


@dataclass(frozen=True)
class Panel:
    """One plot: a line for each series.

    Attributes:
        log_x: places are a factor apart; 0 stands one place before the least other.
        log_y: the same upwards; else the axis begins at 0.
    """

    title: str
    x: str
    lines: dict[str, Points]
    log_x: bool = False
    log_y: bool = False


@dataclass
class Result:
    """An experiment's outcome. `x` names its axis, `about` says in a sentence how it was measured."""

    name: str
    title: str
    x: str
    about: str
    points: list[Point]
    panels: list[Panel] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def of(self, measure: Callable[[Point], float], series: str = "") -> Points:
        """The sound points of one series."""
        return [(p.x, measure(p)) for p in self.points if p.series == series and not p.faults]

    @property
    def faults(self) -> list[str]:
        return [
            f"{self.name}, {point.x:g} {point.series}: {fault}".replace(" :", ":")
            for point in self.points
            for fault in point.faults
        ]

    @property
    def json(self) -> dict[str, Any]:
        return {**asdict(self), "verdicts": [finding.word for finding in self.findings]}
