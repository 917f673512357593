"""The results as one HTML file with its plots inside: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from tests.benchmarks.lifecycle import Lifecycle
from tests.benchmarks.report.summary import Row, Spread, Summary
from tests.benchmarks.report.targets import Verdict

COLOURS = ("#2457a6", "#c05621", "#3f8f4f", "#7a4fa3", "#a3313f", "#5f6b76")
_WIDTH, _LABEL, _BAR, _GAP = 760, 190, 16, 10
FONT = 'font-size="12" font-family="system-ui, sans-serif"'
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #1c2126; }
h1, h2 { font-weight: 600; } h2 { margin-top: 2em; } svg { display: block; margin: .6em 0 1.6em; max-width: 100%; }
table { border-collapse: collapse; font-size: 13px; } th, td { padding: .25em .6em; text-align: right; }
th { border-bottom: 2px solid #888; } td { border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; }
.met { color: #21693a; } .missed { color: #a3212d; font-weight: 600; } .unknown { color: #777; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2em 1em; } dd { margin: 0; }
.scroll { overflow-x: auto; }
"""

Bar = tuple[str, str, float, str]
"""Group, series, value, and the value as it is written."""


def render(
    summary: Summary, verdicts: Sequence[Verdict], lifecycle: Lifecycle, machine: dict[str, Any]
) -> str:
    colours = dict(zip(summary.systems, COLOURS * 3, strict=False))
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Falcon benchmark</title>",
        f"<style>{STYLE}</style><h1>Falcon benchmark</h1>",
        machine_list(machine),
        _faults(summary),
        "<h2>Targets</h2>",
        _verdicts(verdicts),
        _plots(summary, colours),
        _memory(lifecycle),
        "<h2>Figures</h2>",
        _figures(summary),
        "</html>",
    ]
    return "\n".join(parts)


def machine_list(machine: dict[str, Any]) -> str:
    items = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(_text(value))}</dd>"
        for name, value in machine.items()
    )
    return f"<dl>{items}</dl>"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return value if isinstance(value, str) else json.dumps(value)


def _faults(summary: Summary) -> str:
    faults = summary.faults()
    if not faults:
        logged = any(run.rows is not None for run in summary.runs)
        log = ", and Falcon's request log held every answered request once" if logged else ""
        return f"<p>Every checked answer was right{log}.</p>"
    items = "".join(f"<li>{escape(fault)}" for fault in faults)
    return (
        f"<p class=missed>These runs were not right, so their figures count for nothing:</p><ul>{items}</ul>"
    )


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    css = {True: "met", False: "missed", None: "unknown"}
    rows = "".join(
        f"<tr><td>{escape(v.what)}<td>{escape(v.target)}<td>{escape(v.measured)}"
        f"<td class={css[v.met]}>{escape(v.word)}"
        for v in verdicts
    )
    return f"<table><tr><th>what<th>target<th>measured<th>{rows}</table>"


def _plots(summary: Summary, colours: dict[str, str]) -> str:
    parts = []
    for via, connections in dict.fromkeys((cell.via, cell.connections) for cell in summary.cells):
        rows = [row for row in summary.rows() if (row.cell.via, row.cell.connections) == (via, connections)]
        parts.append(f"<h2>{connections} connections, {escape(via)}</h2>")
        for title, value, form in _MEASURES:
            bars = [(row.cell.workload, row.system, value(row), form.format(value(row))) for row in rows]
            parts.append(f"<h3>{escape(title)}</h3>{bar_chart(bars, colours)}")
    ratios = _ratios(summary)
    if ratios:
        parts.append("<h2>Requests per second of Falcon, as a multiple of the others'</h2>")
        parts.append(
            "<p>Dots are medians of the repetitions, lines reach from the least to the greatest.</p>"
        )
        parts.append(ratio_chart(ratios))
    return "".join(parts)


_MEASURES: tuple[tuple[str, Callable[[Row], float], str], ...] = (
    ("Requests per second", lambda row: row.requests_per_s, "{:,.0f}"),
    ("p99, milliseconds", lambda row: row.p99_ms, "{:.1f}"),
    (
        "Processor time of all server processes, microseconds a request",
        lambda row: sum(row.cpu_us.values()),
        "{:,.0f}",
    ),
    ("Proportional memory of the application, MB", lambda row: row.pss_mb.get("app", 0.0), "{:.0f}"),
)


def _ratios(summary: Summary) -> list[tuple[str, Spread]]:
    return [
        (f"{cell.workload}, {cell.connections}, {cell.via} / {other}", spread)
        for cell in summary.cells
        for other in summary.systems
        if other != "falcon" and (spread := summary.ratio(("falcon", cell), (other, cell)))
    ]


def bar_chart(bars: Sequence[Bar], colours: dict[str, str]) -> str:
    """Horizontal bars, those of one group together."""
    largest = max((value for _, _, value, _ in bars), default=0.0) or 1.0
    scale = (_WIDTH - _LABEL - 90) / largest
    y, former, parts = 0, None, []
    for group, series, value, text in bars:
        if group != former:
            y += _GAP if former is not None else 0
            parts.append(f'<text x="0" y="{y + 12}" font-weight="600">{escape(group)}</text>')
            former = group
        width = max(1.0, value * scale)
        parts.append(f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(series)}</text>')
        parts.append(
            f'<rect x="{_LABEL}" y="{y + 2}" width="{width:.1f}" height="{_BAR - 4}" fill="{colours[series]}"/>'
        )
        parts.append(f'<text x="{_LABEL + width + 6:.1f}" y="{y + 12}">{escape(text)}</text>')
        y += _BAR
    return _svg(y + 4, parts)


def ratio_chart(ratios: Sequence[tuple[str, Spread]]) -> str:
    """Dots with their spread, and a line where both are equal."""
    left = 250
    largest = max(1.2, *(spread.greatest for _, spread in ratios))
    scale = (_WIDTH - left - 60) / largest
    height = len(ratios) * _BAR + 20
    parts = [
        f'<line x1="{left + scale:.1f}" x2="{left + scale:.1f}" y1="0" y2="{height - 16}" stroke="#999" '
        'stroke-dasharray="3 3"/>',
        f'<text x="{left + scale:.1f}" y="{height - 2}" text-anchor="middle">1</text>',
    ]
    for i, (label, spread) in enumerate(ratios):
        y = i * _BAR + 8
        least, middle, greatest = (
            left + scale * value for value in (spread.least, spread.median, spread.greatest)
        )
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(label)}</text>')
        parts.append(
            f'<line x1="{least:.1f}" x2="{greatest:.1f}" y1="{y}" y2="{y}" stroke="{COLOURS[0]}" stroke-width="2"/>'
        )
        parts.append(f'<circle cx="{middle:.1f}" cy="{y}" r="4" fill="{COLOURS[0]}"/>')
        parts.append(f'<text x="{greatest + 8:.1f}" y="{y + 4}">{spread.median:.2f}</text>')
    return _svg(height, parts)


def _memory(lifecycle: Lifecycle) -> str:
    if len(lifecycle.memory) < 2:
        return ""
    points = [(requests, pss["app"]) for requests, pss, _ in lifecycle.memory]
    return f"<h2>Memory over a long load, MB</h2>{line_chart(points, 'requests')}"


def line_chart(points: Sequence[tuple[float, float]], unit: str) -> str:
    """One line, both axes from zero."""
    left, height = 60, 220
    x_scale = (_WIDTH - left - 20) / max(x for x, _ in points)
    top = max(y for _, y in points) * 1.1
    y_scale = (height - 30) / top
    path = " ".join(f"{left + x * x_scale:.1f},{height - 20 - y * y_scale:.1f}" for x, y in points)
    last_x, last_y = points[-1]
    parts = [
        f'<line x1="{left}" x2="{_WIDTH}" y1="{height - 20}" y2="{height - 20}" stroke="#888"/>',
        f'<polyline points="{path}" fill="none" stroke="{COLOURS[0]}" stroke-width="2"/>',
        f'<text x="{_WIDTH}" y="{height - 4}" text-anchor="end">{last_x:,.0f} {escape(unit)}</text>',
        f'<text x="{left - 8}" y="{height - 16 - last_y * y_scale:.1f}" text-anchor="end">{last_y:.0f}</text>',
        f'<text x="{left - 8}" y="{height - 18}" text-anchor="end">0</text>',
    ]
    return _svg(height, parts)


def _svg(height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg width="{_WIDTH}" height="{height:.0f}" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" {FONT}>'
        f"{''.join(parts)}</svg>"
    )


_COLUMNS = ("workload", "connections", "via", "system", "requests/s", "predictions/s", "p50 ms", "p99 ms")
_MORE_COLUMNS = ("p99.9 ms", "max ms", "errors", "CPU us/request", "PSS MB", "checked", "wrong")


def _figures(summary: Summary) -> str:
    head = "".join(f"<th>{escape(name)}" for name in (*_COLUMNS, *_MORE_COLUMNS))
    return f"<div class=scroll><table><tr>{head}{''.join(map(_figure_row, summary.rows()))}</table></div>"


def _figure_row(row: Row) -> str:
    values = (
        row.cell.workload,
        str(row.cell.connections),
        row.cell.via,
        row.system,
        f"{row.requests_per_s:,.0f}",
        f"{row.items_per_s:,.0f}",
        f"{row.p50_ms:.2f}",
        f"{row.p99_ms:.2f}",
        f"{row.p999_ms:.2f}",
        f"{row.max_ms:.1f}",
        str(row.errors),
        _groups(row.cpu_us),
        _groups(row.pss_mb),
        str(row.checked),
        str(row.wrong),
    )
    return "<tr>" + "".join(f"<td>{escape(value)}" for value in values)


def _groups(groups: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in groups.items())
