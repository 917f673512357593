"""From raw runs to medians, and to ratios between systems with their spread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from tests.benchmarks.run import Cell, Run

Measure = Callable[[Run], float]


@dataclass(frozen=True)
class Spread:
    """The median of the repetitions, with the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        each = list(values)
        return cls(median(each), min(each), max(each))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.greatest:.2f})"


@dataclass(frozen=True)
class Row:
    """Medians over the repetitions of one system in one cell; `max_ms` is the worst of all."""

    system: str
    cell: Cell
    repetitions: int
    requests_per_s: float
    items_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    errors: int
    cpu_us: dict[str, float]
    load_generator_us: float
    pss_mb: dict[str, float]
    checked: int
    wrong: int
    faults: int


@dataclass
class Summary:
    """All runs of one call, and what follows from them."""

    runs: Sequence[Run]
    _by_cell: dict[tuple[str, Cell], list[Run]] = field(init=False)

    def __post_init__(self) -> None:
        self._by_cell = defaultdict(list)
        for run in self.runs:
            self._by_cell[run.system, run.cell].append(run)

    @property
    def systems(self) -> list[str]:
        return list(dict.fromkeys(run.system for run in self.runs))

    @property
    def cells(self) -> list[Cell]:
        return list(dict.fromkeys(run.cell for run in self.runs))

    def rows(self) -> list[Row]:
        return [
            _row(self._by_cell[system, cell])
            for cell in self.cells
            for system in self.systems
            if (system, cell) in self._by_cell
        ]

    def of(self, system: str, cell: Cell) -> list[Run]:
        """The repetitions of one cell that were right; empty where there is none."""
        return [run for run in self._by_cell.get((system, cell), []) if not run.faults]

    def ratio(
        self,
        one: tuple[str, Cell],
        other: tuple[str, Cell],
        measure: Measure = lambda run: run.requests_per_s,
    ) -> Spread | None:
        """Of the same repetitions, which are neighbours in time. None where either was not measured."""
        theirs = {run.repetition: measure(run) for run in self.of(*other)}
        pairs = [
            measure(run) / theirs[run.repetition]
            for run in self.of(*one)
            if theirs.get(run.repetition, 0) > 0
        ]
        return Spread.of(pairs) if pairs else None

    def faults(self) -> list[str]:
        return [
            f"{run.system}, {run.cell.workload}, {run.cell.connections} connections, {run.cell.via}: {fault}"
            for run in self.runs
            for fault in run.faults
        ]

    @property
    def json(self) -> dict[str, Any]:
        ratios = [
            {"cell": asdict(cell), "of": "falcon", "to": other, "requests_per_s": asdict(spread)}
            for cell in self.cells
            for other in self.systems
            if other != "falcon" and (spread := self.ratio(("falcon", cell), (other, cell))) is not None
        ]
        return {
            "rows": [asdict(row) for row in self.rows()],
            "ratios": ratios,
            "runs": [run.json for run in self.runs],
        }


def _row(runs: Sequence[Run]) -> Row:
    def middle(measure: Measure) -> float:
        return median(map(measure, runs))

    def by_group(groups: Callable[[Run], dict[str, float]]) -> dict[str, float]:
        return {group: median(groups(run).get(group, 0.0) for run in runs) for group in groups(runs[0])}

    return Row(
        system=runs[0].system,
        cell=runs[0].cell,
        repetitions=len(runs),
        requests_per_s=middle(lambda run: run.requests_per_s),
        items_per_s=middle(lambda run: run.requests_per_s * run.items),
        p50_ms=middle(lambda run: run.load.p50_ms),
        p99_ms=middle(lambda run: run.load.p99_ms),
        p999_ms=middle(lambda run: run.load.p999_ms),
        max_ms=max(run.load.max_ms for run in runs),
        errors=sum(run.load.errors for run in runs),
        cpu_us=by_group(lambda run: run.cpu_us),
        load_generator_us=middle(lambda run: 1e6 * run.load.cpu_s / max(run.load.requests, 1)),
        pss_mb=by_group(lambda run: run.pss_mb),
        checked=sum(run.checked for run in runs),
        wrong=sum(run.wrong for run in runs),
        faults=sum(len(run.faults) for run in runs),
    )
