"""The results as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.benchmarks.report.summary import Row, Summary
from tests.benchmarks.report.targets import Verdict

_APART = ("redis", "postgres", "nginx")
_WIDTH = 180


def console() -> Console:
    """As wide as the tables, where the output is no terminal."""
    usual = Console()
    return usual if usual.is_terminal else Console(width=_WIDTH)


def runs_table(summary: Summary) -> Table:
    table = Table(
        title="Medians of the repetitions (max: of all). CPU and wrk in us a request; R, P, N: Redis, Postgres, nginx; "
        "of CPU they are a part, of PSS not"
    )
    for name in ("workload", "conns", "via", "system"):
        table.add_column(name, no_wrap=True)
    for name in ("req/s", "p50 ms", "p99", "p99.9", "max", "errors", "CPU us", "of it"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("wrk us", "PSS MB", "apart", "checked"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Falcon has times", no_wrap=True)
    former = None
    for row in summary.rows():
        if former is not None and row.cell != former:
            table.add_section()
        former = row.cell
        table.add_row(*_cells(row, summary))
    return table


def _cells(row: Row, summary: Summary) -> list[str]:
    cell = row.cell
    ratio = None
    if row.system != "falcon":
        ratio = summary.ratio(("falcon", cell), (row.system, cell))
    wrong = f", {row.wrong} wrong" if row.wrong else ""
    return [
        cell.workload,
        str(cell.connections),
        cell.via,
        row.system,
        f"{row.requests_per_s:,.0f}",
        f"{row.p50_ms:.1f}",
        f"{row.p99_ms:.1f}",
        f"{row.p999_ms:.1f}",
        f"{row.max_ms:.1f}",
        str(row.errors),
        f"{sum(row.cpu_us.values()):,.0f}",
        _apart(row.cpu_us),
        f"{row.load_generator_us:.0f}",
        f"{row.pss_mb.get('app', 0.0):.0f}",
        _apart(row.pss_mb),
        f"{row.checked}{wrong}",
        f"{ratio.median:.2f} ({ratio.least:.2f}-{ratio.greatest:.2f})" if ratio else "",
    ]


def _apart(groups: dict[str, float]) -> str:
    return " ".join(f"{name[0].upper()}{groups[name]:.0f}" for name in _APART if name in groups)


def targets_table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(title="Targets, on two cores")
    for name in ("what", "target", "measured: median (least to greatest)", ""):
        table.add_column(name)
    styles = {True: "green", False: "red", None: "dim"}
    for verdict in verdicts:
        table.add_row(verdict.what, verdict.target, verdict.measured, verdict.word, style=styles[verdict.met])
    return table
