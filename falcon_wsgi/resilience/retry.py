"""When a failed attempt may be repeated, and after how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import backoff


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits of the retries of one call.

    The waits come from the backoff package (exponential, full jitter). Its decorator is not used: it reads
    the wall clock, and measures the time spent before the last attempt instead of after it, so it cannot keep
    a budget.

    Attributes:
        max_attempts: the first included.
        base_delay_s, max_delay_s: the n-th wait is uniform in 0 .. min(base * 2^n, max).
        time_budget_s: the whole call, waits included.
        attempt_timeout_s: the longest that one attempt takes. None starts that could overrun the budget.
    """

    max_attempts: int = 3
    base_delay_s: float = 0.1
    max_delay_s: float = 5.0
    time_budget_s: float = 0.24
    attempt_timeout_s: float = 0.2

    def waits(self) -> Iterator[float]:
        """Seconds before the second attempt, the third, and so on; `max_attempts - 1` of them."""
        bounds = backoff.expo(base=2, factor=self.base_delay_s, max_value=self.max_delay_s)
        next(bounds)  # the generator expects to be primed
        for _ in range(self.max_attempts - 1):
            yield backoff.full_jitter(next(bounds))

    def fitting(self, wait_s: float, elapsed_s: float) -> float | None:
        """The wait, cut to what the budget leaves beside a whole attempt; None where it leaves nothing."""
        left_s = self.time_budget_s - self.attempt_timeout_s - elapsed_s
        return min(wait_s, left_s) if left_s > 0 else None


class RetryBudget:
    """A token bucket that holds retries down to a share of the calls that succeed.

    A success adds `ratio` of a token, a retry takes one, and no more than `capacity` are kept. Finagle's
    RetryBudget earns from every call; here failures earn nothing, so that a total outage adds `capacity`
    calls to the load in all, however long it lasts.
    """

    __slots__ = ("_capacity", "_ratio", "_tokens")

    def __init__(self, ratio: float = 0.1, capacity: int = 5) -> None:
        self._ratio = ratio
        self._capacity = float(capacity)
        self._tokens = float(capacity)

    def earn(self) -> None:
        if self._tokens < self._capacity:
            self._tokens = min(self._capacity, self._tokens + self._ratio)

    def spend(self) -> bool:
        """Whether a retry may be made; if so, it is paid for."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
