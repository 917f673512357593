"""How a cost grows with what it depends on: a straight line, and the exponent of a power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """`intercept + slope * x`; `r2` is the share of the variation that it explains."""

    intercept: float
    slope: float
    r2: float


def line(points: Points) -> Line:
    """The line with the least relative errors: a point at 10,000 characters weighs no more than one at 10.

    Raises:
        ValueError: no two different x, or a y that is not above 0.
    """
    if len({x for x, _ in points}) < 2 or min(y for _, y in points) <= 0:
        raise ValueError("a line needs two different x and every y above 0")
    weights = [1.0 / y**2 for _, y in points]
    total = sum(weights)
    x_mean = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    y_mean = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - x_mean) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    common = sum(w * (x - x_mean) * (y - y_mean) for w, (x, y) in zip(weights, points, strict=True))
    slope = common / spread
    intercept = y_mean - slope * x_mean
    varied = sum(w * (y - y_mean) ** 2 for w, (_, y) in zip(weights, points, strict=True))
    missed = sum(w * (y - intercept - slope * x) ** 2 for w, (x, y) in zip(weights, points, strict=True))
    return Line(intercept, slope, 1.0 - missed / varied if varied else 1.0)


def exponent(points: Points) -> float:
    """The e of the power x^e that the points follow best: 0 is flat, 1 linear, 2 quadratic.

    Raises:
        ValueError: no two different x, or an x or y that is not above 0.
    """
    if len({x for x, _ in points}) < 2 or min(min(point) for point in points) <= 0:
        raise ValueError("an exponent needs two different x, and every x and y above 0")
    logs = [(math.log(x), math.log(y)) for x, y in points]
    x_mean = sum(x for x, _ in logs) / len(logs)
    y_mean = sum(y for _, y in logs) / len(logs)
    return sum((x - x_mean) * (y - y_mean) for x, y in logs) / sum((x - x_mean) ** 2 for x, _ in logs)


def upper_half(points: Points) -> Points:
    """The points with the larger x, at least two: there a fixed cost hides growth least."""
    return sorted(points)[-max(2, (len(points) + 1) // 2) :]
