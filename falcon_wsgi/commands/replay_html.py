"""The report of a replay as one HTML file that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape

from falcon_wsgi import __version__
from falcon_wsgi.models.comparison import NUMBER
from falcon_wsgi.models.replay import Report
from falcon_wsgi.models.sketch import Sketch

_BOUNDS = (1e-6, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0)
_QUANTILES = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
_CELL = 64
_LABEL_LENGTH = 18

_STYLE = """
:root { --ink: #1d2433; --soft: #5b6475; --line: #d9dee7; --paper: #ffffff; --blue: #2f6fb5; --red: #c4483c; }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
p { margin: .2rem 0; } .soft { color: var(--soft); } .warn { color: var(--red); font-weight: 600; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.tile { border: 1px solid var(--line); border-radius: 6px; padding: .6rem 1rem; min-width: 9rem; }
.tile b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; margin: .4rem 0; } td, th { padding: .25rem .8rem .25rem 0; text-align: left;
       border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; vertical-align: top; }
code { font-size: 12.5px; overflow-wrap: anywhere; } svg { display: block; max-width: 100%; height: auto; }
svg text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
svg .faint { fill: var(--soft); }
"""


def page(report: Report, since: datetime, *, show_inputs: bool) -> str:
    """The whole document. Inputs of the examples are in it only if asked for."""
    title = f"{report.model} {report.candidate} against {report.against}"
    sections = [
        _section("Agreement", _agreement(report)),
        _section("Live answer and candidate's answer", _confusion(report)),
        _section(_distance_title(report), _bars(report.distance)),
        _section("Time for one prediction, in milliseconds", _latency(report)),
        _section("Not answered by the candidate", _reasons(report.errors)),
        _section("Not compared, for want of a live answer", _reasons(report.skipped)),
        _section("Largest differences", _examples(report, show_inputs)),
    ]
    stopped = f'<p class="warn">Stopped: {escape(report.stopped)}.</p>' if report.stopped else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f'<p class="soft">Logged requests since {since:%Y-%m-%d %H:%M} UTC, replayed by Falcon {__version__}. '
        f"{report.logged:,} live answers as logged, {report.afresh:,} computed afresh with {report.against}, where "
        f"another version had answered.</p>{stopped}{_tiles(report)}{''.join(sections)}</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}" if content else ""


def _tiles(report: Report) -> str:
    tiles = (
        ("predictions", f"{report.rows:,}"),
        ("agreement", f"{report.agreement:.4f}" if report.agreement is not None else "none"),
        ("disagreements", f"{report.rows - report.agreed - report.errors.total():,}"),
        ("errors", f"{report.errors.total():,}"),
        ("not compared", f"{report.skipped.total():,}"),
    )
    return f'<div class="tiles">{"".join(f"<div class=tile>{name}<b>{value}</b></div>" for name, value in tiles)}</div>'


def _agreement(report: Report) -> str:
    """A line from the interval's neighbourhood to 1, with the interval on it."""
    low, high = report.interval
    share = report.agreement or 0.0
    start = max(0.0, 1 - 2.5 * max(1 - low, 0.004))
    width, left = 640, 30

    def x(value: float) -> float:
        return left + width * (value - start) / (1 - start)

    ticks = "".join(
        f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="44" y2="50" stroke="#5b6475"/>'
        f'<text class="faint" x="{x(tick):.1f}" y="66" text-anchor="middle">{tick:.4f}</text>'
        for tick in (start + (1 - start) * i / 4 for i in range(5))
    )
    drawing = (
        f'<line x1="{left}" x2="{left + width}" y1="44" y2="44" stroke="#d9dee7" stroke-width="2"/>{ticks}'
        f'<rect x="{x(low):.1f}" y="22" width="{max(2, x(high) - x(low)):.1f}" height="14" rx="3" '
        f'fill="#2f6fb5" opacity="0.35"/>'
        f'<line x1="{x(share):.1f}" x2="{x(share):.1f}" y1="16" y2="42" stroke="#2f6fb5" stroke-width="3"/>'
    )
    return (
        f"<p>{report.agreed:,} of {report.rows:,} agree: {share:.4f}, 95 % interval (Wilson) {low:.4f} to {high:.4f}. "
        "An error of the candidate counts as a disagreement.</p>"
        + _svg(left * 2 + width + 20, 76, drawing, "Agreement with its 95 % interval")
    )


def _confusion(report: Report) -> str:
    if not report.confusion:
        return ""
    rows = sorted({live for live, _ in report.confusion})
    columns = sorted({to for _, to in report.confusion} | (set(rows) - {NUMBER}))
    left = 30 + 7 * max(len(_cut(name)) for name in rows)
    most = max(report.confusion.values())
    parts = [f'<text class="faint" x="{left}" y="14">candidate</text>']
    for j, name in enumerate(columns):
        parts.append(
            f'<text x="{left + j * _CELL * 1.5 + _CELL * 0.75:.0f}" y="34" text-anchor="middle">{_label(name)}</text>'
        )
    for i, live in enumerate(rows):
        y = 42 + i * _CELL * 0.6
        parts.append(f'<text x="{left - 10}" y="{y + 24:.0f}" text-anchor="end">{_label(live)}</text>')
        for j, name in enumerate(columns):
            parts.append(_cell(left + j * _CELL * 1.5, y, report.confusion[live, name], most, live == name))
    width = left + len(columns) * _CELL * 1.5 + 10
    return "<p>One row for each live class, one column for each class of the candidate.</p>" + _svg(
        width, 52 + len(rows) * _CELL * 0.6, "".join(parts), "Confusion matrix"
    )


def _cell(x: float, y: float, count: int, most: int, same: bool) -> str:
    """The fewer, the paler; not in proportion, so that a few disagreements among many agreements are seen."""
    strength = (count / most) ** 0.3 if count else 0.0
    colour = "#2f6fb5" if same else "#c4483c"
    ink = "#ffffff" if strength > 0.55 else "#1d2433"
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{_CELL * 1.5 - 3:.0f}" height="{_CELL * 0.6 - 3:.0f}" rx="3" '
        f'fill="{colour}" fill-opacity="{0.06 + 0.94 * strength:.2f}"/>'
        f'<text x="{x + _CELL * 0.73:.0f}" y="{y + 22:.0f}" text-anchor="middle" style="fill:{ink}">{count:,}</text>'
    )


def _distance_title(report: Report) -> str:
    if report.absolute.count:
        return "Relative difference of the numbers"
    return "Score distance: the largest difference of a class's probability"


def _bars(distance: Sketch) -> str:
    if not distance.count:
        return "<p>One of the two gives no probabilities.</p>"
    counts = distance.histogram(_BOUNDS)
    while len(counts) > 1 and not counts[-1]:
        counts.pop()
    names = [*(f"to {bound:g}" for bound in _BOUNDS), f"over {_BOUNDS[-1]:g}"]
    quantiles = ", ".join(f"{name} {distance.quantile(q):.4g}" for q, name in _QUANTILES)
    told = f"<p>{quantiles}, largest {distance.largest:.4g}.</p>"
    return told + _columns(list(zip(names, counts, strict=False)), "Score distance")


def _columns(bars: Sequence[tuple[str, int]], title: str) -> str:
    most = max(count for _, count in bars)
    parts = []
    for i, (name, count) in enumerate(bars):
        x, height = 10 + i * 66, 120 * count / most
        parts.append(
            f'<rect x="{x}" y="{140 - height:.1f}" width="54" height="{height:.1f}" rx="2" fill="#2f6fb5"/>'
            f'<text x="{x + 27}" y="{134 - height:.1f}" text-anchor="middle">{f"{count:,}" if count else ""}</text>'
            f'<text class="faint" x="{x + 27}" y="158" text-anchor="middle">{escape(name)}</text>'
        )
    axis = f'<line x1="6" x2="{14 + len(bars) * 66}" y1="140" y2="140" stroke="#5b6475"/>'
    return _svg(20 + len(bars) * 66, 168, "".join(parts) + axis, title)


def _latency(report: Report) -> str:
    sides = (
        ("candidate", report.candidate_ms, "asked alone, with the way to its process and back"),
        ("live, as logged", report.logged_ms, "inference_time_ms, waits in the worker included"),
    )
    most = max((side.quantile(0.99) or 0.0 for _, side, _ in sides), default=0.0) or 1.0
    parts = []
    for i, (name, side, _) in enumerate(sides):
        for j, (q, label) in enumerate(((0.5, "p50"), (0.99, "p99"))):
            value = side.quantile(q)
            y = 8 + i * 62 + j * 26
            length = 380 * (value or 0.0) / most
            parts.append(
                f'<text x="120" y="{y + 15}" text-anchor="end">{escape(name) if j == 0 else ""}</text>'
                f'<text class="faint" x="156" y="{y + 15}" text-anchor="end">{label}</text>'
                f'<rect x="164" y="{y}" width="{length:.1f}" height="20" rx="2" fill="#2f6fb5" '
                f'opacity="{1 if j == 0 else 0.55}"/>'
                f'<text x="{172 + length:.1f}" y="{y + 15}">{"none" if value is None else f"{value:.3g} ms"}</text>'
            )
    told = "; ".join(f"{name}: {side.count:,} predictions, {how}" for name, side, how in sides)
    return f'<p class="soft">{escape(told)}.</p>' + _svg(640, 128, "".join(parts), "Latency")


def _reasons(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return ""
    rows = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return _table(("reason", "predictions"), ((name, f"{count:,}") for name, count in rows))


def _examples(report: Report, show_inputs: bool) -> str:
    if not report.examples:
        return "<p>There are none.</p>"
    head = ("event_id", "batch_index", "live", "candidate", "distance", *(("input",) if show_inputs else ()))
    rows = []
    for each in report.examples:
        distance = "" if each.found.distance is None else f"{each.found.distance:.4g}"
        row = [each.event_id, str(each.batch_index), each.live, each.candidate, distance]
        rows.append([*row, json.dumps(each.payload, ensure_ascii=False)] if show_inputs else row)
    return _table(head, rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        inner = "".join(
            f"<{tag}>{f'<code>{escape(cell)}</code>' if len(cell) > 30 else escape(cell)}</{tag}>"
            for cell in cells
        )
        return f"<tr>{inner}</tr>"

    return f"<table>{line('th', head)}{''.join(line('td', row) for row in rows)}</table>"


def _svg(width: float, height: float, content: str, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">{content}</svg>'
    )


def _cut(name: str) -> str:
    return name if len(name) <= _LABEL_LENGTH else name[: _LABEL_LENGTH - 1] + "…"


def _label(name: str) -> str:
    return escape(_cut(name))
