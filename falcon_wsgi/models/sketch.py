"""Quantiles of any number of values in constant memory."""

from __future__ import annotations

import math

_ACCURACY = 0.01
_GAMMA = (1 + _ACCURACY) / (1 - _ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
# Smaller values count as 0; larger ones as this. So there are at most some 2,300 counters.
_LEAST, _MOST = 1e-9, 1e12


class Sketch:
    """Counts values of 0 and more in bins that grow by 2 %, so each quantile is right within 1 % of itself.

    DDSketch (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
    guarantees", VLDB 2019), with a fixed range in the place of collapsing bins.
    """

    def __init__(self) -> None:
        self.count = 0
        self.largest = 0.0
        self._sum = 0.0
        self._zeros = 0
        self._bins: dict[int, int] = {}

    def add(self, value: float) -> None:
        self.count += 1
        self._sum += value
        self.largest = max(self.largest, value)
        if value < _LEAST:
            self._zeros += 1
            return
        place = math.ceil(math.log(min(value, _MOST)) / _LOG_GAMMA)
        self._bins[place] = self._bins.get(place, 0) + 1

    @property
    def mean(self) -> float | None:
        return self._sum / self.count if self.count else None

    def quantile(self, q: float) -> float | None:
        """`q` from 0 to 1. None without any value."""
        if not self.count:
            return None
        rank = q * (self.count - 1)
        seen = self._zeros
        if rank < seen:
            return 0.0
        for place in sorted(self._bins):
            seen += self._bins[place]
            if rank < seen:
                return min(2 * _GAMMA**place / (_GAMMA + 1), self.largest)
        return self.largest

    def histogram(self, bounds: tuple[float, ...]) -> list[int]:
        """How many values lie at or below each bound and above the one before, as far as the bins tell; the last
        count is of those beyond every bound."""
        counts = [0] * (len(bounds) + 1)
        counts[0] += self._zeros
        for place, number in self._bins.items():
            value = 2 * _GAMMA**place / (_GAMMA + 1)
            counts[next((i for i, bound in enumerate(bounds) if value <= bound), len(bounds))] += number
        return counts
