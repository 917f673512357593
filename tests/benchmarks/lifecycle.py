"""Falcon's own life: start to ready, the time of a scrape, recycled workers, memory over a long load."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import proc
from tests.benchmarks.falcon import Falcon
from tests.benchmarks.systems import SystemFailed
from tests.benchmarks.workloads import WORKLOADS
from tests.benchmarks.wrk import Wrk

Say = Callable[[str], None]

_SCRAPES = 20
_RECYCLE_S = 30.0
_CHUNK_S = 20
_LONG_CONNECTIONS = 32
# The local cache fills and the allocator settles in the first part of a long load.
_SETTLED_SHARE = 0.2
_LONG_TIMEOUT_S = 3600.0


@dataclass
class Lifecycle:
    """What was measured of it; empty where nothing was.

    Attributes:
        first_ready_s: with a new data folder, for which Postgres makes its files.
        memory: (requests so far, PSS and RSS in MB by process group), while a long load runs.
    """

    first_ready_s: float | None = None
    ready_s: list[float] = field(default_factory=list)
    scrape_ms: list[float] = field(default_factory=list)
    scrape_after_ms: list[float] = field(default_factory=list)
    scrape_bytes: int = 0
    recycles: int = 0
    memory: list[tuple[int, dict[str, float], dict[str, float]]] = field(default_factory=list)

    @property
    def long_requests(self) -> int:
        return self.memory[-1][0] if self.memory else 0

    @property
    def growth_mb(self) -> float | None:
        """Proportional memory at the end of a long load against that after its first fifth, without the servers."""
        settled = [
            pss["app"] for requests, pss, _ in self.memory if requests >= _SETTLED_SHARE * self.long_requests
        ]
        return settled[-1] - settled[0] if len(settled) > 1 else None


def starts(folder: Path, store: Path, times: int) -> tuple[float, list[float]]:
    """Seconds from the command to the first 200 of /readyz: with a new data folder, and then `times` with that one."""
    falcon = Falcon(folder / "starts", store)
    found = []
    for _ in range(times + 1):
        try:
            falcon.start()
            found.append(falcon.ready_s)
        finally:
            falcon.stop()
    return found[0], found[1:]


def scrape_ms(falcon: Falcon) -> tuple[list[float], int]:
    """Milliseconds of each of 20 scrapes over one connection, and the bytes of the last one."""
    connection = http.client.HTTPConnection("127.0.0.1", falcon.port, timeout=30)
    found, size = [], 0
    try:
        for _ in range(_SCRAPES):
            started = time.perf_counter()
            connection.request("GET", "/metrics")
            size = len(connection.getresponse().read())
            found.append((time.perf_counter() - started) * 1000)
    finally:
        connection.close()
    return found, size


def recycle(falcon: Falcon, times: int) -> None:
    """SIGTERM to one worker after the other, each time until another one serves in its place.

    Raises:
        SystemFailed: none did within 30 s.
    """
    for number in range(times):
        workers = falcon.workers()
        slot = sorted(workers)[number % len(workers)]
        os.kill(workers[slot], signal.SIGTERM)
        deadline = time.monotonic() + _RECYCLE_S
        while falcon.workers().get(slot, workers[slot]) == workers[slot]:
            if time.monotonic() > deadline:
                raise SystemFailed(f"{slot} was not replaced within {_RECYCLE_S:.0f} s")
            time.sleep(0.01)


def long_load(
    falcon: Falcon, wrk: Wrk, requests: int, say: Say
) -> list[tuple[int, dict[str, float], dict[str, float]]]:
    """Memory after each 20 s of new texts, until there were so many requests, or an hour has passed."""
    cold = WORKLOADS["cold"]
    done, deadline = 0, time.monotonic() + _LONG_TIMEOUT_S
    found = []
    while done < requests and time.monotonic() < deadline:
        load = wrk.run(
            falcon.port,
            falcon.path(cold),
            cold,
            falcon.frame(cold),
            f"l{secrets.token_hex(5)}",
            connections=_LONG_CONNECTIONS,
            seconds=_CHUNK_S,
        )
        if not load.answered or load.errors:
            raise SystemFailed(f"{load.errors} errors in the long load")
        done += load.answered
        found.append((done, proc.pss_mb(falcon.roots()), proc.rss_mb(falcon.roots())))
        say(f"{done:,} of {requests:,} requests, {found[-1][1]['app']:.1f} MB")
    falcon.settle(falcon.path(cold))
    return found
