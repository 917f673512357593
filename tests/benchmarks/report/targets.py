"""What Falcon sets itself to reach on two cores, and whether the runs at hand do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.lifecycle import Lifecycle
from tests.benchmarks.report.summary import Spread, Summary
from tests.benchmarks.run import Cell, Run

FALCON, INLINE, HELLO = "falcon", "fastapi", "flask-hello"
CONNECTIONS, MANY = 32, 256
_SHARE_AT_MANY = 0.85
_MEMORY_MB = 270
_GROWTH_MB = 5
_READY_S = 3
_SCRAPE_MS = 10


@dataclass(frozen=True)
class Verdict:
    """One target. `met` is None where the runs do not tell."""

    what: str
    target: str
    measured: str
    met: bool | None

    @property
    def word(self) -> str:
        return {True: "met", False: "NOT MET", None: "not measured"}[self.met]


def judge(summary: Summary, lifecycle: Lifecycle) -> list[Verdict]:
    return [*_throughput(summary), *_tails(summary), *_crowds(summary), *_costs(summary, lifecycle)]


def _direct(workload: str, connections: int = CONNECTIONS) -> Cell:
    return Cell(workload, connections, "direct")


def _throughput(summary: Summary) -> Iterator[Verdict]:
    for workload, other, least in (
        ("cold", INLINE, 2.0),
        ("hot", INLINE, 2.5),
        ("batch", INLINE, 1.3),
        ("keyed", INLINE, 1.5),
        ("cold", HELLO, 0.6),
    ):
        cell = _direct(workload)
        spread = summary.ratio((FALCON, cell), (other, cell))
        yield _at_least(f"{workload}, requests/s against {other}", spread, least)
    cell = _direct("cold")
    spread = summary.ratio((FALCON, cell), (INLINE, cell), lambda run: run.load.p99_ms)
    yield _compared("cold, p99 against fastapi", "not longer", spread, lambda s: s.median <= 1.0)


def _tails(summary: Summary) -> Iterator[Verdict]:
    for workload in ("cold", "hot"):
        runs = summary.of(FALCON, _direct(workload))
        if not runs:
            yield Verdict(f"{workload}, p99 at 32 connections", "at most 15 ms, p50 under 8 ms", "", None)
            continue
        p50, p99 = (median(getattr(run.load, name) for run in runs) for name in ("p50_ms", "p99_ms"))
        yield Verdict(
            f"{workload}, p99 at 32 connections",
            "at most 15 ms, p50 under 8 ms",
            f"p99 {p99:.1f} ms, p50 {p50:.1f} ms",
            p99 <= 15 and p50 < 8,
        )
        worst = median(run.load.max_ms / run.load.p50_ms for run in runs)
        yield Verdict(f"{workload}, longest answer", "under 10 times p50", f"{worst:.1f} times", worst < 10)


def _crowds(summary: Summary) -> Iterator[Verdict]:
    for workload in ("cold", "hot"):
        few, many = _direct(workload), _direct(workload, MANY)
        spread = summary.ratio((FALCON, many), (FALCON, few))
        errors = sum(run.load.errors for run in summary.of(FALCON, many))
        yield _compared(
            f"{workload}, {MANY} connections against {CONNECTIONS}",
            "no error, at least 0.85",
            spread,
            lambda s, errors=errors: s.median >= _SHARE_AT_MANY and errors == 0,  # type: ignore[misc]
            f", {errors} errors",
        )


def _costs(summary: Summary, lifecycle: Lifecycle) -> Iterator[Verdict]:
    memory = [run.pss_mb["app"] for run in summary.runs if run.system == FALCON and not run.faults]
    yield _number("memory, 2 workers loaded (proportional)", memory, _MEMORY_MB, "MB", max)
    growth = lifecycle.growth_mb
    yield Verdict(
        "memory over 1,000,000 requests",
        f"flat (grows by at most {_GROWTH_MB} MB)",
        "" if growth is None else f"{growth:+.1f} MB over {lifecycle.long_requests:,} requests",
        None if growth is None or lifecycle.long_requests < 1_000_000 else growth <= _GROWTH_MB,
    )
    yield _number("start to ready, models trained", lifecycle.ready_s, _READY_S, "s", median, below=True)
    for what, values in (
        ("scrape of /metrics, 2 workers", lifecycle.scrape_ms),
        (f"the same after {lifecycle.recycles or 50} recycled workers", lifecycle.scrape_after_ms),
    ):
        yield _number(what, values, _SCRAPE_MS, "ms", median, below=True)


def _number(
    what: str,
    values: Sequence[float],
    limit: float,
    unit: str,
    of: Callable[[Sequence[float]], float],
    *,
    below: bool = False,
) -> Verdict:
    target = f"{'under' if below else 'at most'} {limit:g} {unit}"
    if not values:
        return Verdict(what, target, "", None)
    found = of(values)
    return Verdict(what, target, f"{found:.1f} {unit}", found < limit if below else found <= limit)


def _at_least(what: str, spread: Spread | None, least: float) -> Verdict:
    return _compared(what, f"at least {least:.1f}", spread, lambda s: s.median >= least)


def _compared(
    what: str, target: str, spread: Spread | None, holds: Callable[[Spread], bool], more: str = ""
) -> Verdict:
    if spread is None:
        return Verdict(what, target, "", None)
    return Verdict(what, target, f"{spread}{more}", holds(spread))


def failures(runs: Sequence[Run]) -> int:
    """Runs whose answers or log were not right."""
    return sum(bool(run.faults) for run in runs)
