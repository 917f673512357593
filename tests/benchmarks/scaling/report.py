"""What was found, as JSON, as one HTML page, and as Markdown with a plot beside it for each experiment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.benchmarks.report.page import STYLE, machine_list
from tests.benchmarks.scaling.chart import plot
from tests.benchmarks.scaling.findings import number
from tests.benchmarks.scaling.result import Point, Result

_CSS = {"as it should": "met", "GROWS FASTER": "missed", "not measured": "unknown"}


def write(results: Path, found: Sequence[Result], machine: dict[str, Any]) -> Path:
    """Write `scaling.json`, `scaling.html`, `scaling.md` and `plots/NAME.svg`; the page's path."""
    plots = results / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "experiments": [result.json for result in found]}
    (results / "scaling.json").write_text(json.dumps(content, indent=1))
    (results / "scaling.md").write_text(markdown(found))
    for result in found:
        (plots / f"{result.name}.svg").write_text(plot(result.panels, standalone=True) + "\n")
    path = results / "scaling.html"
    path.write_text(page(found, machine))
    return path


def rows(result: Result) -> list[list[str]]:
    """The head and the points of an experiment as a table."""
    points = result.points
    series = any(point.series for point in points)
    apart = list(dict.fromkeys(name for point in points for name in point.apart_us))
    more = list(dict.fromkeys(name for point in points for name in point.more))
    batches = any(round(point.requests_per_s) != round(point.predictions_per_s) for point in points)
    head = [result.x, *(["load"] if series else []), "requests/s", *(["predictions/s"] if batches else [])]
    head += ["p50 ms", "p99 ms", "CPU us/request", *apart, "PSS MB", *more]
    return [head, *(_row(point, series, batches, apart, more) for point in points)]


def _row(point: Point, series: bool, batches: bool, apart: Sequence[str], more: Sequence[str]) -> list[str]:
    return [
        number(point.x),
        *([point.series] if series else []),
        f"{point.requests_per_s:,.0f}",
        *([f"{point.predictions_per_s:,.0f}"] if batches else []),
        f"{point.p50_ms:.2f}",
        f"{point.p99_ms:.2f}",
        f"{point.cpu_us:,.0f}",
        *(f"{point.apart_us.get(name, 0.0):,.0f}" for name in apart),
        f"{point.pss_mb:.0f}",
        *(_figure(point.more.get(name)) for name in more),
    ]


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def markdown(found: Sequence[Result]) -> str:
    """Ready for a document that lies beside `plots/`."""
    parts = []
    for result in found:
        head, *body = rows(result)
        parts += [f"### {result.title}", "", result.about, ""]
        parts += [_cells(head), _cells(["---"] * len(head)), *map(_cells, body), ""]
        parts += [f"- {f.what} (expected: {f.expected}): {f.measured}. **{f.word}**" for f in result.findings]
        parts += ["", f"![{result.title}](plots/{result.name}.svg)", ""]
        parts += [f"WRONG, so its figures count for nothing: {fault}" for fault in result.faults]
    return "\n".join(parts).rstrip() + "\n"


def _cells(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def page(found: Sequence[Result], machine: dict[str, Any]) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Falcon scaling</title>",
        f"<style>{STYLE}</style><h1>Falcon scaling</h1>",
        machine_list(machine),
        *map(_section, found),
        "</html>",
    ]
    return "\n".join(parts)


def _section(result: Result) -> str:
    head, *body = rows(result)
    table = "".join(f"<th>{escape(name)}" for name in head)
    table += "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in body)
    findings = "".join(
        f"<tr><td>{escape(f.what)}<td>{escape(f.expected)}<td>{escape(f.measured)}"
        f"<td class={_CSS[f.word]}>{escape(f.word)}"
        for f in result.findings
    )
    faults = "".join(f"<p class=missed>{escape(fault)}</p>" for fault in result.faults)
    return (
        f"<h2>{escape(result.title)}</h2><p>{escape(result.about)}</p>{faults}{plot(result.panels)}"
        f"<table><tr><th>what<th>expected<th>measured<th>{findings}</table><br>"
        f"<div class=scroll><table><tr>{table}</table></div>"
    )


def tables(result: Result) -> list[Table]:
    """For the terminal: the points, and the findings."""
    head, *body = rows(result)
    points = Table(title=f"{result.title}. {result.about}")
    for i, name in enumerate(head):
        points.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    for row in body:
        points.add_row(*row)
    findings = Table()
    for name in ("what", "expected", "measured", ""):
        findings.add_column(name)
    styles = {True: "green", False: "red", None: "dim"}
    for f in result.findings:
        findings.add_row(f.what, f.expected, f.measured, f.word, style=styles[f.holds])
    return [points, findings]
