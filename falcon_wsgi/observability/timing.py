"""How long a block takes, as a `with` block."""

from __future__ import annotations

import time
from types import TracebackType


class timed:
    """Adds the seconds that its block takes to `timings[stage]`."""

    __slots__ = ("_stage", "_started", "_timings")

    def __init__(self, timings: dict[str, float], stage: str) -> None:
        self._timings = timings
        self._stage = stage

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        passed = time.perf_counter() - self._started
        self._timings[self._stage] = self._timings.get(self._stage, 0.0) + passed
