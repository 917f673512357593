"""Plots of curves as SVG, in the look of the benchmark's page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from tests.benchmarks.report.page import COLOURS, FONT
from tests.benchmarks.scaling.findings import number
from tests.benchmarks.scaling.result import Panel

_WIDTH, _HEIGHT = 380, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 30, 44
_TICKS = 4


def plot(panels: Sequence[Panel], *, standalone: bool = False) -> str:
    """The panels side by side. `standalone` is for a file of its own, which needs its namespace and a background."""
    drawn = [panel for panel in panels if any(panel.lines.values())]
    width = _WIDTH * max(len(drawn), 1)
    namespace = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    parts = [
        f'<svg{namespace} width="{width}" height="{_HEIGHT}" viewBox="0 0 {width} {_HEIGHT}" role="img" {FONT}>'
    ]
    if standalone:
        parts.append(f'<rect width="{width}" height="{_HEIGHT}" fill="#fff"/>')
    for i, panel in enumerate(drawn):
        parts.append(f'<g transform="translate({i * _WIDTH} 0)">{"".join(_panel(panel))}</g>')
    return "".join([*parts, "</svg>"])


class _Axis:
    """Places values of one axis between two pixels."""

    def __init__(self, values: Iterable[float], low: float, high: float, *, log: bool) -> None:
        distinct = sorted(set(values))
        above = [value for value in distinct if value > 0]
        self._log = log and bool(above)
        # What is 0 has no logarithm; it stands a factor of ten below the least that has one.
        self._zero = above[0] / 10 if above else 1.0
        first, last = self._of(distinct[0]) if self._log else 0.0, self._of(distinct[-1])
        self._first, self._low = first, low
        self._scale = (high - low) / ((last - first) or 1.0)
        self.values = distinct

    def at(self, value: float) -> float:
        return self._low + (self._of(value) - self._first) * self._scale

    def _of(self, value: float) -> float:
        return math.log10(value or self._zero) if self._log else value


def _panel(panel: Panel) -> list[str]:
    points = [point for line in panel.lines.values() for point in line]
    x_axis = _Axis((x for x, _ in points), _LEFT, _WIDTH - _RIGHT, log=panel.log_x)
    ys = [y for _, y in points]
    bottom = _HEIGHT - _BOTTOM
    ticks = _powers(ys) if panel.log_y else _round_numbers(max(ys))
    y_axis = _Axis(ticks, bottom, _TOP, log=panel.log_y)
    parts = [f'<text x="{_LEFT}" y="16" font-weight="600">{escape(panel.title)}</text>']
    for tick in ticks:
        y = y_axis.at(tick)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for x in _apart(x_axis):
        parts.append(
            f'<text x="{x_axis.at(x):.1f}" y="{bottom + 16}" text-anchor="middle">{number(x)}</text>'
        )
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">{escape(panel.x)}</text>')
    parts.append(_legend(list(panel.lines)))
    for i, line in enumerate(panel.lines.values()):
        parts += _line([(x_axis.at(x), y_axis.at(y)) for x, y in sorted(line)], _colour(i))
    return parts


def _legend(names: Sequence[str]) -> str:
    """Above the plot, where no line comes."""
    shown = "".join(
        f'<tspan dx="10" fill="{_colour(i)}">{escape(name)}</tspan>' for i, name in enumerate(names) if name
    )
    return f'<text x="{_WIDTH - _RIGHT}" y="16" text-anchor="end">{shown}</text>'


def _line(places: Sequence[tuple[float, float]], colour: str) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    return parts + [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _apart(axis: _Axis) -> list[float]:
    """The values whose labels do not run into the one before."""
    shown: list[float] = []
    for value in axis.values:
        if not shown or axis.at(value) - axis.at(shown[-1]) >= 28:
            shown.append(value)
    return shown


def _round_numbers(largest: float) -> list[float]:
    """From 0 to at least `largest`, in steps of 1, 2, 2.5 or 5 times a power of ten."""
    largest = largest or 1.0
    size = 10 ** math.floor(math.log10(largest / _TICKS))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor * _TICKS >= largest)
    return [step * i for i in range(math.ceil(largest / step - 1e-9) + 1)]


def _powers(values: Sequence[float]) -> list[float]:
    """The powers of ten around the values."""
    above = [value for value in values if value > 0] or [1.0]
    first, last = math.floor(math.log10(min(above))), math.ceil(math.log10(max(above)))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]
