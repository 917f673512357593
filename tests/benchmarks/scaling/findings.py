"""What is expected of a growth, and whether the points show it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.scaling.fit import Points, exponent, line, upper_half

# From a few points, on a machine that others may use too.
_EXPONENT_WITHIN = 0.15
_SLOPE_WITHIN = 0.25


@dataclass(frozen=True)
class Finding:
    """One expectation, and what was measured of it. `holds` is None where the points do not tell."""

    what: str
    expected: str
    measured: str
    holds: bool | None

    @property
    def word(self) -> str:
        return {True: "as it should", False: "GROWS FASTER", None: "not measured"}[self.holds]


def at_most_linear(what: str, points: Points, unit: str, one: str, *, per: int = 1) -> Finding:
    """A cost of which each further unit may cost as much as the last one, and no more.

    Args:
        unit: of y.
        one: what x counts, in the singular.
        per: so many of them is what the slope is told for.
    """
    expected = "at most linear"
    if len(points) < 2:
        return Finding(what, expected, "", None)
    grown, fitted = exponent(upper_half(points)), line(points)
    each = f"{per:,} {one}s" if per > 1 else f"each {one}"
    measured = (
        f"{fitted.intercept:,.3g} {unit}, and {fitted.slope * per:,.3g} {unit} for {each}, "
        f"R2 {fitted.r2:.3f}; exponent {grown:.2f} over the upper half"
    )
    return Finding(what, expected, measured, grown <= 1.0 + _EXPONENT_WITHIN)


def flat(what: str, points: Points, unit: str, *, within: float) -> Finding:
    """A cost that may be at most `within` times that of the first point at any other."""
    expected = f"flat: at most {within:g} times that at the least"
    ordered = sorted(points)
    if len(points) < 2 or ordered[0][1] <= 0:
        return Finding(what, expected, "", None)
    (x_first, first), rest = ordered[0], ordered[1:]
    x, worst = max(rest, key=lambda point: point[1])
    measured = (
        f"{first:,.4g} {unit} at {number(x_first)}, at most {worst:,.4g} at {number(x)}: "
        f"{worst / first:.2f} times"
    )
    return Finding(what, expected, measured, worst <= within * first)


def not_lower(what: str, points: Points, unit: str, *, share: float) -> Finding:
    """What may not fall below `share` of its greatest at an earlier point."""
    expected = f"never below {share:g} of what fewer reach"
    if len(points) < 2:
        return Finding(what, expected, "", None)
    best, ratios = 0.0, []
    for _, y in sorted(points):
        if best:
            ratios.append(y / best)
        best = max(best, y)
    told = ", ".join(f"{y:,.0f} at {number(x)}" for x, y in sorted(points))
    return Finding(what, expected, f"{told} {unit}", min(ratios) >= share)


def slope_at_most(what: str, points: Points, limit: float, unit: str) -> Finding:
    """A y that grows by at most `limit` for each further x."""
    expected = f"at most {limit:g} {unit}"
    if len(points) < 2:
        return Finding(what, expected, "", None)
    fitted = line(points)
    return Finding(
        what,
        expected,
        f"{fitted.slope:.2f} {unit}, R2 {fitted.r2:.3f}",
        fitted.slope <= limit + _SLOPE_WITHIN,
    )


def number(value: float) -> str:
    """As an axis and a table write it: 1000000 is 1M, 5000 is 5k."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
